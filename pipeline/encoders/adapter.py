"""From the width of an encoder's vectors to the input width of the core: normalise, dropout, project.

In: (B, T, D) floats. Out: (B, T, P). Knows nothing of what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.padded import Padded, sequence_dropout

Normalise = Literal["layer", "fitted", "none"]


class Adapter(nn.Module):
    """Normalisation -> dropout (one mask per sequence) -> Linear.

    Args:
        input_size: D.
        project: P, or 0 to keep D.
        normalise: `layer` gives the vector of each step zero mean and unit variance. `fitted` does that for each
            channel, by the mean and the standard deviation of the training data (see `fit`). `none` leaves the vectors
            unchanged.
        dropout: the probability of a zero in the mask.
    """

    def __init__(self, *, input_size: int, project: int, normalise: Normalise, dropout: float) -> None:
        super().__init__()
        self.normalise, self.dropout = normalise, dropout
        self.input_size, self.output_size = input_size, project or input_size
        self.project = nn.Linear(input_size, project) if project else nn.Identity()
        if normalise == "fitted":
            self.register_buffer("mean", torch.zeros(input_size))
            self.register_buffer("deviation", torch.ones(input_size))

    def fit(self, sequences: Iterable[Tensor]) -> None:
        """Compute the mean and the standard deviation of each channel over training sequences (T, D).

        It reads them once and computes in float64. A channel that is almost constant keeps a deviation of 1.
        """
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for x in sequences:
            x = x.double()
            count, total, squares = count + x.shape[0], total + x.sum(0), squares + x.square().sum(0)
        mean = total / max(1, count)
        deviation = (squares / max(1, count) - mean.square()).clamp(min=0).sqrt()
        floor = 1e-3 * deviation.mean().clamp(min=1e-6)
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("deviation").copy_(torch.where(deviation < floor, torch.ones(()).double(), deviation))

    def forward(self, x: Padded) -> Padded:
        """(B, T, D) -> (B, T, P). The content of the padding changes no gradient."""
        return self.projected(self.normalised(x))

    def normalised(self, x: Padded) -> Padded:
        """(B, T, D) -> (B, T, D): normalised, before dropout and projection. No parameter is read."""
        return x.zeroed().map(self._normalise)

    def projected(self, normalised: Padded) -> Padded:
        """(B, T, D) -> (B, T, P): dropout and projection."""
        return normalised.map(self._project)

    def _normalise(self, x: Tensor) -> Tensor:
        if self.normalise == "layer":
            return F.layer_norm(x, x.shape[-1:])
        if self.normalise == "fitted":
            return (x - self.get_buffer("mean")) / self.get_buffer("deviation")
        return x

    def _project(self, x: Tensor) -> Tensor:
        if self.training and self.dropout:
            x = sequence_dropout(x, self.dropout)
        return self.project(x)
