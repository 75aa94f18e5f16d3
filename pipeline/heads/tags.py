"""How spans become labels of steps, and labels spans again.

In: spans of a text or a video, or a label for every step. Out: the other. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.data.rows import Span
from pipeline.metrics.segmentation import runs
from pipeline.metrics.sequence import spans

Scheme = Literal["plain", "iob2", "each"]
"""plain: a span is a run of equal labels. iob2: it begins with a label of its own (Tjong Kim Sang & Veenstra 1999), so that two
neighbours stay two. each: every step is a span, as words have parts of speech."""
WATCHED = {"plain": "f1_50", "iob2": "span_f1", "each": "frame_accuracy"}
"""What a timeline of each scheme is judged by."""


def tags_of(span: Span, scheme: Scheme) -> tuple[str, ...]:
    """The labels that a span's steps get, that of the first step first."""
    return (f"B-{span.label}", f"I-{span.label}") if scheme == "iob2" else (span.label,)


def legal(names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """IOB2 labels -> which may follow which (C, C), and which may come first (C,): an I- only behind its own B- or I-."""
    inner = torch.tensor([name.startswith("I-") for name in names])
    follows = [[b[:2] != "I-" or (a[:2] in ("B-", "I-") and a[2:] == b[2:]) for b in names] for a in names]
    return torch.tensor(follows), ~inner


def cut(labels: Sequence[str], scheme: Scheme, background: str | None) -> list[tuple[str, int, int]]:
    """A label for every step -> (label, first step, step behind the last) of every span, in order."""
    if scheme == "iob2":
        return spans(labels, strict=False)
    if scheme == "each":
        return [(label, step, step + 1) for step, label in enumerate(labels) if label != background]
    names = sorted(set(labels))
    found = runs([names.index(label) for label in labels])
    return [(names[label], start, stop) for label, start, stop in found if names[label] != background]
