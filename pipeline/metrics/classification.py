"""Accuracy, mean class accuracy, top-5 accuracy and the confusion matrix, from scores and labels.

In: scores (N, C) and labels (N,). Out: numbers. It knows nothing of models. These metrics are written here, and tested
against plain counting, because the import of torchmetrics takes longer than that of torch itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def classification(scores: Tensor, labels: Tensor) -> dict[str, Any]:
    """The metrics of a classifier: scores (N, C), labels (N,) int64.

    Returns top-1 accuracy, top-5 accuracy (where C > 5), mean class accuracy (over the classes that occur), accuracy of
    each class (None where the class does not occur) and the confusion matrix. Its rows are the true classes.
    """
    num_classes = scores.shape[1]
    matrix = torch.bincount(labels * num_classes + scores.argmax(-1), minlength=num_classes * num_classes)
    matrix = matrix.reshape(num_classes, num_classes)
    totals, correct = matrix.sum(1), matrix.diagonal()
    per_class = [float(c) / int(n) if n else None for c, n in zip(correct, totals, strict=True)]
    occurring = [accuracy for accuracy in per_class if accuracy is not None]
    metrics: dict[str, Any] = {
        "accuracy": float(correct.sum() / totals.sum()),
        "mean_class_accuracy": sum(occurring) / len(occurring),
    }
    if num_classes > 5:
        metrics["top5_accuracy"] = float((scores.topk(5).indices == labels[:, None]).any(1).float().mean())
    return {**metrics, "count": int(totals.sum()), "per_class": per_class, "confusion": matrix.tolist()}


def paired_accuracy(scores: Tensor, labels: Tensor, pairs: list[tuple[int, int]]) -> float:
    """Two-way accuracy within pairs of classes: the share of samples whose true class scores above its partner.

    scores: (N, C), labels: (N,). Samples of a class that is in no pair do not count; nan where no sample counts.
    """
    partners = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    index = [i for i, label in enumerate(labels.tolist()) if label in partners]
    if not index:
        return float("nan")
    own = labels[index]
    other = torch.tensor([partners[label] for label in own.tolist()])
    return float((scores[index, own] > scores[index, other]).float().mean())
