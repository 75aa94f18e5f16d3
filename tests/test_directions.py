"""Numbers that features are made in: what comes back has the mean, the directions and the energy of the real ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.models.directions import LEAST, Directions


def real(count: int = 4000, width: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(0)
    mixed = torch.randn(width, width, generator=random) * torch.tensor([9.0, 5, 3, 1, 0.5, 0.1])
    return torch.randn(count, width, generator=random) @ mixed.T + torch.arange(width) * 7


@pytest.mark.parametrize("count", [0, 2, 4, 6, 99])
def test_real_ones_have_no_mean_and_the_deviation_one(count: int) -> None:
    x, found = real(), Directions(6, count, 3, 2)
    found.fit(x.split(10))
    told = found(x)
    assert told.shape[1] == Directions.size(6, count) == {0: 6, 2: 2, 4: 4, 6: 6, 99: 6}[count]
    assert told.mean(0).abs().max() < 1e-3 and torch.allclose(told.std(0), torch.ones(told.shape[1]), atol=1e-3)
    if count:
        assert torch.allclose(torch.cov(told.T), torch.eye(told.shape[1]), atol=1e-3)


@pytest.mark.parametrize("count", [0, 6])
def test_all_directions_there_and_back_are_the_same(count: int) -> None:
    x, found = real(), Directions(6, count, 3, 2)
    found.fit(x.split(10))
    assert torch.allclose(found.back(found(x)[None], torch.randn(1, 3), torch.randn(1, len(x), 2))[0], x, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_left_out_comes_back_with_its_energy_over_clips_and_within_them(count: int) -> None:
    random = torch.Generator().manual_seed(1)
    x = real() + 4 * torch.randn(400, 1, 6, generator=random).expand(-1, 10, -1).reshape(4000, 6)
    found = Directions(6, count, 6, 6)
    found.fit(x.split(10))
    made = found.back(torch.zeros(4000, 10, count), torch.randn(4000, 6), torch.randn(4000, 10, 6))
    basis = found.get_buffer("basis")
    left = ((x - x.mean(0)) - (x - x.mean(0)) @ basis @ basis.T).unflatten(0, (400, 10))
    assert torch.allclose((made - x.mean(0)) @ basis, torch.zeros(()), atol=1e-2), "it lies beside the directions"
    for energy in (lambda v: v.mean(1).square().sum(1).mean(), lambda v: v.var(1).sum(1).mean()):
        # the mean of ten steps of noise has a tenth of its energy, in the real ones as in the made ones
        assert float(energy(made - x.mean(0))) == pytest.approx(float(energy(left)), rel=0.2)
    largest = torch.linalg.eigh(torch.cov(x.T))[1][:, -1]
    assert float((basis[:, 0] @ largest).abs()) == pytest.approx(1, abs=1e-4)


def test_what_never_changes_divides_nothing() -> None:
    for count in (0, 2):
        found = Directions(3, count, 2, 2)
        found.fit([torch.ones(9, 3)])
        assert torch.isfinite(found(torch.ones(4, 3))).all() and float(
            found.get_buffer("deviation").min()
        ) == pytest.approx(LEAST)
