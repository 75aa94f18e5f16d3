"""The training loop, whole.

In: a model, datasets, a plan. Out: trained weights in the model, rows in the track, a state to resume from on the disk.
Knows nothing of configs, files of datasets or what the heads learn.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import EpochSampler, LaneSampler, Sampler
from pipeline.models.core import Core, State
from pipeline.models.head import Contest
from pipeline.models.model import Model
from pipeline.models.saturation import gate_saturation
from pipeline.training.contest import contests, first_step, show, verdict
from pipeline.training.evaluate import judge
from pipeline.training.optimize import Mover
from pipeline.training.runtime import Interrupted, Runtime, StopSignal, seed_step
from pipeline.training.track import Track

STATE = "resume.pt"
PATIENCE_WITH_WINNERS = 20  # rows of the log


@dataclass(frozen=True)
class Plan:
    """The numbers of a training; see the config's TrainingSection for what each means."""

    epochs: int
    batch_size: int
    lr: float
    backbone_lr: float
    weight_decay: float
    warmup: float
    clip: float
    precision: str
    patience: int | None
    save_every: int
    log_every: int
    seed: int
    workers: int = 0
    carry: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    opponent_lr: float = 1.0
    show_every: int = 200


@dataclass
class Progress:
    """Where a training stands; saved with the weights, so that a killed run goes on as if nothing had happened.

    best: (validation score, minus loss): the heads' own metrics first, the loss decides between equals. sums: of the terms since
    the last row, over `count` steps. lost: rows in a row that said that one of two players has won. rows: a digest of what it learns from. state: of the core, where it is carried from
    batch to batch.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best: tuple[float, float] = (-float("inf"), -float("inf"))
    best_epoch: int = -1
    best_weights: dict[str, Tensor] | None = None
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    rows: str = ""
    is_finished: bool = False
    lost: int = 0
    state: State | None = None


def fit(
    model: Model,
    train: RowDataset,
    validation: RowDataset | None,
    plan: Plan,
    runtime: Runtime,
    track: Track,
    folder: Path,
    say: Callable[[str], None],
) -> Progress:
    """Train, keep the best epoch by validation (or the last where there is none), leave its weights in the model.

    Raises Interrupted after SIGINT, SIGTERM or SIGUSR1 (on any rank), with the state saved. ValueError where there is
    nothing to learn from, or the saved state is of other data.
    """
    if not len(train):
        raise ValueError(
            "No row is left to train on. At least one would be. Look at data.split, at the manifest's splits and at "
            "the videos that could not be read."
        )
    sampler = _sampler(train, plan, runtime)
    movers = _movers(model, plan, _count_steps(sampler, plan.epochs))
    now = _resume(folder, model, movers, _digest(train), runtime)
    modules = {player: _shared(model, player, runtime) for player in movers}
    loader = _loader(train, sampler, plan)
    started = time.monotonic()
    with StopSignal() as stop:
        while now.epoch < plan.epochs and not now.is_finished:
            sampler.epoch, sampler.skip = now.epoch, now.batch
            for batch in loader():
                if not model.training:  # it walks through the whole CNN: a fifth of a step where the CNN is frozen
                    model.train()
                seed_step(plan.seed, now.step, runtime.rank)
                lr = _move_all(modules, movers, contests(model), batch.to(runtime.device), plan, runtime, now)
                now.step, now.batch, now.count = now.step + 1, now.batch + 1, now.count + 1
                if now.step % plan.log_every == 0:
                    means = _log_means(track, runtime, now, lr, started)
                    _judge_contest(model, means, now, say)
                if now.step % plan.show_every == 0 and runtime.is_first:
                    show(model, batch.to(runtime.device), track, now.step)
                if now.batch == len(sampler):
                    _log_gates(model, batch, track, runtime, now)
                    _end_epoch(model, validation, plan, runtime, track, now, say, started)
                is_over = now.is_finished or now.epoch == plan.epochs
                if is_over and runtime.world > 1:
                    runtime.check_equal(_learned(model).values(), now.step)
                    say(f"{runtime.world} processes ended with equal weights")
                stopped_by = runtime.largest(stop.number or 0)  # ranks get a signal at different steps, and stop at one
                if is_over or stopped_by or now.step % plan.save_every == 0:
                    _save(folder, model, movers, now, runtime, track)
                if stopped_by:
                    raise Interrupted(stopped_by)
                if now.is_finished:
                    break
    if now.best_weights is not None:
        model.load_state_dict(now.best_weights, strict=False)
    return now


def _sampler(train: RowDataset, plan: Plan, runtime: Runtime) -> Sampler:
    if plan.carry:
        assert train.window, "the config asks for a window"
        return LaneSampler(train.full_lengths, train.window, plan.batch_size, plan.seed, runtime.rank, runtime.world)
    return EpochSampler(train.lengths, plan.batch_size, plan.seed, runtime.rank, runtime.world)


def _count_steps(sampler: Sampler, epochs: int) -> int:
    """Batches of all epochs: lanes of different rows need different numbers of them."""
    total = 0
    for sampler.epoch in range(epochs):
        total += len(sampler)
    return total


def _movers(model: Model, plan: Plan, total_steps: int) -> dict[str, Mover]:
    """One optimiser a player; where a game begins later than the training, all learn anew from there."""
    anew = first_step(model, total_steps)
    return {
        player: Mover(
            model,
            parameters,
            lr=plan.lr * (1.0 if player == "model" else plan.opponent_lr),
            backbone_lr=plan.backbone_lr,
            weight_decay=plan.weight_decay,
            warmup=plan.warmup,
            clip=plan.clip,
            betas=plan.betas,
            total_steps=total_steps,
            anew=anew,
        )
        for player, parameters in model.players().items()
    }


def _move_all(
    modules: dict[str, nn.Module],
    movers: dict[str, Mover],
    players: Mapping[str, Contest],
    batch: Batch,
    plan: Plan,
    runtime: Runtime,
    now: Progress,
) -> float:
    """One step of every player; adds its numbers to the sums and returns the learning rate."""
    lr, after = 0.0, now.state
    for head in players.values():
        head.is_playing = not head.alone or now.step >= movers["model"].anew
    for player, module in modules.items():
        if player in players and not players[player].is_playing:
            continue
        with torch.autocast(runtime.device.type, torch.bfloat16, enabled=_is_bf16(plan, runtime)):
            terms, state = module(batch, player, now.state)
            loss = torch.stack(list(terms.values())).sum()
        moved = movers[player].move(loss, now.step)
        parts = {f"loss/{name}": float(value.detach()) for name, value in terms.items()}
        _add(now.sums, {"loss": float(loss.detach()), **parts, "grad_norm": moved["grad_norm"]})
        lr = moved["lr"]
        if plan.carry and player == "model":
            after = tuple(s.detach() for s in state)
    if plan.carry:
        now.state = after
    return lr


def _log_means(track: Track, runtime: Runtime, now: Progress, lr: float, started: float) -> dict[str, float]:
    """A row of what the steps since the last one came to, the mean over ranks."""
    means = {name: value / now.count for name, value in runtime.mean(now.sums).items()}
    now.sums, now.count = {}, 0
    seconds = round(time.monotonic() - started, 3)
    track.log({"step": now.step, "epoch": now.epoch, "part": "train", **means, "lr": lr, "time/seconds": seconds})
    return means


def _judge_contest(model: Model, means: Mapping[str, float], now: Progress, say: Callable[[str], None]) -> None:
    """End a training in which one of two players has won for good: then the other one learns nothing any more."""
    if reason := verdict(model, means):
        now.lost += 1
        if now.lost == PATIENCE_WITH_WINNERS:
            now.is_finished = True
            say(f"stopped at step {now.step}, after {now.lost} rows like this: {reason}")
    else:
        now.lost = 0


@torch.no_grad()
def _log_gates(model: Model, batch: Batch, track: Track, runtime: Runtime, now: Progress) -> None:
    """A row of how many gates are stuck, over the epoch's last batch of this process."""
    if isinstance(model.core, Core) and runtime.is_first:
        model.eval()
        found = gate_saturation(model.core, model.encoder(batch.to(runtime.device).raw))  # type: ignore[operator]
        shares = {f"saturated/{name}": share for name, share in found.items()}
        track.log({"step": now.step, "epoch": now.epoch, "part": "gates", **shares})


def _end_epoch(
    model: Model,
    validation: RowDataset | None,
    plan: Plan,
    runtime: Runtime,
    track: Track,
    now: Progress,
    say: Callable[[str], None],
    started: float,
) -> None:
    text = f"epoch {now.epoch + 1:>3}/{plan.epochs}"
    if validation is not None:
        judged = judge(model, validation, batch_size=plan.batch_size, device=runtime.device)
        metrics = judged.metrics()
        reached = (runtime.agree(judged.score), runtime.agree(-judged.loss))
        if reached > now.best or (reached[0] == -float("inf") and contests(model)):  # losses of a game do not compare
            now.best, now.best_epoch = reached, now.epoch
            now.best_weights = {name: p.detach().cpu().clone() for name, p in _kept(model).items()}
        elif plan.patience is not None and now.epoch - now.best_epoch >= plan.patience:
            now.is_finished = True
        track.log(
            {
                "step": now.step,
                "epoch": now.epoch,
                "part": "val",
                "loss": judged.loss,
                **_by_name(metrics),
                "time/seconds": round(time.monotonic() - started, 3),
            }
        )
        watched = "".join(f"   {n} {head.watched} {metrics[n][head.watched]:.3f}" for n, head in judged.heads.items())
        text += f"   validation:{watched}   loss {judged.loss:.3f}"
        text += "   best so far" if now.best_epoch == now.epoch else ""
        text += f"\nstopped: no better validation score for {plan.patience} epochs" if now.is_finished else ""
    say(text)
    now.epoch, now.batch, now.state = now.epoch + 1, 0, None


def _by_name(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The numbers of every head, with its name before them where there are several."""
    return {
        key if len(metrics) == 1 else f"{head}/{key}": float(value)
        for head, found in metrics.items()
        for key, value in found.items()
        if isinstance(value, int | float) and key != "count"
    }


def _learned(model: nn.Module) -> dict[str, Tensor]:
    """What training moves; the rest is rebuilt from the recipe."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _kept(model: Model) -> dict[str, Tensor]:
    """What a resume needs: what training moves by gradients, and what heads move by themselves (averages, norms)."""
    heads = {name: value for name, value in model.state_dict().items() if name.startswith("heads.")}
    return _learned(model) | heads


def _shared(model: Model, player: str, runtime: Runtime) -> nn.Module:
    """The model as one player sees it: only that player's weights are averaged over the processes."""
    if runtime.world == 1:
        return model
    players = model.players()
    others = [p for name, parameters in players.items() if name != player for p in parameters]
    for p in others:
        p.requires_grad_(False)
    devices = [runtime.device.index] if runtime.device.type == "cuda" else None
    shared = DistributedDataParallel(model, device_ids=devices, find_unused_parameters=len(players) > 1)
    for p in others:
        p.requires_grad_(True)
    return shared


def _loader(train: RowDataset, sampler: Sampler, plan: Plan) -> Callable[[], Iterator[Batch]]:
    if plan.workers == 0:
        return lambda: (collate([train[key] for key in keys]) for keys in sampler)
    loader = DataLoader(
        train,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=plan.workers,  # type: ignore[arg-type]
        multiprocessing_context="spawn",
        persistent_workers=True,
        worker_init_fn=_leave_signals_to_main,
    )
    return lambda: iter(loader)


def _leave_signals_to_main(worker: int) -> None:
    """Ctrl-C and a scheduler's warning reach the whole process group; a worker that dies of one would end the run unsaved."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _is_bf16(plan: Plan, runtime: Runtime) -> bool:
    is_default = runtime.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return is_default if plan.precision == "auto" else plan.precision == "bf16"


def _add(sums: dict[str, float], values: dict[str, float]) -> None:
    for key, value in values.items():
        sums[key] = sums.get(key, 0.0) + value


def _save(folder: Path, model: Model, movers: dict[str, Mover], now: Progress, runtime: Runtime, track: Track) -> None:
    track.sync()
    now.sums = runtime.mean(
        now.sums
    )  # on every rank, so that the rest of the run does not depend on whether it is resumed
    states = None if now.state is None else runtime.gather(now.state)
    if runtime.is_first:
        state: dict[str, Any] = {
            "progress": {**vars(now), "state": states},
            "model": _kept(model),
            "movers": {player: mover.state_dict() for player, mover in movers.items()},
        }
        partial = folder / f".{STATE}.partial"
        torch.save(state, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, folder / STATE)
    runtime.wait()


def _resume(folder: Path, model: Model, movers: dict[str, Mover], rows: str, runtime: Runtime) -> Progress:
    if not (folder / STATE).is_file():
        return Progress(rows=rows)
    state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    shapes = [{name: tuple(p.shape) for name, p in weights.items()} for weights in (state["model"], _kept(model))]
    if state["progress"].get("rows") != rows or shapes[0] != shapes[1]:
        raise ValueError(
            f"'{folder / STATE}' was saved by a training on other rows or of other weights. To go on it needs the "
            "same ones. Bring the data back as it was, or start over with --fresh."
        )
    model.load_state_dict(state["model"], strict=False)
    for player, mover in movers.items():
        mover.load_state_dict(state["movers"][player])
    now = Progress(**state["progress"])
    if now.state is not None:
        if len(now.state) != runtime.world:
            raise ValueError(
                f"'{folder / STATE}' holds the carried states of {len(now.state)} processes, and this run has "
                f"{runtime.world}. Go on with as many, or start over with --fresh."
            )
        now.state = tuple(s.to(runtime.device) for s in now.state[runtime.rank])
    return now


def _digest(train: RowDataset) -> str:
    """Of the rows in their order and their lengths: the order of every epoch depends on nothing else but the seed."""
    digest = hashlib.blake2b(digest_size=16)
    for row, length in zip(train.rows, train.full_lengths, strict=True):
        digest.update(f"{row.path}\0{row.label}\0{length}\n".encode())
    return digest.hexdigest()


def saved_step(folder: Path) -> int | None:
    """The step that a run would go on from, or None where nothing was saved."""
    path = folder / STATE
    return int(torch.load(path, map_location="cpu", weights_only=True)["progress"]["step"]) if path.is_file() else None
