"""Confidence of classifications: temperature, threshold, and unknown classes that are in no training."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.vocabulary import Vocabulary
from pipeline.evaluation.calibrate import unknown_metrics
from pipeline.evaluation.held_out import threshold_of
from pipeline.heads.classify import Classify, ClassifyResult
from pipeline.heads.confidence import MAX_DIMENSIONS, Confidence
from pipeline.metrics.calibration import auroc, negative_log_likelihood
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Classification
from pipeline.padded import Padded, stack

NAMES = Vocabulary(("bend", "clap", "wave"))
D, P = 5, 4


def make_head(pool: str = "mean") -> Classify:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocabulary": NAMES, "feature_size": P, "pool": pool}
    return Classify(name="action", input_size=D, **settings).eval()


def calibrated_head(pool: str = "mean") -> Classify:
    head = make_head(pool)
    head.confidence = fitted(make_results(40))
    return head


def make_results(
    count: int, sharpness: float = 4.0, accuracy: float = 0.7, seed: int = 0, shift: float = 0.0
) -> list[ClassifyResult]:
    """Features around the axis of each class, and logits with this expected accuracy; `sharpness` scales the logits."""
    generator = torch.Generator().manual_seed(seed)
    results = []
    for n in range(count):
        label = n % 3
        predicted = label if float(torch.rand((), generator=generator)) < accuracy else (label + 1) % 3
        logits = sharpness * torch.eye(3)[predicted] + torch.rand(3, generator=generator)
        features = 3 * torch.eye(P)[label] + 0.5 * torch.randn(P, generator=generator) + shift
        results.append(ClassifyResult(logits, label, features, logits[None].argmax(-1), 0))
    return results


def columns(results: list[ClassifyResult]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, features and labels."""
    logits, labels, features, _, _ = zip(*results, strict=True)
    return torch.stack(logits), torch.stack(features), torch.tensor(labels)


def fitted(validation: list[ClassifyResult]) -> Confidence:
    confidence = Confidence(num_classes=3, size=P)
    confidence.fit_distance(*columns(make_results(90, seed=1))[1:])
    logits, features, labels = columns(validation)
    confidence.fit_temperature(logits, labels)
    confidence.set_threshold(threshold_of(confidence.distance(features)))
    return confidence


each_validation = pytest.mark.parametrize(
    "validation",
    [
        make_results(40),
        make_results(40, sharpness=0.3),
        make_results(3, accuracy=1.0),
        make_results(60, sharpness=30, accuracy=1.0),
        make_results(31, accuracy=0.2),
    ],
    ids=["overconfident", "underconfident", "three, all correct", "confident and correct", "mostly wrong"],
)


@each_validation
def test_a_temperature_changes_no_ranking_and_never_worsens_the_likelihood(validation):
    logits, _, labels = columns(validation)
    scaled = fitted(validation).scale(logits)
    assert torch.equal(scaled.argsort(dim=-1, stable=True), logits.argsort(dim=-1, stable=True))
    assert negative_log_likelihood(scaled, labels) <= negative_log_likelihood(logits, labels)


def test_the_temperature_is_above_1_for_overconfident_logits_and_below_1_for_underconfident_ones():
    assert float(fitted(make_results(40)).get_buffer("temperature")) > 1.2
    assert float(fitted(make_results(40, sharpness=0.3, accuracy=1.0)).get_buffer("temperature")) < 0.8


def test_far_samples_are_unknown_and_before_the_fit_there_is_no_decision():
    confidence, far = fitted(make_results(40)), columns(make_results(30, shift=3.0, seed=2))[1]
    assert all(confidence.is_unknown(distance) for distance in confidence.distance(far).tolist())
    assert confidence.is_unknown(math.nan) is None
    unfitted = Confidence(num_classes=3, size=P)
    assert unfitted.distance(far).isnan().all()
    assert unfitted.is_unknown(0.0) is None
    assert unfitted.is_unknown(math.nan) is None
    assert float(unfitted.get_buffer("temperature")) == 1.0


def test_the_temperature_lowers_the_calibration_error_and_changes_no_answer():
    head, results = calibrated_head(), make_results(50, seed=3)
    metrics = head.metrics(results)
    assert metrics["ece"] < metrics["ece_unscaled"]
    assert metrics["accuracy"] == make_head().metrics(results)["accuracy"]


def test_wide_features_are_reduced_by_signs_that_keep_distances():
    wide, narrow = Confidence(num_classes=3, size=5000), Confidence(num_classes=3, size=MAX_DIMENSIONS)
    x = torch.randn(40, 5000, generator=torch.Generator().manual_seed(0))
    ratio = (torch.pdist(wide.reduce(x)) / torch.pdist(x)).tolist()
    assert np.mean(ratio) == pytest.approx(1, abs=0.02)
    assert 0.8 < min(ratio) < max(ratio) < 1.2
    assert torch.equal(wide.reduce(x), Confidence(num_classes=3, size=5000).reduce(x))
    assert torch.equal(narrow.reduce(x[:, :MAX_DIMENSIONS]), x[:, :MAX_DIMENSIONS])


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_distance_over_windows_is_that_of_the_whole(pool, cuts):
    head = calibrated_head(pool)
    lengths = (9, 4, 1, 6)
    steps, inputs = stack([torch.randn(n, D) for n in lengths]), stack([torch.randn(n, P) for n in lengths])
    whole = head.answer(head.observe(CoreOutput(steps, (), features=inputs)))
    memory = None
    for start, stop in itertools.pairwise([0, *cuts, 9]):
        if stop > start:
            windows = [
                Padded(x.data[:, start:stop], (x.lengths - start).clamp(0, stop - start)) for x in (steps, inputs)
            ]
            memory = head.observe(CoreOutput(windows[0], (), features=windows[1]), memory)
    assert memory is not None
    for answer, expected, row in zip(head.answer(memory), whole, inputs.unpad(), strict=True):
        assert isinstance(answer, Classification)
        assert isinstance(expected, Classification)
        assert answer.distance == pytest.approx(expected.distance, rel=1e-5)
        assert answer.distance == pytest.approx(float(head.confidence.distance(row.mean(0)[None])), rel=1e-4)
        assert answer.is_unknown == expected.is_unknown


def test_padding_does_not_change_the_distance_and_a_row_without_steps_has_none():
    head = calibrated_head()
    steps, inputs = stack([torch.randn(3, D), torch.randn(0, D)]), stack([torch.randn(3, P), torch.randn(0, P)])
    answers = []
    for filler in (0.0, math.nan):
        filled = Padded(torch.where(inputs.mask[:, :, None], inputs.data, filler), inputs.lengths)
        answers.append(head.answer(head.observe(CoreOutput(steps, (), features=filled))))
    assert answers[0] == answers[1]
    row = answers[0][1].row(1)
    assert row["distance"] is None
    assert row["unknown"] is None


def test_the_metrics_of_unknown_classes_equal_those_by_counting():
    head = calibrated_head()
    known = make_results(30, seed=4)
    near, far = make_results(9, seed=5, shift=0.3), make_results(12, seed=6, shift=1.0)
    metrics = unknown_metrics(head, known, {"near": near, "far": far})
    distances = head.distances([*known, *near, *far]).tolist()
    assert metrics["auroc"] == auroc(distances, [False] * 30 + [True] * 21)
    assert metrics["per_class"]["far"] == auroc(distances[:30] + distances[39:], [False] * 30 + [True] * 12)
    threshold = float(head.confidence.get_buffer("threshold"))
    assert metrics["kept"] == pytest.approx(np.mean([distance <= threshold for distance in distances[:30]]))
    assert metrics["refused"] == pytest.approx(np.mean([distance > threshold for distance in distances[30:]]))
    assert metrics["count"] == 21
    assert 0 <= metrics["auroc_energy"] <= 1
    assert 0 <= metrics["auroc_max_logit"] <= 1
    uncalibrated = unknown_metrics(make_head(), known, {"far": far})
    assert uncalibrated["auroc"] is uncalibrated["kept"] is uncalibrated["refused"] is None
