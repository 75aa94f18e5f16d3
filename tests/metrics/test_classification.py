"""Metrics of classification against plain counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.metrics.classification import classification, paired_accuracy


@pytest.mark.parametrize(("count", "classes", "seed"), [(200, 8, 0), (57, 3, 1), (1, 2, 2), (40, 6, 3)])
def test_metrics_equal_plain_counting(count: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(count, classes))
    labels = random.integers(0, max(1, classes - 1), count)  # the last class never occurs
    metrics = classification(torch.tensor(scores), torch.tensor(labels))
    pairs = list(zip(labels, scores.argmax(1), strict=True))
    confusion = [[sum(t == a and p == b for t, p in pairs) for b in range(classes)] for a in range(classes)]
    assert metrics["confusion"] == confusion and metrics["count"] == count
    assert metrics["accuracy"] == pytest.approx(sum(t == p for t, p in pairs) / count)
    per_class = [row[i] / sum(row) if sum(row) else None for i, row in enumerate(confusion)]
    assert metrics["per_class"] == per_class and per_class[-1] is None
    assert metrics["mean_class_accuracy"] == pytest.approx(np.mean([a for a in per_class if a is not None]))
    if classes > 5:
        top5 = [t in sorted(range(classes), key=lambda c, s=s: -s[c])[:5] for t, s in zip(labels, scores, strict=True)]
        assert metrics["top5_accuracy"] == pytest.approx(np.mean(top5))
    else:
        assert "top5_accuracy" not in metrics


def test_paired_accuracy_compares_only_the_two_classes_of_a_pair() -> None:
    scores = torch.tensor(
        [
            [0.1, 0.9, 5.0, 0.0],  # truth 0 against 1: wrong, whatever the score of 2
            [0.1, 0.9, 5.0, 0.0],  # truth 1 against 0: correct
            [9.0, 0.0, 2.0, 1.0],  # truth 2 against 3: correct
            [0.0, 0.0, 0.0, 7.0],  # truth 3 against 2: correct
            [1.0, 1.0, 0.0, 0.0],  # equal scores are not correct
        ]
    )
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert paired_accuracy(scores, labels, [(0, 1), (2, 3)]) == pytest.approx(3 / 5)
    assert paired_accuracy(scores, labels, [(3, 2)]) == 1.0, "rows of no pair do not count"
    assert math.isnan(paired_accuracy(scores, labels[:0], [(0, 1)])) and math.isnan(paired_accuracy(scores, labels, []))
