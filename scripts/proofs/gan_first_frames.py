"""The promise image-to-video: first frames that a generator continues, and the next features of a sequence.

It trains from the beginning by the product's own commands, scores the clips by networks that took no part in the
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
from gan_frames import MAX_CLIPS, SETS, ProofResult, prepare_clips, train_generator, write_sheet
from gan_judge import ClipEvaluator
from gan_series import Clips

from pipeline.checkpoint import load_model
from pipeline.heads.forecast import Forecast
from pipeline.inference.generate_sequences import generate_sequences
from pipeline.metrics.generation import Space, frechet_time
from pipeline.metrics.generation_probes import Probe, discriminative_score
from pipeline.models.model import Model
from pipeline.models.prediction import SeriesForecast
from pipeline.padded import Padded

PROBES: tuple[Probe, ...] = ("weak", "strong")
CONFIG = "puppets/animate.yaml"
CLASSIFIER = (
    "training.epochs=24",
    "training.lr=0.002",
    "core.hidden=256",
    "encoder.dropout=0.1",
    "training.precision=bf16",
)
"""Settings with which the classifier of turns is right on real clips after a short training."""

REAL = "real clips"
ASKED, OWN, INSTEAD, OTHER = (
    "generated, one of those that could follow, by lot",
    "generated, the action that really followed",
    "generated, another that could have followed",
    "generated, any other action",
)
FROZEN_ASKED, FROZEN, FROZEN_INSTEAD = (
    "frozen; one of those that could follow",
    "the first frame, frozen",
    "frozen; another that could have followed",
)


class Continued(NamedTuple):
    """Clips that continue first frames. labels: the actions that were asked for. tests: of which real test clips."""

    clips: list[np.ndarray]
    labels: Sequence[str]
    tests: Sequence[int]


class Score(NamedTuple):
    """Shares of clips that keep the content and that show the action, and the energy relative to real clips."""

    content: float
    action: float
    energy: float


def image_to_video(data: Path, seeds: int) -> ProofResult:
    """First frames of held-out actors from which several actions could follow, continued as asked; then the next
    features, forecast by error and by critic.
    """
    work = proof_tools.kept_folder("image-to-video")
    work.mkdir(parents=True, exist_ok=True)
    manifest = prepare_clips("puppets", data, work, "turns")
    common = [f"data.path={manifest}"]
    seconds = train_generator(CONFIG, common, work / "run")
    evaluator = ClipEvaluator(
        proof_tools.fresh_folder("gan-judge-image"), CONFIG, common, MAX_CLIPS, CLASSIFIER, grid=2
    )
    test, truncation = evaluator.test, SETS["puppets"].truncation
    lines = proof_tools.read_json_lines(manifest.with_name("possible.jsonl"))
    possible = {line["path"]: line["labels"] for line in lines}
    continued = _continue_frames(evaluator, work / "run", truncation, [possible[path] for path in test.paths])
    real_energy = _energy(test.frames)
    scores = {name: _score(evaluator, one, real_energy) for name, one in continued.items()}
    print(f"\n{len(test)} first frames of {len(set(test.groups))} unseen actors")
    print(f"{'':<52}{'content':>11}{'class':>11}{'energy':>11}")
    for name, score in scores.items():
        print(f"  {name:<50}" + "".join(f"{value:>11.3f}" for value in score))
    print(
        "  content: the mean features of the clip are nearest to its own first frame, of that and one of each other "
        "actor; class: the classifier finds the action that was asked for; energy: of changes, relative to real clips; "
        f"in {len(continued[ASKED].labels)} frames several actions could follow; codes truncated to {truncation:g}; "
        f"trained in {seconds:.0f} s; contact sheets: {work / 'sheet.png'}, {work / 'instead.png'}",
        flush=True,
    )
    write_sheet(work / "sheet.png", continued[OWN].clips, test.labels, steps=8)
    write_sheet(work / "instead.png", continued[INSTEAD].clips, continued[INSTEAD].labels, steps=8)
    figure, is_above = _compare_with_bars(len(test), scores)
    return f"{figure}; {next_features(data, work)}", is_above


def _compare_with_bars(count: int, scores: dict[str, Score]) -> tuple[str, bool]:
    """The figure of the continued frames, and whether all bars hold."""
    asked, own, instead = scores[ASKED], scores[OWN], scores[INSTEAD]
    frozen = {name: scores[name].action for name in (FROZEN_ASKED, FROZEN, FROZEN_INSTEAD)}
    content = min(asked.content, own.content, instead.content)
    figure = (
        f"{count} first frames of unseen actors: content nearest to the own actor's in {content:.2f} (bar 0.80); where "
        f"several actions could follow, one of them, drawn by lot, recognised in {asked.action:.2f} (bar 0.50; frozen "
        f"{frozen[FROZEN_ASKED]:.2f}), another than really followed in {instead.action:.2f} (frozen "
        f"{frozen[FROZEN_INSTEAD]:.2f}, which it must beat); everywhere what really followed in {own.action:.2f} "
        f"(frozen {frozen[FROZEN]:.2f}, which it must beat; real clips {scores[REAL].action:.2f}); energy "
        f"{asked.energy:.2f} of real clips'; any other action, mostly one that cannot follow, "
        f"{scores[OTHER].action:.2f} (reported)"
    )
    is_above = (
        content >= 0.8
        and asked.action >= 0.5
        and asked.action > frozen[FROZEN_ASKED]
        and own.action > frozen[FROZEN]
        and instead.action > frozen[FROZEN_INSTEAD]
    )
    return figure, is_above


def _continue_frames(
    evaluator: ClipEvaluator, run: Path, truncation: float, possible: Sequence[Sequence[str]]
) -> dict[str, Continued]:
    """The first frames of real test clips, continued with different actions. possible: the actions that could have
    followed.
    """
    test, random = evaluator.test, np.random.default_rng(0)
    every = range(len(test))
    others = [str(random.choice([n for n in evaluator.names if n != label])) for label in test.labels]
    several = [i for i, labels in enumerate(possible) if len(labels) > 1]
    asked = [str(random.choice(possible[i])) for i in several]
    instead = [str(random.choice([n for n in possible[i] if n != test.labels[i]])) for i in several]
    frozen = [np.repeat(frames[:1], len(frames), 0) for frames in test.frames]
    generator = _Continuation(evaluator, run)
    return {
        REAL: Continued(test.frames, test.labels, every),
        ASKED: generator(asked, truncation, several),
        OWN: generator(test.labels, truncation, every),
        "the same, not truncated": generator(test.labels, 1.0, every),
        INSTEAD: generator(instead, truncation, several),
        OTHER: generator(others, truncation, every),
        FROZEN_ASKED: Continued([frozen[i] for i in several], asked, several),
        FROZEN: Continued(frozen, test.labels, every),
        FROZEN_INSTEAD: Continued([frozen[i] for i in several], instead, several),
    }


class _Continuation:
    """Generates clips from the first frames of real test clips."""

    def __init__(self, evaluator: ClipEvaluator, run: Path) -> None:
        self.frames, self.folder, self.checkpoint = evaluator.test.frames, evaluator.work / "first", load_model(run)
        self.folder.mkdir(parents=True)

    def __call__(self, labels: Sequence[str], truncation: float, tests: Sequence[int]) -> Continued:
        """The first frames of these test clips, continued with these actions."""
        clips = []
        for number, label in zip(tests, labels, strict=True):
            frames, path = self.frames[number], self.folder / f"{number}.png"
            cv2.imwrite(str(path), frames[0][..., ::-1])
            (sequence,) = generate_sequences(
                self.checkpoint,
                torch.device("cpu"),
                label=label,
                length=len(frames),
                seed=number,
                image=path,
                truncation=truncation,
            )
            assert isinstance(sequence.values, np.ndarray)
            clips.append(sequence.values)
        return Continued(clips, labels, tests)


def _energy(clips: Sequence[np.ndarray]) -> float:
    """The mean change of a pixel from frame to frame."""
    return float(np.mean([np.abs(np.diff(c.astype(np.float32), axis=0)).mean() for c in clips if len(c) > 1]))


def _score(evaluator: ClipEvaluator, continued: Continued, real_energy: float) -> Score:
    """The score of clips that continue first frames."""
    test, random = evaluator.test, np.random.default_rng(0)
    features = evaluator.cnn(continued.clips)
    firsts, actors = np.stack([clip[0] for clip in test.features]), np.array(test.groups)
    is_kept = []
    for i, clip in zip(continued.tests, features, strict=True):
        rivals = [random.choice(np.flatnonzero(actors == a)) for a in sorted(set(actors) - {actors[i]})]
        distance = np.linalg.norm(firsts - clip.mean(0), axis=1)
        is_kept.append(bool(distance[i] < distance[rivals].min()))
    classes = evaluator.classify(features)
    recognised = float(np.mean([a == b for a, b in zip(classes, continued.labels, strict=True)]))
    return Score(float(np.mean(is_kept)), recognised, _energy(continued.clips) / real_energy)


def next_features(data: Path, work: Path) -> str:
    """The next 12 steps of features from the 12 before, learned by squared error alone and with a critic beside it."""
    folder, config = work / "ucf101_vgg16", "ucf101_vgg16/forecast.yaml"
    if not (folder / "manifest.jsonl").is_file():
        proof_tools.prepare_dataset("ucf101_vgg16", "--folder", data / "ucf101_vgg16", "--out", folder)
    settings = {"squared error": ["heads.next.adversarial=null"], "and a critic": []}
    runs = {name: proof_tools.fresh_folder(f"next-features-{number}") for number, name in enumerate(settings)}
    jobs = [[f"data.path={folder}/manifest.jsonl", f"run={runs[name]}", *settings[name]] for name in settings]
    proof_tools.train_all(config, jobs)
    train, test = Clips.read(folder, test=False), Clips.read(folder, test=True)
    heads = {name: load_model(run).model.eval() for name, run in runs.items()}
    head = heads["squared error"].head("next")
    assert isinstance(head, Forecast)
    context, horizon = head.context, head.horizon
    test = test.some([i for i, v in enumerate(test.values) if len(v) >= context + horizon])
    before = np.stack([v[:context] for v in test.values])
    truth = np.stack([v[context : context + horizon] for v in test.values])
    forecasts = {name: _forecast(model, before) for name, model in heads.items()}
    forecasts["the last step, repeated"] = before[:, -1:].repeat(horizon, 1)
    forecasts["the truth of another clip of the class"] = np.stack(_other_clips(truth, test.labels))
    print(f"\nthe next {horizon} steps of {len(test.values)} test clips, from the {context} before")
    print(f"{'':<44}" + "".join(f"{c:>11}" for c in ("mse", "mae", "energy", "time", "weak", "strong")))
    space = Space.fit(train.values, 32)
    figures = {name: _compare(values, truth, test, space) for name, values in forecasts.items()}
    for name, figure in figures.items():
        print(f"  {name:<42}" + "".join(f"{value:>11.3f}" for value in figure))
    print(
        "  energy: of changes from step to step, relative to the truth; time: Frechet distance of changes; weak, "
        "strong: discriminative scores",
        flush=True,
    )
    plain, adversarial = figures["squared error"], figures["and a critic"]
    return (
        f"next features: by squared error MSE {plain[0]:.3f}, energy {plain[2]:.2f}, time {plain[3]:.3f}; with a "
        f"critic MSE {adversarial[0]:.3f}, energy {adversarial[2]:.2f}, time {adversarial[3]:.3f}"
    )


def _forecast(model: Model, before: np.ndarray) -> np.ndarray:
    """The forecasts (N, K, D) after sequences (N, T, D)."""
    values = Padded(torch.from_numpy(before), torch.full((len(before),), before.shape[1]))
    head = model.head("next")
    with torch.no_grad():
        answers = head.answer(head.observe(model.watch({"series": values})))
    return np.array([answer.values for answer in answers if isinstance(answer, SeriesForecast)])


def _compare(values: np.ndarray, truth: np.ndarray, test: Clips, space: Space) -> list[float]:
    """MSE, MAE, energy, Frechet distance of changes, and both discriminative scores of forecasts (N, K, D)."""
    real, forecast = space.features(list(truth)), space.features(list(values.astype(np.float32)))
    groups, labels = test.groups, test.labels
    return [
        float(np.square(values - truth).mean()),
        float(np.abs(values - truth).mean()),
        float(np.square(np.diff(values, axis=1)).mean() / np.square(np.diff(truth, axis=1)).mean()),
        frechet_time(list(truth), list(values), space),
        *(
            discriminative_score(
                real,
                forecast,
                probe,
                groups=groups,
                generated_groups=groups,
                labels=labels,
                generated_labels=labels,
            )
            for probe in PROBES
        ),
    ]


def _other_clips(values: np.ndarray, labels: Sequence[str]) -> list[np.ndarray]:
    """For each clip another one of its class, half of the class further on."""
    order: dict[int, int] = {}
    for label in sorted(set(labels)):
        members = [i for i, other in enumerate(labels) if other == label]
        order |= dict(zip(members, [*members[len(members) // 2 :], *members[: len(members) // 2]], strict=True))
    return [values[order[i]] for i in range(len(values))]
