"""The encoder of frames.

In: raw["frames"], pixels uint8 (B, T, S, S, 3) or their stored features (B, T, D). Out: (B, T, P). While no parameter
of the CNN learns, pixels and stored features give the same numbers, because both are rounded to half precision. Knows
nothing of files or decoders.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.data.batch import Raw
from pipeline.encoders.adapter import Adapter
from pipeline.encoders.backbone import Backbone, exact_float32
from pipeline.encoders.cnn_runtime import CHUNK_SIZE
from pipeline.padded import Padded


class FramesEncoder(nn.Module):
    """Backbone (per frame) -> Adapter."""

    sense = "frames"

    def __init__(self, *, backbone: Backbone, adapter: Adapter) -> None:
        super().__init__()
        self.backbone, self.adapter = backbone, adapter
        self.feature_size, self.output_size = backbone.output_size, adapter.output_size

    def forward(self, raw: Raw) -> Padded:
        """(B, T, S, S, 3) uint8 or (B, T, D) -> (B, T, P)."""
        return self.project(self.features(raw))

    @property
    def has_frozen_features(self) -> bool:
        """Whether no parameter of the CNN learns."""
        return self.backbone.is_frozen

    def project(self, features: Padded) -> Padded:
        """The output of `features` (B, T, D) -> (B, T, P)."""
        return self.adapter.projected(features)

    def features(self, raw: Raw) -> Padded:
        """(B, T, S, S, 3) uint8 or (B, T, D) -> normalised features (B, T, D)."""
        frames = raw[self.sense]
        if frames.data.dtype == torch.uint8:
            frames = self.extract_features(frames)
        return self.adapter.normalised(frames.map(lambda data: data.to(torch.float32)))

    @property
    def is_fitted_on_training(self) -> bool:
        """Whether channels are normalised by statistics of the training data."""
        return self.adapter.normalise == "fitted"

    def fit_sequences(self, sequences: Iterable[Tensor]) -> None:
        """Fit the statistics of the adapter to training features, each (T, D)."""
        self.adapter.fit(sequences)

    def extract_features(self, frames: Padded) -> Padded:
        """Pixels (B, T, S, S, 3) -> features (B, T, D). Only real frames are computed; the padding becomes zeros."""
        batch, steps = frames.data.shape[:2]
        row, step = frames.valid_steps
        indices = row * steps + step
        pixels = frames.data.flatten(0, 1)[indices]
        if self.backbone.is_frozen:
            filled = torch.cat([pixels, pixels.new_zeros((-len(pixels) % CHUNK_SIZE, *pixels.shape[1:]))])
            with torch.no_grad(), exact_float32(pixels.device):
                features = torch.cat([self.backbone(chunk) for chunk in filled.split(CHUNK_SIZE)])
            features = features[: len(pixels)].half().float()
        else:  # 3 times faster than all frames at once
            features = torch.cat([self.backbone(chunk) for chunk in pixels.split(CHUNK_SIZE)])
        out = features.new_zeros((batch * steps, features.shape[-1])).index_copy(0, indices, features)
        return Padded(out.unflatten(0, (batch, steps)), frames.lengths)
