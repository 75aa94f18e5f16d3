"""The same change for every frame of a clip, real or made, with a gradient: a critic with few clips cannot learn them by heart.

In: clips (B, T, 3, S, S) in [-1, 1] or sequences (B, T, D). Out: the same shape. After Zhao et al. 2020 (arXiv 2006.10738), drawn once
a clip. Knows nothing of who judges them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def disguise(x: Tensor, strength: float) -> Tensor:
    """Of clips: brightness, saturation, contrast and a shift of up to an eighth of a side, times `strength`. Of other sequences: a
    factor a sequence and a little noise a channel that stays the same over time.
    """
    if strength == 0:
        return x
    if x.ndim == 3:
        scale = 1.0 + strength * 0.2 * (torch.rand(len(x), 1, 1, device=x.device) - 0.5)
        return x * scale + strength * 0.1 * torch.randn(len(x), 1, x.shape[2], device=x.device)
    one = [torch.rand(len(x), 1, 1, 1, 1, device=x.device) - 0.5 for _ in range(3)]
    x = x + strength * one[0]
    grey = x.mean(2, keepdim=True)
    x = grey + (x - grey) * (1.0 + strength * one[1])
    middle = x.mean((1, 2, 3, 4), keepdim=True)
    x = middle + (x - middle) * (1.0 + strength * one[2])
    return _shifted(x, strength)


def _shifted(x: Tensor, strength: float) -> Tensor:
    """Each clip moved by whole pixels; what comes in is the edge's colour."""
    size = x.shape[-1]
    most = max(0, round(size / 8 * strength))
    if not most:
        return x
    padded = F.pad(x.flatten(1, 2), (most,) * 4, mode="replicate").unflatten(1, x.shape[1:3])
    places = torch.randint(0, 2 * most + 1, (2, len(x)))
    return torch.stack(
        [
            clip[..., a : a + size, b : b + size]
            for clip, a, b in zip(padded, places[0].tolist(), places[1].tolist(), strict=True)
        ]
    )
