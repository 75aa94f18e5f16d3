"""How good a forecast of quantiles is.

In: tensors. Out: tensors and plain numbers. Knows nothing of models.
"""

from __future__ import annotations

from torch import Tensor


def pinball(quantiles: Tensor, truth: Tensor, levels: Tensor) -> Tensor:
    """The quantile loss rho_q(y - f) = max(q (y - f), (q - 1) (y - f)) (Koenker & Bassett 1978); least, in the mean, at
    the true quantile.

    quantiles: (..., Q). truth: (...). levels: (Q,) in (0, 1). Returns (..., Q), in the unit of the truth.
    """
    miss = truth[..., None] - quantiles
    return (levels * miss).maximum((levels - 1.0) * miss)
