"""Calibration of a trained model, and the metrics of its detection of unknown classes.

In: a trained model with its rows; results of known and of unknown rows. Out: calibrated heads, what was fitted and how
well it works. It knows nothing of files or of the training loop: held-out models are trained by the caller.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pipeline.data.dataset import RowDataset, RowSource
from pipeline.data.manifest_rows import Row
from pipeline.evaluation.evaluate_dataset import Processes, evaluate_dataset
from pipeline.evaluation.held_out import UnknownCheck, check_unknown, threshold_of, why_no_threshold
from pipeline.heads.classify import Classify, ClassifyResult, logits_and_labels
from pipeline.heads.confidence import MIN_SAMPLES
from pipeline.metrics.calibration import auroc, energy, max_logit
from pipeline.models.model import Model

MAX_ROWS = 2000
"""The most rows that calibration reads, balanced over the labels. More would take time and change little."""
HeldOut = tuple[Mapping[str, Sequence[ClassifyResult]], str]
"""By head, results of training rows from models that were trained without them; or nothing, and why."""


@dataclass(frozen=True)
class KnownRows:
    """The training and validation rows, and the group of each: what must not be on both sides of a split.

    has_groups: whether the manifest gives the groups of all rows; otherwise rows without one that look alike share one.
    """

    rows: Sequence[Row]
    groups: Sequence[str]
    has_groups: bool

    def some(self) -> KnownRows:
        """At most MAX_ROWS rows, equally many of each label, of as many groups as a random choice gives."""
        per_label = max(2, MAX_ROWS // max(1, len({row.label for row in self.rows})))
        order = list(range(len(self.rows)))
        random.Random(0).shuffle(order)
        counts: Counter[str | None] = Counter()
        chosen = []
        for index in order:
            counts[self.rows[index].label] += 1
            if counts[self.rows[index].label] <= per_label:
                chosen.append(index)
        chosen.sort()
        return replace(self, rows=[self.rows[i] for i in chosen], groups=[self.groups[i] for i in chosen])


@dataclass(frozen=True)
class Calibration:
    """What was fitted for one head. temperature_note: from what, or why there is none."""

    head: str
    temperature: float
    temperature_note: str
    unknown: UnknownCheck
    has_groups: bool
    classes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for report.json and model.json."""
        unknown = self.unknown
        is_off = math.isnan(unknown.threshold)
        refused = (unknown.strangers_refused or {}).items()
        return {
            "temperature": self.temperature,
            "threshold": None if is_off else unknown.threshold,
            "unknown_is_off": unknown.reason or None,
            "held_out_samples": unknown.num_samples,
            "held_out_groups": unknown.num_groups,
            "has_groups": self.has_groups,
            "known_kept": unknown.known_kept,
            "strangers_refused": {self.classes[label]: share for label, share in refused},
            "text": self.sentences(),
        }

    def sentences(self) -> list[str]:
        """The same in words."""
        unknown = self.unknown
        lines = [f"{self.head}: temperature {self.temperature:.3f}: {self.temperature_note}"]
        if unknown.reason:
            return [*lines, f"{self.head}: `unknown` is off: {unknown.reason}"]
        kept = "" if unknown.known_kept is None else f"; known kept {unknown.known_kept:.0%}"
        lines.append(
            f"{self.head}: `unknown` is on: beyond distance {unknown.threshold:.3f}, from {unknown.num_samples} "
            f"held-out samples of {unknown.num_groups} groups{kept}"
        )
        if not self.has_groups:
            lines.append(
                f"{self.head}: not all rows have a group, so those that look alike count as one group. A new person "
                "may be refused more often (10 % measured by rows, not 5 %)"
            )
        shares = {label: share for label, share in (unknown.strangers_refused or {}).items() if share is not None}
        if shares:
            mean = sum(shares.values()) / len(shares)
            named = ", ".join(f"{self.classes[label]} {share:.0%}" for label, share in shares.items())
            lines.append(
                f"{self.head}: strangers refused {mean:.0%}, the mean over {_counted(len(shares), self.classes)} left "
                f"out in turn ({named}). They are near; videos of something else are refused more often"
            )
        return lines


def _counted(count: int, classes: Sequence[str]) -> str:
    return "the classes, each" if count == len(classes) else f"{count} of {len(classes)} classes, each"


def calibrate(
    model: Model,
    source: RowSource,
    known: KnownRows,
    *,
    batch_size: int,
    device: torch.device,
    with_strangers: bool = True,
    held_out: Callable[[], HeldOut] = lambda: ({}, "no held-out models were asked for"),
    processes: Processes | None = None,
) -> dict[str, Calibration]:
    """Fit temperature, distance and threshold of each head that classifies; returns what was fitted, by head.

    The heads see whole rows, as at inference: no windows, no augmentation, no dropout. The temperature comes from the
    validation rows, or without them from the results of `held_out`, which is called only then. with_strangers: also
    measure how well each class is refused when it is left out. processes: that share the batches.
    """
    heads = {name: head for name in model.heads if isinstance(head := model.head(name), Classify)}
    if not heads:
        return {}
    known = known.some()
    dataset = RowDataset(known.rows, source, {name: head.target for name, head in heads.items()})
    results = evaluate_dataset(
        model, dataset, batch_size=batch_size, device=device, has_loss=False, processes=processes
    ).results
    is_validation = [row.split == "val" for row in known.rows]
    without: HeldOut | None = None
    calibrations = {}
    for name, head in heads.items():
        head.confidence.reset()
        validation = [result for result, is_val in zip(results[name], is_validation, strict=True) if is_val]
        if len(validation) < MIN_SAMPLES:
            without = held_out() if without is None else without
        note = _fit_temperature(head, validation, without)
        check = _fit_distance(head, results[name], known, with_strangers)
        head.confidence.set_threshold(check.threshold)
        temperature = float(head.confidence.get_buffer("temperature"))
        calibrations[name] = Calibration(name, temperature, note, check, known.has_groups, head.vocabulary.names)
    return calibrations


def _fit_temperature(head: Classify, validation: Sequence[ClassifyResult], without: HeldOut | None) -> str:
    """Fit the temperature to validation samples, or to those that other models were not trained on. Returns a note."""
    samples, origin = validation, "validation samples"
    reason = f"{len(validation)} validation samples" if validation else "no validation samples"
    if without is not None:
        samples, origin = without[0].get(head.name, ()), "samples, each from one of three models that had not seen it"
        reason += f", and no held-out models: {without[1]}" if without[1] else f", {len(samples)} held-out samples"
    if len(samples) < MIN_SAMPLES:
        return f"not calibrated: {reason} (at least {MIN_SAMPLES} samples are needed)"
    head.confidence.fit_temperature(*logits_and_labels(samples))
    return f"calibrated on {len(samples)} {origin}"


def _fit_distance(
    head: Classify, results: Sequence[ClassifyResult], known: KnownRows, with_strangers: bool
) -> UnknownCheck:
    """Fit the distance, and find the threshold from held-out samples.

    Of frozen features the distance has seen all rows, and groups are held out in turn. Learned features were shaped by
    the labels of the training rows, so only the validation rows are held out, and the distance has seen the others.
    """
    can_hold_out = head.has_frozen_features
    finite = [bool(result.features.isfinite().all()) for result in results]
    rows = [(r, row, group) for r, row, group, ok in zip(results, known.rows, known.groups, finite, strict=True) if ok]
    fitted_to = [r for r, row, _ in rows if can_hold_out or row.split != "val"]
    counts = (len(rows), len({group for *_, group in rows}))
    missing = set(range(len(head.vocabulary))) - {result.label for result in fitted_to}
    if not head.feature_size or missing:
        names = ", ".join(head.vocabulary.names[label] for label in sorted(missing))
        return UnknownCheck(math.nan, f"no training row shows {names or 'its features'}", *counts)
    head.confidence.fit_distance(*_features_and_labels(fitted_to))
    if can_hold_out:
        features, labels = _features_and_labels([r for r, *_ in rows])
        groups = [group for *_, group in rows]
        return check_unknown(features, labels, groups, head.vocabulary.names, with_strangers=with_strangers)
    held_out = [r for r, row, _ in rows if row.split == "val"]
    counts = (len(held_out), len({group for _, row, group in rows if row.split == "val"}))
    if reason := why_no_threshold(len(held_out)):
        reason = f"its features are learned, so only validation rows are held out: {reason}"
        return UnknownCheck(math.nan, reason, *counts)
    return UnknownCheck(threshold_of(head.distances(held_out)), "", *counts)


def _features_and_labels(results: Sequence[ClassifyResult]) -> tuple[Tensor, Tensor]:
    return torch.stack([result.features for result in results]), torch.tensor([result.label for result in results])


def unknown_metrics(
    head: Classify, known: Sequence[ClassifyResult], unknown: Mapping[str, Sequence[ClassifyResult]]
) -> dict[str, Any]:
    """Metrics of the detection of unknown classes.

    known: results of test rows of the known classes. unknown: results of test rows of each class that the model was not
    trained on. Returns the AUROC of the head's distance over all unknown rows and for each class (0.5 is chance), the
    AUROC of energy and max logit, the share of known rows that the threshold keeps, and the share of unknown rows that
    it refuses. A value is None where the head has no distance or no threshold.
    """
    all_unknown = [result for results in unknown.values() for result in results]
    known_distances, unknown_distances = head.distances(known), head.distances(all_unknown)
    logits = logits_and_labels([*known, *all_unknown])[0]
    known_refused = _refused_share(head, known_distances)
    return {
        "count": len(all_unknown),
        "auroc": _auroc(known_distances, unknown_distances),
        "auroc_energy": _auroc(*_split(energy(logits), len(known))),
        "auroc_max_logit": _auroc(*_split(max_logit(logits), len(known))),
        "per_class": {name: _auroc(known_distances, head.distances(results)) for name, results in unknown.items()},
        "kept": None if known_refused is None else 1 - known_refused,
        "refused": _refused_share(head, unknown_distances),
    }


def _refused_share(head: Classify, distances: Tensor) -> float | None:
    """The share of samples that the head calls unknown; None without a threshold."""
    is_refused = [head.confidence.is_unknown(distance) for distance in distances.tolist()]
    return None if None in is_refused else sum(map(bool, is_refused)) / len(is_refused)


def _split(scores: Tensor, num_known: int) -> tuple[Tensor, Tensor]:
    return scores[:num_known], scores[num_known:]


def _auroc(known: Tensor, unknown: Tensor) -> float | None:
    """The AUROC of scores for unknown; None where a score is missing, because then there is no ranking."""
    scores = torch.cat([known, unknown])
    return None if scores.isnan().any() else auroc(scores, torch.arange(len(scores)) >= len(known))
