"""Ragged sequences as one tensor.

In: tensors of unequal length. Out: `Padded`, a batch first tensor with its lengths. Knows nothing of videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padded:
    """A batch of sequences of unequal length.

    data: (B, T, ...), any dtype, on any device; what stands behind a row's length is padding and means nothing.
    lengths: (B,) int64, kept on the CPU so that looking at them never waits for a device. 0 is legal.
    """

    data: Tensor
    lengths: Tensor

    def __post_init__(self) -> None:
        assert self.lengths.device.type == "cpu" and self.lengths.ndim == 1, "lengths are (B,) on the CPU"
        assert self.data.ndim >= 2 and self.data.shape[0] == self.lengths.shape[0], "data is (B, T, ...)"

    @property
    def mask(self) -> Tensor:
        """(B, T) bool on the data's device: True where a step is real."""
        steps = torch.arange(self.data.shape[1], device=self.data.device)
        return steps[None, :] < self.lengths.to(self.data.device)[:, None]

    def map(self, fn: Callable[[Tensor], Tensor]) -> Padded:
        """The same lengths with fn(data); fn keeps B and T."""
        return Padded(fn(self.data), self.lengths)

    def zeroed(self) -> Padded:
        """The same with zeros in the padding, whatever stood there (NaN too)."""
        lengths = self.lengths.tolist()
        if all(length >= self.data.shape[1] for length in lengths):
            return self
        if (
            self.data.device.type == "cpu" and not self.data.requires_grad
        ):  # a mask over wide steps costs 4 times the copy
            data = self.data.clone()
            for row, length in zip(data, lengths, strict=True):
                row[length:] = 0
            return Padded(data, self.lengths)
        mask = self.mask.reshape(*self.data.shape[:2], *[1] * (self.data.ndim - 2))
        return Padded(
            torch.where(mask, self.data, torch.zeros((), dtype=self.data.dtype, device=self.data.device)), self.lengths
        )

    def to(self, device: torch.device | str) -> Padded:
        """The same with its data on `device`."""
        return Padded(self.data.to(device, non_blocking=True), self.lengths)

    def unpad(self) -> list[Tensor]:
        """The rows, each (length, ...)."""
        return [row[:length] for row, length in zip(self.data, self.lengths.tolist(), strict=True)]


def stack(rows: Sequence[Tensor]) -> Padded:
    """Rows (T_i, ...) of equal width and dtype -> Padded with zeros behind the short ones."""
    assert rows, "stack needs at least one row"
    lengths = torch.tensor([row.shape[0] for row in rows], dtype=torch.int64)
    longest = max(1, int(lengths.max()))
    data = rows[0].new_zeros((len(rows), longest, *rows[0].shape[1:]))
    for i, row in enumerate(rows):
        data[i, : row.shape[0]] = row
    return Padded(data, lengths)


def joined(windows: Sequence[Padded]) -> Padded:
    """Windows of the same rows, one after another -> the whole rows."""
    if len(windows) == 1:
        return windows[0]
    return stack([torch.cat(parts) for parts in zip(*(window.unpad() for window in windows), strict=True)])
