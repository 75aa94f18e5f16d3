"""The training loop.

In: a model, datasets, the training section, and where rows and messages go. Out: trained weights in the model, rows in
metrics.jsonl, and a state to resume from in the folder of the run. It knows nothing of configs, dataset files or what
the heads learn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config.training import TrainingSection
from pipeline.data.batch import Batch
from pipeline.data.dataset import RowDataset
from pipeline.evaluation.evaluate_dataset import Evaluation, evaluate_dataset
from pipeline.evaluation.monitor import monitor_of
from pipeline.models.model import Model
from pipeline.models.recurrent.core import Core
from pipeline.models.recurrent.gate_saturation import gate_saturation
from pipeline.training.adversarial import adversarial_heads, first_step, show, stop_reason
from pipeline.training.distributed import DistributedContext, seed_step
from pipeline.training.epoch_line import EpochLine
from pipeline.training.loader import count_steps, make_loader, make_sampler
from pipeline.training.optimizer import PlayerOptimizer
from pipeline.training.resume import (
    Progress,
    data_digest,
    load_state,
    save_state,
    trainable_weights,
    weights_to_save,
)
from pipeline.training.stop_signal import Interrupted, StopSignal
from pipeline.training.tracking import Tracker
from pipeline.training.train_step import train_step

ADVERSARIAL_PATIENCE = 20  # rows of the log
ASK_EVERY = 10  # steps after which several processes ask each other for signals


@dataclass(frozen=True)
class Session:
    """What stays the same during a training.

    tracker: gets the rows, and names the folder of the run. log: gets messages for the user. content: a digest of the
    files of the training rows, and of what the first weights were trained on; a run continues only with the same.
    """

    model: Model
    settings: TrainingSection
    context: DistributedContext
    tracker: Tracker
    log: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    content: str = ""


def fit(session: Session, train: RowDataset, validation: RowDataset | None, workers: int) -> Progress:
    """Train the model. At the end it has the weights of the epoch with the best validation score.

    Without validation rows it has those of the last epoch. workers: processes that read rows; 0: none. Raises
    Interrupted after SIGINT, SIGTERM or SIGUSR1 on any rank, with the state saved. Raises ValueError where there are no
    training rows, or the saved state does not fit.
    """
    model, settings, context = session.model, session.settings, session.context
    _check_rows(train)
    sampler = make_sampler(train, settings, context)
    optimizers = _optimizers(model, settings, count_steps(sampler, settings.epochs))
    progress = load_state(session.tracker.folder, model, optimizers, data_digest(train, session.content), context)
    players = {player: _player_module(model, player, context) for player in optimizers}
    context.broadcast_buffers(model)
    load_epoch = make_loader(train, sampler, workers, is_pinned=context.device.type == "cuda")
    first = progress.epoch + progress.batch / max(1, len(sampler))
    if validation is not None and progress.step == 0:
        _check_monitor(session, validation)
    with StopSignal() as stop:
        while progress.epoch < settings.epochs and not progress.is_finished:
            sampler.epoch, sampler.skip = progress.epoch, progress.batch
            for batch in load_epoch():
                batch = batch.to(context.device)
                if not model.training:  # train() visits all modules of the CNN: 1/5 of a step where the CNN is frozen
                    model.train()
                seed_step(settings.seed, progress.step, context.rank)
                rates = train_step(model, players, optimizers, batch, progress, settings=settings, context=context)
                if progress.step % settings.log_every == 0 or progress.batch == len(sampler):
                    for optimizer in optimizers.values():
                        optimizer.check()
                if progress.step % settings.log_every == 0:
                    _check_adversarial(session, progress, _log_means(session, progress, rates))
                if progress.step % settings.sample_every == 0 and context.is_first:
                    show(model, batch, session.tracker, progress.step)
                if progress.batch == len(sampler):
                    _log_gates(session, progress, batch)
                    _end_epoch(session, progress, validation, first)
                is_over = progress.is_finished or progress.epoch == settings.epochs
                if is_over and context.world_size > 1:
                    context.broadcast_buffers(model)
                    context.check_equal(trainable_weights(model).values(), progress.step)
                    session.log(f"{context.world_size} processes ended with equal weights")
                # all ranks stop at one step, also after a signal to one; to ask the others is a wait for all devices
                is_asked = is_over or context.world_size == 1 or progress.step % ASK_EVERY == 0
                signal_number = context.max(stop.number or 0) if is_asked else 0
                if is_over or signal_number or progress.step % settings.save_every == 0:
                    session.tracker.sync()
                    save_state(session.tracker.folder, model, optimizers, progress, context)
                if signal_number:
                    raise Interrupted(signal_number)
                if progress.is_finished:
                    break
    if progress.best_weights is not None:
        model.load_state_dict(progress.best_weights, strict=False)
    return progress


def _check_rows(train: RowDataset) -> None:
    if not len(train):
        raise ValueError(
            "No row is left to train on. Training needs at least one row. Check data.split, the splits of the "
            "manifest, and the videos that could not be read."
        )


def _check_monitor(session: Session, validation: RowDataset) -> None:
    """Name the metric that chooses the best epoch, and raise ValueError before the training where there is no such
    metric.

    It measures the new model once. A critic's generator has nothing to measure before its training.
    """
    model, setting = session.model, session.settings.monitor
    monitor = monitor_of({name: model.head(name) for name in model.heads}, setting)
    if setting is not None and not adversarial_heads(model):
        monitor.score(_evaluate(session, validation).metrics())
    if setting is not None or len(model.heads) > 1:
        session.log(f"the best epoch is chosen by {monitor}")


def _optimizers(model: Model, settings: TrainingSection, total_steps: int) -> dict[str, PlayerOptimizer]:
    """One optimizer for each player. Where the adversarial training begins later, all schedules restart there."""
    restart_step = first_step(model, total_steps)
    return {
        player: PlayerOptimizer(
            model,
            parameters,
            lr=settings.lr * (1.0 if player == "model" else settings.critic_lr_factor),
            backbone_lr_factor=settings.backbone_lr_factor,
            weight_decay=settings.weight_decay,
            warmup=settings.warmup,
            grad_clip=settings.grad_clip,
            betas=settings.betas,
            total_steps=total_steps,
            restart_step=restart_step,
        )
        for player, parameters in model.players().items()
    }


def _player_module(model: Model, player: str, context: DistributedContext) -> nn.Module:
    """The model, wrapped by DDP so that only the gradients of this player are averaged over the processes."""
    if context.world_size == 1:
        return model
    players = model.players()
    others = [p for name, parameters in players.items() if name != player for p in parameters]
    for p in others:
        p.requires_grad_(False)
    devices = [context.device.index] if context.device.type == "cuda" else None
    wrapped = DistributedDataParallel(
        model,
        device_ids=devices,
        find_unused_parameters=len(players) > 1,
        broadcast_buffers=False,  # a bank of sequences is large, and only evaluation reads it: see `broadcast_buffers`
    )
    for p in others:
        p.requires_grad_(True)
    return wrapped


def _log_means(session: Session, progress: Progress, rates: Mapping[str, float]) -> dict[str, float]:
    """Log a row with the means over the steps since the last row and over the ranks. Returns the means."""
    means = {name: value / progress.count for name, value in session.context.mean(progress.read_sums()).items()}
    progress.sums, progress.count, progress.recent_loss = {}, 0, means["loss"]
    _log_row(session, progress, "train", {**means, **rates})
    return means


def _log_row(session: Session, progress: Progress, split: str, numbers: Mapping[str, float]) -> None:
    seconds = round(time.monotonic() - session.started, 3)
    place = {"step": progress.step, "epoch": progress.epoch, "split": split}
    session.tracker.log({**place, **numbers, "time/seconds": seconds})


def _check_adversarial(session: Session, progress: Progress, means: Mapping[str, float]) -> None:
    """End an adversarial training that has failed: one of generator and critic gives the other no gradient any more."""
    if reason := stop_reason(session.model, means):
        progress.failed_rows += 1
        if progress.failed_rows == ADVERSARIAL_PATIENCE:
            progress.is_finished = True
            rows = f"{progress.failed_rows} log rows in a row"
            session.log(f"stopped at step {progress.step}, because {rows} say: {reason}")
    else:
        progress.failed_rows = 0


@torch.no_grad()
def _log_gates(session: Session, progress: Progress, batch: Batch) -> None:
    """Log a row with the share of saturated gates in the last batch of the epoch, of rank 0."""
    model = session.model
    if isinstance(model.core, Core) and session.context.is_first:
        model.eval()
        shares = gate_saturation(model.core, model.encoder(batch.raw))  # type: ignore[operator]
        numbers = {f"gate_saturation/{name}": share for name, share in shares.items()}
        session.tracker.log({"step": progress.step, "epoch": progress.epoch, "split": "gates", **numbers})


def _end_epoch(session: Session, progress: Progress, validation: RowDataset | None, first: float) -> None:
    """Evaluate on the validation rows, keep the weights of the best epoch, log a line, and count the epoch.

    first: the epoch that this process began with, as a fraction.
    """
    settings = session.settings
    notes = "" if validation is None else _validate(session, progress, validation)
    if progress.best_epoch == progress.epoch:
        notes += "   best so far"
    loss = progress.read_sums()["loss"] / progress.count if progress.count else progress.recent_loss
    session.log(
        EpochLine.of(
            progress.epoch + 1,
            settings.epochs,
            loss=loss,
            seconds=time.monotonic() - session.started,
            first=first,
            notes=notes,
            is_last=progress.is_finished,
        )
    )
    if validation is not None and progress.is_finished:
        session.log(f"stopped: no better validation score for {settings.patience} epochs")
    progress.epoch, progress.batch, progress.core_state = progress.epoch + 1, 0, None


def _validate(session: Session, progress: Progress, validation: RowDataset) -> str:
    """Evaluate on the validation rows and log the row. Returns the scores as a text."""
    model, settings, context = session.model, session.settings, session.context
    context.broadcast_buffers(model)
    evaluation = _evaluate(session, validation)
    metrics = evaluation.metrics()
    monitor = monitor_of(evaluation.heads, settings.monitor)
    score = (context.broadcast(monitor.score(metrics)), context.broadcast(-evaluation.loss))
    is_unknown = score[0] == -float("inf")  # then the loss decides, but adversarial losses are not comparable
    if score > progress.best_score or (is_unknown and adversarial_heads(model)):
        progress.best_score, progress.best_epoch = score, progress.epoch
        progress.best_weights = {name: p.detach().cpu().clone() for name, p in weights_to_save(model).items()}
    elif settings.patience is not None and progress.epoch - progress.best_epoch >= settings.patience:
        progress.is_finished = True
    _log_row(session, progress, "val", {"loss": evaluation.loss, **_numbers(metrics)})
    scores = "".join(f"   {n} {h.monitor} {metrics[n][h.monitor]:.3f}" for n, h in evaluation.heads.items())
    return f"   validation:{scores}   loss {evaluation.loss:.3f}"


def _evaluate(session: Session, validation: RowDataset) -> Evaluation:
    """Evaluate on the validation rows, which the processes share."""
    batch_size, context = session.settings.batch_size, session.context
    return evaluate_dataset(session.model, validation, batch_size=batch_size, device=context.device, processes=context)


def _numbers(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The numbers of all heads. Where there are several heads, the name of the head stands before each key."""
    return {
        key if len(metrics) == 1 else f"{head}/{key}": float(value)
        for head, head_metrics in metrics.items()
        for key, value in head_metrics.items()
        if isinstance(value, int | float) and key != "count"
    }
