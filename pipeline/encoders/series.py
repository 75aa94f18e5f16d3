"""Stored sequences as a sense: features, poses, sensors.

In: raw["series"] (B, T, D) floats. Out: (B, T // patch, P). Knows nothing of where they came from.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.data.batch import Raw
from pipeline.encoders.adapt import Adapter
from pipeline.padded import Padded, stack


class SeriesEncoder(nn.Module):
    """Patches of raw["series"], and an Adapter over them.

    patch: so many steps of the series become one step of the core (after SegRNN, Lin et al. 2023, arXiv 2308.11200): a
    day of hours is then 24 times fewer steps to remember. Patches count from the beginning; what is left at the end of a
    row does not reach the core, so a window to go on from holds whole patches. from_last: a patch is given as its
    differences from its last value, and that value beside them: its form and its level apart.
    """

    sense = "series"

    def __init__(self, *, adapter: Adapter, patch: int = 1, from_last: bool = False) -> None:
        super().__init__()
        self.adapter, self.patch, self.from_last = adapter, patch, from_last
        self.output_size = adapter.output_size

    @staticmethod
    def patch_size(width: int, patch: int, from_last: bool) -> int:
        """The width of what the adapter sees."""
        return width * (patch + from_last)

    def fit(self, sequences: Iterable[Tensor]) -> None:
        """Fit the adapter's statistics to training sequences, each (T, D)."""
        self.adapter.fit(self.patches(stack([x.to(torch.float32)])).unpad()[0] for x in sequences)

    def patches(self, x: Padded) -> Padded:
        """(B, T, D) -> (B, T // patch, patch * D), or D more of the last values."""
        if self.patch == 1 and not self.from_last:
            return x
        count = x.data.shape[1] // self.patch
        cut = x.zeroed().data[:, : count * self.patch].unflatten(1, (count, self.patch))  # (B, S, patch, D)
        if self.from_last:
            last = cut[:, :, -1:]
            cut = torch.cat([cut - last, last], dim=2)
        return Padded(cut.flatten(2), x.lengths // self.patch)

    def forward(self, raw: Raw) -> Padded:
        """(B, T, D) -> (B, T // patch, P)."""
        return self.adapter(self.patches(raw[self.sense].map(lambda d: d.to(torch.float32))))
