"""Numbers that features are made in, and the way back.

In: features (..., D). Out: as many numbers (..., K), each with the mean 0 and the deviation 1. Knows nothing of who makes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEAST = 1e-4
"""Deviation of a channel that never changes."""


class Directions(nn.Module):
    """Channel by channel, or along the directions in which real features vary most.

    What real ones have beside K directions is not left out: it lies in the next directions and has the same energy, that of clips'
    means going with the content and that within clips with the motion (after probabilistic PCA, Tipping & Bishop 1999).

    Args:
        width: D. count: K, 0: each channel by itself. content_size, motion_size: C and M of `back`.
    """

    def __init__(self, width: int, count: int = 0, content_size: int = 0, motion_size: int = 0) -> None:
        super().__init__()
        self.count = min(count, width)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(self.size(width, count)))
        if self.count:
            self.register_buffer("basis", torch.eye(width)[:, : self.count].contiguous())
            self.register_buffer("rest", torch.zeros(content_size, width))
            self.register_buffer("stir", torch.zeros(motion_size, width))

    @staticmethod
    def size(width: int, count: int) -> int:
        """K."""
        return min(count, width) or width

    def fit(self, sequences: Sequence[Tensor]) -> None:
        """Real features, each sequence (T, D)."""
        x = torch.cat(list(sequences)).float()
        mean = x.mean(0)
        self.get_buffer("mean").copy_(mean)
        if not self.count:
            self.get_buffer("deviation").copy_(x.std(0).clamp(min=LEAST))
            return
        energies, basis = _spread((x - mean).double())
        basis = basis[:, : self.count]
        self.get_buffer("basis").copy_(basis)
        self.get_buffer("deviation").copy_(energies[: self.count].sqrt().clamp(min=LEAST))
        left = [(s - mean).double() - (s - mean).double() @ basis @ basis.T for s in sequences]
        of_clips = torch.cat([one.mean(0, keepdim=True).expand_as(one) for one in left])
        _fill(self.get_buffer("rest"), of_clips)
        _fill(self.get_buffer("stir"), torch.cat(left) - of_clips)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., K)."""
        centred = x - self.get_buffer("mean")
        return (centred @ self.get_buffer("basis") if self.count else centred) / self.get_buffer("deviation")

    def back(self, x: Tensor, content: Tensor, motion: Tensor) -> Tensor:
        """(B, T, K), standard normal content (B, C) and motion (B, T, M) -> (B, T, D)."""
        x = x * self.get_buffer("deviation")
        if self.count:
            x = x @ self.get_buffer("basis").T + (content @ self.get_buffer("rest"))[:, None]
            x = x + motion @ self.get_buffer("stir")
        return x + self.get_buffer("mean")


def _spread(centred: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) of mean 0 -> energies (D,), falling, and their directions (D, D), a column each."""
    energies, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(centred) - 1))
    return energies.flip(0).clamp(min=0), vectors.flip(1)


def _fill(rows: Tensor, centred: Tensor) -> None:
    """As many main directions as there are rows, long enough for the whole energy."""
    energies, vectors = _spread(centred)
    kept = energies[: len(rows)]
    if float(kept.sum()) > 0:
        lengths = (kept * energies.sum() / kept.sum()).sqrt()
        rows[: len(kept)] = (lengths[:, None] * vectors[:, : len(kept)].T).to(rows.dtype)
