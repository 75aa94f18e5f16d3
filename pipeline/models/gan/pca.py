"""Standardised numbers for features, along their principal components, and the way back.

In: features (..., D). Out: K numbers, the content of a sequence (its mean) and the residuals of its steps. Knows
nothing of generators.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.gan.pooling import masked_mean
from pipeline.padded import Padded

MIN_DEVIATION = 1e-4
"""The deviation of a number that never changes."""


class FeaturePCA(nn.Module):
    """The first K principal components of real features, or each channel by itself.

    Args:
        width: D. count: K; 0 keeps every channel by itself, so that K is D.
    """

    def __init__(self, width: int, count: int = 0) -> None:
        super().__init__()
        self.count = min(count, width)
        self.output_size = self.count or width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(self.output_size))
        self.register_buffer("residual_deviation", torch.ones(self.output_size))
        if self.count:
            self.register_buffer("basis", torch.eye(width)[:, : self.count].contiguous())

    def fit(self, sequences: Sequence[Tensor]) -> None:
        """Fit means, components and deviations to real features, each sequence (T, D). ValueError for a number that is
        not finite.
        """
        for number, sequence in enumerate(sequences):
            if not sequence.isfinite().all():
                raise ValueError(
                    f"Sequence {number} of the training part (counted from 0) has a number that is not finite. "
                    "Features must be finite numbers. Check the file of that row."
                )
        x = torch.cat(list(sequences)).float()
        mean = x.mean(0)
        self.get_buffer("mean").copy_(mean)
        if self.count:
            _, basis = principal_components((x - mean).double())
            self.get_buffer("basis").copy_(basis[:, : self.count])
        self.get_buffer("deviation").copy_(self._project(x - mean).std(0).clamp(min=MIN_DEVIATION))
        residuals = torch.cat([s.float() - s.float().mean(0) for s in sequences])
        deviation = self._project(residuals).square().mean(0).sqrt()
        self.get_buffer("residual_deviation").copy_(deviation.clamp(min=MIN_DEVIATION))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., K), with mean 0 and deviation 1 over all steps of all sequences."""
        return self._project(x - self.get_buffer("mean")) / self.get_buffer("deviation")

    def split_content(self, x: Padded) -> tuple[Tensor, Padded]:
        """Sequences (B, T, D) -> contents (B, D), which are their means over time, and residuals (B, T, K).

        The residuals are how the steps differ from the content, with deviation 1 over all steps of all sequences.
        """
        content = masked_mean(x.zeroed().data, x.mask)
        residuals = self._project(x.data - content[:, None]) / self.get_buffer("residual_deviation")
        return content, Padded(residuals, x.lengths).zeroed()

    def join_content(self, residuals: Tensor, content: Tensor) -> Tensor:
        """The way back: residuals (B, T, K), contents (B, D) -> sequences (B, T, D)."""
        scaled = residuals * self.get_buffer("residual_deviation")
        return (scaled @ self.get_buffer("basis").T if self.count else scaled) + content[:, None]

    def _project(self, centred: Tensor) -> Tensor:
        return centred @ self.get_buffer("basis") if self.count else centred


def principal_components(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D) of mean 0 -> the variances along their principal components (D,), falling, and these components (D,
    D), one a column.
    """
    variances, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(centred) - 1))
    return variances.flip(0).clamp(min=0), vectors.flip(1)
