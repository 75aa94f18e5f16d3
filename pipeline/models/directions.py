"""Numbers that features are made in, and the way back.

In: features (..., D). Out: K numbers, of what a sequence shows in the mean and of how its steps differ from that. Knows nothing of who
makes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.padded import Padded

LEAST = 1e-4
"""Deviation of a channel that never changes."""


class Directions(nn.Module):
    """Channel by channel, or along the directions in which real features vary most.

    Args:
        width: D. count: K, 0: each channel by itself.
    """

    def __init__(self, width: int, count: int = 0) -> None:
        super().__init__()
        self.count = min(count, width)
        size = self.count or width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(size))
        self.register_buffer("moving", torch.ones(size))
        if self.count:
            self.register_buffer("basis", torch.eye(width)[:, : self.count].contiguous())

    def fit(self, sequences: Sequence[Tensor]) -> None:
        """Real features, each sequence (T, D). Raises ValueError for numbers that are none."""
        for number, sequence in enumerate(sequences):
            if not sequence.isfinite().all():
                raise ValueError(
                    f"Sequence {number} of the training part (counted from 0) holds a number that is not finite. Features are finite numbers. "
                    "Look at that row's file."
                )
        x = torch.cat(list(sequences)).float()
        mean = x.mean(0)
        self.get_buffer("mean").copy_(mean)
        if self.count:
            _, basis = spread((x - mean).double())
            self.get_buffer("basis").copy_(basis[:, : self.count])
        self.get_buffer("deviation").copy_(self._along(x - mean).std(0).clamp(min=LEAST))
        moved = torch.cat([s.float() - s.float().mean(0) for s in sequences])
        self.get_buffer("moving").copy_(self._along(moved).square().mean(0).sqrt().clamp(min=LEAST))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., K): over all steps of all sequences of mean 0 and deviation 1."""
        return self._along(x - self.get_buffer("mean")) / self.get_buffer("deviation")

    def apart(self, x: Padded) -> tuple[Tensor, Padded]:
        """Sequences (B, T, D) -> contents (B, D), their means over time, and moves (B, T, K): how the steps differ from them, of
        deviation 1 over all steps of all sequences.
        """
        content = x.zeroed().data.sum(1) / x.mask.sum(1, keepdim=True).clamp(min=1)
        return content, Padded(self._along(x.data - content[:, None]) / self.get_buffer("moving"), x.lengths).zeroed()

    def back(self, moves: Tensor, content: Tensor) -> Tensor:
        """(B, T, K), (B, D) -> (B, T, D)."""
        moved = moves * self.get_buffer("moving")
        return (moved @ self.get_buffer("basis").T if self.count else moved) + content[:, None]

    def _along(self, centred: Tensor) -> Tensor:
        return centred @ self.get_buffer("basis") if self.count else centred


def spread(centred: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) of mean 0 -> energies (D,), falling, and their directions (D, D), a column each."""
    energies, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(centred) - 1))
    return energies.flip(0).clamp(min=0), vectors.flip(1)
