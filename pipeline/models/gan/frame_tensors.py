"""Pixels as tensors for networks, and as images to look at.

In and out: clips as uint8 (B, T, S, S, 3), as numbers in [-1, 1] (B, T, 3, S, S), or as one image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def to_unit_range(pixels: Tensor) -> Tensor:
    """uint8 (..., S, S, 3) -> (..., 3, S, S) in [-1, 1]."""
    return pixels.movedim(-1, -3).float() / 127.5 - 1.0


def to_pixels(x: Tensor) -> Tensor:
    """(..., 3, S, S) in [-1, 1] -> uint8 (..., S, S, 3)."""
    return ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)


def contact_sheet(clips: Tensor) -> np.ndarray:
    """Clips uint8 (B, T, S, S, 3) -> one image uint8 (B S, T S, 3), a row for each clip."""
    return clips.permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1).cpu().numpy()


def feature_image(x: Tensor, width: int = 64) -> np.ndarray:
    """Sequences (B, T, K) of deviation 1 -> grey values of the first `width` numbers of each step: uint8 (B T, width,
    3).
    """
    values = ((x + 2.5) * 51).clamp(0, 255).to(torch.uint8)[:, :, :width].flatten(0, 1)
    return values[:, :, None].expand(-1, -1, 3).cpu().numpy()


def grid_means(x: Tensor) -> Tensor:
    """Frames (B, T, 3, S, S) -> the means of an 8 x 8 grid (B, T, K), which the metrics of the head compare."""
    return F.adaptive_avg_pool2d(x.flatten(0, 1), 8).flatten(1).unflatten(0, x.shape[:2])
