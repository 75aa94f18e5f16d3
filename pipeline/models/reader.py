"""The way back: which codes a real sequence could have been made of.

In: real sequences (B, T, ...). Out: a Gaussian over content and beginning of each. Knows nothing of generators or losses.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.models.core import Core
from pipeline.padded import Padded

SURE = -4.0
"""Log variance at the start: at first codes say what they can, later what is worth its surprise."""


class Read(NamedTuple):
    """mean, log_variance: (B, 2 C), of the content (C) and of the beginning (C)."""

    mean: Tensor
    log_variance: Tensor

    def draw(self) -> tuple[Tensor, Tensor]:
        """Content and beginning (B, C), drawn so that the gradient passes (Kingma & Welling 2014, arXiv 1312.6114)."""
        drawn = self.mean + torch.exp(0.5 * self.log_variance) * torch.randn_like(self.mean)
        content, start = drawn.chunk(2, dim=1)
        return content, start

    def surprise(self) -> Tensor:
        """Kullback-Leibler divergence to the standard normal that codes are drawn from without a sequence, in nats: (B,)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance).sum(1)


class Reader(nn.Module):
    """A look at every step; the content is read in their mean, the beginning in what a core knows after the last one.

    Args:
        look: (N, ...) -> (N, W), of single steps. core: reads (B, T, W). size: C.
    """

    def __init__(self, *, look: nn.Module, core: Core, width: int, size: int) -> None:
        super().__init__()
        assert core.is_causal, "what it knows after the last step is asked for"
        self.look, self.core = look, core
        self.content, self.start = nn.Linear(width, 2 * size), nn.Linear(core.output_size, 2 * size)
        for layer in (self.content, self.start):
            with torch.no_grad():
                layer.weight[size:] *= 0.1
                layer.bias[size:] = SURE

    def forward(self, x: Padded) -> Read:
        """x: (B, T, ...), zeros in the padding."""
        looked = self.look(x.data.flatten(0, 1)).unflatten(0, x.data.shape[:2])
        mask = x.mask[..., None]
        mean = (looked * mask).sum(1) / mask.sum(1).clamp(min=1)
        _, state = self.core(Padded(looked, x.lengths))
        parts = zip(self.content(mean).chunk(2, dim=1), self.start(state[0][:, -1]).chunk(2, dim=1), strict=True)
        where, how_sure = (torch.cat(both, dim=1) for both in parts)
        return Read(where, how_sure.clamp(-8.0, 4.0))
