"""Series with random labels, as manifests of any rows: who scores above chance on them has seen them before."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.config.run import Config, load_config
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row

LABELS = ("heads", "tails")


def write_series(folder: Path, names: Iterable[str], *, seed: int = 0) -> None:
    """Write noise (12, 4) as <name>.npy, another one for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        np.save(folder / f"{name}.npy", rng.normal(size=(12, 4)).astype(np.float32))


def coin_rows(groups: Iterable[str], split: str | None = None, *, size: int = 4, start: int = 0) -> list[Row]:
    """`size` rows of each group, from number `start` on; half of the rows of a group have each label."""
    return [
        Row(f"{group}_{number}.npy", split, group, LABELS[number % 2])  # type: ignore[arg-type]
        for group in groups
        for number in range(start, start + size)
    ]


def write_data(folder: Path, rows: list[Row], name: str = "rows", *, seed: int = 0) -> Path:
    """Write the manifest of the rows, and those of their files that are not there yet."""
    missing = [row.path.removesuffix(".npy") for row in rows if not (folder / row.path).exists()]
    write_series(folder, missing, seed=seed)
    write_manifest(rows, folder / f"{name}.jsonl")
    return folder / f"{name}.jsonl"


def series_config(data: Path, run: Path, *overrides: str) -> Config:
    """A quick training without baselines."""
    settings = [
        "encoder.kind=series",
        "clock.rate=10",
        "core.hidden=8",
        "training.epochs=1",
        "training.device=cpu",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        "data.validation_share=0",
        f"data.path={data}",
        f"run={run}",
    ]
    return load_config(None, [*settings, *overrides])
