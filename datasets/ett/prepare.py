"""Transformer temperatures (ETTh1) -> one series a channel and part, and a manifest. See README.md beside this file."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

from pipeline.data.manifest import Row, Split
from pipeline.data.prepared import folder_parser, run_preparer, write_into

CHANNELS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
MONTH = 30 * 24  # hours, as everyone who reports on it counts them
PARTS: dict[Split, tuple[int, int]] = {
    "train": (0, 12 * MONTH),
    "val": (12 * MONTH, 16 * MONTH),
    "test": (16 * MONTH, 20 * MONTH),
}


def read_hours(path: Path) -> np.ndarray:
    """(hours, 7) float64, in the file's units."""
    if not path.is_file():
        raise ValueError(f"There is no {path.name} in {str(path.parent)!r}. It is the dataset. Check --folder.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    try:
        hours = np.array([[float(line[name]) for name in CHANNELS] for line in lines])
    except (KeyError, TypeError, ValueError) as error:
        what = f"{path.name!r} is not the dataset's table ({error})"
        raise ValueError(f"{what}. It has columns {', '.join(CHANNELS)} of numbers. Fetch it again.") from error
    if len(hours) < PARTS["test"][1] or not np.isfinite(hours).all():
        raise ValueError(
            f"{path.name!r} has {len(hours):,} hours, or values that are no numbers. At least {PARTS['test'][1]:,} "
            "whole hours make its 20 months. Fetch it again."
        )
    return hours


def scale_of(hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, (7,) each, of the training part and nothing else."""
    start, stop = PARTS["train"]
    return hours[start:stop].mean(0), hours[start:stop].std(0)


def write_series(hours: np.ndarray, out: Path, context: int) -> list[Row]:
    """One float32 array (T, 1) a channel and part, standardised; the later parts begin `context` hours early."""
    mean, deviation = scale_of(hours)
    standard = ((hours - mean) / deviation).astype(np.float32)
    rows = []
    for part, (start, stop) in PARTS.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        for index, channel in enumerate(CHANNELS):
            path = f"{part}/{channel}.npy"
            np.save(out / path, standard[max(0, start - context) : stop, index : index + 1])
            rows.append(Row(path, split=part))
    scale = {
        c: {"mean": m, "deviation": d} for c, m, d in zip(CHANNELS, mean.tolist(), deviation.tolist(), strict=True)
    }
    (out / "scale.json").write_text(json.dumps(scale, indent=2) + "\n", encoding="utf-8")
    return rows


def make(options: argparse.Namespace) -> str:
    rows = write_series(read_hours(options.folder / "ETTh1.csv"), options.out, options.context)
    return write_into(options.out, rows)


def main() -> int:
    parser = folder_parser(__doc__, "that holds ETTh1.csv", "the series and manifest.jsonl")
    parser.add_argument("--context", type=int, default=96, help="hours that val and test rows carry before their part")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
