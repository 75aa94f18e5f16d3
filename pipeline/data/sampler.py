"""The order of an epoch, a pure function of (seed, epoch).

In: lengths. Out: batches of indices, all of one size, so that every rank gets the same count of the same batches
whatever the world size. Knows nothing of what the indices mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

_POOL = 16  # batches sorted by length together: enough to save padding, small enough to keep the order random

Key = tuple[int, int] | tuple[int, int, int]
"""(epoch, index): what a dataset needs to draw the same window and augmentation again. With a third number the window
begins there; -1 is a window of nothing."""


class Sampler(Protocol):
    """What the loop needs: the keys of one rank's share of each batch of `epoch`, but the first `skip`."""

    epoch: int
    skip: int

    def __len__(self) -> int:
        """Batches of this epoch."""
        ...

    def __iter__(self) -> Iterator[list[Key]]:
        """The batches."""
        ...


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of one epoch: shuffled, bucketed by length, every batch full.

    The last batch is filled with the first samples of the order (they are seen twice in that epoch).
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    missing = -len(order) % batch_size
    order = np.concatenate([order, np.resize(order, missing)]) if missing else order
    batches: list[list[int]] = []
    for start in range(0, len(order), _POOL * batch_size):
        pool = sorted(order[start : start + _POOL * batch_size].tolist(), key=lambda i: lengths[i])
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


class EpochSampler:
    """Yields the keys of one rank's share of each batch: rows rank, rank + world, ... of every batch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        _check_shares(batch_size, world)
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch, self.skip = 0, 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in epoch_batches(self.lengths, self.batch_size, self.seed, self.epoch)[self.skip :]:
            yield [(self.epoch, i) for i in batch[self.rank :: self.world]]


class LaneSampler:
    """Truncated back-propagation through time (Williams & Peng 1990): `batch_size` lanes side by side, in each one row
    after another, window after window, so that the state after a batch is the state before the next one.

    Every row is seen once an epoch. A lane that has come to its end gives windows of nothing. A row is in one lane: fewer
    rows than lanes leave lanes empty, so cut a text or a sensor's year into rows first.
    """

    def __init__(
        self, lengths: Sequence[int], window: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        _check_shares(batch_size, world)
        self.lengths, self.window, self.batch_size, self.seed = lengths, window, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch, self.skip = 0, 0

    def _lanes(self) -> list[list[Key]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        lanes: list[list[Key]] = [[] for _ in range(self.batch_size)]
        for index in rng.permutation(len(self.lengths)).tolist():
            starts = range(0, max(1, self.lengths[index]), self.window)
            min(lanes, key=len).extend((self.epoch, index, start) for start in starts)
        return lanes

    def __len__(self) -> int:
        return max(map(len, self._lanes()))

    def __iter__(self) -> Iterator[list[Key]]:
        lanes = self._lanes()
        nothing: Key = (self.epoch, 0, -1)
        for number in range(self.skip, max(map(len, lanes))):
            keys = [lane[number] if number < len(lane) else nothing for lane in lanes]
            yield keys[self.rank :: self.world]


def _check_shares(batch_size: int, world: int) -> None:
    if batch_size % world:
        raise ValueError(
            f"training.batch_size = {batch_size} cannot be shared by {world} processes. "
            f"It is the whole batch over all of them: use a multiple of {world}."
        )


def in_order(lengths: Sequence[int], batch_size: int) -> list[list[Key]]:
    """Every index once, alike lengths together: for evaluation."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [[(-1, i) for i in order[s : s + batch_size]] for s in range(0, len(order), batch_size)]
