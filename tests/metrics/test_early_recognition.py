"""Early recognition, against loops over every step and clips worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.metrics.early_recognition import FRACTIONS, decide_at, decision_step, early_curve, mean_time_to_decision


def logits_of(*predicted: int, classes: int = 3) -> np.ndarray:
    """Logits with the given class as the highest, step for step."""
    return 4.0 * np.eye(classes)[list(predicted)]


def clips(seed: int = 0, count: int = 50) -> tuple[list[torch.Tensor], list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 25, (count,), generator=generator).tolist()
    logits = [torch.randn(n, 3, generator=generator).cumsum(0) for n in lengths]
    return logits, torch.randint(0, 3, (count,), generator=generator).tolist()


def test_the_curve_takes_the_prediction_after_a_fraction_of_the_steps():
    logits, labels = clips()
    curve = early_curve(logits, labels)
    assert [fraction for fraction, _ in curve] == list(FRACTIONS)
    for tenths, (_, accuracy) in enumerate(curve, start=1):
        correct = []
        for table, label in zip(logits, labels, strict=True):
            steps = next(n for n in range(1, len(table) + 1) if 10 * n >= tenths * len(table))
            correct.append(int(table[steps - 1].argmax()) == label)
        assert accuracy == pytest.approx(np.mean(correct))
    assert curve[-1][1] == pytest.approx(
        np.mean([int(t[-1].argmax()) == y for t, y in zip(logits, labels, strict=True)])
    )


def test_a_fraction_that_is_no_exact_float_is_not_rounded_up():
    logits = logits_of(*[0] * 55, *[1] * 45)
    assert early_curve([logits], [0], [0.55]) == [(0.55, 1.0)]
    assert early_curve([logits], [0], [0.56]) == [(0.56, 0.0)]


def test_a_clip_of_one_step_counts_and_an_empty_clip_does_not():
    assert early_curve([logits_of(1), np.zeros((0, 3))], [1, 1], [0.1, 1.0]) == [(0.1, 1.0), (1.0, 1.0)]
    assert math.isnan(early_curve([], [], [1.0])[0][1])


def test_the_decision_step_equals_the_search_over_all_steps():
    for table in clips(1)[0]:
        predicted = table.argmax(-1).tolist()
        expected = min(n for n in range(1, len(predicted) + 1) if set(predicted[n - 1 :]) == {predicted[-1]})
        assert decision_step(table) == expected


def test_time_to_decision_by_hand():
    logits = [logits_of(0, 1, 1, 1), logits_of(2, 2), logits_of(0, 0, 0, 1), np.zeros((0, 3))]
    metrics = mean_time_to_decision(logits, [1, 2, 0, 0])
    # decided after 2 of 4 (correct), 1 of 2 (correct), 4 of 4 (wrong); the empty clip is left out
    assert metrics == pytest.approx(
        {
            "decision_share": 2 / 3,
            "decision_steps": 7 / 3,
            "right_share": 0.5,
            "right_steps": 1.5,
            "right": 2,
            "count": 3,
        }
    )
    empty = mean_time_to_decision([], [])
    assert empty["count"] == 0 and math.isnan(empty["decision_share"]) and math.isnan(empty["right_steps"])


def test_a_decision_is_at_the_first_confident_step():
    logits, labels = clips(2)
    for confidence in (0.6, 0.9, 0.999):
        correct, shares, decided = [], [], []
        for table, label in zip(logits, labels, strict=True):
            stop = len(table) - 1
            for step, row in enumerate(table.double().softmax(-1)):
                if row.max() >= confidence:
                    stop = step
                    break
            decided.append(any(row.max() >= confidence for row in table.double().softmax(-1)))
            correct.append(int(table[stop].argmax()) == label)
            shares.append((stop + 1) / len(table))
        metrics = decide_at(logits, labels, confidence)
        assert metrics["accuracy"] == pytest.approx(np.mean(correct)) and metrics["share"] == pytest.approx(
            np.mean(shares)
        )
        assert metrics["decided"] == pytest.approx(np.mean(decided)) and metrics["count"] == len(labels)


def test_confidence_zero_decides_at_the_first_step_and_an_unreachable_one_at_the_last():
    logits, labels = clips(3)
    first, last = decide_at(logits, labels, 0.0), decide_at(logits, labels, 2.0)
    assert first["steps"] == 1 and first["decided"] == 1
    assert last["share"] == 1 and last["decided"] == 0
    assert last["accuracy"] == pytest.approx(early_curve(logits, labels, [1.0])[0][1])
    assert decide_at(logits, labels, 0.9, temperature=5.0)["share"] >= decide_at(logits, labels, 0.9)["share"]


def test_errors_name_the_problem():
    with pytest.raises(ValueError, match="0 is no part of a clip"):
        early_curve([logits_of(0)], [0], [0])
    with pytest.raises(ValueError, match="There are 1 clips and 2 labels"):
        mean_time_to_decision([logits_of(0)], [0, 1])


def test_classes_give_the_same_numbers_as_the_logits_that_they_come_from():
    logits, labels = clips()
    logits.append(logits[0][:0])
    labels.append(0)
    classes = [table.argmax(-1).to(torch.int32) for table in logits]
    assert early_curve(classes, labels) == early_curve(logits, labels)
    assert mean_time_to_decision(classes, labels) == mean_time_to_decision(logits, labels)
    assert [decision_step(c) for c in classes[:-1]] == [decision_step(table) for table in logits[:-1]]
