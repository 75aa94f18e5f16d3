"""Samples side by side.

In: `Sample`s of unequal length. Out: `Batch`. Knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.padded import Padded, stack

Raw = dict[str, Padded]
"""Sense -> sequence: "frames" (uint8 pixels or their stored features), "series", later "audio" and "tokens"."""


@dataclass(frozen=True)
class Sample:
    """One window of one row: raw senses each (T, ...), one target a head, where it came from, and its first step."""

    raw: dict[str, Tensor]
    targets: dict[str, Tensor]
    source: str
    start: int = 0


@dataclass(frozen=True)
class Batch:
    """raw: sense -> Padded (B, T, ...); targets: head -> (B,) tensor or Padded (B, T, ...); sources: B names; starts: the
    first step of each window in its row, nothing where all begin at 0.
    """

    raw: Raw
    targets: dict[str, Tensor | Padded]
    sources: tuple[str, ...]
    starts: tuple[int, ...] = ()

    def target(self, head: str) -> Tensor | Padded:
        """The target of a head, or a ValueError that says which head lacks one."""
        if head not in self.targets:
            raise ValueError(
                f"The head '{head}' has no target in this batch. The rows carry targets for: "
                f"{', '.join(self.targets) or 'no head'}. Add what '{head}' needs to the manifest, or leave the head out."
            )
        return self.targets[head]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(
            {k: v.to(device) for k, v in self.raw.items()},
            {k: v.to(device) for k, v in self.targets.items()},
            self.sources,
            self.starts,
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of equal senses and heads -> a Batch; scalar targets are stacked, sequences padded."""
    first = samples[0]
    raw = {sense: stack([s.raw[sense] for s in samples]) for sense in first.raw}
    targets: dict[str, Tensor | Padded] = {}
    for head, value in first.targets.items():
        values = [s.targets[head] for s in samples]
        targets[head] = stack(values) if value.ndim else torch.stack(values)
    return Batch(raw, targets, tuple(s.source for s in samples), tuple(s.start for s in samples))
