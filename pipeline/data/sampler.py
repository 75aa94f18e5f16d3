"""The order of an epoch, a pure function of (seed, epoch).

In: lengths. Out: batches of indices, all of one size, so that every rank gets the same count of the same batches
whatever the world size. Knows nothing of what the indices mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_POOL = 16  # batches sorted by length together: enough to save padding, small enough to keep the order random

Key = tuple[int, int]
"""(epoch, index): what a dataset needs to draw the same window and augmentation again."""


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
        if batch_size % world:
            raise ValueError(
                f"training.batch_size = {batch_size} cannot be shared by {world} processes. "
                f"It is the whole batch over all of them: use a multiple of {world}."
            )
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch, self.skip = 0, 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in epoch_batches(self.lengths, self.batch_size, self.seed, self.epoch)[self.skip :]:
            yield [(self.epoch, i) for i in batch[self.rank :: self.world]]


def in_order(lengths: Sequence[int], batch_size: int) -> list[list[Key]]:
    """Every index once, alike lengths together: for evaluation."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [[(-1, i) for i in order[s : s + batch_size]] for s in range(0, len(order), batch_size)]
