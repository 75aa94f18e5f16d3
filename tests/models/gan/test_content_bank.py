"""The content bank: it stores the last sequences, and what it draws has the mean and the deviation of each class."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.gan.content_bank import STYLE_NOISE, ContentBank


def filled_bank(count: int = 400, width: int = 3, classes: int = 2) -> tuple[ContentBank, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    contents = torch.randn(count, width, generator=random) * torch.tensor([3.0, 1.0, 0.2]) + 10 * labels[:, None]
    bank = ContentBank(width=width, style_size=2, size=1000)
    bank.set_capacity(count)
    bank.store(contents, torch.stack([contents[:, 0], -contents[:, 0]], dim=1), labels)
    return bank, contents, labels


def test_it_stores_the_last_sequences_and_no_more_than_its_capacity() -> None:
    bank = ContentBank(width=1, style_size=1, size=100)
    bank.set_capacity(5)
    for start in (0, 3, 6):
        values = torch.arange(start, start + 3.0)[:, None]
        bank.store(values, values, torch.zeros(3, dtype=torch.int64))
    assert len(bank) == 5
    assert sorted(bank.get_buffer("contents")[:5, 0].tolist()) == [4, 5, 6, 7, 8]
    bank.store(torch.arange(20.0, 32)[:, None], torch.zeros(12, 1), torch.zeros(12, dtype=torch.int64))
    assert sorted(bank.get_buffer("contents")[:5, 0].tolist()) == [27, 28, 29, 30, 31], (
        "a batch larger than the capacity"
    )
    assert not bank.get_buffer("contents")[5:].any()


def test_drawn_contents_have_the_mean_and_deviation_of_their_class_and_are_no_copies() -> None:
    bank, contents, labels = filled_bank()
    wanted = torch.arange(8000) % 2
    torch.manual_seed(1)
    drawn, styles = bank.draw(torch.randn(8000, 4), torch.randn(8000, 2), wanted)
    for label in (0, 1):
        real, generated = contents[labels == label], drawn[wanted == label]
        assert torch.allclose(generated.mean(0), real.mean(0), atol=0.15)
        assert torch.allclose(generated.std(0), real.std(0), rtol=0.1)
        assert float(torch.cdist(generated, real).min(1).values.median()) > 0.05, "no copies"
    noise = styles - torch.stack([drawn[:, 0], -drawn[:, 0]], dim=1)
    assert float(torch.corrcoef(torch.stack([styles[:, 0], drawn[:, 0]]))[0, 1]) > 0.8, (
        "a content comes with its own style"
    )
    assert float((styles.sum(1)).std()) == pytest.approx(STYLE_NOISE * 2**0.5, rel=0.05) and noise.isfinite().all()


def test_it_draws_also_where_it_was_moved_in_inference_mode() -> None:
    bank, _, labels = filled_bank()
    codes = torch.randn(400, 4), torch.randn(400, 2)
    expected = bank.draw(*codes, labels)[0]
    with torch.inference_mode():
        moved_bank = bank.to(torch.float64)
        assert moved_bank.get_buffer("contents").is_inference()
        found = moved_bank.draw(codes[0].double(), codes[1].double(), labels)[0]
    assert torch.allclose(found.float(), expected, atol=1e-3)


def test_codes_near_zero_choose_usual_contents_and_rising_codes_walk_along_the_class() -> None:
    bank, contents, labels = filled_bank()
    codes = torch.zeros(101, 4)
    codes[:, 0] = torch.linspace(-4, 4, 101)
    drawn, _ = bank.draw(codes, torch.zeros(101, 2), torch.ones(101, dtype=torch.int64))
    walk = drawn[:, 0] if drawn[-1, 0] > drawn[0, 0] else drawn[:, 0].flip(0)
    assert (walk.diff() >= 0).all() and walk[-1] - walk[0] > 4 * contents[labels == 1][:, 0].std()
    assert float((drawn[50] - contents[labels == 1].mean(0))[0].abs()) < 0.5


def test_an_empty_bank_and_an_unknown_class() -> None:
    bank = ContentBank(width=3, style_size=2)
    contents, styles = bank.draw(torch.randn(4, 4), torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))
    assert not contents.any() and torch.equal(styles, STYLE_NOISE * torch.ones(4, 2))
    bank.store(torch.full((1, 3), 7.0), torch.zeros(1, 2), torch.tensor([0]))
    contents, _ = bank.draw(torch.randn(2, 4), torch.zeros(2, 2), torch.tensor([0, 5]))
    assert torch.allclose(contents, torch.full((2, 3), 7.0)), "with one sequence there is nothing else to draw"


def test_the_same_codes_give_the_same_contents_after_loading() -> None:
    bank, *_ = filled_bank()
    other = ContentBank(width=3, style_size=2, size=1000)
    other.load_state_dict(bank.state_dict())
    codes, labels = (torch.randn(6, 4), torch.randn(6, 2)), torch.arange(6) % 2
    assert all(torch.equal(a, b) for a, b in zip(bank.draw(*codes, labels), other.draw(*codes, labels), strict=True))
    few = bank.draw(codes[0][2:3], codes[1][2:3], labels[2:3])
    assert torch.allclose(few[0][0], bank.draw(*codes, labels)[0][2], atol=1e-6), "what else is drawn does not matter"
