"""Distances of samples to classes that were fitted without them, and the threshold for `unknown` that follows.

In: features (N, D), classes (N,) and groups of samples. Out: distances, a threshold, and how well it works. It knows
nothing of models, of files or of how the features were made. The features must be frozen: where labels have shaped
them, a sample that is left out of the distance alone is not held out.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.manifest_rows import Row
from pipeline.data.split import fold_numbers
from pipeline.models.mahalanobis import Mahalanobis

MAX_FOLDS = 10
"""With this many groups or fewer each is held out alone."""
MIN_GROUPS = 3
"""With fewer groups of a class a held-out sample says little about new groups."""
MIN_DISTANCES = 19
"""With fewer held-out distances none of them bounds 95 % of new samples."""
MAX_STRANGERS = 10
"""Of more classes so many, drawn once, are left out in turn to measure how well strangers are refused."""


@dataclass(frozen=True)
class UnknownCheck:
    """How a threshold was found, and how well it works.

    threshold: nan where it is off; then `reason` says why. num_samples, num_groups: held out. known_kept: the share of
    samples within the threshold of the samples of all other folds. strangers_refused: for each class the share of its
    samples that are beyond the threshold of a model without this class; None where that model has no threshold. Of many
    classes only some are left out.
    """

    threshold: float
    reason: str
    num_samples: int
    num_groups: int
    known_kept: float | None = None
    strangers_refused: Mapping[int, float | None] | None = None


def check_unknown(
    features: Tensor, labels: Tensor, groups: Sequence[str], classes: Sequence[str], *, with_strangers: bool
) -> UnknownCheck:
    """The threshold for `unknown`, from samples that are held out by group, and how well it works.

    features: (N, D), frozen. labels: (N,) int64. groups: (N,), what must not be on both sides. classes: their names.
    with_strangers: also leave out each class in turn, which takes as long for each class.
    """
    counts = (len(labels), len(set(groups)))
    if reason := why_no_holding_out([classes[int(n)] for n in labels], groups) or why_no_threshold(len(labels)):
        return UnknownCheck(math.nan, reason, *counts)
    folds = group_folds(groups, labels, MAX_FOLDS)
    distances = held_out_distances(features, labels, folds)
    strangers = _strangers_refused(features, labels, folds) if with_strangers else None
    return UnknownCheck(threshold_of(distances), "", *counts, _known_kept(distances, folds), strangers)


def why_no_holding_out(labels: Sequence[str], groups: Sequence[str]) -> str:
    """Why groups cannot be held out; empty where they can."""
    by_label: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        by_label[label].add(group)
    label = min(by_label, key=lambda label: len(by_label[label]))
    if (count := len(by_label[label])) >= MIN_GROUPS:
        return ""
    return f"the class '{label}' has {count} groups (persons, scenes), and at least {MIN_GROUPS} a class are needed"


def why_no_threshold(num_distances: int) -> str:
    """Why there is no threshold; empty where there is one."""
    if num_distances >= MIN_DISTANCES:
        return ""
    return f"there are {num_distances} samples to hold out, and at least {MIN_DISTANCES} are needed"


def threshold_of(distances: Tensor) -> float:
    """The ceil(0.95 (n + 1))-th smallest of n held-out distances; nan below MIN_DISTANCES.

    A new sample of a known class that is exchangeable with the n is within it with a probability of at least 95 %
    (conformal prediction: Vovk et al. 2005, Lei et al. 2018, JASA 113). Below n = 39 it is the largest distance.
    """
    if len(distances) < MIN_DISTANCES:
        return math.nan
    rank = -(-19 * (len(distances) + 1) // 20)  # in whole numbers: 0.95 has no exact value
    return float(distances.sort().values[rank - 1])


def group_folds(groups: Sequence[str], labels: Tensor, most: int) -> Tensor:
    """(N,): the fold of each sample; a group is in one fold, and the folds have about equal classes."""
    rows = [Row("", group=group, label=str(label)) for group, label in zip(groups, labels.tolist(), strict=True)]
    return torch.tensor(fold_numbers(rows, min(most, len(set(groups)))))


def held_out_distances(features: Tensor, labels: Tensor, folds: Tensor) -> Tensor:
    """(N,): the distance of each sample to the classes of the samples in all other folds."""
    distances = features.new_zeros(len(features))
    for fold in folds.unique():
        is_out = folds == fold
        distances[is_out] = fitted(features[~is_out], labels[~is_out])(features[is_out])
    return distances


def fitted(features: Tensor, labels: Tensor) -> Mahalanobis:
    """The distance to the classes that occur."""
    names, classes = labels.unique(return_inverse=True)
    distance = Mahalanobis(num_classes=len(names), size=features.shape[1])
    distance.fit(features, classes)
    return distance


def _known_kept(distances: Tensor, folds: Tensor) -> float | None:
    """The share of samples within the threshold of all other folds; None where these are too few for one."""
    kept = 0
    for fold in folds.unique():
        threshold = threshold_of(distances[folds != fold])
        if math.isnan(threshold):
            return None
        kept += int((distances[folds == fold] <= threshold).sum())
    return kept / len(distances)


def _strangers_refused(features: Tensor, labels: Tensor, folds: Tensor) -> dict[int, float | None]:
    """By class, the share of its samples beyond the threshold of all other classes; None where these are too few."""
    refused: dict[int, float | None] = {}
    classes = labels.unique().tolist()
    for label in sorted(random.Random(0).sample(classes, min(len(classes), MAX_STRANGERS))):
        is_known = labels != label
        x, y = features[is_known], labels[is_known]
        threshold = threshold_of(held_out_distances(x, y, folds[is_known])) if len(y.unique()) > 1 else math.nan
        is_beyond = None if math.isnan(threshold) else fitted(x, y)(features[~is_known]) > threshold
        refused[label] = None if is_beyond is None else float(is_beyond.double().mean())
    return refused
