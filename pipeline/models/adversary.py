"""What the two players of a GAN pay.

In: scores of real and made sequences (B,). Out: a scalar each. Knows nothing of networks.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Game = Literal["hinge", "relativistic"]


def critic_loss(game: Game, real: Tensor, made: Tensor) -> Tensor:
    """hinge: E max(0, 1 - real) + E max(0, 1 + made) (Lim & Ye 2017, arXiv 1705.02894). relativistic: E softplus(made - real), each
    made one against a real one (Jolicoeur-Martineau 2019; R3GAN, Huang et al. 2024, arXiv 2501.05441).
    """
    if game == "hinge":
        return F.relu(1.0 - real).mean() + F.relu(1.0 + made).mean()
    return F.softplus(made - real).mean()


def generator_loss(game: Game, real: Tensor, made: Tensor) -> Tensor:
    """hinge: - E made. relativistic: E softplus(real - made)."""
    return -made.mean() if game == "hinge" else F.softplus(real - made).mean()


def penalty(scores: Tensor, x: Tensor) -> Tensor:
    """Half the mean squared norm of the scores' gradient by the sequences they are of: R1 where these are real (Mescheder et al. 2018),
    R2 where they are made. x: (B, ...), needs a gradient.
    """
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return 0.5 * slope.square().flatten(1).sum(1).mean()
