"""The training loop, whole.

In: a model, datasets, a plan. Out: trained weights in the model, rows in the track, a state to resume from on the disk.
Knows nothing of configs, files of datasets or what the heads learn.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import EpochSampler
from pipeline.models.model import Model
from pipeline.training.evaluate import judge
from pipeline.training.optimize import Mover
from pipeline.training.runtime import Interrupted, Runtime, StopSignal, seed_step
from pipeline.training.track import Track

STATE = "resume.pt"


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


@dataclass
class Progress:
    """Where a training stands; saved with the weights, so that a killed run goes on as if nothing had happened."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best: float = -float("inf")
    best_epoch: int = -1
    best_weights: dict[str, Tensor] | None = None
    sums: dict[str, float] = field(default_factory=dict)
    is_finished: bool = False


def fit(model: Model, train: RowDataset, validation: RowDataset | None, plan: Plan, runtime: Runtime, track: Track,
        folder: Path, say: Callable[[str], None]) -> Progress:
    """Train, keep the best epoch by validation (or the last where there is none), leave its weights in the model.

    Raises Interrupted after SIGINT, SIGTERM or SIGUSR1, with the state saved.
    """
    sampler = EpochSampler(train.lengths, plan.batch_size, plan.seed, runtime.rank, runtime.world)
    movers = {player: Mover(model, parameters, lr=plan.lr, backbone_lr=plan.backbone_lr, weight_decay=plan.weight_decay,
                            warmup=plan.warmup, clip=plan.clip, total_steps=plan.epochs * len(sampler))
              for player, parameters in model.players().items()}
    now = _resume(folder, model, movers)
    modules = {player: _shared(model, runtime) for player in movers}
    loader = _loader(train, sampler, plan)
    started = time.monotonic()
    with StopSignal() as stop:
        while now.epoch < plan.epochs and not now.is_finished:
            sampler.epoch, sampler.skip = now.epoch, now.batch
            for batch in loader():
                model.train()
                seed_step(plan.seed, now.step, runtime.rank)
                batch = batch.to(runtime.device)
                moved: dict[str, float] = {}
                for player, module in modules.items():
                    with torch.autocast(runtime.device.type, torch.bfloat16, enabled=_is_bf16(plan, runtime)):
                        terms: dict[str, Tensor] = module(batch, player)
                        loss = torch.stack(list(terms.values())).sum()
                    moved = movers[player].move(loss, now.step)
                    _add(now.sums, {"loss": float(loss.detach()), **{k: float(v.detach()) for k, v in terms.items()},
                                    "grad_norm": moved["grad_norm"]})
                now.step, now.batch = now.step + 1, now.batch + 1
                if now.step % plan.log_every == 0:
                    track.log({"step": now.step, "epoch": now.epoch, "part": "train", **_drain(now.sums), "lr": moved["lr"],
                                "time/seconds": round(time.monotonic() - started, 3)})
                if now.batch == len(sampler):
                    _end_epoch(model, validation, plan, runtime, track, now, say, started)
                is_over = now.is_finished or now.epoch == plan.epochs
                if is_over or stop.number is not None or now.step % plan.save_every == 0:
                    _save(folder, model, movers, now, runtime, track)
                if stop.number is not None and not is_over:
                    raise Interrupted(stop.number)
    if now.best_weights is not None:
        model.load_state_dict(now.best_weights, strict=False)
    return now


def _end_epoch(model: Model, validation: RowDataset | None, plan: Plan, runtime: Runtime, track: Track, now: Progress,
               say: Callable[[str], None], started: float) -> None:
    text = f"epoch {now.epoch + 1:>3}/{plan.epochs}"
    if validation is not None:
        judged = judge(model, validation, batch_size=plan.batch_size, device=runtime.device)
        score = runtime.agree(judged.accuracy - 1e-3 * judged.loss)  # accuracy first; loss decides between equals
        if score > now.best:
            now.best, now.best_epoch = score, now.epoch
            now.best_weights = {name: p.detach().cpu().clone() for name, p in _learned(model).items()}
        elif plan.patience is not None and now.epoch - now.best_epoch >= plan.patience:
            now.is_finished = True
        track.log({"step": now.step, "epoch": now.epoch, "part": "val", "loss": judged.loss, "accuracy": judged.accuracy,
                   "time/seconds": round(time.monotonic() - started, 3)})
        text += f"   validation accuracy {judged.accuracy:.3f}   loss {judged.loss:.3f}"
        text += "   best so far" if now.best_epoch == now.epoch else ""
        text += f"\nstopped: no better validation score for {plan.patience} epochs" if now.is_finished else ""
    say(text)
    now.epoch, now.batch = now.epoch + 1, 0


def _learned(model: nn.Module) -> dict[str, Tensor]:
    """What training moves; the rest is rebuilt from the recipe."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _shared(model: Model, runtime: Runtime) -> nn.Module:
    if runtime.world == 1:
        return model
    return DistributedDataParallel(model, device_ids=[runtime.device.index] if runtime.device.type == "cuda" else None)


def _loader(train: RowDataset, sampler: EpochSampler, plan: Plan) -> Callable[[], Iterator[Batch]]:
    if plan.workers == 0:
        return lambda: (collate([train[key] for key in keys]) for keys in sampler)
    loader = DataLoader(train, batch_sampler=sampler, collate_fn=collate, num_workers=plan.workers,  # type: ignore[arg-type]
                        multiprocessing_context="spawn", persistent_workers=True)
    return lambda: iter(loader)


def _is_bf16(plan: Plan, runtime: Runtime) -> bool:
    if plan.precision == "auto":
        return runtime.device.type == "cuda" and torch.cuda.is_bf16_supported()
    return plan.precision == "bf16"


def _add(sums: dict[str, float], values: dict[str, float]) -> None:
    for key, value in values.items():
        sums[key] = sums.get(key, 0.0) + value
    sums["count"] = sums.get("count", 0.0) + 1.0


def _drain(sums: dict[str, float]) -> dict[str, float]:
    count = sums.pop("count")
    means = {key: value / count for key, value in sums.items()}
    sums.clear()
    return means


def _save(folder: Path, model: Model, movers: dict[str, Mover], now: Progress, runtime: Runtime, track: Track) -> None:
    track.sync()
    if runtime.is_first:
        state: dict[str, Any] = {"progress": vars(now), "model": _learned(model),
                                 "movers": {player: mover.state_dict() for player, mover in movers.items()}}
        partial = folder / f".{STATE}.{os.getpid()}"
        torch.save(state, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, folder / STATE)
    runtime.wait()


def _resume(folder: Path, model: Model, movers: dict[str, Mover]) -> Progress:
    if not (folder / STATE).is_file():
        return Progress()
    state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    for player, mover in movers.items():
        mover.load_state_dict(state["movers"][player])
    return Progress(**state["progress"])


def saved_step(folder: Path) -> int | None:
    """The step that a run would go on from, or None where nothing was saved."""
    if not (folder / STATE).is_file():
        return None
    return int(torch.load(folder / STATE, map_location="cpu", weights_only=True)["progress"]["step"])
