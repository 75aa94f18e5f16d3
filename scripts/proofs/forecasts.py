"""The promise forecast: ETTh1 as numbers, puppets as actions.

The function does the work afresh, prints its tables and returns (result as text, whether the bar holds).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import proof_tools
from proof_tools import print_table, report_row

Answer = tuple[str, bool]
CONTEXT, HORIZON = 96, 96
LEADS = ("0.25", "0.5", "1", "1.5", "2")


def forecast(data: Path, seeds: int) -> Answer:
    """ETTh1, 96 hours -> 96 hours, beside a linear model and the last value; then actions up to 2 seconds ahead."""
    work = proof_tools.fresh_folder("forecast")
    mse = _forecast_series(data, work, seeds)
    at_one_second = _anticipate_actions(work, seeds)
    return (
        f"ETTh1 96 -> 96: MSE {mse:.4f} (bar 0.40); puppets, the action in one second: accuracy "
        f"{at_one_second['gru']:.3f}, same as now {at_one_second['same_as_now']:.3f}, most frequent "
        f"{at_one_second['most_frequent']:.3f}"
    ), mse <= 0.40


def _forecast_series(data: Path, work: Path, seeds: int) -> float:
    """Print the tables of ETTh1. Returns the mean MSE of the GRU over seeds."""
    proof_tools.prepare_dataset("ett", "--folder", data / "text" / "ett", "--out", work / "ett")
    watch = proof_tools.Stopwatch()
    common = [f"data.path={work}/ett/manifest.jsonl", f"data.stride={proof_tools.SIZE.pick(1, 96)}"]
    settings = [[*common, f"training.seed={seed}", f"run={work}/ett_seed{seed}"] for seed in range(seeds)]
    settings.append([*common, "heads.load.mode=recursive", f"run={work}/ett_recursive"])
    *rows, recursive = map(report_row, proof_tools.train_all("ett/forecast.yaml", settings))
    linear = _fit_linear(work / "ett")
    for name, key, naive in (("MSE", "mse", "repeat_last_mse"), ("MAE", "mae", "repeat_last_mae")):
        print_table(
            f"ETTh1, {CONTEXT} hours -> {HORIZON} hours, {rows[0]['count']:,} windows of the test split (7 channels, "
            f"every hour): {name}",
            [
                ("gru, patches of 24", [row[key] for row in rows]),
                ("gru, recursive, 24 hours at a time", [recursive[key]]),
                ("linear on the last 96 minus the last value (NLinear), least squares", [linear[key]]),
                ("last value repeated", [rows[0][naive]]),
            ],
            f"standardised by the training split; {len(rows) + 1} trainings in {watch.seconds:.0f} s",
        )
    print("\nquantiles: the share of the test values below each (one number for each seed)")
    for level in ("0.1", "0.5", "0.9"):
        print(f"  {level}: " + "  ".join(f"{row[f'below_{level}']:.3f}" for row in rows))
    first, last = (np.mean([row[key] for row in rows]) for key in ("mse_first_step", "mse_last_step"))
    print(f"  MSE of the first hour {first:.3f}, of the last hour {last:.3f}", flush=True)
    return float(np.mean([row["mse"] for row in rows]))


def _fit_linear(folder: Path) -> dict[str, float]:
    """NLinear (Zeng et al. 2023) for all channels, fitted by least squares and not by gradient steps."""

    def windows(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = [np.load(path)[:, 0].astype(np.float64) for path in sorted((folder / split).glob("*.npy"))]
        values = np.concatenate([np.lib.stride_tricks.sliding_window_view(row, CONTEXT + HORIZON) for row in rows])
        changes = values - values[:, CONTEXT - 1 : CONTEXT]
        return np.column_stack([changes[:, :CONTEXT], np.ones(len(values))]), changes[:, CONTEXT:]

    inputs, targets = windows("train")
    weights = np.linalg.lstsq(inputs.T @ inputs + 1e-6 * np.eye(inputs.shape[1]), inputs.T @ targets)[0]
    inputs, targets = windows("test")
    errors = inputs @ weights - targets
    return {"mse": float((errors**2).mean()), "mae": float(np.abs(errors).mean())}


def _anticipate_actions(work: Path, seeds: int) -> dict[str, float]:
    """Print the table of puppets. Returns accuracies one second ahead."""
    watch = proof_tools.Stopwatch()
    proof_tools.prepare_dataset("puppets", "--size", "full", "--out", work / "puppets")
    common = [f"data.path={work}/puppets/long.jsonl", f"data.feature_store={work}/features"]
    proof_tools.unreel("extract", proof_tools.REPOSITORY / "configs/puppets/anticipate.yaml", *common)
    settings = [
        [*common, f"training.seed={seed}", f"run={work}/next_seed{seed}", f"evaluation.baselines={seed == 0}"]
        for seed in range(seeds)
    ]
    reports = proof_tools.train_all("puppets/anticipate.yaml", settings)
    gru = [report_row(report) for report in reports]
    mean_pool = report_row(reports[0], "mean-pool linear")
    print(f"\npuppets full, long videos of unseen actors, {gru[0]['count']:,} looks: the action, by seconds ahead")
    print(f"  {'':<45}" + "".join(f"{lead:>8}" for lead in ("0", *LEADS)))
    lines: list[tuple[str, Sequence[dict[str, Any]], str]] = [
        ("gru: accuracy", gru, "accuracy_"),
        ("gru: mean over classes", gru, "mean_class_accuracy_"),
        ("gru: where the class differs from that of now", gru, "changed_"),
        ("mean-pool linear: accuracy", [mean_pool], "accuracy_"),
        ("the true class of now", gru[:1], "same_as_now_"),
        ("the most frequent class", gru[:1], "most_frequent_"),
    ]
    for name, rows, prefix in lines:
        keys = [prefix + lead for lead in ("0", *LEADS)]
        cells = [f"{np.mean([row[key] for row in rows]):.3f}" if key in rows[0] else "" for key in keys]
        print(f"  {name:<45}" + "".join(f"{cell:>8}" for cell in cells))
    print(f"  mean over {seeds} seeds; videos, features and trainings in {watch.seconds:.0f} s", flush=True)
    return {
        "gru": float(np.mean([row["accuracy_1"] for row in gru])),
        "same_as_now": gru[0]["same_as_now_1"],
        "most_frequent": gru[0]["most_frequent_1"],
    }
