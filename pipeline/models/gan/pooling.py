"""Pooling over time that leaves the padding out.

In: sequences (B, T, C) and a mask (B, T), true where a step is real. Out: (B, C). A row without any real step gives
zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.padded import full_precision


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over the real steps: (B, T, C), (B, T) -> (B, C). Numbers in the padding must be finite."""
    return (full_precision(x) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """The largest of the real steps: (B, T, C), (B, T) -> (B, C)."""
    return x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min).amax(1) * mask.any(1, keepdim=True)


def mean_and_max(x: Tensor, mask: Tensor) -> Tensor:
    """Both side by side: (B, T, C), (B, T) -> (B, 2 C). Numbers in the padding must be finite."""
    return torch.cat([masked_mean(x, mask), masked_max(x, mask)], dim=1)
