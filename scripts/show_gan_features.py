"""The promise gan-features: class-conditional sequences of features, judged by probes that first had to reject their controls, and learned from.

It trains afresh, prints its tables and returns (figure as text, whether the bar holds). Where it was stopped it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import proof
from gan_series import FEW, MORE, Clips, Draw, Series, alike, generated, halves, made_like, mixed, noisy, write_part

from pipeline.config import load_config
from pipeline.data.manifest import Row, read_manifest, write_manifest
from pipeline.metrics.controls import copied, correlated_noise, frozen, half_the_modes, noise, shuffled
from pipeline.metrics.generation import Space, diversity_ratio, frechet_pooled, frechet_time, nearest
from pipeline.metrics.probes import (
    Probe,
    controls_rejected,
    discriminative_score,
    persistence_error,
    predictive_score,
    probe_controls,
    trusted,
)
from pipeline.prepare import prepare
from pipeline.training.runtime import runtime

Answer = tuple[str, bool | None]
SETS = {"ucf101_vgg16": 4.0, "puppets": 3.0}  # steps a second
MAKE, LEARN = "ucf101_vgg16/generate.yaml", "ucf101_vgg16/action.yaml"
PROBES: tuple[Probe, ...] = ("weak", "strong")
WIDTH = 32  # directions of the space in which all scores are taken
PCA = 64  # of the CNN's features of puppets
THINNED = 2  # of the clips of puppets to learn from: the CNN takes its time
BATCH = 32
STEPS_WHOLE, STEPS_FEW, STEPS_LEARN = 2000, 800, 300
DRAWS, SEEDS = 3, 2  # draws of these clips at least, classifiers of each
WAYS = ("alone", "noise", "mixup", "generated", "real")


def _prepared(name: str, data: Path, work: Path) -> Path:
    """A folder with manifest.jsonl and a .npy file a clip."""
    folder = work / "set"
    if (folder / "manifest.jsonl").is_file():
        return folder
    if name == "ucf101_vgg16":
        proof.prepare_dataset("ucf101_vgg16", "--folder", data / "ucf101_vgg16", "--out", folder)
        return folder
    proof.prepare_dataset("puppets", "--size", "full", "--out", work / "videos")
    clips = read_manifest(work / "videos/clips.jsonl").rows
    kept = [row for number, row in enumerate(clips) if row.split == "test" or number % THINNED == 0]
    write_manifest(kept, work / "videos/kept.jsonl")
    settings = [f"data.path={work}/videos/kept.jsonl", f"data.features={work}/features", "encoder.grid=1"]
    config = load_config(proof.REPOSITORY / "configs/puppets/action.yaml", settings)
    with runtime("cpu", 1) as place:
        looked = prepare(config, place, lambda text: None)
    rows = list(looked.manifest.rows)
    values = [looked.source.read(row, 0, looked.source.length(row))[0].float().numpy() for row in rows]
    space = Space.fit([v for v, row in zip(values, rows, strict=True) if row.split == "train"], PCA)
    stored = []
    (folder / "features").mkdir(parents=True, exist_ok=True)
    for number, (value, row) in enumerate(zip(values, rows, strict=True)):
        path = f"features/{number:05d}.npy"
        np.save(folder / path, ((value - space.mean) @ space.basis).astype(np.float32))
        stored.append(Row(path, row.split, row.group, row.label))
    write_manifest(stored, folder / "manifest.jsonl")
    return folder


def _epochs(steps: int, count: int) -> int:
    return max(1, round(steps / -(-count // BATCH)))


# ------------------------------------------------------------------------------------------------ how near to real


def judged(name: str, train: Clips, test: Clips, made: Series) -> tuple[str, bool]:
    """Print every score of the made sequences between its bounds; whether both probes may speak and put them below noise."""
    random = np.random.default_rng(0)
    space = Space.fit(train.values, WIDTH)
    other = alike(test, train, random)
    real = space.features(test.values)
    seen = {"real": other.values, "made": made, "noise": noise(other.values, random)}
    seen |= {"noise with the steps' covariance": correlated_noise(other.values, random)}
    seen |= {
        "one real step, frozen": frozen(other.values, random),
        "real, time shuffled": shuffled(other.values, random),
    }
    seen |= {"training clips, copied": copied(train.values, len(test.values), random)}
    groups = {kind: None if kind in ("made", "training clips, copied") else other.groups for kind in seen}
    labels = dict.fromkeys(seen, other.labels) | {"made": test.labels, "training clips, copied": None}
    rejected = {probe: _controls(probe, real, test, other, space) for probe in PROBES}
    rows: dict[str, dict[str, float]] = {}
    for kind, clips in seen.items():
        features = space.features(clips)
        scores = {
            probe: discriminative_score(
                real,
                features,
                probe,
                groups=test.groups,
                made_groups=groups[kind],
                labels=test.labels,
                made_labels=labels[kind],
            )
            for probe in PROBES
        }
        rows[kind] = {
            "time": frechet_time(test.values, clips, space),
            "pooled": frechet_pooled(test.values, clips, space),
            **scores,
            "predictive": predictive_score(features, real),
            "diversity": diversity_ratio(features, real),
            "nearest": float(nearest(features, space.features(train.values)).mean()),
        }
    one, two = (alike(test, part, random) for part in halves(train, random))
    rows |= {"one half of training against the other": _halves(one, two, space)}
    own = float(nearest(real, space.features(train.values)).mean())
    _show(
        f"{name}: {len(test.values)} real test clips against as many of each kind, {len(set(test.labels))} classes",
        {REAL if kind == "real" else kind: row for kind, row in rows.items()},
        f"in a space of {WIDTH} directions fitted to training; time and pooled: Frechet distances; weak and strong: discriminative scores, whole "
        f"groups held out; predictive: error of foretelling real ones (nothing changes: {persistence_error(real):.3f}); nearest: distance to a "
        f"training clip (real test clips: {own:.3f})",
    )
    for probe, found in rejected.items():
        print(f"  controls of the {probe} probe: " + ", ".join(f"{kind} {s:.3f}" for kind, s in found.items()))
    truths = {f"{probe} probe rejects its controls": trusted(found) for probe, found in rejected.items()}
    for probe in PROBES:
        floor, ours, ceiling = (rows[kind][probe] for kind in ("real", "made", "noise"))
        truths[f"{probe} {ours:.3f} between {floor:.3f} and {ceiling:.3f}"] = (
            ours < ceiling
        )  # below the floor is luck, no fault
    return ", ".join(f"{t}{'' if ok else ' NOT'}" for t, ok in truths.items()), all(truths.values())


REAL = "real against real: training clips"


def _controls(probe: Probe, real: Series, test: Clips, other: Clips, space: Space) -> dict[str, float]:
    """What the probe says of real clips and of all that it must reject."""
    made = probe_controls(other.values, np.random.default_rng(1), other.labels)
    every_other = half_the_modes([np.array([[i]]) for i in range(len(other.values))], other.labels)
    kept = other.some([int(one[0, 0]) for one in every_other])

    def score(one: Series, two: Series) -> float:
        of = other if len(two) == len(other.values) else kept
        return discriminative_score(
            one, two, probe, groups=test.groups, made_groups=of.groups, labels=test.labels, made_labels=of.labels
        )

    controls = {kind: space.features(clips) for kind, clips in made.items()}
    return controls_rejected(score, real, space.features(other.values), controls)


def _halves(one: Clips, two: Clips, space: Space) -> dict[str, float]:
    """The same scores where both sides are of the training part: what the change from training to test groups adds is left out."""
    a, b = space.features(one.values), space.features(two.values)
    return {
        "time": frechet_time(one.values, two.values, space),
        "pooled": frechet_pooled(one.values, two.values, space),
        **{
            p: discriminative_score(
                a, b, p, groups=one.groups, made_groups=two.groups, labels=one.labels, made_labels=two.labels
            )
            for p in PROBES
        },
        "predictive": predictive_score(b, a),
        "diversity": diversity_ratio(b, a),
        "nearest": float(nearest(b, a).mean()),
    }


def _show(title: str, rows: dict[str, dict[str, float]], note: str) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<42}" + "".join(f"{c:>11}" for c in columns))
    for name, found in rows.items():
        print(f"  {name:<40}" + "".join(f"{found[c]:>11.3f}" for c in columns))
    print(f"  {note}", flush=True)


# ------------------------------------------------------------------------------------------------ learned from


def augmented(
    name: str, folder: Path, train: Clips, test: Clips, draws: Sequence[Draw], work: Path
) -> tuple[str, bool]:
    """Accuracy of the ordinary classifier on all test clips, from few clips and what is added to them in each way."""
    jobs, at = [], []
    for number, draw in enumerate(draws):
        added: dict[str, Clips | None] = {
            "alone": None,
            "noise": noisy(draw.few, np.random.default_rng([1, number])),
            "mixup": mixed(draw.few, np.random.default_rng([2, number])),
            "generated": generated(draw.few, work / f"few{number}", np.random.default_rng([3, number])),
            "real": draw.more,
        }
        for way in WAYS:
            more = added[way]
            path = write_part(folder, f"draw{number}_{way}", draw.few, more, test)
            count = len(draw.few.rows) + (len(more.rows) if more is not None else 0)
            for seed in range(SEEDS):
                jobs.append([
                    f"data.path={path}", f"clock.rate={SETS[name]}", f"training.epochs={_epochs(STEPS_LEARN, count)}",
                    f"training.seed={seed}", f"run={work}/learned/{number}_{way}_{seed}", "evaluation.baselines=false",
                    "evaluation.orders=false",
                ])  # fmt: skip
                at.append((way, number))
    reports = proof.train_all(LEARN, jobs)
    each: dict[str, np.ndarray] = {}
    for way in WAYS:
        found = [
            [proof.pick(r)["accuracy"] for r, a in zip(reports, at, strict=True) if a == (way, n)]
            for n in range(len(draws))
        ]
        each[way] = np.mean(found, axis=1)
    print(f"\n{name}: accuracy on {len(test.rows)} test clips from {FEW} clips a class, and {MORE} a class added")
    for way, figures in each.items():
        gain = figures - each["alone"]
        print(
            f"  {way:<12} mean {figures.mean():.3f}   min..max {figures.min():.3f}..{figures.max():.3f}   "
            f"gain {gain.mean():+.3f} +- {_half_interval(gain):.3f}"
        )
    print(
        f"  {len(draws)} draws, each clip of a class of another group, {SEEDS} classifiers a draw, all with about {STEPS_LEARN} steps; +-: 95 % "
        "by Student's t over draws; the generator saw the few clips alone",
        flush=True,
    )
    best = max(("noise", "mixup"), key=lambda way: each[way].mean())
    gain = each["generated"] - each[best]
    is_beyond = float(gain.mean()) > 0
    figure = (
        f"with generated {each['generated'].mean():.3f}, alone {each['alone'].mean():.3f}, {best} {each[best].mean():.3f} (generated "
        f"{gain.mean():+.3f} +- {_half_interval(gain):.3f}), real {each['real'].mean():.3f}"
    )
    return figure, is_beyond


def _half_interval(values: np.ndarray) -> float:
    """Half of the 95 % interval of a mean by Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def gan_features(data: Path, seeds: int) -> Answer:
    """Both sets: scores between their bounds, and a classifier that learns from made sequences."""
    figures, holds, beyond = [], [], []
    for name, rate in SETS.items():
        work, watch = proof.WORK / "gan-features" / name, proof.Stopwatch()
        work.mkdir(parents=True, exist_ok=True)
        folder = _prepared(name, data, work)
        train, test = Clips.read(folder, test=False), Clips.read(folder, test=True)
        draws = [Draw.of(train, number) for number in range(max(DRAWS, seeds))]
        jobs = [
            [
                f"data.path={folder}/manifest.jsonl",
                f"training.epochs={_epochs(STEPS_WHOLE, len(train.rows))}",
                f"run={work}/whole",
            ]
        ]
        for number, draw in enumerate(draws):
            path = write_part(folder, f"draw{number}", draw.few, None, Clips([], []))
            jobs.append(
                [
                    f"data.path={path}",
                    f"training.epochs={_epochs(STEPS_FEW, len(draw.few.rows))}",
                    f"run={work}/few{number}",
                ]
            )
        proof.train_all(MAKE, [[*job, f"clock.rate={rate}", "training.seed=0"] for job in jobs])
        trained = watch.seconds
        made = made_like(work / "whole", test.labels, [len(v) for v in test.values])
        figure, is_between = judged(name, train, test, made)
        gains, is_beyond = augmented(name, folder, train, test, draws, work)
        print(
            f"  {trained:.0f} s to prepare and to train {len(jobs)} generators, {watch.seconds:.0f} s in all",
            flush=True,
        )
        figures.append(f"{name}: {figure}; at {FEW} clips a class {gains}")
        holds.append(is_between)
        beyond.append(is_beyond)
    aim = f"generated beyond noise and mixup on {sum(beyond)} of {len(beyond)} (aim 1)"
    return "; ".join([*figures, aim]), all(holds)
