"""The way back from frames: what a clip shows, and how each of its frames differs from the others.

In: clips (B, T, 3, S, S) in [-1, 1]. Out: codes of them, drawn from a Gaussian that was read. Knows nothing of generators or losses.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.padded import Padded

SURE = -4.0
"""Log variance at the start: at first codes say what they can, later what is worth its surprise."""


MOVING = 24.0
"""Weight of what moves among painted frames, by how much it moves."""


class Read(NamedTuple):
    """content (B, C): of the clip. moves (B, T, M): of each frame. surprise (B,): how far the Gaussians that they are drawn from lie from
    standard normal ones (Kullback-Leibler divergence), in nats.
    """

    content: Tensor
    moves: Tensor
    surprise: Tensor


class Reader(nn.Module):
    """Every frame is looked at by itself; the content is read in the mean of the looks (an autoencoder by variational Bayes, Kingma & Welling
    2014, arXiv 1312.6114). Content is paid for once a clip and moves at every frame, so what stands still becomes content.

    Args:
        look: (N, 3, S, S) -> (N, width). content_size, moves_size: C and M. by_first: the content is read in the first frame alone.
    """

    def __init__(
        self, *, look: nn.Module, width: int, content_size: int, moves_size: int, by_first: bool = False
    ) -> None:
        super().__init__()
        self.by_first = by_first
        self.look = look
        self.content, self.moves = nn.Linear(width, 2 * content_size), nn.Linear(width, 2 * moves_size)
        for layer in (self.content, self.moves):
            half = layer.out_features // 2
            with torch.no_grad():
                layer.weight[half:] *= 0.1
                layer.bias[half:] = SURE

    def forward(self, x: Padded, is_drawn: bool | None = None) -> Read:
        """x: (B, T, 3, S, S); codes of the padding are anything. is_drawn: or else they are the means of their Gaussians; by default while it learns."""
        is_drawn = self.training if is_drawn is None else is_drawn
        looked = self.look(x.data.flatten(0, 1)).unflatten(0, x.data.shape[:2])
        mask = x.mask[..., None]
        mean = looked[:, 0] if self.by_first else (looked * mask).sum(1) / mask.sum(1).clamp(min=1)
        content, of_clip = _drawn(self.content(mean), is_drawn)
        moves, of_frames = _drawn(self.moves(looked), is_drawn)
        return Read(content, moves, of_clip + (of_frames * mask[..., 0]).sum(1))


def _drawn(told: Tensor, is_drawn: bool = True) -> tuple[Tensor, Tensor]:
    """(..., 2 K), means and log variances -> a draw (..., K) that the gradient passes, or the mean, and its surprise (...)."""
    mean, log_variance = told.chunk(2, dim=-1)
    log_variance = log_variance.clamp(-8.0, 4.0)
    surprise = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean) if is_drawn else mean, surprise


def places(lengths: Tensor, count: int, with_first: bool = False) -> Tensor:
    """(B, count) random steps of each row; with_first: the first of them is step 0."""
    found = (torch.rand(len(lengths), count) * lengths[:, None].clamp(min=1)).long()
    if with_first:
        found[:, 0] = 0
    return found


def picked(x: Tensor, places: Tensor) -> Tensor:
    """(B, T, ...) -> (B, count, ...)."""
    return x[torch.arange(len(x))[:, None], places]


def apart(made: Tensor, real: Tensor, squares: float = 0.0) -> Tensor:
    """How far painted frames (B, K, 3, S, S) are from real ones of the same clip: the mean distance of a number, and of its difference to
    another frame of the clip; where the real frames differ from their mean, what moves there, it counts up to `MOVING` times more. squares: weight
    of the squared distances beside: who does not know yet where an arm is paints none by the first, and a faint one by these.
    """
    weight = 1.0 + MOVING * (real - real.mean(1, keepdim=True)).abs().mean(2, keepdim=True)
    far = made - real
    change = far - far.roll(1, dims=1)
    distance = far.abs() + change.abs()
    if squares:
        distance = distance + squares * (far.square() + change.square())
    return (weight * distance).mean()
