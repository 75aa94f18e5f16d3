"""The optimizer of one player: AdamW with warm-up, a cosine schedule and gradient clipping.

In: the parameters of a player and the numbers of the training section. Out: a `PlayerOptimizer`. The learning rate is a
pure function of the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def schedule(step: int, total_steps: int, warmup: float, restart_step: int = 0) -> float:
    """The factor on the learning rate at a step in [0, total_steps).

    It rises linearly over the share `warmup` of the steps, then falls to zero with a cosine. With a restart_step above
    0 there are two such cycles, one before and one from that step on (warm restart, Loshchilov & Hutter 2017, arXiv
    1608.03983).
    """
    if step < restart_step:
        total_steps = restart_step
    else:
        step, total_steps = step - restart_step, total_steps - restart_step
    warmup_steps = max(1, round(total_steps * warmup))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps)))


class PlayerOptimizer:
    """AdamW over the parameters of one player.

    Weights decay; biases and norms, which have one dimension, do not. The weights of the CNN get the learning rate
    times backbone_lr_factor. From the first loss or gradient on that is not finite, no weight changes any more. `check`
    says so: it reads from the device, and `step` does not.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        backbone_lr_factor: float,
        weight_decay: float,
        warmup: float,
        grad_clip: float,
        total_steps: int,
        betas: tuple[float, float] = (0.9, 0.999),
        restart_step: int = 0,
    ) -> None:
        self.parameters = list(parameters)
        player_ids = {id(p) for p in self.parameters}
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for name, p in model.named_parameters():
            if id(p) in player_ids:
                decay = weight_decay if p.ndim > 1 else 0.0
                groups.setdefault((".backbone." in f".{name}", decay), []).append(p)
        rates = {True: lr * backbone_lr_factor, False: lr}
        self.optimizer = torch.optim.AdamW(
            [
                {"params": group, "lr": rates[is_backbone], "base_lr": rates[is_backbone], "weight_decay": decay}
                for (is_backbone, decay), group in groups.items()
            ],
            betas=betas,
            fused=True,
        )
        self._prefixes = ["backbone_" if is_backbone else "" for is_backbone, _ in groups]
        self._backbone = [p for (is_backbone, _), group in groups.items() if is_backbone for p in group]
        self.warmup, self.grad_clip = warmup, grad_clip
        self.total_steps, self.restart_step = total_steps, restart_step
        self._failure: Tensor | None = None  # of the first step: whether it has failed, its number, loss and norm

    def step(self, loss: Tensor, step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Update the parameters once, by the gradient of `loss`.

        Returns norms and rates: grad_norm, the norm of the gradient before clipping, and lr; where the CNN learns also
        its own, backbone_grad_norm and backbone_lr.
        """
        factor = schedule(step, self.total_steps, self.warmup, self.restart_step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for p in self._backbone if p.grad is not None]
        norms = {"backbone_grad_norm": nn.utils.get_total_norm(gradients)} if gradients else {}
        norm = nn.utils.clip_grad_norm_(self.parameters, self.grad_clip).to(loss.device)
        self._note_failure(loss.detach(), norm, step)
        self.optimizer.step()
        groups = zip(self._prefixes, self.optimizer.param_groups, strict=True)
        return {"grad_norm": norm, **norms}, {f"{prefix}lr": group["lr"] for prefix, group in groups}

    def _note_failure(self, loss: Tensor, norm: Tensor, step: int) -> None:
        """Keep the first step whose loss or norm is not finite. AdamW changes no weight where `found_inf` is 1, as for
        the gradient scaler of torch.
        """
        is_finite = (loss + norm).isfinite()
        now = torch.stack([(~is_finite).double(), torch.full_like(loss, step, dtype=torch.float64), loss, norm])
        self._failure = now if self._failure is None else torch.where(self._failure[0] > 0, self._failure, now)
        self.optimizer.found_inf = self._failure[0].float()  # type: ignore[attr-defined]

    def check(self) -> None:
        """Raise FloatingPointError where the loss or the gradient of a step was not finite, with that step."""
        if self._failure is None:
            return
        has_failed, step, loss, norm = self._failure.tolist()
        if has_failed:
            is_loss = not math.isfinite(loss)
            name, value = ("loss", loss) if is_loss else ("norm of the gradient", norm)
            raise FloatingPointError(_not_finite(name, value, int(step)))

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        self.optimizer.load_state_dict(state)


def _not_finite(name: str, value: float, step: int) -> str:
    return (
        f"The {name} is {value} at step {step}. It must be a finite number. Lower training.lr or training.grad_clip, "
        "or look for values in the data that are not finite."
    )
