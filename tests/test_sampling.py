"""Sampling against the distributions it names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy_speaker import END, Speaker, beginnings, listed

from pipeline.models.sampling import distribution, sample


def test_samples_come_from_the_model_s_distribution() -> None:
    speaker = Speaker(4, seed=0, sharpness=1.0)
    state, start = beginnings(2)
    found = sample(
        speaker, state, start, end=END, max_length=3, samples=40_000, generator=torch.Generator().manual_seed(0)
    )
    for row in range(2):
        drawn = listed(found, row)
        sentences = sorted(set(drawn))
        for sentence in sentences:
            expected = torch.tensor(speaker.probability(list(sentence), 0, state[0][row])).exp()
            share = drawn.count(sentence) / len(drawn)
            assert abs(share - expected) < 5 * (expected * (1 - expected) / len(drawn)).sqrt() + 1e-4
        assert all(len(s) == 3 or s[-1] == END for s in sentences)


def test_what_it_says_of_a_sample_is_the_model_s_own_probability_with_gradients() -> None:
    speaker = Speaker(6, seed=2, sharpness=1.0)
    state, start = beginnings(3)
    found = sample(
        speaker,
        state,
        start,
        end=END,
        max_length=5,
        samples=4,
        generator=torch.Generator().manual_seed(1),
        temperature=1.7,
        top_k=4,
    )
    for row in range(3):
        expected = [speaker.probability(list(s), 0, state[0][row]) for s in listed(found, row)]
        assert found.log_probability[row].tolist() == pytest.approx(expected)
        behind = torch.arange(found.tokens.shape[2]) >= found.lengths[row][:, None]
        assert (found.tokens[row][behind] == END).all()
    found.log_probability.sum().backward()
    assert speaker.embed.weight.grad is not None and speaker.embed.weight.grad.abs().sum() > 0


def test_sharpest_sampling_is_greedy_and_generators_repeat() -> None:
    speaker = Speaker(7, seed=5, sharpness=1.0)
    state, start = beginnings(4)

    def draw(seed: int = 0, **how: float) -> list:
        generator = torch.Generator().manual_seed(seed)
        return sample(speaker, state, start, end=None, max_length=8, generator=generator, **how).tokens.tolist()  # pyright: ignore

    greedy = draw(top_k=1)
    assert draw(seed=1, temperature=1e-4) == draw(seed=2, top_p=1e-9) == greedy
    assert draw(seed=3) == draw(seed=3) != draw(seed=4)
    assert draw(seed=3, top_k=7, top_p=1.0) == draw(seed=3, top_k=100) == draw(seed=3, top_p=1.0)
    rng = torch.get_rng_state()
    draw()
    assert torch.equal(torch.get_rng_state(), rng)  # the world's own generator is left alone


def test_without_an_end_token_all_go_on() -> None:
    speaker = Speaker(7, seed=5)
    state, start = beginnings(2)
    found = sample(speaker, state, start, end=None, max_length=8, samples=3, generator=torch.Generator())
    assert found.tokens.shape == (2, 3, 8) and (found.lengths == 8).all()


def shares(log_probabilities: Tensor, **how: float) -> Tensor:
    """The distribution drawn from, back in the order of the tokens."""
    ranked, order = distribution(log_probabilities, **how)  # pyright: ignore
    return torch.zeros_like(log_probabilities).scatter(1, order, ranked)


def test_temperature_top_k_and_the_nucleus_by_hand() -> None:
    p = torch.tensor([[0.1, 0.4, 0.15, 0.3, 0.05]], dtype=torch.float64)
    torch.testing.assert_close(shares(p.log()), p)
    torch.testing.assert_close(shares(p.log(), top_k=9, top_p=1.0), p)  # cuts that cut nothing
    torch.testing.assert_close(shares(p.log(), temperature=0.5), p**2 / (p**2).sum())
    torch.testing.assert_close(shares(p.log(), top_k=2), torch.tensor([[0, 4 / 7, 0, 3 / 7, 0]], dtype=torch.float64))
    nucleus = torch.tensor([[0, 0.4, 0.15, 0.3, 0]], dtype=torch.float64) / 0.85
    torch.testing.assert_close(shares(p.log(), top_p=0.75), nucleus)
    torch.testing.assert_close(shares(p.log(), top_p=0.84), nucleus)
    torch.testing.assert_close(shares(p.log(), top_p=0.3), torch.eye(5, dtype=torch.float64)[[1]])
    # the nucleus is that of the distribution top_k leaves: 4/7 is enough for one half
    torch.testing.assert_close(shares(p.log(), top_k=2, top_p=0.5), torch.eye(5, dtype=torch.float64)[[1]])
    assert int((shares(torch.zeros(1, 5), top_k=2) > 0).sum()) == 2  # equals do not widen it


def test_the_nucleus_is_the_smallest_set_that_is_enough() -> None:
    logits = torch.randn(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    p = logits.softmax(1)
    for top_p in (0.2, 0.5, 0.9, 1.0):
        for row, kept in zip(p, shares(logits, top_p=top_p) > 0, strict=True):
            assert row[kept].sum() >= top_p - 1e-9
            assert row[kept].sum() - row[kept].min() < top_p
            assert kept.all() or row[kept].min() >= row[~kept].max()


def test_a_time_step_is_one_call() -> None:
    speaker = Speaker(9, seed=2)
    state, start = beginnings(4)
    sample(speaker, state, start, end=None, max_length=6, samples=2, generator=torch.Generator())
    assert speaker.rows == [8] * 6


def test_they_say_what_is_wrong() -> None:
    state, start = beginnings(2)
    speaker, generator = Speaker(5), torch.Generator()
    with pytest.raises(ValueError, match=r"end=-1 is no token: the step knows tokens 0\.\.4."):
        sample(speaker, state, start, end=-1, max_length=3, generator=generator)
    with pytest.raises(ValueError, match="samples=0: the search for sentences needs at least 1 here."):
        sample(speaker, state, start, end=END, max_length=3, samples=0, generator=generator)
    with pytest.raises(ValueError, match="temperature=0: it divides the logits, so it must be above 0. For the most"):
        sample(speaker, state, start, end=END, max_length=3, temperature=0, generator=generator)
    with pytest.raises(ValueError, match="top_k=0: at least 1 token must be left"):
        sample(speaker, state, start, end=END, max_length=3, top_k=0, generator=generator)
    for top_p in (0, 1.1):
        with pytest.raises(ValueError, match=f"top_p={top_p}: a probability in"):
            sample(speaker, state, start, end=END, max_length=3, top_p=top_p, generator=generator)
