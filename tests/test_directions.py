"""Numbers that features are made in: what a sequence shows in the mean, how its steps differ from that, and the way back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.models.directions import LEAST, Directions
from pipeline.padded import Padded


def real(count: int = 400, steps: int = 10, width: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(0)
    mixed = torch.randn(width, width, generator=random) * torch.tensor([9.0, 5, 3, 1, 0.5, 0.1])
    x = torch.randn(count, steps, width, generator=random) + 2 * torch.randn(count, 1, width, generator=random)
    return x @ mixed.T + torch.arange(width) * 7


@pytest.mark.parametrize("count", [0, 2, 4, 6, 99])
def test_real_ones_have_no_mean_and_the_deviation_one(count: int) -> None:
    x, found = real(), Directions(6, count)
    found.fit(list(x))
    told = found(x).flatten(0, 1)
    assert told.shape[1] == {0: 6, 2: 2, 4: 4, 6: 6, 99: 6}[count]
    assert told.mean(0).abs().max() < 1e-3 and torch.allclose(told.std(0), torch.ones(told.shape[1]), atol=1e-3)
    if count:
        assert torch.allclose(torch.cov(told.T), torch.eye(told.shape[1]), atol=1e-3)
        largest = torch.linalg.eigh(torch.cov(x.flatten(0, 1).T))[1][:, -1]
        assert float((found.get_buffer("basis")[:, 0] @ largest).abs()) == pytest.approx(1, abs=1e-4)
    content, moves = found.apart(Padded(x, torch.full((len(x),), x.shape[1])))
    assert torch.allclose(content, x.mean(1), atol=1e-4)
    assert moves.data.mean(1).abs().max() < 1e-3
    assert torch.allclose(moves.data.square().mean((0, 1)), torch.ones(told.shape[1]), atol=1e-3)


@pytest.mark.parametrize("count", [0, 6])
def test_all_directions_there_and_back_are_the_same(count: int) -> None:
    x, found = real(20), Directions(6, count)
    found.fit(list(x))
    content, moves = found.apart(Padded(x, torch.full((len(x),), x.shape[1])))
    assert torch.allclose(found.back(moves.data, content), x, atol=1e-3)


def test_few_directions_give_back_what_lies_along_them_and_the_whole_content() -> None:
    x, found = real(20), Directions(6, 3)
    found.fit(list(x))
    content, moves = found.apart(Padded(x, torch.full((len(x),), x.shape[1])))
    again, basis = found.back(moves.data, content), found.get_buffer("basis")
    assert torch.allclose(again.mean(1), x.mean(1), atol=1e-3)
    assert torch.allclose(again @ basis, x @ basis, atol=1e-2) and not torch.allclose(again, x, atol=0.1)


def test_padding_counts_in_neither_content_nor_moves() -> None:
    x, found = real(3), Directions(6, 2)
    found.fit(list(x))
    lengths = torch.tensor([10, 4, 1])
    content, moves = found.apart(Padded(x, lengths))
    wild = Padded(x, lengths).zeroed().data + 1e6 * ~Padded(x, lengths).mask[..., None]
    other, moved = found.apart(Padded(wild, lengths))
    assert torch.equal(content, other) and torch.equal(moves.data, moved.data)
    assert torch.allclose(content[1], x[1, :4].mean(0), atol=1e-4) and torch.equal(content[2], x[2, 0])


def test_what_never_changes_divides_nothing() -> None:
    for count in (0, 2):
        found = Directions(3, count)
        found.fit([torch.ones(9, 3)])
        assert torch.isfinite(found(torch.ones(4, 3))).all()
        assert float(found.get_buffer("deviation").min()) == pytest.approx(LEAST)
        assert float(found.get_buffer("moving").min()) == pytest.approx(LEAST)
