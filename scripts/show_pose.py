"""The promise about poses: tennis strokes, one match left out at a time.

In: the stored pose sequences. Out: a table by match: the GRU of configs/tennis_pose/action.yaml, the same without its
mirror, mean-pool rows on the same road, and ridges in closed form. Returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import proof
from proof import pick

MATCHES = 6
CONFIG = "tennis_pose/action.yaml"
Figures = list[list[float]]
"""Accuracy by match (outer) and seed (inner)."""


@dataclass(frozen=True)
class Fold:
    """One match left out: poses (N, T, D) and class indices (N,) of the others (train) and of it (test)."""

    match: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def pose(data: Path, seeds: int) -> tuple[str, bool]:
    """Mean accuracy over the six matches, beside a ridge on the mean pose."""
    work, watch = proof.fresh("pose"), proof.Stopwatch()
    proof.prepare_dataset("tennis_pose", "--folder", data / "tennis_pose", "--out", work / "set")
    manifest = work / "set/manifest.jsonl"
    folds = [_fold(manifest, fold) for fold in range(MATCHES)]
    assert len({fold.match for fold in folds}) == MATCHES, "every match is the test once"
    reports = _train(work, "gru", manifest, seeds, lambda seed: [f"evaluation.baselines={seed == 0}"])
    less = ["training.augment.mirror={}", "evaluation.baselines=false", "evaluation.orders=false"]
    plain = _train(work, "plain", manifest, seeds, lambda seed: less)

    def figures(of: list[list[dict[str, Any]]], **which: str) -> Figures:
        return [[pick(r, **which)["accuracy"] for r in match] for match in of]

    first = [match[:1] for match in reports]
    rows = {
        "gru": figures(reports),
        "gru without the mirror": figures(plain),
        **{f"gru, steps {order}": figures(reports, order=order) for order in ("reversed", "shuffled")},
        **{name: figures(first, model=name) for name in ("mean-pool linear", "mean-pool MLP")},
        "ridge on the mean": [[_ridge(fold, is_mirrored=False)] for fold in folds],
        "ridge on the mean, mirrored too": [[_ridge(fold, is_mirrored=True)] for fold in folds],
        "ridge on all steps": [[_ridge(fold, is_mirrored=False, pool=_flat)] for fold in folds],
        "ridge on all steps, mirrored too": [[_ridge(fold, is_mirrored=True, pool=_flat)] for fold in folds],
    }
    _show(folds, rows)
    by_class = [np.mean([pick(r)["mean_class_accuracy"] for r in match]) for match in reports]
    print(
        "  mean over the classes, gru: " + ", ".join(f"{f.match} {m:.3f}" for f, m in zip(folds, by_class, strict=True))
    )
    print(f"  nothing is chosen by the left-out match: the last epoch is kept; {watch.seconds:.0f} s", flush=True)
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
    reports = proof.train_all(CONFIG, jobs)
    return [reports[at : at + seeds] for at in range(0, len(reports), seeds)]


def _fold(manifest: Path, number: int) -> Fold:
    """The very rows that the config's fold trains and tests on."""
    from pipeline.config import load_config
    from pipeline.prepare import read_rows, split_rows

    config = load_config(proof.REPOSITORY / "configs" / CONFIG, [f"data.path={manifest}", f"data.fold={number}"])
    rows = split_rows(config, read_rows(config, lambda text: None), lambda text: None)
    names = rows.labels

    def part(split: Any) -> tuple[np.ndarray, np.ndarray]:
        found = rows.select(split).rows
        poses = np.stack([np.load(rows.path_of(row)) for row in found]).astype(np.float64)
        return poses, np.array([names.index(str(row.label)) for row in found])

    (match,) = {str(row.group) for row in rows.select("test").rows}
    assert match not in {row.group for row in rows.select("train").rows}, "the left-out match trains nothing"
    return Fold(match, part("train"), part("test"))


def _mean(poses: np.ndarray) -> np.ndarray:
    return poses.mean(axis=1)  # (N, D)


def _flat(poses: np.ndarray) -> np.ndarray:
    return poses.reshape(len(poses), -1)  # (N, T * D)


def _ridge(fold: Fold, *, is_mirrored: bool, pool: Callable[[np.ndarray], np.ndarray] = _mean) -> float:
    """Accuracy of least squares to one-hot classes on standardised features with a penalty of 1 (scikit-learn's default
    for its RidgeClassifier); `is_mirrored` adds the mirror image of every training row.
    """
    (poses, classes), (test, truths) = fold.train, fold.test
    if is_mirrored:
        poses, classes = np.concatenate([poses, _mirrored(poses)]), np.concatenate([classes, classes])
    x, z = pool(poses), pool(test)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    x, z = (x - mean) / deviation, (z - mean) / deviation
    y = np.eye(classes.max() + 1)[classes]
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    return float(np.mean((z @ weights + y.mean(axis=0)).argmax(axis=1) == truths))


def _mirrored(poses: np.ndarray) -> np.ndarray:
    """As the config mirrors, on arrays (N, T, D)."""
    import torch

    from pipeline.config import load_config

    augment = load_config(proof.REPOSITORY / "configs" / CONFIG).training.augment.build_series(poses.shape[2])
    assert augment is not None, "the config mirrors"
    return np.stack([augment.mirror(torch.from_numpy(one)).numpy() for one in poses])


def _show(folds: Sequence[Fold], rows: Mapping[str, Figures]) -> None:
    """A column a match (the mean over seeds), their mean, and the accuracy over all shots together."""
    counts = np.array([len(fold.test[1]) for fold in folds])
    wide = max(map(len, rows))
    print("\ntennis_pose: accuracy on the match that was left out of training")
    print(f"  {'':<{wide}}" + "".join(f"{fold.match:>16}" for fold in folds) + f"{'mean':>10}{'all shots':>12}")
    for name, matches in rows.items():
        each = np.array([np.mean(match) for match in matches])
        cells = "".join(f"{a:>16.3f}" for a in each)
        print(f"  {name:<{wide}}{cells}{each.mean():>10.3f}{np.average(each, weights=counts):>12.3f}")
    by_seed = np.array(rows["gru"]).mean(axis=0)
    print(f"  {'shots':<{wide}}" + "".join(f"{c:>16}" for c in counts))
    print("  gru, mean over matches, by seed: " + ", ".join(f"{m:.3f}" for m in by_seed))
