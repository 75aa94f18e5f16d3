"""Sequences of unequal length as one padded tensor, dropout that is constant in time, and the precision of sums.

In: tensors of unequal length. Out: `Padded`, a batch-first tensor with its lengths. Knows nothing of videos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

_COPY = "copy_on_device"
"""The attribute of a tensor of lengths that holds its copy."""


@dataclass(frozen=True)
class Padded:
    """A batch of sequences of unequal length.

    data: (B, T, ...), any dtype, on any device. Values after a row's length are padding and have no meaning.
    lengths: (B,) int64, on the CPU, so that reading them never waits for a device. 0 is legal.
    """

    data: Tensor
    lengths: Tensor

    def __post_init__(self) -> None:
        assert self.lengths.device.type == "cpu" and self.lengths.ndim == 1, "lengths are (B,) on the CPU"
        assert self.data.ndim >= 2 and self.data.shape[0] == self.lengths.shape[0], "data is (B, T, ...)"

    @property
    def mask(self) -> Tensor:
        """(B, T) bool on the data's device: True where a step is valid, False in the padding."""
        if self.is_full:
            return torch.ones(self.data.shape[:2], dtype=torch.bool, device=self.data.device)
        steps = torch.arange(self.data.shape[1], device=self.data.device)
        return steps[None, :] < self.device_lengths[:, None]

    @property
    def is_full(self) -> bool:
        """Whether there is no padding."""
        return bool((self.lengths >= self.data.shape[1]).all())

    @property
    def device_lengths(self) -> Tensor:
        """(B,) int64, the lengths on the data's device, copied there once for all sequences with these lengths."""
        return lengths_on(self.lengths, self.data.device)

    @property
    def valid_steps(self) -> tuple[Tensor, Tensor]:
        """Row and step (N,) of each valid step, row after row, on the data's device.

        They count on the CPU how many there are, so nothing waits for the device, as `data[mask]` would.
        """
        count = int(self.lengths.clamp(max=self.data.shape[1]).sum())
        row, step = self.mask.nonzero_static(size=count).unbind(1)
        return row, step

    def map(self, fn: Callable[[Tensor], Tensor]) -> Padded:
        """fn(data) with the same lengths; fn keeps B and T."""
        return Padded(fn(self.data), self.lengths)

    def zeroed(self) -> Padded:
        """The same with zeros in the padding, whatever was there (NaN too)."""
        if self.is_full:
            return self
        if self.data.device.type == "cpu" and not self.data.requires_grad:
            data = self.data.clone()  # for wide steps 4 times as fast as a mask
            for row, length in zip(data, self.lengths.tolist(), strict=True):
                row[length:] = 0
            return Padded(data, self.lengths)
        mask = self.mask.reshape(*self.data.shape[:2], *[1] * (self.data.ndim - 2))
        zero = torch.zeros((), dtype=self.data.dtype, device=self.data.device)
        return Padded(torch.where(mask, self.data, zero), self.lengths)

    def to(self, device: torch.device | str) -> Padded:
        """The same with its data on `device`. A copy to the CPU is complete when this returns."""
        return Padded(self.data.to(device, non_blocking=torch.device(device).type != "cpu"), self.lengths)

    def last(self) -> Tensor:
        """The last valid step of each row, (B, ...); step 0 of a row of length 0."""
        index = (self.device_lengths - 1).clamp(min=0)
        index = index.reshape(-1, *[1] * (self.data.ndim - 1)).expand(-1, 1, *self.data.shape[2:])
        return self.data.gather(1, index)[:, 0]

    def unpad(self) -> list[Tensor]:
        """The rows, each (length, ...)."""
        return [row[:length] for row, length in zip(self.data, self.lengths.tolist(), strict=True)]


def lengths_on(lengths: Tensor, device: torch.device) -> Tensor:
    """Lengths (B,) on a device. The copy is kept with the tensor, so that each tensor of lengths is copied once."""
    if device.type == "cpu":
        return lengths
    copy: Tensor | None = getattr(lengths, _COPY, None)
    if copy is None or copy.device != device or (copy.is_inference() and not torch.is_inference_mode_enabled()):
        copy = lengths.to(device, non_blocking=True)
        keep_copy(lengths, copy)
    return copy


def copy_together(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of one dtype on a device, by one copy from pinned memory: many small ones cost as much as many large."""
    if device.type == "cpu" or not tensors:
        return list(tensors)
    joined = torch.cat([x.reshape(-1) for x in tensors])
    joined = (joined.pin_memory() if device.type == "cuda" else joined).to(device, non_blocking=True)
    parts = joined.split([x.numel() for x in tensors])
    return [part.reshape(x.shape) for part, x in zip(parts, tensors, strict=True)]


def keep_copy(lengths: Tensor, copy: Tensor) -> None:
    """Keep the copy of lengths (B,) on a device, which was made together with others, for `lengths_on`."""
    if copy.device.type != "cpu":
        setattr(lengths, _COPY, copy)


def map_lengths(lengths: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """fn(lengths), elementwise; with fn of their copy on the device, where there is one, so that none is copied."""
    result, copy = fn(lengths), getattr(lengths, _COPY, None)
    if copy is not None:
        keep_copy(result, fn(copy))
    return result


def stack(rows: Sequence[Tensor]) -> Padded:
    """Rows (T_i, ...) of equal width and dtype -> Padded (B, max T_i, ...) with zeros after the short rows."""
    assert rows, "stack needs at least one row"
    lengths = torch.tensor([row.shape[0] for row in rows], dtype=torch.int64)
    longest = max(1, int(lengths.max()))
    data = rows[0].new_zeros((len(rows), longest, *rows[0].shape[1:]))
    for i, row in enumerate(rows):
        data[i, : row.shape[0]] = row
    return Padded(data, lengths)


def concat_windows(windows: Sequence[Padded]) -> Padded:
    """Consecutive windows of the same rows -> the whole rows."""
    if len(windows) == 1:
        return windows[0]
    return stack([torch.cat(parts) for parts in zip(*(window.unpad() for window in windows), strict=True)])


def full_precision(x: Tensor) -> Tensor:
    """float32 for half precision, else unchanged. bfloat16 cannot hold 257, so nothing is counted or summed in it."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which autocast is off, on any device."""
    is_autocast = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if is_autocast else nullcontext()


def dropout_mask(like: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """A dropout mask of this shape, with dtype and device of `like`: 0 with probability p, else 1 / (1 - p)."""
    keep = 1.0 - p
    return like.new_empty(shape).bernoulli_(keep) / keep


def sequence_dropout(x: Tensor, p: float) -> Tensor:
    """Variational dropout: x (B, T, D) times one dropout mask per sequence, constant in time.

    Source: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in recurrent neural networks".
    """
    return x * dropout_mask(x, (x.shape[0], 1, x.shape[2]), p)
