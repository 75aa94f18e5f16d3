"""Early answers, against loops over every step and clips worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.metrics.early import TENTHS, decide_at, early_curve, mean_time_to_decision, settled_after


def answers(*said: int, classes: int = 3) -> np.ndarray:
    """Logits whose highest is as told, step for step."""
    return 4.0 * np.eye(classes)[list(said)]


def clips(seed: int = 0, count: int = 50) -> tuple[list[torch.Tensor], list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 25, (count,), generator=generator).tolist()
    logits = [torch.randn(n, 3, generator=generator).cumsum(0) for n in lengths]
    return logits, torch.randint(0, 3, (count,), generator=generator).tolist()


def test_the_curve_reads_the_answer_after_the_steps_that_a_fraction_covers():
    logits, labels = clips()
    curve = early_curve(logits, labels)
    assert [fraction for fraction, _ in curve] == list(TENTHS)
    for tenth, (_, accuracy) in enumerate(curve, start=1):
        right = []
        for table, label in zip(logits, labels, strict=True):
            steps = next(n for n in range(1, len(table) + 1) if 10 * n >= tenth * len(table))
            right.append(int(table[steps - 1].argmax()) == label)
        assert accuracy == pytest.approx(np.mean(right))
    assert curve[-1][1] == pytest.approx(
        np.mean([int(t[-1].argmax()) == y for t, y in zip(logits, labels, strict=True)])
    )


def test_a_fraction_that_floats_cannot_hold_is_not_rounded_up():
    logits = answers(*[0] * 55, *[1] * 45)
    assert early_curve([logits], [0], [0.55]) == [(0.55, 1.0)]
    assert early_curve([logits], [0], [0.56]) == [(0.56, 0.0)]


def test_a_clip_of_one_step_is_answered_at_once_and_one_of_none_never():
    assert early_curve([answers(1), np.zeros((0, 3))], [1, 1], [0.1, 1.0]) == [(0.1, 1.0), (1.0, 1.0)]
    assert math.isnan(early_curve([], [], [1.0])[0][1])


def test_settled_after_equals_the_search_over_all_steps():
    for table in clips(1)[0]:
        said = table.argmax(-1).tolist()
        expected = min(n for n in range(1, len(said) + 1) if set(said[n - 1 :]) == {said[-1]})
        assert settled_after(table) == expected


def test_time_to_decision_by_hand():
    logits = [answers(0, 1, 1, 1), answers(2, 2), answers(0, 0, 0, 1), np.zeros((0, 3))]
    found = mean_time_to_decision(logits, [1, 2, 0, 0])
    # settled after 2 of 4 (right), 1 of 2 (right), 4 of 4 (wrong); the empty clip is not there
    assert found == pytest.approx(
        {"settled_share": 2 / 3, "settled_steps": 7 / 3, "right_share": 0.5, "right_steps": 1.5, "right": 2, "count": 3}
    )
    nothing = mean_time_to_decision([], [])
    assert nothing["count"] == 0 and math.isnan(nothing["settled_share"]) and math.isnan(nothing["right_steps"])


def test_deciding_stops_at_the_first_sure_step_and_nowhere_later():
    logits, labels = clips(2)
    for confidence in (0.6, 0.9, 0.999):
        right, shares, decided = [], [], []
        for table, label in zip(logits, labels, strict=True):
            stop = len(table) - 1
            for step, row in enumerate(table.double().softmax(-1)):
                if row.max() >= confidence:
                    stop = step
                    break
            decided.append(any(row.max() >= confidence for row in table.double().softmax(-1)))
            right.append(int(table[stop].argmax()) == label)
            shares.append((stop + 1) / len(table))
        found = decide_at(logits, labels, confidence)
        assert found["accuracy"] == pytest.approx(np.mean(right)) and found["share"] == pytest.approx(np.mean(shares))
        assert found["decided"] == pytest.approx(np.mean(decided)) and found["count"] == len(labels)


def test_deciding_at_no_confidence_is_the_first_step_and_at_an_unreachable_one_the_last():
    logits, labels = clips(3)
    first, last = decide_at(logits, labels, 0.0), decide_at(logits, labels, 2.0)
    assert first["steps"] == 1 and first["decided"] == 1
    assert last["share"] == 1 and last["decided"] == 0
    assert last["accuracy"] == pytest.approx(early_curve(logits, labels, [1.0])[0][1])
    assert decide_at(logits, labels, 0.9, temperature=5.0)["share"] >= decide_at(logits, labels, 0.9)["share"]


def test_errors_are_sentences():
    with pytest.raises(ValueError, match="A fraction of 0 cannot be seen of a clip"):
        early_curve([answers(0)], [0], [0])
    with pytest.raises(ValueError, match="There are 1 clips and 2 labels"):
        mean_time_to_decision([answers(0)], [0, 1])
