"""GAN losses: hinge and relativistic, with R1 and R2 gradient penalties; and when a training has failed.

In: the critic's scores of real and generated sequences (B,). Out: scalars. Knows nothing of what the sequences are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.choices import GanLoss

CRITIC_LOSS_RANGE: dict[GanLoss, tuple[float, float]] = {"hinge": (0.02, 4.0), "relativistic": (0.005, 3.0)}
"""Below the first number the critic is never wrong and the generator learns nothing; above the second it is worse than
chance.
"""


class CriticInput(NamedTuple):
    """What a critic scores: sequences (B, T, D) of features, tokens or codes, and images (B, 3, S, S) or None."""

    sequences: Tensor
    images: Tensor | None


def critic_loss(gan_loss: GanLoss, real: Tensor, generated: Tensor) -> Tensor:
    """The critic's loss from scores (B,) of both kinds.

    hinge: E max(0, 1 - real) + E max(0, 1 + generated) (Lim & Ye 2017, arXiv 1705.02894). relativistic: E
    softplus(generated - real), each generated sample against a real one (Jolicoeur-Martineau 2019; R3GAN, Huang et al.
    2024, arXiv 2501.05441).
    """
    if gan_loss == "hinge":
        return F.relu(1.0 - real).mean() + F.relu(1.0 + generated).mean()
    return F.softplus(generated - real).mean()


def generator_loss(gan_loss: GanLoss, real: Tensor, generated: Tensor) -> Tensor:
    """The generator's loss from scores (B,) of both kinds. hinge: - E generated. relativistic: E softplus(real -
    generated).
    """
    return -generated.mean() if gan_loss == "hinge" else F.softplus(real - generated).mean()


def weighted_sum(losses: Sequence[Tensor], image_weight: float) -> Tensor:
    """The loss of the sequences plus `image_weight` times that of the images, where there is one."""
    return losses[0] if len(losses) == 1 else losses[0] + image_weight * losses[1]


def gradient_penalty(scores: Tensor, x: Tensor) -> Tensor:
    """Half the mean squared norm of the gradient of scores (B,) by their sequences x (B, ...), which need a gradient.

    For real sequences it is R1 (Mescheder et al. 2018), for generated ones R2.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Within it the modules' weights are constants: gradients pass through, and no weight gets one."""
    trainable = [p for module in modules for p in module.parameters() if p.requires_grad]
    for p in trainable:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trainable:
            p.requires_grad_(True)


@contextmanager
def without_fused_kernels(is_needed: bool) -> Iterator[None]:
    """Within it recurrent cores use no fused kernels, which have no gradients of gradients."""
    if not is_needed:
        yield
        return
    with torch.backends.cudnn.flags(enabled=False), torch.backends.mkldnn.flags(enabled=False):
        yield


def critic_terms(
    name: str,
    gan_loss: GanLoss,
    score: Callable[[CriticInput], list[Tensor]],
    real: CriticInput,
    generated: CriticInput,
    *,
    penalty_weight: float,
    penalty_share: float,
    draw: float,
    is_training: bool,
    is_recurrent: bool,
) -> dict[str, Tensor]:
    """The critic's loss terms of the head `name`.

    Its loss; and on a share `penalty_share` of the training steps R1 and R2 of the sequences, times penalty_weight /
    penalty_share. draw: a random number in [0, 1) of the step, the same in all processes; below penalty_share the step
    has R1 and R2. score: gives the critic's scores (B,) of sequences and, where there are any, of images. is_recurrent:
    the critic has a core.
    """
    has_penalty = is_training and penalty_weight > 0 and draw < penalty_share
    real, generated = (
        side._replace(sequences=side.sequences.detach().requires_grad_(has_penalty)) for side in (real, generated)
    )
    with without_fused_kernels(has_penalty and is_recurrent):
        scores = score(real), score(generated)
        losses = [critic_loss(gan_loss, r, g) for r, g in zip(*scores, strict=True)]
        terms = {f"{name}_critic": weighted_sum(losses, 1.0)}
        if has_penalty:
            r1 = gradient_penalty(scores[0][0], real.sequences)
            r2 = gradient_penalty(scores[1][0], generated.sequences)
            terms[f"{name}_gradient_penalty"] = penalty_weight / penalty_share * torch.stack([r1, r2]).sum()
        elif penalty_weight and is_training:
            terms[f"{name}_gradient_penalty"] = scores[0][0].new_zeros(())
    return terms


def stop_reason(name: str, gan_loss: GanLoss, loss: float) -> str:
    """Why a training with this mean loss of the critic of the head `name` should stop; empty where it should go on."""
    least, most = CRITIC_LOSS_RANGE[gan_loss]
    if loss < least:
        return (
            f"the critic of '{name}' has won: its loss is {loss:.4f}, below {least:g}, so the generator learns nothing "
            "from it. Lower training.critic_lr_factor, or raise the head's diff_augment"
        )
    if loss > most:
        return (
            f"the critic of '{name}' has lost: its loss is {loss:.2f}, above {most:g}, which is worse than chance. "
            "Lower training.lr, or raise training.critic_lr_factor"
        )
    return ""
