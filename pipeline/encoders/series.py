"""The encoder of stored series: features, poses, sensors.

In: raw["series"] (B, T, D) floats. Out: (B, T // patch, P). Knows nothing of where series come from.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.data.batch import Raw
from pipeline.encoders.adapter import Adapter
from pipeline.padded import Padded, map_lengths, stack


class SeriesEncoder(nn.Module):
    """Patches of raw["series"] -> Adapter.

    Args:
        adapter: takes vectors of `patch_size`.
        patch: the number of steps of the series in one step of the core (after SegRNN, Lin et al. 2023, arXiv
            2308.11200). With patches of 24 hours, the core has 24 times fewer steps to remember. Patches count from the
            start of a row. The core does not get what is left at the end of a row, so a window whose state is carried
            on must hold whole patches.
        subtract_last: a patch becomes its differences from its last value, together with that value, so its shape and
            its level are separate.
    """

    sense = "series"
    has_frozen_features = True

    def __init__(self, *, adapter: Adapter, patch: int = 1, subtract_last: bool = False) -> None:
        super().__init__()
        self.adapter, self.patch, self.subtract_last = adapter, patch, subtract_last
        self.feature_size, self.output_size = adapter.input_size, adapter.output_size

    @staticmethod
    def patch_size(width: int, patch: int, subtract_last: bool) -> int:
        """The input width of the adapter, for a series of `width` channels."""
        return width * (patch + subtract_last)

    @property
    def is_fitted_on_training(self) -> bool:
        """Whether channels are normalised by statistics of the training data."""
        return self.adapter.normalise == "fitted"

    def fit_sequences(self, sequences: Iterable[Tensor]) -> None:
        """Fit the statistics of the adapter to training sequences, each (T, D)."""
        self.adapter.fit(self.patches(stack([x.to(torch.float32)])).unpad()[0] for x in sequences)

    def patches(self, x: Padded) -> Padded:
        """(B, T, D) -> (B, T // patch, patch * D), with D more channels for the last values (`subtract_last`)."""
        if self.patch == 1 and not self.subtract_last:
            return x
        count = x.data.shape[1] // self.patch
        patches = x.zeroed().data[:, : count * self.patch].unflatten(1, (count, self.patch))  # (B, S, patch, D)
        if self.subtract_last:
            last = patches[:, :, -1:]
            patches = torch.cat([patches - last, last], dim=2)
        return Padded(patches.flatten(2), map_lengths(x.lengths, lambda n: n // self.patch))

    def forward(self, raw: Raw) -> Padded:
        """(B, T, D) -> (B, T // patch, P)."""
        return self.project(self.features(raw))

    def project(self, features: Padded) -> Padded:
        """The output of `features` -> (B, T // patch, P)."""
        return self.adapter.projected(features)

    def features(self, raw: Raw) -> Padded:
        """(B, T, D) -> the normalised patches (B, T // patch, patch * D)."""
        return self.adapter.normalised(self.patches(raw[self.sense].map(lambda data: data.to(torch.float32))))
