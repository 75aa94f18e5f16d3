"""What the two players of a GAN pay, and how each is kept out of the other's turn.

In: scores of real and made sequences (B,). Out: a scalar each. Knows nothing of what is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Game = Literal["hinge", "relativistic"]

WON: dict[Game, tuple[float, float]] = {"hinge": (0.02, 4.0), "relativistic": (0.005, 3.0)}
"""Below the first the critic is never wrong and teaches nothing; above the second it is worse than a coin."""


class Side(NamedTuple):
    """What a critic judges: sequences (B, T, D) of features, words or codes, and pictures (B, 3, S, S) or none."""

    sequences: Tensor
    pictures: Tensor | None


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


def weighed(paid: Sequence[Tensor], pictures: float) -> Tensor:
    """The sequences' part, and so much of the pictures'."""
    return paid[0] if len(paid) == 1 else paid[0] + pictures * paid[1]


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


def critics_turn(
    name: str,
    game: Game,
    say: Callable[[Side], list[Tensor]],
    sides: tuple[Side, Side],
    *,
    gamma: float,
    share: float,
    is_training: bool,
    is_recurrent: bool,
) -> dict[str, Tensor]:
    """What the critic of the head `name` pays for real and made ones: its loss, and on a part `share` of the steps gamma times R1 and R2 of
    the sequences. say: its scores (B,) of a side's sequences and, where there are any, pictures. is_recurrent: it has a core.
    """
    is_punished = is_training and gamma > 0 and bool(torch.rand(()) < share)
    real, made = (s._replace(sequences=s.sequences.detach().requires_grad_(is_punished)) for s in sides)
    with without_fused_kernels(is_punished and is_recurrent):
        said = say(real), say(made)
        terms = {f"{name}_critic": weighed([critic_loss(game, r, m) for r, m in zip(*said, strict=True)], 1.0)}
        if is_punished:
            slopes = penalty(said[0][0], real.sequences), penalty(said[1][0], made.sequences)
            terms[f"{name}_penalty"] = gamma / share * torch.stack(slopes).sum()
        elif gamma and is_training:
            terms[f"{name}_penalty"] = said[0][0].new_zeros(())
    return terms


def verdict(name: str, game: Game, paid: float) -> str:
    """Why to go on makes no sense where the critic of the head `name` pays so much in the mean; empty while both are in the game."""
    least, most = WON[game]
    if paid < least:
        return (
            f"the critic of '{name}' has won: its loss is {paid:.4f}, below {least:g}, so it teaches nothing any more. Lower "
            "training.opponent_lr, or raise the head's disguise"
        )
    if paid > most:
        return (
            f"the critic of '{name}' has lost: its loss is {paid:.2f}, above {most:g}, worse than a coin's. Lower training.lr, or "
            "raise training.opponent_lr"
        )
    return ""
