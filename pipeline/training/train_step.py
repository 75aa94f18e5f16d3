"""One step of a training: every player is updated once.

In: the players of a model, their optimizers and a batch on the device. Out: new weights, and sums for the log. Nothing
is read from the device, so the CPU prepares the next step while the device still works. Knows nothing of epochs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from pipeline.config.training import TrainingSection
from pipeline.data.batch import Batch
from pipeline.models.model import Model
from pipeline.training.adversarial import adversarial_heads
from pipeline.training.distributed import DistributedContext, draw_of_step
from pipeline.training.optimizer import PlayerOptimizer
from pipeline.training.resume import Progress


def train_step(
    model: Model,
    players: Mapping[str, nn.Module],
    optimizers: Mapping[str, PlayerOptimizer],
    batch: Batch,
    progress: Progress,
    *,
    settings: TrainingSection,
    context: DistributedContext,
) -> dict[str, float]:
    """Update every player once. Adds losses and norms to the sums and counts the step; returns the learning rates.

    players: the model as it is, or wrapped by DDP for each player.
    """
    rates: dict[str, float] = {}
    next_state = progress.core_state
    heads = adversarial_heads(model)
    for head in heads.values():
        head.is_adversarial = not head.pretrain_share or progress.step >= optimizers["model"].restart_step
        head.draw_of_step = draw_of_step(settings.seed, progress.step)
    for player, module in players.items():
        if player in heads and not heads[player].is_adversarial:
            continue
        with torch.autocast(context.device.type, torch.bfloat16, enabled=_is_bf16(settings, context)):
            terms, state = module(batch, player, progress.core_state)
            loss = torch.stack(list(terms.values())).sum()
        norms, new_rates = optimizers[player].step(loss, progress.step)
        rates |= {_player_key(player, name): rate for name, rate in new_rates.items()}
        losses = {f"loss/{name}": value for name, value in terms.items()}
        norms = {_player_key(player, name): norm for name, norm in norms.items()}
        for name, value in {_player_key(player, "loss"): loss, **losses, **norms}.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value.detach().double()
        if settings.tbptt and player == "model":
            next_state = tuple(s.detach() for s in state)
    if settings.tbptt:
        progress.core_state = next_state
    progress.step, progress.batch, progress.count = progress.step + 1, progress.batch + 1, progress.count + 1
    return rates


def _player_key(player: str, name: str) -> str:
    """The key of a number of one player in metrics.jsonl: "lr" of the model, "critic_lr/clip" of the critic of `clip`.

    Numbers of two players are never added up.
    """
    return name if player == "model" else f"critic_{name}/{player}"


def _is_bf16(settings: TrainingSection, context: DistributedContext) -> bool:
    is_supported = context.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return is_supported if settings.precision == "auto" else settings.precision == "bf16"
