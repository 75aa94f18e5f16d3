"""Promises about generated clips: gan-frames and gan-length.

Each trains from the beginning by the product's own commands, scores the clips by networks that took no part in the
training, prints its tables, and returns (figure as text, whether the bar holds).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import proof_tools
import torch
from gan_judge import ClipEvaluator, RealClips

from pipeline.checkpoint import load_model
from pipeline.inference.generate_sequences import generate_sequences

ProofResult = tuple[str, bool | None]
COLUMNS = ("time", "pooled", "class", "nearest", "copied", "diversity", "modes", "content")
ABLATED, INDEPENDENT = "weizmann4", "generated, independent noise in place of the core"


class ClipSet(NamedTuple):
    """A data set with its bars.

    min_time: least share of the way from noise to real on changes in time. min_class: least share of clips whose class
    is recognised. max_clips: clips that are scored. truncation: of their codes.
    """

    config: str
    min_time: float
    min_class: float
    max_clips: int
    truncation: float


MAX_CLIPS, MAX_STRIPS = proof_tools.SIZE.pick((300, 60), (12, 12))
SETS = {
    "puppets": ClipSet("puppets/generate.yaml", 0.60, 0.80, MAX_CLIPS, 0.6),
    "weizmann4": ClipSet("weizmann4/generate.yaml", 0.40, 0.60, MAX_STRIPS, 1.0),
}


def print_scores(title: str, rows: dict[str, dict[str, float]], note: str) -> None:
    """Print a line for each kind of clips."""
    print(f"\n{title}\n{'':<52}" + "".join(f"{c:>11}" for c in COLUMNS))
    for name, scores in rows.items():
        print(f"  {name:<50}" + "".join(f"{scores[c]:>11.3f}" for c in COLUMNS))
    print(f"  {note}", flush=True)


def prepare_clips(name: str, data: Path, work: Path, size: str = "full") -> Path:
    """The manifest of a set of real clips. size: of puppets."""
    if name == "puppets":
        proof_tools.prepare_dataset("puppets", "--size", size, "--out", work / "set")
        return work / "set/clips.jsonl"
    proof_tools.prepare_dataset("weizmann4", "--folder", data / "weizmann4", "--out", work / "set")
    return work / "set/manifest.jsonl"


def train_generator(config: str, settings: Sequence[str], run: Path) -> float:
    """Train with two processes, or resume. Returns the seconds of training."""
    proof_tools.train_with_two_processes(config, *settings, f"run={run}")
    rows = proof_tools.read_json_lines(run / "metrics.jsonl")
    return proof_tools.training_seconds([row for row in rows if row["split"] == "train"])


def generate_like(run: Path, real: RealClips, truncation: float, length: int | None = None) -> list[np.ndarray]:
    """A clip for each real one, of its class and its length, or of a given length."""
    checkpoint, device = load_model(run), torch.device("cpu")
    clips: dict[int, np.ndarray] = {}
    for label in sorted(set(real.labels)):
        indices = [i for i, other in enumerate(real.labels) if other == label]
        longest = length or max(len(real.frames[i]) for i in indices)
        sequences = generate_sequences(
            checkpoint, device, label=label, count=len(indices), length=longest, seed=11, truncation=truncation
        )
        for i, sequence in zip(indices, sequences, strict=True):
            assert isinstance(sequence.values, np.ndarray)
            clips[i] = sequence.values[: length or len(real.frames[i])]
    return [clips[i] for i in range(len(real))]


def write_sheet(path: Path, clips: Sequence[np.ndarray], labels: Sequence[str], steps: int = 8) -> None:
    """Write an image with two clips of each class, a row for each."""
    rows = []
    for label in sorted(set(labels)):
        for i in [i for i, other in enumerate(labels) if other == label and len(clips[i]) >= steps][:2]:
            rows.append(np.concatenate(list(clips[i][:steps]), axis=1))
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


def gan_frames(data: Path, seeds: int) -> ProofResult:
    """Clips of puppets and of weizmann4 from noise; an interrupted proof continues."""
    figures, holds = [], []
    for name in SETS:
        figure, is_above = _evaluate_set(name, data, seeds)
        figures.append(figure)
        holds.append(is_above)
    return "; ".join(figures), all(holds)


def _evaluate_set(name: str, data: Path, seeds: int) -> tuple[str, bool]:
    """Train and score the generators of one data set."""
    clip_set, work = SETS[name], proof_tools.kept_folder(f"gan-frames/{name}")
    work.mkdir(parents=True, exist_ok=True)
    common = [f"data.path={prepare_clips(name, data, work)}"]
    runs = [work / ("run" if seed == 0 else f"seed{seed}") for seed in range(seeds)]
    seconds = max(
        train_generator(clip_set.config, [*common, f"training.seed={seed}"], run) for seed, run in enumerate(runs)
    )
    folder = proof_tools.fresh_folder(f"gan-judge-{name}")
    evaluator = ClipEvaluator(folder, clip_set.config, common, clip_set.max_clips)
    rows = evaluator.controls()
    test, truncation = evaluator.test, clip_set.truncation
    clips = [generate_like(run, test, truncation) for run in runs]
    scores = [evaluator.scores(some, test.labels) for some in clips]
    rows |= {f"generated, truncation {truncation:g}, seed {seed}": found for seed, found in enumerate(scores)}
    if truncation != 1:
        rows["generated, truncation 1"] = evaluator.scores(generate_like(work / "run", test, 1.0), test.labels)
    if name == ABLATED:
        train_generator(clip_set.config, [*common, "heads.clip.motion=independent"], work / "independent")
        independent = generate_like(work / "independent", test, truncation)
        rows[INDEPENDENT] = evaluator.scores(independent, test.labels)
    write_sheet(work / "sheet.png", clips[0], test.labels)
    print_scores(
        f"{name}, {len(test)} clips: shares of the way from noise (0) to real (1), and relative to real clips",
        rows,
        f"split by person; the classifier's accuracy on real clips of this size {evaluator.accuracy:.3f} (its "
        f"{len(evaluator.names)} classes: {', '.join(evaluator.names)}); copied: share nearer to a training clip than "
        f"95 of 100 real clips of other persons; trained in {seconds:.0f} s; contact sheet: {work / 'sheet.png'}",
    )
    return _compare_with_bars(name, scores, rows, seconds)


def _compare_with_bars(
    name: str, scores: list[dict[str, float]], rows: dict[str, dict[str, float]], seconds: float
) -> tuple[str, bool]:
    """The figure of one data set, by the worst of all seeds, and whether all bars hold."""
    clip_set = SETS[name]
    worst = {column: min(one[column] for one in scores) for column in COLUMNS}
    control = max(rows[n]["time"] for n in rows if "frozen" in n or "still" in n or "shuffled" in n)
    truths = {
        f"time {worst['time']:.2f} (bar {clip_set.min_time})": worst["time"] >= clip_set.min_time,
        f"controls at most {control:.2f}": worst["time"] > control,
        f"class {worst['class']:.2f} (bar {clip_set.min_class})": worst["class"] >= clip_set.min_class,
        f"diversity {worst['diversity']:.2f} (bar 0.5)": worst["diversity"] >= 0.5,
        f"nearest {worst['nearest']:.2f} (a copy is near 0)": worst["nearest"] >= 0.5,
        f"trained in {seconds:.0f} s (bar 1200)": seconds <= 1200,
    }
    if name == ABLATED:
        independent = rows[INDEPENDENT]["time"]
        truths[f"without the core {independent:.2f}"] = independent < worst["time"]
    copied = max(one["copied"] for one in scores)
    texts = ", ".join(f"{text}{'' if is_true else ' NOT'}" for text, is_true in truths.items())
    figure = f"{name}: {texts}; {copied:.2f} are nearer to a training clip than 95 of 100 real clips (reported)"
    return figure, all(truths.values())


def gan_length(data: Path, seeds: int) -> ProofResult:
    """Clips four times longer than those of training, from the model of gan-frames."""
    clip_set, work = SETS["puppets"], proof_tools.kept_folder("gan-frames/puppets")
    work.mkdir(parents=True, exist_ok=True)
    common = [f"data.path={prepare_clips('puppets', data, work)}"]
    train_generator(clip_set.config, common, work / "run")
    folder = proof_tools.fresh_folder("gan-judge-length")
    evaluator = ClipEvaluator(folder, clip_set.config, common, clip_set.max_clips)
    test, length = evaluator.test, 4 * evaluator.window
    clips = generate_like(work / "run", test, clip_set.truncation, length)
    quarter = length // 4
    energy = [
        np.mean([np.abs(np.diff(c[start : start + quarter].astype(np.float32), axis=0)).mean() for c in clips])
        for start in (0, 3 * quarter)
    ]
    ratio = float(energy[1] / energy[0])
    classes = evaluator.classify(evaluator.cnn(clips))
    recognised = float(np.mean([a == b for a, b in zip(classes, test.labels, strict=True)]))
    write_sheet(folder / "sheet.png", clips, test.labels, steps=length)
    return (
        f"{len(clips)} clips of {length} steps: motion energy of the last quarter {ratio:.2f} of the first one's (bar "
        f"0.5 to 2), class recognised in {recognised:.2f} (bar 0.7)",
        0.5 <= ratio <= 2 and recognised >= 0.7,
    )
