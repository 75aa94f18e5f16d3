"""Latent codes of sequences.

In: codes of a whole sequence (B, C) and codes of its steps (B, T, M). Out: both side by side, (B, T, C + M). Knows
nothing of the networks that read them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

GeneratedKind = Literal["features", "frames", "tokens"]


class LatentCodes(NamedTuple):
    """The codes that a generator turns into sequences.

    content (B, C): what is shown, the same at every step. motion (B, T, M): noise for every step, which the core turns
    into motion. start (B, S): where the motion begins. first_frame (B, 3, S, S): the given first frame, for a generator
    that continues one; content and start were then encoded from it.
    """

    content: Tensor
    motion: Tensor
    start: Tensor
    first_frame: Tensor | None = None


def draw_normal(shape: tuple[int, ...], like: Tensor, random: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers with the device and the dtype of `like`."""
    return torch.randn(shape, generator=random, device=like.device, dtype=like.dtype)


def concat_codes(content: Tensor, steps: Tensor) -> Tensor:
    """Codes of the sequence before the codes of each step: (B, C), (B, T, M) -> (B, T, C + M)."""
    return torch.cat([content[:, None].expand(-1, steps.shape[1], -1), steps], dim=2)


def append_codes(steps: Tensor, constant: Tensor) -> Tensor:
    """Codes of each step before the codes of the sequence: (B, T, M), (B, C) -> (B, T, M + C)."""
    return torch.cat([steps, constant[:, None].expand(-1, steps.shape[1], -1)], dim=2)
