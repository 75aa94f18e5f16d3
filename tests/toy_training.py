"""A training small enough for a test: made sequences, a GRU of 16 units, one CPU thread."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from made_series import WIDTH, make_series

from pipeline.cores import CoreSection
from pipeline.data.batch import Sample
from pipeline.data.dataset import RowDataset, StoredSeries
from pipeline.data.manifest import read_manifest
from pipeline.data.vocabulary import Vocabulary
from pipeline.models.model import Model
from pipeline.questions import ClassifySection
from pipeline.recipe import Recipe, SeriesSection
from pipeline.training.fit import Plan, Progress, fit
from pipeline.training.runtime import Runtime, seed_step
from pipeline.training.track import Track

CPU = Runtime(torch.device("cpu"))
PLAN = Plan(
    epochs=3,
    batch_size=8,
    lr=1e-2,
    backbone_lr=0.1,
    weight_decay=0.01,
    warmup=0.1,
    clip=1.0,
    precision="float32",
    patience=None,
    save_every=4,
    log_every=1,
    seed=0,
)
__all__ = ["CPU", "PLAN", "SignalAt", "Toy", "make_series", "make_toy"]


class SignalAt(RowDataset):
    """The same samples; this process gets a signal while the sample number `at` is read."""

    def __init__(self, same: RowDataset, at: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__(same.rows, same.source, same.targets, seed=same.seed, window=same.window)
        self.at, self.number, self.asked = at, number, 0

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        self.asked += 1
        if self.asked == self.at:
            os.kill(os.getpid(), self.number)
        return super().__getitem__(key)


@dataclass
class Toy:
    """train (42 rows: 6 batches of 8), val and test rows as samples."""

    train: RowDataset
    val: RowDataset
    test: RowDataset

    def model(self, *, cell: Any = "gru", dropout: float = 0.2, seed: int = 0) -> Model:
        """A new model, its weights drawn from the seed."""
        seed_step(seed, -1, 0)
        layers = 0 if cell == "mean" else 1
        recipe = Recipe(
            encoder=SeriesSection(project=0, normalise="none", dropout=dropout),
            heads={"action": ClassifySection(dropout=dropout, pool="last" if cell == "mean" else "mean")},
            core=CoreSection(cell=cell, hidden=16, layers=layers, input_dropout=dropout),
        )
        labels = Vocabulary.of(row.label for row in self.train.rows if row.label)
        return recipe.build({"action": labels}, input_size=WIDTH)

    def fit(
        self,
        model: Model,
        folder: Path,
        plan: Plan = PLAN,
        *,
        train: RowDataset | None = None,
        val: bool = True,
        place: Runtime = CPU,
        from_step: int | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> Progress:
        """Train in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(1)
        with Track(
            folder,
            {},
            mode="off",
            project="-",
            name=None,
            tags=(),
            from_step=from_step,
            say=say,
            is_active=place.is_first,
        ) as track:
            return fit(
                model,
                self.train if train is None else train,
                self.val if val else None,
                plan,
                place,
                track,
                folder,
                say,
            )


def make_toy(folder: Path, count: int = 70) -> Toy:
    """Write the sequences and open them."""
    manifest = read_manifest(make_series(folder, count, noise=0.2, longest=12))
    rows = [row for row in manifest.rows if row.label]
    labels = Vocabulary.of(row.label for row in rows if row.label)

    def target(row: Any, times: Any) -> torch.Tensor:
        return torch.tensor(labels.index(row.label))

    parts = (
        RowDataset(
            [r for r in rows if r.split == split],
            StoredSeries(manifest.root, 10.0),
            {"action": target},
            window=9 if split == "train" else None,
        )
        for split in ("train", "val", "test")
    )
    return Toy(*parts)
