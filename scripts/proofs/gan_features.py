"""The promise gan-features: class-conditional sequences of features, scored by probes, and used as additional training
data.

A probe counts only if it rejects its controls. The promise trains from the beginning, prints its tables, and returns
(figure as text, whether the bar holds). An interrupted proof continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import proof_tools
from gan_augmentation import NUM_DRAWS, augment
from gan_series import NUM_FEW, Clips, FewClips, Series, generate_like, sample_like, split_groups, write_manifest_of

from pipeline.commands.prepare_data import prepare
from pipeline.data.manifest import read_manifest, write_manifest
from pipeline.data.manifest_rows import Row
from pipeline.metrics.generation import Space, diversity_ratio, frechet_pooled, frechet_time, nearest
from pipeline.metrics.generation_probes import (
    Probe,
    discriminative_score,
    persistence_error,
    predictive_score,
    probe_controls,
    trusted,
)
from pipeline.metrics.negative_controls import copied, correlated_noise, frozen, half_the_modes
from pipeline.training.distributed import distributed

ProofResult = tuple[str, bool | None]
Pair = tuple[Clips, Clips]
RATES = {"ucf101_vgg16": 4.0, "puppets": 3.0}
"""Steps a second of each data set."""

CONFIG = "ucf101_vgg16/generate.yaml"
PROBES: tuple[Probe, ...] = ("weak", "strong")[: proof_tools.SIZE.pick(2, 1)]
SPACE_SIZE = proof_tools.SIZE.pick(32, 8)
"""Directions of the space in which all scores are taken."""

PCA_COMPONENTS = 64
"""Principal components of the CNN's features of puppets."""

EVERY_CLIP = proof_tools.SIZE.pick(2, 1)
"""One training clip of puppets in this many is used, because the CNN takes time."""

BATCH_SIZE = 32
STEPS_WHOLE, STEPS_FEW = 1500, 450
BELOW_NOISE = BELOW_REAL = 0.05
"""A generated score lies between that of real clips less the second and that of noise less the first."""

LEAST_NEAREST = 0.5
"""Distance to a training clip, relative to that of real test clips. A copy is near 0."""

TITLES = {"real": "real against real: training clips", "shuffled": "real, time shuffled"}


def gan_features(data: Path, seeds: int) -> ProofResult:
    """Both data sets: scores between their bounds, and a classifier that learns from generated sequences as well."""
    figures, holds, is_better = [], [], []
    for name, rate in RATES.items():
        work, stopwatch = proof_tools.kept_folder(f"gan-features/{name}"), proof_tools.Stopwatch()
        work.mkdir(parents=True, exist_ok=True)
        folder = _prepare_features(name, data, work)
        train, test = Clips.read(folder, test=False), Clips.read(folder, test=True)
        draws = [FewClips.draw(train, number) for number in range(max(NUM_DRAWS, seeds))]
        count = _train_generators(folder, work, train, draws, rate)
        seconds = stopwatch.seconds
        generated = generate_like(work / "whole", test.labels, [len(v) for v in test.values])
        figure, is_between = _score(name, train, test, generated)
        gains, is_beyond = augment(name, folder, test, draws, work, rate)
        print(
            f"  {seconds:.0f} s to prepare and to train {count} generators, {stopwatch.seconds:.0f} s in all",
            flush=True,
        )
        figures.append(f"{name}: {figure}; at {NUM_FEW} clips a class {gains}")
        holds.append(is_between)
        is_better.append(is_beyond)
    aim = f"generated better than noise and mixup on {sum(is_better)} of {len(is_better)} (aim 1)"
    return "; ".join([*figures, aim]), all(holds)


def _prepare_features(name: str, data: Path, work: Path) -> Path:
    """A folder with manifest.jsonl and a .npy file for each clip."""
    folder = work / "set"
    if (folder / "manifest.jsonl").is_file():
        return folder
    if name == "ucf101_vgg16":
        proof_tools.prepare_dataset("ucf101_vgg16", "--folder", data / "ucf101_vgg16", "--out", folder)
        return folder
    proof_tools.prepare_dataset("puppets", "--size", proof_tools.SIZE.pick("full", "pairs"), "--out", work / "videos")
    clips = read_manifest(work / "videos/clips.jsonl").rows
    kept = [row for number, row in enumerate(clips) if row.split == "test" or number % EVERY_CLIP == 0]
    write_manifest(kept, work / "videos/kept.jsonl")
    settings = [f"data.path={work}/videos/kept.jsonl", f"data.feature_store={work}/features", "encoder.grid=1"]
    config = proof_tools.load_proof_config("puppets/action.yaml", settings)
    with distributed("cpu", 1) as context:
        prepared = prepare(config, context, lambda text: None)
    rows, source = list(prepared.manifest.rows), prepared.source
    values = [source.read(row, 0, source.length(row))[0].float().numpy() for row in rows]
    space = Space.fit([v for v, row in zip(values, rows, strict=True) if row.split == "train"], PCA_COMPONENTS)
    stored = []
    (folder / "features").mkdir(parents=True, exist_ok=True)
    for number, (value, row) in enumerate(zip(values, rows, strict=True)):
        path = f"features/{number:05d}.npy"
        np.save(folder / path, ((value - space.mean) @ space.basis).astype(np.float32))
        stored.append(Row(path, row.split, row.group, row.label))
    write_manifest(stored, folder / "manifest.jsonl")
    return folder


def _train_generators(folder: Path, work: Path, train: Clips, draws: Sequence[FewClips], rate: float) -> int:
    """Train a generator on all training clips, and one on each draw of few clips. Returns how many."""
    jobs = [(folder / "manifest.jsonl", "whole", _epochs(STEPS_WHOLE, len(train.rows)))]
    for number, draw in enumerate(draws):
        path = write_manifest_of(folder, f"draw{number}", draw.few, None, Clips([], []))
        jobs.append((path, f"few{number}", _epochs(STEPS_FEW, len(draw.few.rows))))
    common = [f"clock.rate={rate}", "training.seed=0"]
    settings = [
        [f"data.path={path}", f"training.epochs={epochs}", f"run={work}/{run}", *common] for path, run, epochs in jobs
    ]
    proof_tools.train_all(CONFIG, settings)
    return len(jobs)


def _epochs(steps: int, count: int) -> int:
    """The epochs of `count` rows that have about this many steps."""
    return max(1, round(steps / -(-count // BATCH_SIZE)))


def _score(name: str, train: Clips, test: Clips, generated: Series) -> tuple[str, bool]:
    """Print all scores of the generated sequences between their bounds. Returns a figure, and whether the bar holds."""
    random = np.random.default_rng(0)
    space = Space.fit(train.values, SPACE_SIZE)
    other = sample_like(test, train, random)
    copies = copied(train.values, len(test.values), random)
    one, two = split_groups(train, random)
    one, two = sample_like(test, one, random), sample_like(test, two, random)
    controls = probe_controls(other.values, random, other.labels)
    every_second = half_the_modes([np.array([[i]]) for i in range(len(other.values))], other.labels)
    kinds: dict[str, Pair] = {
        "real": (test, other),
        "generated": (test, Clips(generated, [replace(row, group=None) for row in test.rows])),
        "noise": (test, other.with_values(controls["noise"])),
        "noise with the steps' covariance": (test, other.with_values(correlated_noise(other.values, random))),
        "one real step, frozen": (test, other.with_values(frozen(other.values, random))),
        "shuffled": (test, other.with_values(controls["shuffled"])),
        "training clips, copied": (test, Clips(copies, [])),
        "one half of training against the other": (one, two),
    }
    pairs = kinds | {"mean + noise": (test, other.with_values(controls["mean + noise"]))}
    if not proof_tools.SIZE.toy:  # half of its few clips are too few for a probe
        pairs["half the modes"] = (test, other.some([int(index[0, 0]) for index in every_second]))
    probes, predictive = _probe_scores(kinds, pairs, space)
    rows = {
        TITLES.get(kind, kind): _row(pair, space, train, {p: probes[p][kind] for p in PROBES}, predictive[kind])
        for kind, pair in kinds.items()
    }
    real, known = space.features(test.values), space.features(train.values)
    of_real = float(nearest(real, known).mean())
    _print_scores(
        f"{name}: {len(test.values)} real test clips against as many of each kind, {len(set(test.labels))} classes",
        rows,
        f"in a space of {SPACE_SIZE} directions fitted to training; time and pooled: Frechet distances; weak and "
        "strong: discriminative scores, whole groups held out; predictive: error of predicting real steps (no change: "
        f"{persistence_error(real):.3f}); nearest: distance to a training clip (real test clips: "
        f"{of_real:.3f})",
    )
    return compare_with_bars(
        probes, [kind for kind in controls if kind in pairs], rows["generated"]["nearest"] / of_real
    )


def _probe_scores(
    kinds: dict[str, Pair], pairs: dict[str, Pair], space: Space
) -> tuple[dict[Probe, dict[str, float]], dict[str, float]]:
    """The discriminative scores of all pairs by both probes, and the predictive scores of the kinds."""
    jobs = [(*pair, probe, space) for probe in PROBES for pair in pairs.values()]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        scores = iter(list(pool.map(_discriminative_score, jobs)))
        predictive = pool.map(_predictive_score, [(*pair, space) for pair in kinds.values()])
        predictive_scores = dict(zip(kinds, predictive, strict=True))
    return {probe: {kind: next(scores) for kind in pairs} for probe in PROBES}, predictive_scores


def _discriminative_score(job: tuple[Clips, Clips, Probe, Space]) -> float:
    """The score of one probe. Groups and classes count where every clip has them."""
    real, other, probe, space = job
    return discriminative_score(
        space.features(real.values),
        space.features(other.values),
        probe,
        groups=real.groups,
        generated_groups=other.groups if other.rows and all(other.groups) else None,
        labels=real.labels,
        generated_labels=other.labels or None,
    )


def _predictive_score(job: tuple[Clips, Clips, Space]) -> float:
    real, other, space = job
    return predictive_score(space.features(other.values), space.features(real.values))


def _row(pair: Pair, space: Space, train: Clips, probes: dict[Probe, float], predictive: float) -> dict[str, float]:
    """All scores of the second set of a pair against the first."""
    first, second = (space.features(clips.values) for clips in pair)
    is_of_test = pair[0].rows[0].split == "test"
    known = space.features(train.values) if is_of_test else first
    return {
        "time": frechet_time(pair[0].values, pair[1].values, space),
        "pooled": frechet_pooled(pair[0].values, pair[1].values, space),
        **{str(probe): score for probe, score in probes.items()},
        "predictive": predictive,
        "diversity": diversity_ratio(second, first),
        "nearest": float(nearest(second, known).mean()),
    }


def _print_scores(title: str, rows: dict[str, dict[str, float]], note: str) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<42}" + "".join(f"{c:>11}" for c in columns))
    for name, scores in rows.items():
        print(f"  {name:<40}" + "".join(f"{scores[c]:>11.3f}" for c in columns))
    print(f"  {note}", flush=True)


def compare_with_bars(
    probes: dict[Probe, dict[str, float]], controls: Sequence[str], relative_nearest: float
) -> tuple[str, bool]:
    """Whether both probes reject their controls, and the generated sequences score clearly below noise, not below real
    clips, and are no copies of training clips.

    relative_nearest: their distance to a training clip over that of real test clips.
    """
    truths = {}
    for probe, scores in probes.items():
        rejected = {kind: scores[kind] for kind in ("real", *controls)}
        print(f"  controls of the {probe} probe: " + ", ".join(f"{kind} {s:.3f}" for kind, s in rejected.items()))
        truths[f"{probe} probe rejects its controls"] = trusted(rejected)
    for probe, scores in probes.items():  # just below noise would be chance, and so would be below real clips
        text = f"{probe} {scores['generated']:.3f} between {scores['real']:.3f} and {scores['noise']:.3f}"
        truths[text] = scores["real"] - BELOW_REAL <= scores["generated"] < scores["noise"] - BELOW_NOISE
    truths[f"nearest {relative_nearest:.2f} of real clips' (bar {LEAST_NEAREST})"] = relative_nearest >= LEAST_NEAREST
    return ", ".join(f"{t}{'' if is_true else ' NOT'}" for t, is_true in truths.items()), all(truths.values())
