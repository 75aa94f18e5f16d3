"""What the heads learn from a row: the targets of one sample.

In: a row and the times of its looks. Out: a tensor, or None where the row has no such annotation. A target holds plain
values and no module, so it is small, and the processes that load samples get a copy of it. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import END, PAD, Tokenizer
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.tag_schemes import Scheme, tags_of

IGNORE_INDEX = -1
"""The target of a moment after the end of the annotation: it counts neither in the loss nor in the metrics."""


@dataclass(frozen=True)
class NoTarget:
    """A placeholder, for heads whose target is a part of the raw sequence, so that every row has one."""

    def __call__(self, row: Row, times: np.ndarray) -> Tensor | None:
        """A scalar 0."""
        return torch.zeros((), dtype=torch.int64)


@dataclass(frozen=True)
class LabelTarget:
    """The index of the row's label, a scalar int64."""

    vocabulary: Vocabulary

    def __call__(self, row: Row, times: np.ndarray) -> Tensor | None:
        """None where the row has no label."""
        return None if row.label is None else torch.tensor(self.vocabulary.index(row.label))


@dataclass(frozen=True)
class ConditionTarget:
    """The class that a generator is given, a scalar int64; 0 where the vocabulary is empty: there is no condition."""

    vocabulary: Vocabulary

    def __call__(self, row: Row, times: np.ndarray) -> Tensor | None:
        """None where a generator with classes gets a row without a label."""
        if not self.vocabulary.names:
            return torch.zeros((), dtype=torch.int64)
        return None if row.label is None else torch.tensor(self.vocabulary.index(row.label))


@dataclass(frozen=True)
class StepLabelTarget:
    """The label of every look, (T,) int64: that of the span that contains it. The start of a span belongs to it.

    background: the label of looks outside all spans. None: they get the label of the nearest span.
    """

    vocabulary: Vocabulary
    background: str | None
    scheme: Scheme

    def __call__(self, row: Row, times: np.ndarray) -> Tensor | None:
        """None where the row has no spans; a text without spans is all background."""
        background = None if self.background is None else self.vocabulary.index(self.background)
        if not row.spans:
            return None if row.text is None or background is None else torch.full((len(times),), background)
        starts, ends = np.array([s.start for s in row.spans]), np.array([s.end for s in row.spans])
        tags = [[self.vocabulary.index(tag) for tag in tags_of(s, self.scheme)] for s in row.spans]
        last_tags = np.array([last for *_, last in tags])
        index = np.searchsorted(starts, times + 1e-9, side="right") - 1  # the last span that has begun
        is_inside = (index >= 0) & (times < ends[index])
        if background is not None:
            labels = np.where(is_inside, last_tags[index], background)
        else:
            following = np.minimum(index + 1, len(starts) - 1)
            is_nearer = (index < 0) | (np.abs(starts[following] - times) < np.abs(times - ends[index]))
            labels = np.where(is_inside | ~is_nearer, last_tags[index], last_tags[following])
        if self.scheme == "iob2":
            labels = labels.copy()
            first_looks = np.searchsorted(times, starts - 1e-9)
            has_look = (first_looks < len(times)) & is_inside[np.minimum(first_looks, len(times) - 1)]
            labels[first_looks[has_look]] = np.array([first for first, *_ in tags])[has_look]
        return torch.from_numpy(labels.astype(np.int64))


@dataclass(frozen=True)
class AheadTarget:
    """(T, leads) int64: the class at each look plus each lead in seconds; IGNORE_INDEX after the end of the annotation.

    That end is the last look or the end of the last span, whichever is later.
    """

    vocabulary: Vocabulary
    background: str
    leads: tuple[float, ...]

    def __call__(self, row: Row, times: np.ndarray) -> Tensor | None:
        """None where the row has no spans. A window without looks has a target without steps."""
        if not row.spans:
            return None
        if not len(times):
            return torch.zeros((0, len(self.leads)), dtype=torch.int64)
        moments = times[:, None] + np.array(self.leads)
        classes = np.full(moments.shape, self.vocabulary.index(self.background))
        for span in row.spans:
            classes[(moments >= span.start) & (moments < span.end)] = self.vocabulary.index(span.label)
        classes[(moments > times[-1]) & (moments >= row.spans[-1].end)] = IGNORE_INDEX
        return torch.from_numpy(classes)


@dataclass(frozen=True)
class SentencesTarget:
    """Every sentence of the row, (R, max_length) int64: its tokens, the end token, padding."""

    tokenizer: Tokenizer
    max_length: int

    def __call__(self, row: Row, times: np.ndarray) -> Tensor | None:
        """None where the row has no captions."""
        if not row.captions:
            return None
        target = torch.full((len(row.captions), self.max_length), PAD, dtype=torch.int64)
        for sentence, text in zip(target, row.captions, strict=True):
            ids = self.encode(text)
            sentence[: len(ids)] = torch.tensor(ids)
        return target

    def encode(self, text: str) -> list[int]:
        """The tokens of one sentence and the end token, at most `max_length` together."""
        return [*self.tokenizer.encode(text)[: self.max_length - 1], END]


@dataclass(frozen=True)
class WordsTarget:
    """The words (L,) int64 of the row's first caption. ids: of the known words. unknown: the index of all others."""

    ids: Mapping[str, int]
    unknown: int

    def __call__(self, row: Row, times: np.ndarray) -> Tensor | None:
        """None where the row has no captions."""
        if not row.captions:
            return None
        return torch.tensor([self.ids.get(word, self.unknown) for word in row.captions[0].split()], dtype=torch.int64)
