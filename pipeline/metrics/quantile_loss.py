"""The quantile loss of a forecast.

In: tensors of quantiles, true values and levels. Out: a tensor. It knows nothing of models.
"""

from __future__ import annotations

from torch import Tensor


def pinball(quantiles: Tensor, truth: Tensor, levels: Tensor) -> Tensor:
    """The quantile loss rho_q(y - f) = max(q (y - f), (q - 1) (y - f)) (Koenker & Bassett 1978).

    Its expected value is least at the true quantile. quantiles: (..., Q). truth: (...). levels: (Q,) in (0, 1).
    Returns (..., Q), in the unit of the true values.
    """
    error = truth[..., None] - quantiles
    return (levels * error).maximum((levels - 1.0) * error)
