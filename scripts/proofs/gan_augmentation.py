"""A classifier of features that learns from few real clips, and from what is added to them in several ways.

In: few clips of each class, and generators that were trained on these. Out: accuracies on real test clips. It is not
part of the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import proof_tools
from gan_series import NUM_ADDED, NUM_FEW, Clips, FewClips, add_noise, generate_from_few, mix, write_manifest_of
from scipy.stats import t as student_t

CONFIG = "ucf101_vgg16/action.yaml"
WAYS = ("alone", "noise", "mixup", "generated", "real")
"""What is added to the few clips: nothing, noisy copies, mixtures, generated sequences, other real clips."""

NUM_DRAWS, NUM_CLASSIFIERS = proof_tools.SIZE.pick((3, 2), (2, 1))
"""Draws of few clips, at least, and classifiers of each draw and way."""

BATCH_SIZE, STEPS = 32, 200


def augment(
    name: str, folder: Path, test: Clips, draws: Sequence[FewClips], work: Path, rate: float
) -> tuple[str, bool]:
    """Print the accuracies of all ways. Returns a figure, and whether generated sequences help more than noise and
    mixup.
    """
    jobs: list[list[str]] = []
    ways: list[tuple[str, int]] = []
    for number, draw in enumerate(draws):
        for way, added in _added_clips(draw, number, work).items():
            path = write_manifest_of(folder, f"draw{number}_{way}", draw.few, added, test)
            count = len(draw.few.rows) + (len(added.rows) if added is not None else 0)
            epochs = max(1, round(STEPS / -(-count // BATCH_SIZE)))
            for seed in range(NUM_CLASSIFIERS):
                run = work / "learned" / f"{number}_{way}_{seed}"
                jobs.append(_settings(path, rate, epochs, seed, run))
                ways.append((way, number))
    reports = proof_tools.train_all(CONFIG, jobs)
    accuracy = [proof_tools.report_row(report)["accuracy"] for report in reports]
    by_way: dict[str, np.ndarray] = {}
    for way in WAYS:
        of_draws = [[a for a, w in zip(accuracy, ways, strict=True) if w == (way, n)] for n in range(len(draws))]
        by_way[way] = np.mean(of_draws, axis=1)
    return _report(name, by_way, len(test.rows), len(draws))


def _added_clips(draw: FewClips, number: int, work: Path) -> dict[str, Clips | None]:
    """What each way adds to the few clips of a draw."""
    return {
        "alone": None,
        "noise": add_noise(draw.few, np.random.default_rng([1, number])),
        "mixup": mix(draw.few, np.random.default_rng([2, number])),
        "generated": generate_from_few(draw.few, work / f"few{number}", np.random.default_rng([3, number])),
        "real": draw.more,
    }


def _settings(path: Path, rate: float, epochs: int, seed: int, run: Path) -> list[str]:
    """The settings of one classifier."""
    return [
        f"data.path={path}",
        f"clock.rate={rate}",
        f"training.epochs={epochs}",
        f"training.seed={seed}",
        f"run={run}",
        "evaluation.baselines=false",
        "evaluation.order_controls=false",
    ]


def _report(name: str, by_way: dict[str, np.ndarray], num_tests: int, num_draws: int) -> tuple[str, bool]:
    """Print the accuracies of all ways over the draws."""
    print(f"\n{name}: accuracy on {num_tests} test clips from {NUM_FEW} clips a class, and {NUM_ADDED} a class added")
    for way, values in by_way.items():
        gain = values - by_way["alone"]
        print(
            f"  {way:<12} mean {values.mean():.3f}   min..max {values.min():.3f}..{values.max():.3f}   "
            f"gain {gain.mean():+.3f} +- {_half_interval(gain):.3f}"
        )
    print(
        f"  {num_draws} draws, each clip of a class of another group, {NUM_CLASSIFIERS} classifiers a draw, all with "
        f"about {STEPS} steps; +-: 95 % by Student's t over draws; the generators were trained on the few clips alone",
        flush=True,
    )
    best = max(("noise", "mixup"), key=lambda way: by_way[way].mean())
    gain = by_way["generated"] - by_way[best]
    figure = (
        f"with generated {by_way['generated'].mean():.3f}, alone {by_way['alone'].mean():.3f}, {best} "
        f"{by_way[best].mean():.3f} (generated {gain.mean():+.3f} +- {_half_interval(gain):.3f}), real "
        f"{by_way['real'].mean():.3f}"
    )
    return figure, float(gain.mean()) > 0


def _half_interval(values: np.ndarray) -> float:
    """Half of the 95 % interval of a mean by Student's t."""
    return float(student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
