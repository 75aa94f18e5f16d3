"""The sense of sight.

In: raw["frames"], pixels uint8 (B, T, S, S, 3) or their stored features (B, T, D). Out: (B, T, P). When nothing in the
CNN learns, both roads give the same numbers: features are rounded to half precision either way.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.data.batch import Raw
from pipeline.encoders.adapt import Adapter
from pipeline.encoders.backbone import Backbone
from pipeline.encoders.runtime import CHUNK
from pipeline.padded import Padded


class FramesEncoder(nn.Module):
    """Backbone (per frame) -> Adapter."""

    sense = "frames"

    def __init__(self, *, backbone: Backbone, adapter: Adapter) -> None:
        super().__init__()
        self.backbone, self.adapter = backbone, adapter
        self.output_size = adapter.output_size

    def forward(self, raw: Raw) -> Padded:
        """(B, T, S, S, 3) uint8 or (B, T, D) -> (B, T, P)."""
        frames = raw[self.sense]
        if frames.data.dtype == torch.uint8:
            frames = self.look(frames)
        return self.adapter(frames.map(lambda d: d.to(torch.float32)))

    def fit(self, sequences: Iterable[Tensor]) -> None:
        """Fit the adapter's statistics to training features, each (T, D)."""
        self.adapter.fit(sequences)

    def look(self, frames: Padded) -> Padded:
        """Pixels (B, T, S, S, 3) -> features (B, T, D), zeros in the padding; only real frames are computed."""
        batch, steps = frames.data.shape[:2]
        real = torch.arange(steps) < frames.lengths[:, None]  # on the CPU: nobody waits for a device to count frames
        places = real.flatten().nonzero()[:, 0].to(frames.data.device)
        pixels = frames.data.flatten(0, 1)[places]
        if self.backbone.is_frozen:
            filled = torch.cat([pixels, pixels.new_zeros((-len(pixels) % CHUNK, *pixels.shape[1:]))])
            with torch.no_grad():
                found = torch.cat([self.backbone(part) for part in filled.split(CHUNK)])[: len(pixels)].half().float()
        else:
            found = torch.cat([self.backbone(part) for part in pixels.split(CHUNK)])  # 3 times faster than all at once
        out = found.new_zeros((batch * steps, found.shape[-1])).index_copy(0, places, found)
        return Padded(out.unflatten(0, (batch, steps)), frames.lengths)
