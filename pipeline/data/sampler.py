"""The order of the samples in an epoch, which depends on (seed, epoch) alone.

In: lengths of samples. Out: batches of keys, all of one size, so that every rank gets the same number of batches
whatever the number of processes. Knows nothing of what the samples are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

_POOL_BATCHES = 16
"""How many batches are sorted by length together: enough to save padding, few enough to keep the order random."""

Key = tuple[int, int] | tuple[int, int, int]
"""(epoch, index), from which a dataset draws the window and the augmentation of a sample. A third number is the start
of the window; -1 gives an empty window."""


class Sampler(Protocol):
    """What the training loop needs: batches of keys. It skips the first `skip` batches of `epoch`."""

    epoch: int
    skip: int

    def __len__(self) -> int:
        """The number of batches in this epoch."""
        ...

    def __iter__(self) -> Iterator[list[Key]]:
        """The keys of each batch for one rank."""
        ...


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch, as indices: shuffled, samples of similar length together, every batch full.

    The first samples of the order fill the last batch; they occur twice in that epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    num_missing = -len(order) % batch_size
    order = np.concatenate([order, np.resize(order, num_missing)]) if num_missing else order
    pool_size = _POOL_BATCHES * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size].tolist(), key=lambda index: lengths[index])
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


class EpochSampler:
    """Batches in the order of `epoch_batches`. A rank gets samples rank, rank + world, ... of every batch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        _require_equal_shares(batch_size, world)
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch, self.skip = 0, 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in epoch_batches(self.lengths, self.batch_size, self.seed, self.epoch)[self.skip :]:
            yield [(self.epoch, index) for index in batch[self.rank :: self.world]]


class TbpttSampler:
    """Batches for truncated back-propagation through time (Williams & Peng 1990).

    There are `batch_size` lanes side by side. A lane holds rows one after another, and each row window after window, so
    the state after a batch is the state before the next batch.

    Every row occurs once in an epoch. A lane that has ended gives empty windows. A row is in one lane only: with fewer
    rows than lanes some lanes stay empty, so divide a long text or a year of sensor data into rows first.
    """

    def __init__(
        self, lengths: Sequence[int], window: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        _require_equal_shares(batch_size, world)
        self.lengths, self.window, self.batch_size, self.seed = lengths, window, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch, self.skip = 0, 0
        self._num_batches: dict[int, int] = {}  # of each epoch: the loop asks at every step

    def _lanes(self) -> list[list[Key]]:
        """The keys of each lane. Rows come in random order, each into the lane that is the shortest so far."""
        rng = np.random.default_rng([self.seed, self.epoch])
        lanes: list[list[Key]] = [[] for _ in range(self.batch_size)]
        shortest = [(0, lane) for lane in range(self.batch_size)]  # a heap of (length, lane)
        for index in rng.permutation(len(self.lengths)).tolist():
            starts = range(0, max(1, self.lengths[index]), self.window)
            length, lane = shortest[0]
            lanes[lane].extend((self.epoch, index, start) for start in starts)
            heapq.heapreplace(shortest, (length + len(starts), lane))
        return lanes

    def __len__(self) -> int:
        if self.epoch not in self._num_batches:
            self._num_batches[self.epoch] = max(map(len, self._lanes()))
        return self._num_batches[self.epoch]

    def __iter__(self) -> Iterator[list[Key]]:
        lanes = self._lanes()
        empty: Key = (self.epoch, 0, -1)
        for step in range(self.skip, max(map(len, lanes))):
            keys = [lane[step] if step < len(lane) else empty for lane in lanes]
            yield keys[self.rank :: self.world]


def _require_equal_shares(batch_size: int, world: int) -> None:
    if batch_size % world:
        raise ValueError(
            f"training.batch_size = {batch_size} cannot be divided among {world} processes. "
            f"It is the size of the whole batch over all of them. Use a multiple of {world}."
        )


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[Key]]:
    """Batches for evaluation: every sample once, sorted by length. The epoch of the keys is -1."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [[(-1, index) for index in order[i : i + batch_size]] for i in range(0, len(order), batch_size)]
