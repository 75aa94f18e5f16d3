"""Transformer temperatures (ETTh1) -> a series per channel and split, and a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

from pipeline.data.dataset_tools import folder_parser, run_preparer, write_into
from pipeline.data.manifest_rows import Row, Split

CHANNELS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
MONTH = 30 * 24  # hours, as in all papers that use this dataset
SPLIT_HOURS: dict[Split, tuple[int, int]] = {
    "train": (0, 12 * MONTH),
    "val": (12 * MONTH, 16 * MONTH),
    "test": (16 * MONTH, 20 * MONTH),
}


def read_hours(path: Path) -> np.ndarray:
    """(hours, 7) float64, in the units of the file."""
    if not path.is_file():
        raise ValueError(f"There is no {path.name} in {str(path.parent)!r}. It is the dataset. Correct --folder.")
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    try:
        hours = np.array([[float(line[name]) for name in CHANNELS] for line in table])
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{path.name!r} is not the table of the dataset ({error})"
        raise ValueError(
            f"{problem}. It has numbers in the columns {', '.join(CHANNELS)}. Download it again."
        ) from error
    num_hours = SPLIT_HOURS["test"][1]
    if len(hours) < num_hours or not np.isfinite(hours).all():
        raise ValueError(
            f"{path.name!r} has {len(hours):,} hours, or values that are not numbers. Its 20 months need at least "
            f"{num_hours:,} complete hours. Download it again."
        )
    return hours


def mean_and_deviation(hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over the training hours only, (7,) each."""
    start, stop = SPLIT_HOURS["train"]
    return hours[start:stop].mean(0), hours[start:stop].std(0)


def write_series(hours: np.ndarray, out: Path, context: int) -> list[Row]:
    """Write one standardised float32 array (T, 1) per channel and split. Val and test start `context` hours early."""
    mean, deviation = mean_and_deviation(hours)
    standardised = ((hours - mean) / deviation).astype(np.float32)
    rows = []
    for split, (start, stop) in SPLIT_HOURS.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        for index, channel in enumerate(CHANNELS):
            path = f"{split}/{channel}.npy"
            np.save(out / path, standardised[max(0, start - context) : stop, index : index + 1])
            rows.append(Row(path, split=split))
    scale = {
        c: {"mean": m, "deviation": d} for c, m, d in zip(CHANNELS, mean.tolist(), deviation.tolist(), strict=True)
    }
    (out / "scale.json").write_text(json.dumps(scale, indent=2) + "\n", encoding="utf-8")
    return rows


def make(options: argparse.Namespace) -> str:
    rows = write_series(read_hours(options.folder / "ETTh1.csv"), options.out, options.context)
    return write_into(options.out, rows)


def main() -> int:
    parser = folder_parser(__doc__, "ETTh1.csv", "the series and manifest.jsonl")
    parser.add_argument("--context", type=int, default=96, help="hours before val and test that their rows include")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
