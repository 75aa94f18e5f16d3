"""A training that is small enough for a test: synthetic sequences, a GRU of 16 units, one CPU thread."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from made_series import WIDTH, make_series
from torch import nn

from pipeline.config.architecture import Architecture
from pipeline.config.core import CoreSection
from pipeline.config.encoders import SeriesSection
from pipeline.config.heads import ClassifySection
from pipeline.config.training import TrainingSection
from pipeline.data.batch import Sample
from pipeline.data.dataset import RowDataset, StoredSeries
from pipeline.data.manifest import read_manifest
from pipeline.data.vocabulary import Vocabulary
from pipeline.models.model import Model
from pipeline.training.distributed import DistributedContext, seed_step
from pipeline.training.fit import Session, fit
from pipeline.training.resume import Progress
from pipeline.training.tracking import Tracker

CPU = DistributedContext(torch.device("cpu"))
SETTINGS = TrainingSection(
    epochs=3,
    batch_size=8,
    lr=1e-2,
    backbone_lr_factor=0.1,
    weight_decay=0.01,
    warmup=0.1,
    grad_clip=1.0,
    precision="float32",
    patience=None,
    save_every=4,
    log_every=1,
    seed=0,
)
__all__ = ["CPU", "SETTINGS", "SignalAt", "Toy", "make_series", "make_toy", "metric_rows", "state_bytes"]


class SignalAt(RowDataset):
    """The same samples. This process gets a signal while sample number `at` is read, counted from 1."""

    def __init__(self, dataset: RowDataset, at: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__(dataset.rows, dataset.source, dataset.targets, seed=dataset.seed, window=dataset.window)
        self.at, self.number, self.num_read = at, number, 0

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        self.num_read += 1
        if self.num_read == self.at:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(key)


@dataclass
class Toy:
    """The samples of the train split (42 rows: 6 batches of 8), the val split and the test split."""

    train: RowDataset
    val: RowDataset
    test: RowDataset

    def model(self, *, cell: Any = "gru", dropout: float = 0.2, seed: int = 0) -> Model:
        """A new model. The seed determines its weights."""
        seed_step(seed, -1, 0)
        layers = 0 if cell == "mean" else 1
        architecture = Architecture(
            encoder=SeriesSection(project=0, normalise="none", dropout=dropout),
            heads={"action": ClassifySection(dropout=dropout, pool="last" if cell == "mean" else "mean")},
            core=CoreSection(cell=cell, hidden=16, layers=layers, input_dropout=dropout),
        )
        labels = Vocabulary.of(row.label for row in self.train.rows if row.label)
        return architecture.build({"action": labels}, input_size=WIDTH)

    def fit(
        self,
        model: Model,
        folder: Path,
        settings: TrainingSection = SETTINGS,
        *,
        train: RowDataset | None = None,
        val: bool = True,
        context: DistributedContext = CPU,
        from_step: int | None = None,
        workers: int = 0,
        log: Callable[[str], None] = lambda text: None,
    ) -> Progress:
        """Train in a folder. val: whether there is a validation split."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(1)
        with Tracker(
            folder,
            {},
            mode="off",
            project="-",
            name=None,
            tags=(),
            from_step=from_step,
            log=log,
            is_active=context.is_first,
        ) as tracker:
            session = Session(model, settings, context, tracker, log)
            return fit(session, self.train if train is None else train, self.val if val else None, workers)


def make_toy(folder: Path, count: int = 70) -> Toy:
    """Write the sequences and open them as samples."""
    manifest = read_manifest(make_series(folder, count, noise=0.2, longest=12))
    rows = [row for row in manifest.rows if row.label]
    labels = Vocabulary.of(row.label for row in rows if row.label)

    def target(row: Any, times: Any) -> torch.Tensor:
        return torch.tensor(labels.index(row.label))

    splits = (
        RowDataset(
            [r for r in rows if r.split == split],
            StoredSeries(manifest.root, 10.0),
            {"action": target},
            window=9 if split == "train" else None,
        )
        for split in ("train", "val", "test")
    )
    return Toy(*splits)


def metric_rows(folder: Path, split: str | None = None) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, without durations."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if not k.startswith("time/")} for row in rows if split in (None, row["split"])
    ]


def state_bytes(model: nn.Module) -> bytes:
    """All bytes of the state of a model."""
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())
