"""Stored sequences as a sense: features, poses, sensors.

In: raw["series"] (B, T, D) floats. Out: (B, T, P). Knows nothing of where they came from.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.data.batch import Raw
from pipeline.encoders.adapt import Adapter
from pipeline.padded import Padded


class SeriesEncoder(nn.Module):
    """An Adapter over raw["series"]."""

    sense = "series"

    def __init__(self, *, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter
        self.output_size = adapter.output_size

    def forward(self, raw: Raw) -> Padded:
        """(B, T, D) -> (B, T, P)."""
        return self.adapter(raw[self.sense].map(lambda d: d.to(torch.float32)))
