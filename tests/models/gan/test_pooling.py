"""Pooling over time: padding counts nothing, and a row without steps gives zeros."""

from __future__ import annotations

import torch

from pipeline.models.gan.pooling import mean_and_max


def test_padding_counts_in_neither_mean_nor_maximum() -> None:
    x, mask = torch.randn(2, 4, 3) - 5, torch.tensor([[True, True, False, False], [False] * 4])
    pooled = mean_and_max(x, mask)
    assert torch.allclose(pooled[0], torch.cat([x[0, :2].mean(0), x[0, :2].amax(0)]))
    assert not pooled[1].any()
