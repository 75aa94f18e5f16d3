"""Confidence of classifications: temperature, threshold, and unknown classes that are in no training."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoint import Checkpoint, load_model
from pipeline.commands.predict import predict
from pipeline.commands.prepare_data import prepare
from pipeline.commands.train import train
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, load_config
from pipeline.data.dataset import RowDataset
from pipeline.data.run_data import RunData
from pipeline.data.vocabulary import Vocabulary
from pipeline.evaluation import calibrate as calibrate_module
from pipeline.evaluation.calibrate import calibrate, unknown_metrics
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.heads.classify import Classify, ClassifyResult
from pipeline.heads.confidence import Confidence
from pipeline.metrics.calibration import auroc, negative_log_likelihood
from pipeline.models.core_output import CoreOutput
from pipeline.models.model import Model
from pipeline.models.prediction import Classification
from pipeline.padded import Padded, stack
from pipeline.training.distributed import DistributedContext

CPU = DistributedContext(torch.device("cpu"))
NAMES = Vocabulary(("bend", "clap", "wave"))
D, P = 5, 4


def make_head(pool: str = "mean") -> Classify:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"vocabulary": NAMES, "core_input_size": P, "pool": pool}
    return Classify(name="action", input_size=D, **settings).eval()


def calibrated_head(pool: str = "mean") -> Classify:
    head = make_head(pool)
    head.calibrate(make_results(90, seed=1), make_results(40))
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
    confidence.fit_calibration(*columns(validation))
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


@each_validation
def test_the_threshold_keeps_95_percent_of_the_validation_samples(validation):
    confidence = fitted(validation)
    distances = confidence.distance(columns(validation)[1]).tolist()
    num_kept = sum(confidence.is_unknown(distance) is False for distance in distances)
    assert len(validation) * 0.95 <= num_kept < len(validation) * 0.95 + 1


def test_far_samples_are_unknown_and_before_the_fit_there_is_no_decision():
    confidence, far = fitted(make_results(40)), columns(make_results(30, shift=3.0, seed=2))[1]
    assert all(confidence.is_unknown(distance) for distance in confidence.distance(far).tolist())
    assert confidence.is_unknown(math.nan) is None
    unfitted = Confidence(num_classes=3, size=P)
    assert unfitted.distance(far).isnan().all()
    assert unfitted.is_unknown(0.0) is None
    assert unfitted.is_unknown(math.nan) is None
    assert float(unfitted.get_buffer("temperature")) == 1.0


def test_calibrate_says_what_it_fitted_or_what_is_missing():
    head = make_head()
    message = head.calibrate(make_results(90, seed=1), [])
    assert message.startswith(
        "action: not calibrated: there is no validation split. The temperature is 1, and there is no"
    )
    assert head.confidence.mahalanobis.is_fitted
    assert head.confidence.get_buffer("threshold").isnan()
    message = head.calibrate(make_results(90, seed=1), make_results(40))
    assert message.startswith("action: calibrated on 40 validation samples: temperature ")
    results = make_results(50, seed=3)
    metrics = head.metrics(results)
    assert metrics["ece"] < metrics["ece_unscaled"]
    assert metrics["accuracy"] == make_head().metrics(results)["accuracy"]


def test_fewer_than_ten_validation_samples_fit_nothing():
    head = make_head()
    message = head.calibrate(make_results(90, seed=1), make_results(9))
    assert "not calibrated: 9 validation samples, at least 10 are needed" in message
    assert float(head.confidence.get_buffer("temperature")) == 1
    assert head.confidence.get_buffer("threshold").isnan()


@pytest.mark.parametrize("pool", ["mean", "last", "attention"])
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_distance_over_windows_is_that_of_the_whole(pool, cuts):
    head = calibrated_head(pool)
    lengths = (9, 4, 1, 6)
    steps, inputs = stack([torch.randn(n, D) for n in lengths]), stack([torch.randn(n, P) for n in lengths])
    whole = head.answer(head.observe(CoreOutput(steps, (), inputs=inputs)))
    memory = None
    for start, stop in itertools.pairwise([0, *cuts, 9]):
        if stop > start:
            windows = [
                Padded(x.data[:, start:stop], (x.lengths - start).clamp(0, stop - start)) for x in (steps, inputs)
            ]
            memory = head.observe(CoreOutput(windows[0], (), inputs=windows[1]), memory)
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
        answers.append(head.answer(head.observe(CoreOutput(steps, (), inputs=filled))))
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


# from data to predictions


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """Stored series of four classes, each around its own axis, with persons and splits."""
    folder, random, rows = tmp_path_factory.mktemp("series"), np.random.default_rng(0), []
    for n in range(96):
        label, person = n % 4, n // 8
        values = 2 * np.eye(6)[label] + random.normal(0, 0.3, (int(random.integers(3, 9)), 6))
        np.save(folder / f"{n}.npy", values.astype(np.float32))
        split = "test" if person >= 9 else "val" if person >= 7 else "train"
        name = ("bend", "clap", "jump", "wave")[label]
        rows.append({"path": f"{n}.npy", "split": split, "group": f"p{person}", "label": name})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config_of(series: Path, *settings: str) -> Config:
    base = {"data": {"path": str(series / "manifest.jsonl")}, "encoder": {"kind": "series", "project": 0}}
    quick = [
        "core.hidden=8",
        "training.epochs=3",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        "evaluation.order_controls=false",
    ]
    return load_config(None, [*quick, *settings], base=base)


def prepared_of(series: Path, *settings: str) -> RunData:
    return prepare(config_of(series, *settings), CPU, lambda text: None)


@pytest.fixture(scope="module")
def run(series, tmp_path_factory) -> Path:
    """The folder of a training without the class jump."""
    folder, messages = tmp_path_factory.mktemp("run"), []
    train(config_of(series, "evaluation.unknown_classes=[jump]", f"run={folder}"), messages.append)
    left_out = "unknown classes: jump: 18 rows left out of training and validation, 6 in the test split"
    assert any(left_out in message for message in messages)
    assert any(message.startswith("action: calibrated on 12 validation samples: ") for message in messages)
    return folder


def test_rows_of_an_unknown_class_are_in_neither_training_nor_validation(series):
    data = prepared_of(series, "evaluation.unknown_classes=[jump, wave]")
    for split in ("train", "val", "test"):
        assert data.rows(split)
        assert {row.label for row in data.rows(split)} == {"bend", "clap"}
    assert {(row.label, row.split) for row in data.unknown_rows()} == {("jump", "test"), ("wave", "test")}
    assert not [row for row in data.manifest.rows if row.label in ("jump", "wave") and row.split != "test"]
    test_paths = {row.path for row in prepared_of(series).rows("test")}
    assert {row.path for row in data.rows("test") + data.unknown_rows()} == test_paths


def test_an_unknown_class_that_is_no_label_raises(series):
    message = "evaluation.unknown_classes names 'jumps', which is no label of .* Did you mean 'jump'?"
    with pytest.raises(ConfigError, match=message):
        prepared_of(series, "evaluation.unknown_classes=[jumps]")


def test_a_run_reports_the_detection_of_unknown_classes(run):
    report = json.loads((run / "report.json").read_text())
    row = report["rows"][0]
    assert report["classes"]["action"] == ["bend", "clap", "wave"]
    assert row["count"] == 18
    assert row["open_set"]["count"] == 6
    assert row["auroc_unknown"] == row["open_set"]["auroc"] == 1.0  # jump has an axis of its own
    assert row["open_set"]["per_class"]["jump"] == 1.0
    assert row["open_set"]["refused"] == 1.0
    assert row["open_set"]["kept"] >= 0.6
    assert "unknown: AUROC 1.000 over 6 clips of classes that were not in training" in (run / "report.txt").read_text()


def uncalibrated(checkpoint: Checkpoint) -> Model:
    """A model with the same weights and no calibration."""
    model = checkpoint.architecture.build(checkpoint.vocabularies, input_size=checkpoint.input_size).eval()
    weights = {k: v for k, v in checkpoint.model.state_dict().items() if ".confidence." not in k}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert all(".confidence." in k for k in missing)
    return model


def test_a_stored_model_has_the_calibration_of_its_training(run, series):
    checkpoint = load_model(run)
    data = prepared_of(series, "evaluation.unknown_classes=[jump]")
    model = uncalibrated(checkpoint)
    head, expected = model.head("action"), checkpoint.model.head("action")
    assert isinstance(head, Classify)
    assert isinstance(expected, Classify)
    train_set, validation_set = (
        RowDataset(data.rows(split), data.source, {"action": head.target}) for split in ("train", "val")
    )
    calibrate(model, train_set, validation_set, batch_size=16, device=CPU.device, log=lambda text: None)
    calibration = head.confidence.state_dict()
    for name, value in expected.confidence.state_dict().items():
        torch.testing.assert_close(value, calibration[name])


def test_predictions_of_a_stored_model_say_what_is_unknown(run, series, tmp_path):
    model = load_model(run).model
    head = model.head("action")
    assert isinstance(head, Classify)
    data = prepared_of(series, "evaluation.unknown_classes=[jump]")
    rows = [*data.rows("test")[:3], *data.unknown_rows()[:3]]
    paths = [str(series / row.path) for row in rows]
    options: dict[str, Any] = {"formats": ["jsonl", "csv", "parquet"], "top": 2, "device": "cpu"}
    predict(paths, run, tmp_path, **options, log=print, on_row=lambda *args: None)
    answers = [json.loads(line)["action"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    dataset = RowDataset(rows, data.source, {"action": lambda row, times: torch.tensor(-1)})
    evaluation = evaluate_dataset(model, dataset, batch_size=2, device=CPU.device, has_loss=False)
    results = evaluation.results["action"]
    for answer, result, distance in zip(answers, results, head.distances(results).tolist(), strict=True):
        assert answer["distance"] == pytest.approx(distance, rel=1e-4)
        assert answer["unknown"] is head.confidence.is_unknown(distance)
        score = float(head.confidence.scale(result.logits).softmax(-1).max())
        assert answer["score"] == pytest.approx(score, abs=1e-5)
        assert answer["label"] in NAMES.names
    assert all(answer["unknown"] for answer in answers[3:])


def test_without_a_validation_split_nothing_is_unknown_and_one_message_says_so(series, tmp_path):
    messages: list[str] = []
    settings = ["data.validation_share=0", "evaluation.unknown_classes=[jump]", f"run={tmp_path}"]
    row = train(config_of(series, *settings), messages.append).report["rows"][0]
    assert sum("not calibrated: there is no validation split" in message for message in messages) == 1
    assert row["auroc_unknown"] == 1.0
    assert row["open_set"]["refused"] is None
    assert row["ece"] == row["ece_unscaled"]


def test_the_distance_is_fitted_to_equally_many_rows_of_each_label(series, monkeypatch):
    monkeypatch.setattr(calibrate_module, "MAX_TRAIN_ROWS", 12)
    subset = calibrate_module._balanced_subset(prepared_of(series).rows("train"))
    assert [sum(row.label == name for row in subset) for name in ("bend", "clap", "jump", "wave")] == [3] * 4
