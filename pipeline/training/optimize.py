"""How a player's weights move: AdamW, warm-up and cosine, clipping.

In: a player's parameters and the section's numbers. Out: a `Mover`. The learning rate is a pure function of the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def schedule(step: int, total: int, warmup: float, anew: int = 0) -> float:
    """The factor on lr at a step in [0, total): linear up over `warmup` of the steps, then a cosine to zero; both once before the
    step `anew` and once from there on (warm restart, Loshchilov & Hutter 2017, arXiv 1608.03983).
    """
    step, total = (step, anew) if step < anew else (step - anew, total - anew)
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


class Mover:
    """AdamW over one player. Weights decay, biases and norms do not; the CNN's own move at `backbone_lr` of lr."""

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        backbone_lr: float,
        weight_decay: float,
        warmup: float,
        clip: float,
        total_steps: int,
        betas: tuple[float, float] = (0.9, 0.999),
        anew: int = 0,
    ) -> None:
        self.parameters = list(parameters)
        mine = {id(p) for p in self.parameters}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, p in model.named_parameters():
            if id(p) in mine:
                factor = backbone_lr if ".backbone." in f".{name}" else 1.0
                groups.setdefault((factor, weight_decay if p.ndim > 1 else 0.0), []).append(p)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": ps, "lr": lr * factor, "base_lr": lr * factor, "weight_decay": decay}
                for (factor, decay), ps in groups.items()
            ],
            betas=betas,
            fused=True,
        )
        self.warmup, self.clip, self.total_steps, self.anew = warmup, clip, total_steps, anew

    def move(self, loss: Tensor, step: int) -> dict[str, float]:
        """One step down the gradient of `loss`. Returns the gradient's norm before clipping and the lr. Raises
        FloatingPointError, before any weight moved, for a loss or gradient that is not finite.
        """
        if not torch.isfinite(loss):
            raise FloatingPointError(_not_finite("loss", float(loss.detach()), step))
        factor = schedule(step, self.total_steps, self.warmup, self.anew)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip))
        if not math.isfinite(norm):
            raise FloatingPointError(_not_finite("gradient's norm", norm, step))
        self.optimizer.step()
        return {"grad_norm": norm, "lr": self.optimizer.param_groups[0]["lr"]}

    def state_dict(self) -> dict[str, Any]:
        """For a resume."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.optimizer.load_state_dict(state)


def _not_finite(what: str, value: float, step: int) -> str:
    return (
        f"The {what} is {value} at step {step}. It would be a finite number. Lower training.lr or training.clip, or look "
        "for values in the data that are not finite."
    )
