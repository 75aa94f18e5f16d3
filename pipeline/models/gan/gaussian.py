"""Gaussians that networks predict: samples, negative log-likelihoods and KL divergences.

In: means, deviations and values. Out: samples, or nats. Knows nothing of the networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_DEVIATION_RANGE = (-4.0, 2.0)
"""The log deviation of a predicted step is clamped to this range."""

LOG_VARIANCE_RANGE = (-8.0, 4.0)
"""The log variance of an encoded code is clamped to this range."""


def sample_posterior(parameters: Tensor, is_sampled: bool = True) -> tuple[Tensor, Tensor]:
    """Means and log variances (..., 2 K) -> codes (..., K) and their KL divergence from the standard normal (...), in
    nats.

    A sample lets the gradient pass (reparameterisation, Kingma & Welling 2014, arXiv 1312.6114). is_sampled: false
    returns the means.
    """
    mean, log_variance = parameters.chunk(2, dim=-1)
    log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE)
    kl_divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)
    codes = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean) if is_sampled else mean
    return codes, kl_divergence


def diagonal_nll(error: Tensor, log_deviation: Tensor) -> Tensor:
    """The negative log-likelihood of each number of (..., K), in nats. error: value minus mean. log_deviation: of the
    same shape.
    """
    standardised = error * torch.exp(-log_deviation)
    return 0.5 * standardised.square() + log_deviation + 0.5 * math.log(2.0 * math.pi)


def low_rank_nll(x: Tensor, mean: Tensor, factor: Tensor, deviation: Tensor) -> Tensor:
    """The negative log-likelihood (...) of x (..., K), in nats, under the Gaussian of covariance F F' + diag(d^2).

    By Woodbury's identity. `torch.distributions.LowRankMultivariateNormal` gives the same number, but it divides the
    factor three times, which took a fifth of a training step.
    mean: (..., K). factor: F (..., K, R). deviation: d (..., K).
    """
    inverse = deviation.reciprocal()
    z, w = (x - mean) * inverse, factor * inverse[..., None]
    cholesky = torch.linalg.cholesky(w.mT @ w + torch.eye(w.shape[-1], device=w.device))
    shared = torch.linalg.solve_triangular(cholesky, w.mT @ z[..., None], upper=False)[..., 0]
    log_volume = deviation.log().sum(-1) + cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (z.square().sum(-1) - shared.square().sum(-1) + x.shape[-1] * math.log(2 * math.pi)) + log_volume
