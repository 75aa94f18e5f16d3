"""Gaussians against torch's own distributions."""

from __future__ import annotations

import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from pipeline.models.gan.gaussian import diagonal_nll, low_rank_nll, sample_posterior


def test_the_kl_divergence_of_a_posterior_is_that_of_torch() -> None:
    parameters = torch.randn(3, 5, 8)
    mean, log_variance = parameters.chunk(2, dim=-1)
    wanted = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)
    codes, found = sample_posterior(parameters)
    assert torch.allclose(found, wanted, atol=1e-4) and codes.shape == mean.shape
    assert torch.equal(sample_posterior(parameters, is_sampled=False)[0], mean)


def test_negative_log_likelihoods_are_those_of_torch() -> None:
    torch.manual_seed(0)
    x, mean, log_deviation = torch.randn(3, 4, 5), torch.randn(3, 4, 5), 0.3 * torch.randn(3, 4, 5)
    deviation = log_deviation.exp()
    assert torch.allclose(diagonal_nll(x - mean, log_deviation), -Normal(mean, deviation).log_prob(x), atol=1e-5)
    factor = torch.randn(3, 4, 5, 2)
    full = MultivariateNormal(mean, factor @ factor.mT + torch.diag_embed(deviation.square()))
    assert torch.allclose(low_rank_nll(x, mean, factor, deviation), -full.log_prob(x), rtol=1e-4, atol=1e-4)
