"""Tagging schemes: from spans to labels of steps, and back.

In: spans of a text or of a video, or a label for every step. Out: the other of the two. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.data.manifest_rows import Span
from pipeline.metrics.segmentation import runs
from pipeline.metrics.sequence import spans
from pipeline.models.choices import Scheme

MONITORS = {"plain": "f1_50", "iob2": "span_f1", "each": "frame_accuracy"}
"""The metric that chooses the best epoch, for each scheme."""


def tags_of(span: Span, scheme: Scheme) -> tuple[str, ...]:
    """The different labels of a span's steps, that of the first step first."""
    return (f"B-{span.label}", f"I-{span.label}") if scheme == "iob2" else (span.label,)


def allowed_transitions(names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The rules of IOB2: which label (column) may follow which (row), (C, C) bool, and which may come first, (C,) bool.

    I-x may only follow B-x or I-x.
    """
    is_inside = torch.tensor([name.startswith("I-") for name in names])
    allowed = [[b[:2] != "I-" or (a[:2] in ("B-", "I-") and a[2:] == b[2:]) for b in names] for a in names]
    return torch.tensor(allowed), ~is_inside


def labels_to_spans(labels: Sequence[str], scheme: Scheme, background: str | None) -> list[tuple[str, int, int]]:
    """A label for every step -> (label, first step, step after the last) of every span, in order."""
    if scheme == "iob2":
        return spans(labels, strict=False)
    if scheme == "each":
        return [(label, step, step + 1) for step, label in enumerate(labels) if label != background]
    names = sorted(set(labels))
    label_runs = runs([names.index(label) for label in labels])
    return [(names[label], start, stop) for label, start, stop in label_runs if names[label] != background]
