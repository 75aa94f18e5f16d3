"""What the two players of a GAN pay, and how each is kept out of the other's turn.

In: scores of real and made sequences (B,). Out: a scalar each. Knows nothing of what is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
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


def follow(averaging: float) -> Callable[..., None]:
    """The average moves by 1 - averaging of the way, and by 9 / (10 + n) after n steps where that is more."""

    @torch.no_grad()
    def move(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        kept = min(averaging, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(list(averages), list(weights), 1.0 - kept)

    return move


@contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """Within it the module's weights are constants: gradients pass through and stay nowhere."""
    moving = [p for p in module.parameters() if p.requires_grad]
    for p in moving:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in moving:
            p.requires_grad_(True)


@contextmanager
def without_fused_kernels(is_needed: bool) -> Iterator[None]:
    """Gradients of gradients do not pass through fused recurrent kernels."""
    if not is_needed:
        yield
        return
    with torch.backends.cudnn.flags(enabled=False), torch.backends.mkldnn.flags(enabled=False):
        yield
