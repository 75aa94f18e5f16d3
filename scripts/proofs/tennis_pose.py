"""The promise about poses: tennis strokes, each match left out once.

In: the stored pose sequences. Out: a table by match: the GRU of configs/tennis_pose/action.yaml, the same without its
mirror, mean pooling of the same inputs, and ridge classifiers in closed form. Returns (result as text, whether the bar
holds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import proof_tools
from proof_tools import report_row

from pipeline.data.manifest_rows import Split

MATCHES = 6
CONFIG = "tennis_pose/action.yaml"
Accuracies = list[list[float]]
"""Accuracy by match (outer) and seed (inner)."""


@dataclass(frozen=True)
class Fold:
    """One match left out: poses (N, T, D) and class indices (N,) of the others (train) and of this one (test)."""

    match: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def pose(data: Path, seeds: int) -> tuple[str, bool]:
    """Mean accuracy over the six matches, beside a ridge classifier on the mean pose."""
    work, watch = proof_tools.fresh_folder("pose"), proof_tools.Stopwatch()
    proof_tools.prepare_dataset("tennis_pose", "--folder", data / "tennis_pose", "--out", work / "set")
    manifest = work / "set/manifest.jsonl"
    folds = [_read_fold(manifest, fold) for fold in range(MATCHES)]
    assert len({fold.match for fold in folds}) == MATCHES, "every match is the test once"
    reports = _train(work, "gru", manifest, seeds, lambda seed: [f"evaluation.baselines={seed == 0}"])
    no_mirror = ["training.augment.mirror={}", "evaluation.baselines=false", "evaluation.order_controls=false"]
    without_mirror = _train(work, "plain", manifest, seeds, lambda seed: no_mirror)

    def accuracies(by_match: list[list[dict[str, Any]]], **selection: str) -> Accuracies:
        return [[report_row(report, **selection)["accuracy"] for report in match] for match in by_match]

    first_seed = [match[:1] for match in reports]
    rows = {
        "gru": accuracies(reports),
        "gru without the mirror": accuracies(without_mirror),
        **{f"gru, steps {order}": accuracies(reports, order=order) for order in ("reversed", "shuffled")},
        **{name: accuracies(first_seed, model=name) for name in ("mean-pool linear", "mean-pool MLP")},
        "ridge on the mean": [[_ridge(fold, is_mirrored=False)] for fold in folds],
        "ridge on the mean, mirrored too": [[_ridge(fold, is_mirrored=True)] for fold in folds],
        "ridge on all steps": [[_ridge(fold, is_mirrored=False, pool=_flatten)] for fold in folds],
        "ridge on all steps, mirrored too": [[_ridge(fold, is_mirrored=True, pool=_flatten)] for fold in folds],
    }
    _print_table(folds, rows)
    by_class = [np.mean([report_row(report)["mean_class_accuracy"] for report in match]) for match in reports]
    by_match = ", ".join(f"{fold.match} {mean:.3f}" for fold, mean in zip(folds, by_class, strict=True))
    print(f"  mean over the classes, gru: {by_match}")
    print(
        "  no epoch is chosen on the left-out match (the last one is kept); the mirror was chosen on all six; "
        f"{watch.seconds:.0f} s",
        flush=True,
    )
    means = {name: float(np.mean([np.mean(match) for match in matches])) for name, matches in rows.items()}
    gru, ridge = means["gru"], max(mean for name, mean in means.items() if name.startswith("ridge"))
    return f"mean over 6 matches: gru {gru:.4f} (bar 0.85), best ridge {ridge:.4f}", gru >= 0.85 and gru > ridge


def _train(
    work: Path, name: str, manifest: Path, seeds: int, settings: Callable[[int], list[str]]
) -> list[list[dict[str, Any]]]:
    """Reports by match and seed."""
    jobs = [
        [
            f"data.path={manifest}",
            f"data.fold={fold}",
            f"training.seed={seed}",
            f"run={work}/{name}_fold{fold}_seed{seed}",
            *settings(seed),
        ]
        for fold in range(MATCHES)
        for seed in range(seeds)
    ]
    reports = proof_tools.train_all(CONFIG, jobs)
    return [reports[start : start + seeds] for start in range(0, len(reports), seeds)]


def _read_fold(manifest: Path, number: int) -> Fold:
    """The same rows that the config uses for training and test in this fold."""
    from pipeline.commands.prepare_data import read_rows, split_rows

    config = proof_tools.load_proof_config(CONFIG, [f"data.path={manifest}", f"data.fold={number}"])
    rows = split_rows(config, read_rows(config, lambda text: None), lambda text: None)
    names = rows.labels

    def read_split(split: Split) -> tuple[np.ndarray, np.ndarray]:
        selected = rows.select(split).rows
        poses = np.stack([np.load(rows.path_of(row)) for row in selected]).astype(np.float64)
        return poses, np.array([names.index(str(row.label)) for row in selected])

    (match,) = {str(row.group) for row in rows.select("test").rows}
    assert match not in {row.group for row in rows.select("train").rows}, "the left-out match is not in training"
    return Fold(match, read_split("train"), read_split("test"))


def _mean(poses: np.ndarray) -> np.ndarray:
    return poses.mean(axis=1)  # (N, D)


def _flatten(poses: np.ndarray) -> np.ndarray:
    return poses.reshape(len(poses), -1)  # (N, T * D)


def _ridge(fold: Fold, *, is_mirrored: bool, pool: Callable[[np.ndarray], np.ndarray] = _mean) -> float:
    """Accuracy of ridge regression to one-hot classes, on standardised features.

    The penalty is 1, the default of scikit-learn's RidgeClassifier. `is_mirrored` adds the mirror image of every
    training row.
    """
    (poses, classes), (test_poses, test_classes) = fold.train, fold.test
    if is_mirrored:
        poses, classes = np.concatenate([poses, _mirror(poses)]), np.concatenate([classes, classes])
    x, test_x = pool(poses), pool(test_poses)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    x, test_x = (x - mean) / deviation, (test_x - mean) / deviation
    y = np.eye(classes.max() + 1)[classes]
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    return float(np.mean((test_x @ weights + y.mean(axis=0)).argmax(axis=1) == test_classes))


def _mirror(poses: np.ndarray) -> np.ndarray:
    """Poses (N, T, D), mirrored as in the config."""
    import torch

    from pipeline.config.run import load_config

    augment = load_config(proof_tools.REPOSITORY / "configs" / CONFIG).training.augment.build_series(poses.shape[2])
    assert augment is not None, "the config mirrors"
    return np.stack([augment.mirror(torch.from_numpy(series)).numpy() for series in poses])


def _print_table(folds: Sequence[Fold], rows: Mapping[str, Accuracies]) -> None:
    """Print a column per match (the mean over seeds), their mean, and the accuracy over the shots of all matches."""
    counts = np.array([len(fold.test[1]) for fold in folds])
    name_width = max(map(len, rows))
    print("\ntennis_pose: accuracy on the match that was left out of training")
    print(f"  {'':<{name_width}}" + "".join(f"{fold.match:>16}" for fold in folds) + f"{'mean':>10}{'all shots':>12}")
    for name, matches in rows.items():
        means = np.array([np.mean(match) for match in matches])
        cells = "".join(f"{accuracy:>16.3f}" for accuracy in means)
        print(f"  {name:<{name_width}}{cells}{means.mean():>10.3f}{np.average(means, weights=counts):>12.3f}")
    by_seed = np.array(rows["gru"]).mean(axis=0)
    print(f"  {'shots':<{name_width}}" + "".join(f"{count:>16}" for count in counts))
    print("  gru, mean over matches, by seed: " + ", ".join(f"{mean:.3f}" for mean in by_seed))
