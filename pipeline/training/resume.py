"""The state of a training, and the file resume.pt that an interrupted run continues from.

In: a model, its optimizers and its `Progress`. Out: resume.pt in the folder of the run, and the same state read back.
It knows nothing of the loop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.atomic import open_atomic
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest_rows import record_of
from pipeline.models.model import Model
from pipeline.models.recurrent.core import State
from pipeline.training.distributed import DistributedContext
from pipeline.training.optimizer import PlayerOptimizer

RESUME_FILE = "resume.pt"


@dataclass
class Progress:
    """How far a training is. It is saved with the weights, so that a killed run continues with equal results.

    best_score: (validation score, minus loss) of the best epoch; the loss decides between equal scores. sums: of the
    loss terms since the last row of the log, over `count` steps. failed_rows: how many of the last rows, without a gap,
    gave a reason to stop an adversarial training. data_digest: of the training rows. core_state: the state of the core
    after the last batch, where it is carried to the next one (truncated BPTT). recent_loss: of the last row of the log.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_score: tuple[float, float] = (-float("inf"), -float("inf"))
    best_epoch: int = -1
    best_weights: dict[str, Tensor] | None = None
    sums: dict[str, float | Tensor] = field(default_factory=dict)
    count: int = 0
    data_digest: str = ""
    is_finished: bool = False
    failed_rows: int = 0
    core_state: State | None = None
    recent_loss: float = 0.0

    def read_sums(self) -> dict[str, float]:
        """The sums as numbers, from now on. Those on the device come in one read, for which the CPU waits."""
        numbers = {name: 0.0 if isinstance(value, Tensor) else value for name, value in self.sums.items()}
        on_device = {name: value for name, value in self.sums.items() if isinstance(value, Tensor)}
        if on_device:
            numbers |= zip(on_device, torch.stack(list(on_device.values())).tolist(), strict=True)
        self.sums = {**numbers}
        return numbers


def data_digest(train: RowDataset, content: str = "") -> str:
    """A digest of the rows in order, with all that they teach, and of their lengths.

    The batches of every epoch depend only on these, the seed and the files. content: a digest of the files.
    """
    digest = hashlib.blake2b(content.encode(), digest_size=16)
    for row, length in zip(train.rows, train.full_lengths, strict=True):
        digest.update(json.dumps([record_of(row), length]).encode() + b"\n")
    return digest.hexdigest()


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes. The others are rebuilt from the architecture."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def weights_to_save(model: Model) -> dict[str, Tensor]:
    """What a resume needs: the trainable parameters, and all state of the heads (moving averages, spectral norms)."""
    heads = {name: value for name, value in model.state_dict().items() if name.startswith("heads.")}
    return trainable_weights(model) | heads


def save_state(
    folder: Path,
    model: Model,
    optimizers: Mapping[str, PlayerOptimizer],
    progress: Progress,
    context: DistributedContext,
) -> None:
    """Write resume.pt. Every rank calls this; rank 0 writes the core states of all ranks. Raises FloatingPointError
    where a step was not finite, see `PlayerOptimizer`.
    """
    for optimizer in optimizers.values():
        optimizer.check()
    progress.sums = {**context.mean(progress.read_sums())}  # on every rank, so that a resumed run has the same sums
    core_states = None if progress.core_state is None else context.gather(progress.core_state)
    if context.is_first:
        state: dict[str, Any] = {
            "progress": {**vars(progress), "core_state": core_states},
            "model": weights_to_save(model),
            "optimizers": {player: optimizer.state_dict() for player, optimizer in optimizers.items()},
        }
        with open_atomic(folder / RESUME_FILE) as partial:
            torch.save(state, partial)
    context.barrier()


def load_state(
    folder: Path,
    model: Model,
    optimizers: Mapping[str, PlayerOptimizer],
    digest: str,
    context: DistributedContext,
) -> Progress:
    """Load resume.pt into model and optimizers. Without such a file, the result is the progress of a new training.

    digest: of the training rows. Raises ValueError where the state is of other rows, of other weights or of another
    number of processes.
    """
    path = folder / RESUME_FILE
    if not path.is_file():
        return Progress(data_digest=digest)
    state = torch.load(path, map_location="cpu", weights_only=True)
    saved, current = (_shapes(weights) for weights in (state["model"], weights_to_save(model)))
    if state["progress"].get("data_digest") != digest or saved != current:
        raise ValueError(
            f"'{path}' was saved by a training on other rows or of other weights. A run can only continue with the "
            "same rows and weights. Restore the data, or start over with --fresh."
        )
    model.load_state_dict(state["model"], strict=False)
    for player, optimizer in optimizers.items():
        optimizer.load_state_dict(state["optimizers"][player])
    progress = Progress(**state["progress"])
    if progress.core_state is not None:
        if len(progress.core_state) != context.world_size:
            raise ValueError(
                f"'{path}' holds the core states of {len(progress.core_state)} processes, and this run has "
                f"{context.world_size}. Continue with the same number of processes, or start over with --fresh."
            )
        progress.core_state = tuple(s.to(context.device) for s in progress.core_state[context.rank])
    return progress


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def saved_step(folder: Path) -> int | None:
    """The step that a run in this folder would continue from; None where no state is saved."""
    path = folder / RESUME_FILE
    return int(torch.load(path, map_location="cpu", weights_only=True)["progress"]["step"]) if path.is_file() else None
