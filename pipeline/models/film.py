"""Between pixels and the numbers that are made of them.

In, out: clips as uint8 (B, T, S, S, 3), as numbers in [-1, 1] (B, T, 3, S, S), as one picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def numbers(pixels: Tensor) -> Tensor:
    """uint8 (..., S, S, 3) -> (..., 3, S, S) in [-1, 1]."""
    return pixels.movedim(-1, -3).float() / 127.5 - 1.0


def pixels(x: Tensor) -> Tensor:
    """(..., 3, S, S) in [-1, 1] -> uint8 (..., S, S, 3)."""
    return ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)


def film(clips: Tensor) -> np.ndarray:
    """Clips uint8 (B, T, S, S, 3), a row each: (B S, T S, 3)."""
    return clips.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1).cpu().numpy()


def grey(x: Tensor, width: int = 64) -> np.ndarray:
    """Sequences (B, T, K) of deviation 1 as grey values, the first `width` numbers of each step: uint8 (B T, width, 3)."""
    values = ((x + 2.5) * 51).clamp(0, 255).to(torch.uint8)[:, :, :width].flatten(0, 1)
    return values[:, :, None].expand(-1, -1, 3).cpu().numpy()


def coarse(x: Tensor) -> Tensor:
    """Frames (B, T, 3, S, S) -> (B, T, K), what metrics read of them: the means of an 8 x 8 grid."""
    return F.adaptive_avg_pool2d(x.flatten(0, 1), 8).flatten(1).unflatten(0, x.shape[:2])
