"""The promise unknown: each yoga6 class is left out in turn and detected as unknown on held-out persons.

The function does the work afresh, prints its tables and returns (result as text, whether the bar holds). The score (Lee
et al. 2018, with nothing to tune) was chosen among many on these six classes, with one seed and no validation split:
docs/LOG.md lists them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import proof_tools
import torch
from proof_tools import load_proof_config

from pipeline.checkpoint import load_model
from pipeline.commands.prepare_data import prepare, read_rows
from pipeline.data.dataset import RowDataset
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.heads.classify import Classify, ClassifyResult
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
from pipeline.training.distributed import DistributedContext

Answer = tuple[str, bool]
Clips = list[dict[str, Any]]
CONFIG = "yoga6/action.yaml"
FOLDS = proof_tools.SIZE.pick(4, 2)
SCORES = ("distance", "max_logit", "energy", "max_softmax")


def unknown(data: Path, seeds: int) -> Answer:
    """6 classes x 4 folds by person: the AUROC of the class that was left out, for each class and as their mean."""
    work, watch = proof_tools.fresh_folder("unknown"), proof_tools.Stopwatch()
    proof_tools.prepare_dataset("yoga6", "--folder", data / "yoga6", "--out", work / "yoga6.jsonl")
    common = [f"data.path={work}/yoga6.jsonl", f"data.root={data}/yoga6", f"data.feature_store={work}/features"]
    proof_tools.unreel("extract", proof_tools.REPOSITORY / "configs" / CONFIG, *common)
    common += ["data.validation_share=0.2", "evaluation.baselines=false", "evaluation.order_controls=false"]
    rows = read_rows(load_proof_config(CONFIG, common), lambda text: None).rows
    classes = sorted({row.label for row in rows if row.label})
    settings = [
        [
            *common,
            f"data.fold={fold}",
            f"training.seed={seed}",
            f"evaluation.unknown_classes=[{left_out}]",
            f"run={work}/seed{seed}_fold{fold}_{left_out or 'none'}",
        ]
        for seed in range(seeds)
        for left_out in ("", *classes)
        for fold in range(FOLDS)
    ]
    reports = proof_tools.train_all(CONFIG, settings)
    clips = [clip for overrides in settings for clip in clip_results(overrides)]
    all_known = [clip for clip in clips if not clip["left_out"]]
    one_unknown = [clip for clip in clips if clip["left_out"]]
    mean, lowest = print_auroc(one_unknown, classes, seeds)
    print_threshold(one_unknown, classes)
    print_calibration(all_known, seeds)
    print_coverage(all_known, one_unknown)
    print(f"unreadable videos: {proof_tools.count_failed(reports)}; {watch.seconds:.0f} s", flush=True)
    return f"macro mean AUROC {mean:.3f} (bar 0.80), worst class {lowest:.3f}; {watch.seconds:.0f} s", mean >= 0.80


def clip_results(settings: list[str]) -> Clips:
    """The stored model's results for every clip of a run's held-out persons, of known and of unknown classes."""
    config = load_proof_config(CONFIG, settings)
    context = DistributedContext(torch.device("cpu"))
    data = prepare(config, context, lambda text: None)
    model = load_model(str(config.run)).model
    head = model.head("action")
    assert isinstance(head, Classify)
    training_rows = data.rows("train") + data.rows("val")
    names = {row.label for row in training_rows}
    rows = data.rows("test") + data.unknown_rows()
    assert names == set(head.vocabulary.names)
    assert not names & set(data.unknown_classes)
    assert not {row.group for row in training_rows} & {row.group for row in rows}, "a person is in both splits"
    indices = {name: index for index, name in enumerate(head.vocabulary.names)}
    targets = {"action": lambda row, times: torch.tensor(indices.get(row.label or "", -1))}
    dataset = RowDataset(rows, data.source, targets)
    evaluation = evaluate_dataset(model, dataset, batch_size=16, device=context.device, has_loss=False)
    results = evaluation.results["action"]
    run_facts = {
        "seed": config.training.seed,
        "fold": config.data.fold,
        "left_out": "".join(data.unknown_classes),
    }
    return [
        {**run_facts, "person": row.group, "is_unknown": row.label not in names, **clip_scores(head, result, distance)}
        for row, result, distance in zip(rows, results, head.distances(results).tolist(), strict=True)
    ]


def clip_scores(head: Classify, result: ClassifyResult, distance: float) -> dict[str, Any]:
    """Target, logits, the decision and the scores for unknown of one clip."""
    return {
        "label": result.label,
        "logits": result.logits,
        "scaled": head.confidence.scale(result.logits),
        "is_refused": bool(head.confidence.is_unknown(distance)),  # None: a model without a threshold refuses nothing
        "distance": distance,
        "max_logit": float(max_logit(result.logits)),
        "energy": float(energy(result.logits)),
        "max_softmax": float(-result.logits.softmax(-1).max()),
    }


def pooled_auroc(clips: Clips, score: str) -> float:
    """The AUROC over clips of several models, without any normalisation of their scores."""
    return auroc([clip[score] for clip in clips], [clip["is_unknown"] for clip in clips])


def auroc_within_folds(clips: Clips, score: str) -> float:
    """The AUROC within one model at a time: the mean over folds, weighted by their pairs of clips."""
    folds = [[clip for clip in clips if clip["fold"] == fold] for fold in range(FOLDS)]
    num_unknown = [sum(clip["is_unknown"] for clip in fold) for fold in folds]
    pairs = [count * (len(fold) - count) for fold, count in zip(folds, num_unknown, strict=True)]
    return sum(n * pooled_auroc(fold, score) for n, fold in zip(pairs, folds, strict=True) if n) / sum(pairs)


def macro_auroc(clips: Clips, score: str) -> float:
    """The mean over the classes that were left out."""
    classes = {clip["left_out"] for clip in clips}
    return float(np.mean([pooled_auroc([c for c in clips if c["left_out"] == name], score) for name in classes]))


def print_auroc(clips: Clips, classes: list[str], seeds: int) -> tuple[float, float]:
    """The table of the promise. Returns the macro mean and the worst class, both of the distance."""
    print("\nyoga6, one class left out, held-out persons: AUROC of the unknown class against the known ones")
    print(f"  {'left out':<14}" + "".join(f"{name:>13}" for name in SCORES) + f"{'within folds':>15}{'clips':>8}")
    table = []
    for name in classes:
        by_seed = [[c for c in clips if c["left_out"] == name and c["seed"] == seed] for seed in range(seeds)]
        row = [float(np.mean([pooled_auroc(part, score) for part in by_seed])) for score in SCORES]
        row.append(float(np.mean([auroc_within_folds(part, "distance") for part in by_seed])))
        table.append(row)
        count = sum(clip["is_unknown"] for clip in by_seed[0])
        print(f"  {name:<14}" + "".join(f"{v:>13.3f}" for v in row[:-1]) + f"{row[-1]:>15.3f}{count:>8}")
    means = np.mean(table, axis=0)
    print(f"  {'mean':<14}" + "".join(f"{v:>13.3f}" for v in means[:-1]) + f"{means[-1]:>15.3f}")
    first_seed = [clip for clip in clips if clip["seed"] == 0]
    persons = [clip["person"] for clip in first_seed]
    for score in SCORES:
        by_seed = [f"{macro_auroc([c for c in clips if c['seed'] == seed], score):.3f}" for seed in range(seeds)]
        low, high = grouped_interval(
            lambda drawn, score=score: macro_auroc(drawn, score), first_seed, persons, repeats=300
        )
        print(f"  {score:<12} seeds {'  '.join(by_seed)}   95 % by person (seed 0) {low:.3f} to {high:.3f}")
    print("  the scores of the four folds are pooled without normalisation; within folds: one model at a time")
    return float(means[0]), float(min(row[0] for row in table))


def print_threshold(clips: Clips, classes: list[str]) -> None:
    """The effect of the stored threshold on persons that it was not fitted to."""
    print("\nthe threshold that keeps 95 % of the validation clips, on held-out persons")
    for name in (*classes, "all six"):
        some = [clip for clip in clips if name in ("all six", clip["left_out"])]
        kept = np.mean([not clip["is_refused"] for clip in some if not clip["is_unknown"]])
        refused = np.mean([clip["is_refused"] for clip in some if clip["is_unknown"]])
        print(f"  {name:<14} known clips kept {kept:.3f}   unknown clips refused {refused:.3f}")


def print_calibration(clips: Clips, seeds: int) -> None:
    """ECE and NLL of the six-class models, before and after the stored temperature."""
    print("\nall six classes in training: calibration on held-out persons, temperature from the validation persons")
    for seed in range(seeds):
        some = [clip for clip in clips if clip["seed"] == seed]
        labels, persons = torch.tensor([clip["label"] for clip in some]), [clip["person"] for clip in some]
        for name, key in (("before", "logits"), ("after", "scaled")):
            logits = torch.stack([clip[key] for clip in some])
            probabilities = logits.softmax(-1)
            error = expected_calibration_error(probabilities, labels)
            low, high = expected_calibration_error_interval(probabilities, labels, persons)
            print(
                f"  seed {seed} {name:<7} ECE {error:.3f} (95 % by person {low:.3f} to {high:.3f})   NLL "
                f"{negative_log_likelihood(logits, labels):.3f}   mean confidence "
                f"{float(probabilities.amax(-1).mean()):.3f}   accuracy "
                f"{float((logits.argmax(-1) == labels).float().mean()):.3f}"
            )


def print_coverage(all_known: Clips, one_unknown: Clips) -> None:
    """The share of wrong answers (risk) when only the most confident clips are answered (coverage)."""
    shares = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    print("\nrisk by coverage: the share of wrong answers; any answer to a clip of an unknown class is wrong")
    print(f"  {'':<38}" + "".join(f"{share:>8.0%}" for share in shares) + f"{'AURC':>8}")
    for name, clips, key in (
        ("six known classes, by confidence", all_known, "confidence"),
        ("with one class unknown, by confidence", one_unknown, "confidence"),
        ("with one class unknown, by distance", one_unknown, "distance"),
    ):
        confidences = [-c["distance"] if key == "distance" else float(c["scaled"].softmax(-1).max()) for c in clips]
        is_correct = [not c["is_unknown"] and int(c["logits"].argmax()) == c["label"] for c in clips]
        curve = coverage_risk(confidences, is_correct)
        risks = [next(risk for coverage, risk in curve if coverage >= share - 1e-9) for share in shares]
        print(f"  {name:<38}" + "".join(f"{r:>8.3f}" for r in risks) + f"{area_under_coverage_risk(curve):>8.3f}")
