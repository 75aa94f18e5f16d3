"""The spans of a segment head as a short sequence: one vector for each span.

In: the output of the core (B, T, H), and a segment head. Out: the mean output of each span plus an embedding of its
position (B, E, H). Knows nothing of what the spans are used for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.heads.segment import Segment
from pipeline.padded import Padded, copy_together, stack

MAX_SPANS = 64
"""Later spans of a video are left out."""


class SpanPooling(nn.Module):
    """The mean over the steps of each span, and a learned embedding of the span's position in their order."""

    def __init__(self, segment: Segment, input_size: int) -> None:
        super().__init__()
        self._segment = (segment,)  # a tuple, because the model registers and stores that head
        self.position_embedding = nn.Embedding(MAX_SPANS, input_size)

    def weights(self, steps: Padded, batch: Batch | None = None) -> list[Tensor]:
        """For each row the weights (E, T) of the steps in each span's mean.

        The spans are the true ones in training, if a batch is given, else those that the segment head predicts. A row
        without spans is one span.
        """
        (segment,) = self._segment
        if self.training and batch is not None:
            labels = batch.on_host.target(segment.name)
            assert isinstance(labels, Padded)
            runs = [segment.runs_of(row) for row in labels.unpad()]
        else:
            runs = segment.runs(steps)
        return pooling_weights(runs, steps)

    def forward(self, steps: Padded, weights: Sequence[Tensor]) -> Padded:
        """Steps (B, T, H) -> spans (B, E, H), in order."""
        rows = [row_weights @ row for row_weights, row in zip(weights, steps.zeroed().unpad(), strict=True)]
        return stack([row + self.position_embedding.weight[: len(row)] for row in rows])


def pooling_weights(runs: Sequence[Sequence[tuple[int, int]]], steps: Padded) -> list[Tensor]:
    """For each row (E, T): the mean over the steps of each run (first step, step after the last); without a run, over
    all steps. All runs go to the device of the steps in one copy.
    """
    lengths = steps.lengths.tolist()
    cut = [
        [(start, min(stop, length)) for start, stop in row_runs if start < length][:MAX_SPANS] or [(0, length)]
        for row_runs, length in zip(runs, lengths, strict=True)
    ]
    bounds = copy_together([torch.tensor(row_runs) for row_runs in cut], steps.data.device)
    return [_means(row_bounds, length, steps.data.dtype) for row_bounds, length in zip(bounds, lengths, strict=True)]


def _means(bounds: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Runs (E, 2) -> the weights (E, length) of their steps."""
    start, stop = bounds[:, :1], bounds[:, 1:]
    steps = torch.arange(length, device=bounds.device)
    is_inside = (steps >= start) & (steps < stop)
    return is_inside.to(dtype) / (stop - start).clamp(min=1).to(dtype)


def step_weights(span_weights: Tensor, weights: Sequence[Tensor], num_steps: int) -> Tensor:
    """Attention weights of spans (B, L, E) -> of steps (B, L, num_steps)."""
    rows = [span_weights[i, :, : len(row)] @ row for i, row in enumerate(weights)]
    return torch.stack([nn.functional.pad(row, (0, num_steps - row.shape[1])) for row in rows])
