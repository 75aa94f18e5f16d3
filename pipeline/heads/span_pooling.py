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
from pipeline.padded import Padded, stack

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
            labels = batch.target(segment.name)
            assert isinstance(labels, Padded)
            runs = [segment.runs_of(row) for row in labels.unpad()]
        else:
            runs = segment.runs(steps)
        rows = zip(runs, steps.lengths.tolist(), strict=True)
        return [pooling_weights(row_runs, length, steps.data) for row_runs, length in rows]

    def forward(self, steps: Padded, weights: Sequence[Tensor]) -> Padded:
        """Steps (B, T, H) -> spans (B, E, H), in order."""
        rows = [row_weights @ row for row_weights, row in zip(weights, steps.zeroed().unpad(), strict=True)]
        return stack([row + self.position_embedding.weight[: len(row)] for row in rows])


def pooling_weights(runs: Sequence[tuple[int, int]], length: int, like: Tensor) -> Tensor:
    """(E, T): the mean over the steps of each run (first step, step after the last); without a run, over all steps."""
    runs = [(start, min(stop, length)) for start, stop in runs if start < length][:MAX_SPANS] or [(0, length)]
    weights = like.new_zeros((len(runs), length))
    for row, (start, stop) in zip(weights, runs, strict=True):
        row[start:stop] = 1.0 / max(1, stop - start)
    return weights


def step_weights(span_weights: Tensor, weights: Sequence[Tensor], num_steps: int) -> Tensor:
    """Attention weights of spans (B, L, E) -> of steps (B, L, num_steps)."""
    rows = [span_weights[i, :, : len(row)] @ row for i, row in enumerate(weights)]
    return torch.stack([nn.functional.pad(row, (0, num_steps - row.shape[1])) for row in rows])
