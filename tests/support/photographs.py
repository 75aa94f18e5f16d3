"""Crops of photographs for tests of the CNN, and how alike features are."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_image


def images(count: int, size: int = 64) -> np.ndarray:
    """uint8 (count, size, size, 3): square crops of two photographs."""
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    rng = np.random.default_rng(0)
    tops = rng.integers(0, 427 - 2 * size, count)
    lefts = rng.integers(0, 640 - 2 * size, count)
    crops = []
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        crops.append(photos[i % 2][top : top + 2 * size : 2, left : left + 2 * size : 2])
    return np.stack(crops)


def smallest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest cosine similarity of a row of a and the same row of b."""
    return float(torch.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).min())
