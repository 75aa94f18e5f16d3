"""Standardised numbers for features, along their principal components, and the way back.

In: features (..., D). Out: K numbers, the content of a sequence (its mean) and the residuals of its steps. Knows
nothing of generators.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from pipeline.models.gan.pooling import masked_mean
from pipeline.padded import Padded

BLOCK_ROWS = 4096
"""Steps that are computed at a time: enough for a fast product of matrices, and little memory."""
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
        not finite. The sequences are in memory once: what is computed from them is so for `BLOCK_ROWS` steps at a time.
        """
        for number, sequence in enumerate(sequences):
            if not sequence.isfinite().all():
                raise ValueError(
                    f"Sequence {number} of the training part (counted from 0) has a number that is not finite. "
                    "Features must be finite numbers. Check the file of that row."
                )
        count = sum(map(len, sequences))
        mean = _sum(rows.sum(0) for rows in _blocks(sequences)) / count
        self.get_buffer("mean").copy_(mean)
        if self.count:
            centred = (rows - mean for rows in _blocks(sequences))
            _, basis = _components_of(_sum(rows.T @ rows for rows in centred) / max(1, count - 1))
            self.get_buffer("basis").copy_(basis[:, : self.count])
        squares = _sum(self._project(rows - mean).square().sum(0) for rows in _blocks(sequences))
        residuals = (s.double() - s.double().mean(0) for s in sequences)
        of_residuals = _sum(self._project(rows).square().sum(0) for rows in _blocks(residuals))
        deviation, residual_deviation = (squares / max(1, count - 1)).sqrt(), (of_residuals / count).sqrt()
        self.get_buffer("deviation").copy_(deviation.clamp(min=MIN_DEVIATION))
        self.get_buffer("residual_deviation").copy_(residual_deviation.clamp(min=MIN_DEVIATION))

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
        return centred @ self.get_buffer("basis").to(centred) if self.count else centred


def principal_components(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D) of mean 0 -> the variances along their principal components (D,), falling, and these components (D,
    D), one a column.
    """
    return _components_of(centred.T @ centred / max(1, len(centred) - 1))


def _components_of(covariance: Tensor) -> tuple[Tensor, Tensor]:
    variances, vectors = torch.linalg.eigh(covariance)
    return variances.flip(0).clamp(min=0), vectors.flip(1)


def _blocks(sequences: Iterable[Tensor]) -> Iterator[Tensor]:
    """The steps of all sequences in float64, in blocks of at least `BLOCK_ROWS`, but for the last one."""
    block: list[Tensor] = []
    for sequence in sequences:
        block.append(sequence.double())
        if sum(map(len, block)) >= BLOCK_ROWS:
            yield torch.cat(block)
            block = []
    if block:
        yield torch.cat(block)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors of one shape, of which one is in memory at a time."""
    return functools.reduce(torch.add, parts)
