"""Synthetic sequences whose label is an order, as .npy files with a manifest.

In: a folder, a count, a seed. Out: manifest.jsonl and sequences (T, 6) of different lengths. Every sequence has two
bumps, each in one of two channels. The label is the order of the bumps, so a mean over time does not reveal it. It is
not part of the product.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

LABELS = ("first_then_second", "second_then_first")
WIDTH = 6


def make_series(
    folder: Path, count: int = 200, *, seed: int = 0, noise: float = 0.3, shortest: int = 5, longest: int = 40
) -> Path:
    """Write `count` sequences in groups of 5, and a manifest with splits: 3/5 train, 1/5 val, 1/5 test, whole groups.

    Returns the path of the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        length = int(rng.integers(shortest, longest + 1))
        order = int(rng.integers(2))
        values = rng.normal(0.0, noise, (length, WIDTH)).astype(np.float32)
        for position, channel in ((0.25, order), (0.75, 1 - order)):
            values[int(position * length), channel] += 3.0
        np.save(folder / f"{number:04d}.npy", values)
        group = number // 5
        rows.append(
            {
                "path": f"{number:04d}.npy",
                "split": ("train", "train", "val", "train", "test")[group % 5],
                "group": f"g{group:03d}",
                "label": LABELS[order],
            }
        )
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
