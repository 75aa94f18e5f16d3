"""Samples and batches.

In: `Sample`s of unequal length. Out: a `Batch` with padding. Knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.padded import Padded, copy_together, keep_copy, stack

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
    paths of rows. starts: the first step of each window in its row; empty where all windows start at 0. host: the same
    batch on the CPU, where this one is on another device.
    """

    raw: Raw
    targets: dict[str, Tensor | Padded]
    sources: tuple[str, ...]
    starts: tuple[int, ...] = ()
    host: Batch | None = None

    @property
    def on_host(self) -> Batch:
        """The batch on the CPU, for what is decided there: reading a value from a device waits for all of its work."""
        return self.host or self

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
        """The same batch on a device. All integers (lengths, classes, tokens) go there in one copy."""
        if device.type == "cpu":
            return self
        tensors, lengths = self._tensors(), self._lengths()
        integers = {id(x): x for x in (*tensors, *lengths) if x.dtype == torch.int64}
        moved = dict(zip(integers, copy_together(list(integers.values()), device), strict=True))
        moved |= {id(x): x.to(device, non_blocking=True) for x in tensors if id(x) not in moved}
        for x in lengths:
            keep_copy(x, moved[id(x)])

        def on_device(x: Tensor | Padded) -> Tensor | Padded:
            return Padded(moved[id(x.data)], x.lengths) if isinstance(x, Padded) else moved[id(x)]

        raw = {sense: Padded(moved[id(x.data)], x.lengths) for sense, x in self.raw.items()}
        targets = {head: on_device(target) for head, target in self.targets.items()}
        return Batch(raw, targets, self.sources, self.starts, host=self.on_host)

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory, from which a copy to a GPU does not keep the CPU waiting. Integers are
        pinned together, see `to`.
        """
        raw = {sense: x if x.data.dtype == torch.int64 else x.map(Tensor.pin_memory) for sense, x in self.raw.items()}
        return replace(self, raw=raw)

    def _tensors(self) -> list[Tensor]:
        """The tensors of all senses and targets."""
        return [x.data if isinstance(x, Padded) else x for x in (*self.raw.values(), *self.targets.values())]

    def _lengths(self) -> list[Tensor]:
        """The lengths of all sequences."""
        return [x.lengths for x in (*self.raw.values(), *self.targets.values()) if isinstance(x, Padded)]


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples with the same senses and heads -> a Batch. Scalar targets are stacked, sequences are padded."""
    first = samples[0]
    raw = {sense: stack([sample.raw[sense] for sample in samples]) for sense in first.raw}
    targets: dict[str, Tensor | Padded] = {}
    for head, target in first.targets.items():
        values = [sample.targets[head] for sample in samples]
        targets[head] = stack(values) if target.ndim else torch.stack(values)
    return Batch(raw, targets, tuple(sample.source for sample in samples), tuple(sample.start for sample in samples))
