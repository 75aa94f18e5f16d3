"""Sampling: drawn sequences follow the distribution; temperature, top-k and nucleus by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy_language_model import END, ToyLanguageModel, random_states, sequences_of

from pipeline.models.text.sampling import distribution, sample


def test_samples_follow_the_distribution_of_the_model() -> None:
    model = ToyLanguageModel(4, seed=0, sharpness=1.0)
    state, start = random_states(2)
    samples = sample(
        model, state, start, end=END, max_length=3, samples=40_000, generator=torch.Generator().manual_seed(0)
    )
    for row in range(2):
        drawn = sequences_of(samples, row)
        sequences = sorted(set(drawn))
        for sequence in sequences:
            expected = torch.tensor(model.log_probability(list(sequence), 0, state[0][row])).exp()
            share = drawn.count(sequence) / len(drawn)
            assert abs(share - expected) < 5 * (expected * (1 - expected) / len(drawn)).sqrt() + 1e-4
        assert all(len(s) == 3 or s[-1] == END for s in sequences)


def test_the_log_probability_of_a_sample_is_that_of_the_model_with_gradients() -> None:
    model = ToyLanguageModel(6, seed=2, sharpness=1.0)
    state, start = random_states(3)
    samples = sample(
        model,
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
        expected = [model.log_probability(list(s), 0, state[0][row]) for s in sequences_of(samples, row)]
        assert samples.log_probability[row].tolist() == pytest.approx(expected)
        is_padding = torch.arange(samples.tokens.shape[2]) >= samples.lengths[row][:, None]
        assert (samples.tokens[row][is_padding] == END).all()
    samples.log_probability.sum().backward()
    assert model.embed.weight.grad is not None and model.embed.weight.grad.abs().sum() > 0


def test_the_sharpest_distribution_is_greedy_and_a_seed_repeats_a_draw() -> None:
    model = ToyLanguageModel(7, seed=5, sharpness=1.0)
    state, start = random_states(4)

    def draw(seed: int = 0, **options: float) -> list:
        generator = torch.Generator().manual_seed(seed)
        samples = sample(model, state, start, end=None, max_length=8, generator=generator, **options)  # pyright: ignore
        return samples.tokens.tolist()

    greedy = draw(top_k=1)
    assert draw(seed=1, temperature=1e-4) == draw(seed=2, top_p=1e-9) == greedy
    assert draw(seed=3) == draw(seed=3) != draw(seed=4)
    assert draw(seed=3, top_k=7, top_p=1.0) == draw(seed=3, top_k=100) == draw(seed=3, top_p=1.0)
    rng = torch.get_rng_state()
    draw()
    assert torch.equal(torch.get_rng_state(), rng)  # the global generator is not used


def test_without_an_end_token_all_samples_have_the_maximum_length() -> None:
    model = ToyLanguageModel(7, seed=5)
    state, start = random_states(2)
    samples = sample(model, state, start, end=None, max_length=8, samples=3, generator=torch.Generator())
    assert samples.tokens.shape == (2, 3, 8) and (samples.lengths == 8).all()


def probabilities(log_probabilities: Tensor, **options: float) -> Tensor:
    """The distribution that is drawn from, in the order of the tokens."""
    ranked, order = distribution(log_probabilities, **options)  # pyright: ignore
    return torch.zeros_like(log_probabilities).scatter(1, order, ranked)


def test_temperature_top_k_and_the_nucleus_by_hand() -> None:
    p = torch.tensor([[0.1, 0.4, 0.15, 0.3, 0.05]], dtype=torch.float64)
    torch.testing.assert_close(probabilities(p.log()), p)
    torch.testing.assert_close(probabilities(p.log(), top_k=9, top_p=1.0), p)  # these remove nothing
    torch.testing.assert_close(probabilities(p.log(), temperature=0.5), p**2 / (p**2).sum())
    torch.testing.assert_close(
        probabilities(p.log(), top_k=2), torch.tensor([[0, 4 / 7, 0, 3 / 7, 0]], dtype=torch.float64)
    )
    nucleus = torch.tensor([[0, 0.4, 0.15, 0.3, 0]], dtype=torch.float64) / 0.85
    torch.testing.assert_close(probabilities(p.log(), top_p=0.75), nucleus)
    torch.testing.assert_close(probabilities(p.log(), top_p=0.84), nucleus)
    torch.testing.assert_close(probabilities(p.log(), top_p=0.3), torch.eye(5, dtype=torch.float64)[[1]])
    # the nucleus comes after top_k: 4/7 is at least one half
    torch.testing.assert_close(probabilities(p.log(), top_k=2, top_p=0.5), torch.eye(5, dtype=torch.float64)[[1]])
    assert int((probabilities(torch.zeros(1, 5), top_k=2) > 0).sum()) == 2  # ties do not add tokens


def test_the_nucleus_is_the_smallest_set_with_enough_probability() -> None:
    logits = torch.randn(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    p = logits.softmax(1)
    for top_p in (0.2, 0.5, 0.9, 1.0):
        for row, is_kept in zip(p, probabilities(logits, top_p=top_p) > 0, strict=True):
            assert row[is_kept].sum() >= top_p - 1e-9
            assert row[is_kept].sum() - row[is_kept].min() < top_p
            assert is_kept.all() or row[is_kept].min() >= row[~is_kept].max()


def test_each_time_step_is_one_call() -> None:
    model = ToyLanguageModel(9, seed=2)
    state, start = random_states(4)
    sample(model, state, start, end=None, max_length=6, samples=2, generator=torch.Generator())
    assert model.rows == [8] * 6


def test_invalid_arguments_are_refused() -> None:
    state, start = random_states(2)
    model, generator = ToyLanguageModel(5), torch.Generator()
    with pytest.raises(ValueError, match=r"end=-1 is not in the vocabulary: tokens are 0\.\.4."):
        sample(model, state, start, end=-1, max_length=3, generator=generator)
    with pytest.raises(ValueError, match="samples=0: it must be at least 1. Give 1 or more."):
        sample(model, state, start, end=END, max_length=3, samples=0, generator=generator)
    with pytest.raises(ValueError, match="temperature=0: it divides the logits, so it must be above 0. For the most"):
        sample(model, state, start, end=END, max_length=3, temperature=0, generator=generator)
    with pytest.raises(ValueError, match="top_k=0: at least 1 token must be left"):
        sample(model, state, start, end=END, max_length=3, top_k=0, generator=generator)
    for top_p in (0, 1.1):
        with pytest.raises(ValueError, match=f"top_p={top_p}: it must be a probability in"):
            sample(model, state, start, end=END, max_length=3, top_p=top_p, generator=generator)
