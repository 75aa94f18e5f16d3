"""Promise about what comes next: forecast. ETTh1 as numbers, puppets as actions.

It does the work afresh, prints its tables and returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import proof
from proof import pick, show_table

Answer = tuple[str, bool]
CONTEXT, AHEAD = 96, 96
LEADS = ("0.25", "0.5", "1", "1.5", "2")


def forecast(data: Path, seeds: int) -> Answer:
    """ETTh1 96 -> 96 beside what a line and the last value give; then how far ahead an action can be told."""
    work = proof.fresh("forecast")
    mse = _series(data, work, seeds)
    ahead = _actions(work, seeds)
    return (
        f"ETTh1 96 -> 96: MSE {mse:.4f} (bar 0.40); puppets, the action in one second: accuracy {ahead['gru']:.3f}, "
        f"same as now {ahead['same']:.3f}, most frequent {ahead['frequent']:.3f}"
    ), mse <= 0.40


def _series(data: Path, work: Path, seeds: int) -> float:
    """The tables of ETTh1; returns the core's mean MSE."""
    proof.prepare_dataset("ett", "--folder", data / "text" / "ett", "--out", work / "ett")
    watch = proof.Stopwatch()
    common = [f"data.path={work}/ett/manifest.jsonl"]
    settings = [[*common, f"training.seed={seed}", f"run={work}/ett_seed{seed}"] for seed in range(seeds)]
    again = [*common, "heads.load.mode=recursive", f"run={work}/ett_recursive"]
    *reports, recursive = proof.train_all("ett/forecast.yaml", [*settings, again])
    found, own = [pick(r) for r in reports], pick(recursive)
    line = _line(work / "ett")
    for name, score, repeated in (("MSE", "mse", "repeat_last_mse"), ("MAE", "mae", "repeat_last_mae")):
        show_table(
            f"ETTh1, 96 hours seen, 96 ahead, {found[0]['count']:,} windows of the test part (7 channels, every hour): {name}",
            [
                ("gru, patches of 24", [r[score] for r in found]),
                ("gru, 24 hours at a time from its own output", [own[score]]),
                ("linear on the last 96 less the last value (NLinear), least squares", [line[score]]),
                ("last value repeated", [found[0][repeated]]),
            ],
            f"standardised by the training part; {len(reports) + 1} trainings in {watch.seconds:.0f} s",
        )
    print("\nquantiles: how much of the test part lies below each (seeds one after another)")
    for level in ("0.1", "0.5", "0.9"):
        print(f"  {level}: " + "  ".join(f"{r[f'below_{level}']:.3f}" for r in found))
    hours = [f"{np.mean([r[k] for r in found]):.3f}" for k in ("mse_first_step", "mse_last_step")]
    print(f"  the first hour ahead has an MSE of {hours[0]}, the last of {hours[1]}", flush=True)
    return float(np.mean([r["mse"] for r in found]))


def _line(folder: Path) -> dict[str, float]:
    """NLinear (Zeng et al. 2023) for all channels, fitted by least squares instead of gradient steps."""

    def windows(part: str) -> tuple[np.ndarray, np.ndarray]:
        rows = [np.load(path)[:, 0].astype(np.float64) for path in sorted((folder / part).glob("*.npy"))]
        cut = np.concatenate([np.lib.stride_tricks.sliding_window_view(r, CONTEXT + AHEAD) for r in rows])
        level = cut - cut[:, CONTEXT - 1 : CONTEXT]
        return np.column_stack([level[:, :CONTEXT], np.ones(len(cut))]), level[:, CONTEXT:]

    seen, ahead = windows("train")
    weights = np.linalg.lstsq(seen.T @ seen + 1e-6 * np.eye(seen.shape[1]), seen.T @ ahead)[0]
    seen, ahead = windows("test")
    miss = seen @ weights - ahead
    return {"mse": float((miss**2).mean()), "mae": float(np.abs(miss).mean())}


def _actions(work: Path, seeds: int) -> dict[str, float]:
    """The table of puppets; returns the figures at one second."""
    watch = proof.Stopwatch()
    proof.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    common = [f"data.path={work}/puppets/long.jsonl", f"data.features={work}/features"]
    proof.unreel("extract", proof.REPOSITORY / "configs/puppets/anticipate.yaml", *common)
    reports = proof.train_all(
        "puppets/anticipate.yaml",
        [
            [*common, f"training.seed={seed}", f"run={work}/next_seed{seed}", f"evaluation.baselines={seed == 0}"]
            for seed in range(seeds)
        ],
    )
    found = [pick(r) for r in reports]
    mean = pick(reports[0], "mean-pool linear")
    print(
        f"\npuppets full, long videos of unseen actors, {found[0]['count']:,} looks: what will be going on, by seconds ahead"
    )
    print(f"  {'':<42}" + "".join(f"{lead:>8}" for lead in ("0", *LEADS)))
    rows: list[tuple[str, Sequence[dict[str, Any]], str]] = [
        ("gru: accuracy", found, "accuracy_"),
        ("gru: mean over classes", found, "mean_class_accuracy_"),
        ("gru: where the class changes until then", found, "changed_"),
        ("mean-pool linear: accuracy", [mean], "accuracy_"),
        ("the true class of now", found[:1], "same_as_now_"),
        ("the most frequent class", found[:1], "most_frequent_"),
    ]
    for name, of, key in rows:
        cells = [
            f"{np.mean([r[key + lead] for r in of]):8.3f}" if key + lead in of[0] else " " * 8 for lead in ("0", *LEADS)
        ]
        print(f"  {name:<42}" + "".join(cells))
    print(f"  mean over {seeds} seeds; drawn, looked at and trained in {watch.seconds:.0f} s", flush=True)
    return {
        "gru": float(np.mean([r["accuracy_1"] for r in found])),
        "same": found[0]["same_as_now_1"],
        "frequent": found[0]["most_frequent_1"],
    }
