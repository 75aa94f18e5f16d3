"""Samples and batches.

In: `Sample`s of unequal length. Out: a `Batch` with padding. Knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.padded import Padded, stack

Raw = dict[str, Padded]
"""The input of an encoder by sense: "frames" (uint8 pixels or stored features), "series" or "tokens"."""


@dataclass(frozen=True)
class Sample:
    """One window of one row.

    raw: a tensor (T, ...) for each sense. targets: a tensor for each head. source: the path of the row. start: the
    first step of the window in the row.
    """

    raw: dict[str, Tensor]
    targets: dict[str, Tensor]
    source: str
    start: int = 0


@dataclass(frozen=True)
class Batch:
    """B samples.

    raw: a Padded (B, T, ...) for each sense. targets: a tensor (B,) or a Padded (B, T, ...) for each head. sources: B
    paths of rows. starts: the first step of each window in its row; empty where all windows start at 0.
    """

    raw: Raw
    targets: dict[str, Tensor | Padded]
    sources: tuple[str, ...]
    starts: tuple[int, ...] = ()

    def target(self, head: str) -> Tensor | Padded:
        """The target of a head. Raises ValueError where the batch has none for it."""
        if head not in self.targets:
            raise ValueError(
                f"The head '{head}' has no target in this batch. The rows carry targets for: "
                f"{', '.join(self.targets) or 'no head'}. Add what '{head}' needs to the manifest, or leave the head "
                "out."
            )
        return self.targets[head]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(
            {sense: sequence.to(device) for sense, sequence in self.raw.items()},
            {head: target.to(device) for head, target in self.targets.items()},
            self.sources,
            self.starts,
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples with the same senses and heads -> a Batch. Scalar targets are stacked, sequences are padded."""
    first = samples[0]
    raw = {sense: stack([sample.raw[sense] for sample in samples]) for sense in first.raw}
    targets: dict[str, Tensor | Padded] = {}
    for head, target in first.targets.items():
        values = [sample.targets[head] for sample in samples]
        targets[head] = stack(values) if target.ndim else torch.stack(values)
    return Batch(raw, targets, tuple(sample.source for sample in samples), tuple(sample.start for sample in samples))
