"""The PCA of features: contents and residuals of sequences, and the way back."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.gan.pca import MIN_DEVIATION, FeaturePCA
from pipeline.padded import Padded


def draw_real(count: int = 400, steps: int = 10, width: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=random) * torch.tensor([9.0, 5, 3, 1, 0.5, 0.1])
    x = torch.randn(count, steps, width, generator=random) + 2 * torch.randn(count, 1, width, generator=random)
    return x @ mixing.T + torch.arange(width) * 7


@pytest.mark.parametrize("count", [0, 2, 4, 6, 99])
def test_projected_features_have_mean_zero_and_deviation_one(count: int) -> None:
    x, pca = draw_real(), FeaturePCA(6, count)
    pca.fit(list(x))
    projected = pca(x).flatten(0, 1)
    assert projected.shape[1] == {0: 6, 2: 2, 4: 4, 6: 6, 99: 6}[count]
    assert projected.mean(0).abs().max() < 1e-3 and torch.allclose(
        projected.std(0), torch.ones(projected.shape[1]), atol=1e-3
    )
    if count:
        assert torch.allclose(torch.cov(projected.T), torch.eye(projected.shape[1]), atol=1e-3)
        largest = torch.linalg.eigh(torch.cov(x.flatten(0, 1).T))[1][:, -1]
        assert float((pca.get_buffer("basis")[:, 0] @ largest).abs()) == pytest.approx(1, abs=1e-4)
    content, residuals = pca.split_content(Padded(x, torch.full((len(x),), x.shape[1])))
    assert torch.allclose(content, x.mean(1), atol=1e-4)
    assert residuals.data.mean(1).abs().max() < 1e-3
    assert torch.allclose(residuals.data.square().mean((0, 1)), torch.ones(projected.shape[1]), atol=1e-3)


@pytest.mark.parametrize("count", [0, 6])
def test_with_all_components_the_way_back_gives_the_same_features(count: int) -> None:
    x, pca = draw_real(20), FeaturePCA(6, count)
    pca.fit(list(x))
    content, residuals = pca.split_content(Padded(x, torch.full((len(x),), x.shape[1])))
    assert torch.allclose(pca.join_content(residuals.data, content), x, atol=1e-3)


def test_with_few_components_the_way_back_gives_their_part_and_the_whole_content() -> None:
    x, pca = draw_real(20), FeaturePCA(6, 3)
    pca.fit(list(x))
    content, residuals = pca.split_content(Padded(x, torch.full((len(x),), x.shape[1])))
    again, basis = pca.join_content(residuals.data, content), pca.get_buffer("basis")
    assert torch.allclose(again.mean(1), x.mean(1), atol=1e-3)
    assert torch.allclose(again @ basis, x @ basis, atol=1e-2) and not torch.allclose(again, x, atol=0.1)


def test_padding_counts_in_neither_content_nor_residuals() -> None:
    x, pca = draw_real(3), FeaturePCA(6, 2)
    pca.fit(list(x))
    lengths = torch.tensor([10, 4, 1])
    content, residuals = pca.split_content(Padded(x, lengths))
    garbage = Padded(x, lengths).zeroed().data + 1e6 * ~Padded(x, lengths).mask[..., None]
    other_content, other_residuals = pca.split_content(Padded(garbage, lengths))
    assert torch.equal(content, other_content) and torch.equal(residuals.data, other_residuals.data)
    assert torch.allclose(content[1], x[1, :4].mean(0), atol=1e-4) and torch.equal(content[2], x[2, 0])


def test_a_channel_that_never_changes_gives_finite_numbers() -> None:
    for count in (0, 2):
        pca = FeaturePCA(3, count)
        pca.fit([torch.ones(9, 3)])
        assert torch.isfinite(pca(torch.ones(4, 3))).all()
        assert float(pca.get_buffer("deviation").min()) == pytest.approx(MIN_DEVIATION)
        assert float(pca.get_buffer("residual_deviation").min()) == pytest.approx(MIN_DEVIATION)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, of all that are made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor) and x._base is None:
                self.now += x.nbytes
                weakref.finalize(x, self._end, x.nbytes)
        self.peak = max(self.peak, self.now)
        return result

    def _end(self, nbytes: int) -> None:
        self.now -= nbytes


@pytest.mark.parametrize("count", [0, 2])
def test_the_training_features_are_in_memory_once(count: int) -> None:
    sequences = list(draw_real(16000, 20).half())
    pca = FeaturePCA(6, count)
    with LiveBytes() as live:
        pca.fit(sequences)
    assert live.peak < 0.5 * sum(s.nbytes for s in sequences), "no copy of them, let alone in more precision"
    x = torch.cat(sequences).double()
    assert torch.allclose(pca.get_buffer("mean").double(), x.mean(0), atol=1e-5)
    if not count:
        assert torch.allclose(pca.get_buffer("deviation").double(), x.std(0), rtol=1e-5)
