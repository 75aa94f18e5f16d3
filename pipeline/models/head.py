"""The protocol of heads.

A head asks one question of what the core knows. It learns by `loss`, and answers by an explicit memory:
`observe` folds what was just seen into the memory, `answer` turns the memory into predictions. Windows one
after another give the memory of the whole. A head never re-reads the video and remembers none itself. How good its
answers are it says in two steps, so that any number of batches can be measured together: `evidence` for each sample,
`metrics` over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.models.prediction import Prediction, Spans
from pipeline.models.seen import Seen

Memory = Any
"""Belongs to the head that made it: sums and counts of logits, a Viterbi lattice. Tensors, batch first."""

Evidence = Any
"""Belongs to the head that made it: answer and truth of one sample, on the CPU."""


class Head(Protocol):
    """What the model and the dataset need of a head; every head is an nn.Module as well."""

    opponent: nn.Module | None
    watched: str
    """Which of its metrics chooses the best epoch; higher is better."""
    stepwise: bool
    """Whether its target has an entry for each step, which moves when the steps are moved."""

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """The truth of one sample looked at `times` (T,) seconds; None where the row does not say it."""
        ...

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """Named scalar terms; the training loop adds them up."""
        ...

    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """The memory after these steps."""
        ...

    def answer(self, memory: Memory) -> Sequence[Prediction]:
        """One prediction a row."""
        ...

    def evidence(self, seen: Seen, batch: Batch) -> list[Evidence]:
        """What it would answer to each sample, beside the truth."""
        ...

    def interval(self, evidence: Sequence[Evidence], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the metric it is watched by; a sample's group is the person or recording it is of."""
        ...

    def metrics(self, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """Numbers (and lists of them) over samples; `count` says of how many."""
        ...


Following = dict[str, Tensor]
"""What a head remembers of a stream without end, by name: its size does not grow. B is 1."""


class Decided(NamedTuple):
    """labels: (N,) int64 indices of classes, -1 where nothing happens; scores: (N, C) probabilities. They belong to the
    N looks behind those that were decided before: a head decides in order and leaves none out.
    """

    labels: Tensor
    scores: Tensor


@runtime_checkable
class Follower(Protocol):
    """A head that can say what happens while it happens. What it said it never takes back."""

    delay_steps: int
    """How many looks it waits in any case: no lag may be shorter."""

    def follow(
        self, seen: Seen, memory: Following | None = None, *, lag: int, smooth: int
    ) -> tuple[Following, Decided]:
        """Go on with these steps (1, T, H) of one stream. lag: how many looks later a label may be decided, where that
        helps; smooth: over how many looks scores are averaged, where nothing else joins them.
        """
        ...

    def conclude(self, memory: Following, *, lag: int) -> tuple[Decided, Prediction | None]:
        """If the stream ended here: the labels of the looks that still waited, and the answer about the whole where its
        memory needs no more room for hours than for seconds. The memory stays as it is.
        """
        ...


@runtime_checkable
class Calibrated(Protocol):
    """A head that says how far its answers can be trusted."""

    def calibrate(self, train: Sequence[Evidence], validation: Sequence[Evidence]) -> str:
        """After training: fit that, from its own evidence. Returns what was done, or not, in a sentence."""
        ...


@runtime_checkable
class Contest(Protocol):
    """A head with two players.

    is_blind: it learns from the raw data alone, not from what the core knows of them. alone: on which part of a training's steps they do not play yet. is_playing: whether they do; the training says so at every step.
    """

    is_blind: bool
    alone: float
    is_playing: bool

    def verdict(self, means: Mapping[str, float]) -> str:
        """Why to go on makes no sense, from what the players paid over the last steps; empty while both are in the game."""
        ...

    def picture(self, batch: Batch) -> np.ndarray | list[str]:
        """Something made now, of codes that stay the same (and of what a batch gives, where it needs that): a picture uint8
        (H, W, 3), or texts.
        """
        ...


@runtime_checkable
class Reader(Protocol):
    """A head that wants to know something of all training rows before it learns from one after another."""

    def read(self, rows: Sequence[Row]) -> None:
        """Look through the training rows, once."""
        ...


@runtime_checkable
class Describer(Protocol):
    """A head that can say something about each span that another head of its model has found."""

    describes: str | None
    """Which head; None where nobody asked for it."""

    def describe(self, memory: Memory, spans: Spans) -> Prediction:
        """The answer about one video as a whole, and about its spans."""
        ...
