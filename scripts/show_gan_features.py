"""The promise gan-features: class-conditional sequences of features, judged by probes that first had to reject their controls, and learned from.

It trains afresh, prints its tables and returns (figure as text, whether the bar holds). Where it was stopped it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import proof
from gan_series import FEW, MORE, Clips, Draw, Series, alike, generated, halves, made_like, mixed, noisy, write_part

from pipeline.config import load_config
from pipeline.data.manifest import Row, read_manifest, write_manifest
from pipeline.metrics.controls import copied, correlated_noise, frozen, half_the_modes
from pipeline.metrics.generation import Space, diversity_ratio, frechet_pooled, frechet_time, nearest
from pipeline.metrics.probes import (
    Probe,
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
STEPS_WHOLE, STEPS_FEW, STEPS_LEARN = 1500, 450, 200
DRAWS, SEEDS = 3, 2  # draws of these clips at least, classifiers of each
BELOW_NOISE = 0.05
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
    copies = copied(train.values, len(test.values), random)
    one, two = halves(train, random)
    one, two = alike(test, one, random), alike(test, two, random)
    controls = probe_controls(other.values, random, other.labels)
    every_other = half_the_modes([np.array([[i]]) for i in range(len(other.values))], other.labels)
    kinds = {
        "real": (test, other),
        "made": (test, Clips(made, [replace(row, group=None) for row in test.rows])),
        "noise": (test, other.like(controls["noise"])),
        "noise with the steps' covariance": (test, other.like(correlated_noise(other.values, random))),
        "one real step, frozen": (test, other.like(frozen(other.values, random))),
        "shuffled": (test, other.like(controls["shuffled"])),
        "training clips, copied": (test, Clips(copies, [])),
        "one half of training against the other": (one, two),
    }
    pairs = kinds | {
        "mean + noise": (test, other.like(controls["mean + noise"])),
        "half the modes": (test, other.some([int(place[0, 0]) for place in every_other])),
    }
    jobs = [(*pairs[kind], probe, space) for probe in PROBES for kind in pairs]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        told = iter(list(pool.map(_told_apart, jobs)))
        foretold = dict(zip(kinds, pool.map(_foretold, [(*pair, space) for pair in kinds.values()]), strict=True))
    told = {probe: {kind: next(told) for kind in pairs} for probe in PROBES}
    learned = space.features(train.values)
    rows: dict[str, dict[str, float]] = {}
    for kind, (real, against) in kinds.items():
        a, b = space.features(real.values), space.features(against.values)
        rows[kind] = {
            "time": frechet_time(real.values, against.values, space),
            "pooled": frechet_pooled(real.values, against.values, space),
            **{probe: told[probe][kind] for probe in PROBES},
            "predictive": foretold[kind],
            "diversity": diversity_ratio(b, a),
            "nearest": float(nearest(b, a if real is one else learned).mean()),
        }
    real = space.features(test.values)
    own = float(nearest(real, learned).mean())
    _show(
        f"{name}: {len(test.values)} real test clips against as many of each kind, {len(set(test.labels))} classes",
        {NAMES.get(kind, kind): row for kind, row in rows.items()},
        f"in a space of {WIDTH} directions fitted to training; time and pooled: Frechet distances; weak and strong: discriminative scores, whole "
        f"groups held out; predictive: error of foretelling real ones (nothing changes: {persistence_error(real):.3f}); nearest: distance to a "
        f"training clip (real test clips: {own:.3f})",
    )
    truths = {}
    for probe, found in told.items():
        rejected = {kind: found[kind] for kind in ("real", *controls)}
        print(f"  controls of the {probe} probe: " + ", ".join(f"{kind} {s:.3f}" for kind, s in rejected.items()))
        truths[f"{probe} probe rejects its controls"] = trusted(rejected)
    for probe, found in told.items():  # below the floor is luck, no fault; just below noise would be luck, too
        between = f"{probe} {found['made']:.3f} between {found['real']:.3f} and {found['noise']:.3f}"
        truths[between] = found["made"] < found["noise"] - BELOW_NOISE
    return ", ".join(f"{t}{'' if ok else ' NOT'}" for t, ok in truths.items()), all(truths.values())


NAMES = {"real": "real against real: training clips", "shuffled": "real, time shuffled"}


def _told_apart(job: tuple[Clips, Clips, Probe, Space]) -> float:
    """The discriminative score of one probe. Groups and classes count where every clip has them."""
    real, against, probe, space = job
    groups = against.groups if against.rows and all(against.groups) else None
    return discriminative_score(
        space.features(real.values), space.features(against.values), probe, groups=real.groups, made_groups=groups,
        labels=real.labels, made_labels=against.labels or None,
    )  # fmt: skip


def _foretold(job: tuple[Clips, Clips, Space]) -> float:
    """The predictive score."""
    real, against, space = job
    return predictive_score(space.features(against.values), space.features(real.values))


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
