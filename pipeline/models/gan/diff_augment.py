"""Differentiable augmentation of what a critic sees, real and generated alike (Zhao et al. 2020, arXiv 2006.10738).

In: clips (B, T, 3, S, S) in [-1, 1], or sequences (B, T, D). Out: the same shape. Every frame of a clip is changed in
the same way. With it a critic of few clips does not learn them by heart. Knows nothing of critics.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def diff_augment(x: Tensor, strength: float) -> Tensor:
    """Augment every clip or sequence by numbers that are drawn once for it. The gradient passes. strength: 0 changes
    nothing.

    Clips: brightness, saturation, contrast, and a shift of up to an eighth of a side, times `strength`. Other
    sequences: one factor for the sequence, and a little noise for each channel that is constant over time.
    """
    if strength == 0:
        return x
    if x.ndim == 3:
        scale = 1.0 + strength * 0.2 * (torch.rand(len(x), 1, 1, device=x.device) - 0.5)
        return x * scale + strength * 0.1 * torch.randn(len(x), 1, x.shape[2], device=x.device)
    brightness, saturation, contrast = (torch.rand(len(x), 1, 1, 1, 1, device=x.device) - 0.5 for _ in range(3))
    x = x + strength * brightness
    grey = x.mean(2, keepdim=True)
    x = grey + (x - grey) * (1.0 + strength * saturation)
    mean = x.mean((1, 2, 3, 4), keepdim=True)
    x = mean + (x - mean) * (1.0 + strength * contrast)
    return _shift(x, strength)


def _shift(x: Tensor, strength: float) -> Tensor:
    """Shift each clip by whole pixels. The pixels at the edge are repeated where nothing else is known."""
    size = x.shape[-1]
    largest = max(0, round(size / 8 * strength))
    if not largest:
        return x
    padded = F.pad(x.flatten(1, 2), (largest,) * 4, mode="replicate").unflatten(1, x.shape[1:3])
    tops, lefts = torch.randint(0, 2 * largest + 1, (2, len(x))).tolist()
    clips = zip(padded, tops, lefts, strict=True)
    return torch.stack([clip[..., top : top + size, left : left + size] for clip, top, left in clips])
