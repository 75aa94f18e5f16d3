"""Promise about trust: unknown. Each yoga6 class left out in turn, found unknown on held-out persons; calibration beside it.

The function does the work afresh, prints its tables and returns (figure as text, whether the bar holds). The score (Lee et al.
2018, with nothing to tune) was picked among many on these six classes, one seed, no validation part: docs/LOG.md lists them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import proof
import torch

from pipeline.checkpoint import load_model
from pipeline.config import load_config
from pipeline.metrics.bootstrap import grouped_interval
from pipeline.metrics.calibration import (
    area_under_coverage_risk,
    auroc,
    coverage_risk,
    energy,
    expected_calibration_error,
    expected_calibration_error_interval,
    max_logit,
    negative_log_likelihood,
)

Answer = tuple[str, bool]
Clips = list[dict[str, Any]]
FOLDS = 4
SCORES = ("distance", "max_logit", "energy", "max_softmax")


def unknown(data: Path, seeds: int) -> Answer:
    """6 classes x 4 folds by person: AUROC of the class that was left out, by class and as their mean."""
    work, watch = proof.fresh("unknown"), proof.Stopwatch()
    proof.prepare_dataset("yoga6", "--folder", data / "yoga6", "--out", work / "yoga6.jsonl")
    common = [f"data.path={work}/yoga6.jsonl", f"data.root={data}/yoga6", f"data.features={work}/features"]
    proof.unreel("extract", proof.REPOSITORY / "configs/yoga6/action.yaml", *common)
    common += ["data.validation=0.2", "evaluation.baselines=false", "evaluation.orders=false"]
    classes = load_names(common)
    settings = [
        [
            *common,
            f"data.fold={fold}",
            f"training.seed={seed}",
            f"evaluation.unknown=[{left}]",
            f"run={work}/seed{seed}_fold{fold}_{left or 'none'}",
        ]
        for seed in range(seeds)
        for left in ("", *classes)
        for fold in range(FOLDS)
    ]
    reports = proof.train_all("yoga6/action.yaml", settings)
    clips = [clip for setting in settings for clip in test_clips(setting)]
    whole = [c for c in clips if not c["left"]]
    left_out = [c for c in clips if c["left"]]
    mean, low = show_auroc(left_out, classes, seeds)
    show_threshold(left_out, classes)
    show_calibration(whole, seeds)
    show_coverage(whole, left_out)
    print(f"videos that could not be read: {proof.failed_count(reports)}; {watch.seconds:.0f} s", flush=True)
    return f"macro mean AUROC {mean:.3f} (bar 0.80), worst class {low:.3f}; {watch.seconds:.0f} s", mean >= 0.80


def load_names(common: list[str]) -> list[str]:
    """The classes of the data set."""
    from pipeline.prepare import read_rows

    config = load_config(proof.REPOSITORY / "configs/yoga6/action.yaml", common)
    return sorted({row.label for row in read_rows(config, lambda text: None).rows if row.label})


def test_clips(setting: list[str]) -> Clips:
    """Every clip of a run's held-out persons, known or not, as the stored model answers it."""
    from pipeline.data.dataset import RowDataset
    from pipeline.heads.classify import Classify
    from pipeline.prepare import prepare
    from pipeline.training.evaluate import judge
    from pipeline.training.runtime import Runtime

    config = load_config(proof.REPOSITORY / "configs/yoga6/action.yaml", setting)
    place = Runtime(torch.device("cpu"))
    prepared = prepare(config, place, lambda text: None)
    model = load_model(str(config.run)).model
    head = model.head("action")
    assert isinstance(head, Classify)
    learned = {r.group for part in ("train", "val") for r in prepared.rows(part)}
    names = {r.label for part in ("train", "val") for r in prepared.rows(part)}
    rows = prepared.rows("test") + prepared.strangers()
    assert names == set(head.vocabulary.names) and not names & set(prepared.unknown)
    assert not learned & {r.group for r in rows}, "a person stands on both sides"
    known = {name: number for number, name in enumerate(head.vocabulary.names)}
    dataset = RowDataset(
        rows, prepared.source, {"action": lambda row, times: torch.tensor(known.get(row.label or "", -1))}
    )
    found = judge(model, dataset, batch_size=16, device=place.device, has_loss=False).evidence["action"]
    distances = head.distances(found).tolist()
    return [
        {
            "seed": config.training.seed,
            "fold": config.data.fold,
            "left": "".join(prepared.unknown),
            "person": row.group,
            "is_unknown": row.label not in names,
            "label": one.label,
            "logits": one.logits,
            "scaled": head.trust.scaled(one.logits),
            "refused": head.trust.is_unknown(far),
            "distance": far,
            "max_logit": float(max_logit(one.logits)),
            "energy": float(energy(one.logits)),
            "max_softmax": float(-one.logits.softmax(-1).max()),
        }
        for row, one, far in zip(rows, found, distances, strict=True)
    ]


def ranked(clips: Clips, score: str) -> float:
    """AUROC over clips, their scores as they are."""
    return auroc([c[score] for c in clips], [c["is_unknown"] for c in clips])


def within_folds(clips: Clips, score: str) -> float:
    """AUROC that compares only clips of one model: the mean over folds, weighted by their pairs."""
    parts = [[c for c in clips if c["fold"] == fold] for fold in range(FOLDS)]
    pairs = [sum(c["is_unknown"] for c in p) * sum(not c["is_unknown"] for c in p) for p in parts]
    return sum(n * ranked(p, score) for n, p in zip(pairs, parts, strict=True) if n) / sum(pairs)


def macro(clips: Clips, score: str) -> float:
    """The mean over the classes left out."""
    return float(
        np.mean([ranked([c for c in clips if c["left"] == left], score) for left in {c["left"] for c in clips}])
    )


def show_auroc(clips: Clips, classes: list[str], seeds: int) -> tuple[float, float]:
    """The table of the promise. Returns the macro mean and the worst class by the distance."""
    print("\nyoga6, one class left out, held-out persons: AUROC of the unseen class against the known ones")
    print(f"  {'left out':<14}" + "".join(f"{name:>13}" for name in SCORES) + f"{'within folds':>15}{'clips':>8}")
    table = []
    for left in classes:
        each = [[c for c in clips if c["left"] == left and c["seed"] == seed] for seed in range(seeds)]
        row = [float(np.mean([ranked(part, score) for part in each])) for score in SCORES]
        row.append(float(np.mean([within_folds(part, "distance") for part in each])))
        table.append(row)
        count = sum(c["is_unknown"] for c in each[0])
        print(f"  {left:<14}" + "".join(f"{v:>13.3f}" for v in row[:-1]) + f"{row[-1]:>15.3f}{count:>8}")
    means = np.mean(table, axis=0)
    print(f"  {'mean':<14}" + "".join(f"{v:>13.3f}" for v in means[:-1]) + f"{means[-1]:>15.3f}")
    one = [c for c in clips if c["seed"] == 0]
    for score in SCORES:
        figures = [macro([c for c in clips if c["seed"] == seed], score) for seed in range(seeds)]
        low, high = grouped_interval(
            lambda drawn, s=score: macro(drawn, s), one, [c["person"] for c in one], repeats=300
        )
        print(
            f"  {score:<12} seeds {'  '.join(f'{f:.3f}' for f in figures)}   95 % by person (seed 0) {low:.3f} to {high:.3f}"
        )
    print(
        "  the clips of the four folds are ranked together by their scores as they are; within folds: one model at a time"
    )
    return float(means[0]), float(min(row[0] for row in table))


def show_threshold(clips: Clips, classes: list[str]) -> None:
    """What the stored threshold does to persons that it was not fitted on."""
    print("\nthe threshold that keeps 95 % of the known validation clips, on held-out persons")
    for left in (*classes, "all six"):
        some = [c for c in clips if left in ("all six", c["left"])]
        kept = np.mean([not c["refused"] for c in some if not c["is_unknown"]])
        refused = np.mean([c["refused"] for c in some if c["is_unknown"]])
        print(f"  {left:<14} known clips kept {kept:.3f}   unknown clips refused {refused:.3f}")


def show_calibration(clips: Clips, seeds: int) -> None:
    """ECE and NLL of the six-class models, before and after the stored temperature."""
    print("\nall six classes learned: calibration on held-out persons, temperature from the validation persons")
    for seed in range(seeds):
        some = [c for c in clips if c["seed"] == seed]
        labels, people = torch.tensor([c["label"] for c in some]), [c["person"] for c in some]
        for name, key in (("before", "logits"), ("after", "scaled")):
            logits = torch.stack([c[key] for c in some])
            probabilities = logits.softmax(-1)
            error = expected_calibration_error(probabilities, labels)
            low, high = expected_calibration_error_interval(probabilities, labels, people)
            print(
                f"  seed {seed} {name:<7} ECE {error:.3f} (95 % by person {low:.3f} to {high:.3f})   NLL "
                f"{negative_log_likelihood(logits, labels):.3f}   mean confidence {float(probabilities.amax(-1).mean()):.3f}   "
                f"accuracy {float((logits.argmax(-1) == labels).float().mean()):.3f}"
            )


def show_coverage(whole: Clips, left_out: Clips) -> None:
    """The share of wrong answers among those given, when only the most confident share is answered."""
    shares = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    print(
        "\ncoverage and risk: of the share answered, the share that is wrong (an answer to an unknown clip always is)"
    )
    print(f"  {'':<38}" + "".join(f"{s:>8.0%}" for s in shares) + f"{'AURC':>8}")
    for name, clips, key in (
        ("six known classes, by confidence", whole, "confidence"),
        ("with one class unknown, by confidence", left_out, "confidence"),
        ("with one class unknown, by distance", left_out, "distance"),
    ):
        confidence = [-c["distance"] if key == "distance" else float(c["scaled"].softmax(-1).max()) for c in clips]
        curve = coverage_risk(
            confidence, [not c["is_unknown"] and int(c["logits"].argmax()) == c["label"] for c in clips]
        )
        risks = [next(risk for coverage, risk in curve if coverage >= s - 1e-9) for s in shares]
        print(f"  {name:<38}" + "".join(f"{r:>8.3f}" for r in risks) + f"{area_under_coverage_risk(curve):>8.3f}")
