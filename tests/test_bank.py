"""What was read of the last sequences, and what is drawn near it: the last ones stay, classes keep their mean and their spread."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.bank import BLUR, Bank


def filled(count: int = 400, width: int = 3, classes: int = 2) -> tuple[Bank, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    contents = torch.randn(count, width, generator=random) * torch.tensor([3.0, 1.0, 0.2]) + 10 * labels[:, None]
    bank = Bank(width=width, manner_size=2, size=1000)
    bank.fit(count)
    bank.keep(contents, torch.stack([contents[:, 0], -contents[:, 0]], dim=1), labels)
    return bank, contents, labels


def test_it_keeps_the_last_ones_and_no_more_than_fit() -> None:
    bank = Bank(width=1, manner_size=1, size=100)
    bank.fit(5)
    for start in (0, 3, 6):
        values = torch.arange(start, start + 3.0)[:, None]
        bank.keep(values, values, torch.zeros(3, dtype=torch.int64))
    assert len(bank) == 5
    assert sorted(bank.get_buffer("contents")[:5, 0].tolist()) == [4, 5, 6, 7, 8]
    bank.keep(torch.arange(20.0, 32)[:, None], torch.zeros(12, 1), torch.zeros(12, dtype=torch.int64))
    assert sorted(bank.get_buffer("contents")[:5, 0].tolist()) == [27, 28, 29, 30, 31], "a batch larger than the room"
    assert not bank.get_buffer("contents")[5:].any()


def test_what_is_drawn_has_each_classs_mean_and_spread_and_copies_nothing() -> None:
    bank, contents, labels = filled()
    wished = torch.arange(8000) % 2
    torch.manual_seed(1)
    drawn, manners = bank.draw(torch.randn(8000, 4), torch.randn(8000, 2), wished)
    for label in (0, 1):
        real, made = contents[labels == label], drawn[wished == label]
        assert torch.allclose(made.mean(0), real.mean(0), atol=0.15)
        assert torch.allclose(made.std(0), real.std(0), rtol=0.1)
        assert float(torch.cdist(made, real).min(1).values.median()) > 0.05, "no copies"
    apart = manners - torch.stack([drawn[:, 0], -drawn[:, 0]], dim=1)
    assert float(torch.corrcoef(torch.stack([manners[:, 0], drawn[:, 0]]))[0, 1]) > 0.8, (
        "a content goes with its manner"
    )
    assert float((manners.sum(1)).std()) == pytest.approx(BLUR * 2**0.5, rel=0.05) and apart.isfinite().all()


def test_it_draws_also_where_it_was_moved_within_inference_mode() -> None:
    bank, _, labels = filled()
    codes = torch.randn(400, 4), torch.randn(400, 2)
    expected = bank.draw(*codes, labels)[0]
    with torch.inference_mode():
        moved = bank.to(torch.float64)
        assert moved.get_buffer("contents").is_inference()
        found = moved.draw(codes[0].double(), codes[1].double(), labels)[0]
    assert torch.allclose(found.float(), expected, atol=1e-3)


def test_codes_near_zero_take_usual_ones_and_rising_ones_walk_along_the_class() -> None:
    bank, contents, labels = filled()
    codes = torch.zeros(101, 4)
    codes[:, 0] = torch.linspace(-4, 4, 101)
    drawn, _ = bank.draw(codes, torch.zeros(101, 2), torch.ones(101, dtype=torch.int64))
    walk = drawn[:, 0] if drawn[-1, 0] > drawn[0, 0] else drawn[:, 0].flip(0)
    assert (walk.diff() >= 0).all() and walk[-1] - walk[0] > 4 * contents[labels == 1][:, 0].std()
    assert float((drawn[50] - contents[labels == 1].mean(0))[0].abs()) < 0.5


def test_before_anything_was_read_and_for_an_unseen_class() -> None:
    bank = Bank(width=3, manner_size=2)
    contents, manners = bank.draw(torch.randn(4, 4), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))
    assert not contents.any() and torch.equal(manners, BLUR * torch.ones(4, 2))
    bank.keep(torch.full((1, 3), 7.0), torch.zeros(1, 2), torch.tensor([0]))
    contents, _ = bank.draw(torch.randn(2, 4), torch.zeros(2, 2), torch.tensor([0, 5]))
    assert torch.allclose(contents, torch.full((2, 3), 7.0)), "of one sequence nothing is known but itself"


def test_the_same_codes_are_the_same_after_loading() -> None:
    bank, *_ = filled()
    other = Bank(width=3, manner_size=2, size=1000)
    other.load_state_dict(bank.state_dict())
    codes, labels = (torch.randn(6, 4), torch.randn(6, 2)), torch.arange(6) % 2
    assert all(torch.equal(a, b) for a, b in zip(bank.draw(*codes, labels), other.draw(*codes, labels), strict=True))
    few = bank.draw(codes[0][2:3], codes[1][2:3], labels[2:3])
    assert torch.allclose(few[0][0], bank.draw(*codes, labels)[0][2], atol=1e-6), "nor does it matter who else is drawn"
