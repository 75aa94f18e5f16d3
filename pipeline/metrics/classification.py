"""Accuracy and its kin, from scores and labels. Pure functions; they know nothing of models.

Own lines, checked against plain counting: importing torchmetrics for them costs longer than torch itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def classification(scores: Tensor, labels: Tensor) -> dict[str, Any]:
    """Scores (N, C), labels (N,) int64 -> top-1, top-5 (where C > 5), mean class accuracy (over the classes that occur),
    accuracy per class (None where it does not occur) and the confusion matrix, rows the truth.
    """
    count = scores.shape[1]
    matrix = torch.bincount(labels * count + scores.argmax(-1), minlength=count * count).reshape(count, count)
    rows, hits = matrix.sum(1), matrix.diagonal()
    per_class = [float(h) / int(n) if n else None for h, n in zip(hits, rows, strict=True)]
    seen = [a for a in per_class if a is not None]
    found: dict[str, Any] = {"accuracy": float(hits.sum() / rows.sum()), "mean_class_accuracy": sum(seen) / len(seen)}
    if count > 5:
        found["top5_accuracy"] = float((scores.topk(5).indices == labels[:, None]).any(1).float().mean())
    return {**found, "count": int(rows.sum()), "per_class": per_class, "confusion": matrix.tolist()}


def paired_accuracy(scores: Tensor, labels: Tensor, pairs: list[tuple[int, int]]) -> float:
    """Two-way accuracy inside pairs of classes: of each sample of a pair, does its own class score above the other?"""
    other = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    kept = [i for i, label in enumerate(labels.tolist()) if label in other]
    if not kept:
        return float("nan")
    mine = labels[kept]
    against = torch.tensor([other[label] for label in mine.tolist()])
    return float((scores[kept, mine] > scores[kept, against]).float().mean())
