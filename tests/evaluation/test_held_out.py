"""Held-out distances and the threshold for `unknown`, against loops, exact fractions and worlds with known coverage."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from pipeline.evaluation import held_out
from pipeline.evaluation.held_out import (
    MIN_DISTANCES,
    check_unknown,
    group_folds,
    held_out_distances,
    threshold_of,
    why_no_holding_out,
)
from pipeline.models.mahalanobis import Mahalanobis

D = 4
CLASSES = ["bend", "clap", "wave"]


def world(
    groups: int, seed: int, per_group: int = 3, spread: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Samples of three classes around their axes; each group (person) moves all of its samples by a vector."""
    generator = torch.Generator().manual_seed(seed)
    features, labels, names = [], [], []
    for group in range(groups):
        moved = spread * torch.randn(D, generator=generator)
        for number in range(per_group):
            label = number % 3
            features.append(6 * torch.eye(D)[label] + moved + 0.3 * torch.randn(D, generator=generator))
            labels.append(label)
            names.append(f"p{group}")
    return torch.stack(features), torch.tensor(labels), names


@pytest.mark.parametrize("n", [*range(MIN_DISTANCES), *range(MIN_DISTANCES, 45), 59, 99, 139, 199, 999])
def test_the_threshold_is_the_smallest_order_statistic_that_bounds_95_percent(n):
    distances = torch.arange(1.0, n + 1)[torch.randperm(n, generator=torch.Generator().manual_seed(n))]
    rank = math.ceil(Fraction(95, 100) * (n + 1))
    if n < 19:
        assert rank > n
        assert math.isnan(threshold_of(distances))
    else:
        assert threshold_of(distances) == rank
        assert (rank == n) is (n < 39)


@pytest.mark.parametrize(("groups", "folds"), [(3, 3), (9, 9), (10, 10), (11, 10), (30, 10)])
def test_groups_are_held_out_one_at_a_time_or_in_ten_folds(groups, folds):
    _, labels, names = world(groups, 0)
    numbers = group_folds(names, labels, held_out.MAX_FOLDS).tolist()
    assert len(set(numbers)) == folds
    assert all(len({n for n, name in zip(numbers, names, strict=True) if name == one}) == 1 for one in set(names))
    sizes = np.bincount(numbers)
    assert sizes.max() - sizes.min() <= 3


def test_held_out_distances_are_those_of_a_fit_without_the_fold():
    features, labels, names = world(5, 1)
    folds = group_folds(names, labels, 10)
    distances = held_out_distances(features, labels, folds)
    for index in range(len(features)):
        others = folds != folds[index]
        fit = Mahalanobis(num_classes=3, size=D)
        fit.fit(features[others], labels[others])
        assert float(distances[index]) == pytest.approx(float(fit(features[index][None])), rel=1e-5)
    seen = Mahalanobis(num_classes=3, size=D)
    seen.fit(features, labels)
    assert float(distances.mean()) > 1.3 * float(seen(features).mean())  # what the fit has seen is too near


def test_a_new_group_is_kept_as_often_as_is_said():
    kept, said = [], []
    for seed in range(60):
        features, labels, names = world(20, seed)
        check = check_unknown(features, labels, names, CLASSES, with_strangers=False)
        fit = Mahalanobis(num_classes=3, size=D)
        fit.fit(features, labels)
        new = world(20, seed + 10_000)[0]
        kept.append(float((fit(new) <= check.threshold).double().mean()))
        said.append(check.known_kept)
    assert 0.94 < np.mean(kept) < 0.985
    assert np.mean(said) == pytest.approx(np.mean(kept), abs=0.025)


def test_known_kept_is_by_the_threshold_of_all_other_folds():
    shares = []
    for seed in range(8):
        features, labels, names = world(8, seed)
        folds = group_folds(names, labels, 10)
        distances = held_out_distances(features, labels, folds)
        kept = [float(distances[n]) <= threshold_of(distances[folds != folds[n]]) for n in range(len(labels))]
        check = check_unknown(features, labels, names, CLASSES, with_strangers=False)
        assert check.known_kept == pytest.approx(np.mean(kept))
        shares.append(check.known_kept)
    assert min(shares) < 1  # by the threshold of all folds, the largest of 24, everything would be kept
    assert check_unknown(*world(7, 0), CLASSES, with_strangers=False).known_kept is None  # 18 others have no threshold


def test_rows_as_groups_refuse_new_groups_more_often():
    refused = []
    for seed in range(40):
        features, labels, names = world(8, seed, per_group=9)
        fit = Mahalanobis(num_classes=3, size=D)
        fit.fit(features, labels)
        new = world(20, seed + 10_000)[0]
        both = []
        for groups in (names, [str(n) for n in range(len(names))]):
            check = check_unknown(features, labels, groups, CLASSES, with_strangers=False)
            both.append(float((fit(new) > check.threshold).double().mean()))
        refused.append(both)
    by_group, by_row = np.mean(refused, axis=0)
    assert by_row > 1.5 * by_group


def test_the_strangers_of_a_class_are_those_beyond_the_threshold_of_the_others():
    features, labels, names = world(12, 2, spread=2.0)
    features[labels == 2] = features[labels == 2] * 0.4  # near the others
    check = check_unknown(features, labels, names, CLASSES, with_strangers=True)
    assert check.strangers_refused is not None
    folds = group_folds(names, labels, 10)
    for label in range(3):
        known = labels != label
        threshold = threshold_of(held_out_distances(features[known], labels[known], folds[known]))
        fit = Mahalanobis(num_classes=2, size=D)
        fit.fit(features[known], (labels[known] == max({0, 1, 2} - {label})).long())
        expected = float((fit(features[~known]) > threshold).double().mean())
        assert check.strangers_refused[label] == pytest.approx(expected)
    far, near = check.strangers_refused[0], check.strangers_refused[2]
    assert far is not None and near is not None and far > near
    assert check_unknown(features, labels, names, CLASSES, with_strangers=False).strangers_refused is None


def test_of_many_classes_only_some_are_left_out(monkeypatch):
    monkeypatch.setattr(held_out, "MAX_STRANGERS", 2)
    features, labels, names = world(12, 2)
    strangers = check_unknown(features, labels, names, CLASSES, with_strangers=True).strangers_refused
    assert strangers is not None
    assert len(strangers) == 2
    assert set(strangers) < {0, 1, 2}


def test_too_few_groups_or_samples_are_off_with_the_reason():
    features, labels, names = world(6, 3)
    check = check_unknown(features, labels, names, CLASSES, with_strangers=True)
    assert math.isnan(check.threshold)
    assert check.reason == "there are 18 samples to hold out, and at least 19 are needed"
    check = check_unknown(features, labels, ["a", "b", "c"] * 6, CLASSES, with_strangers=True)
    assert "the class 'bend' has 1 groups" in check.reason
    assert why_no_holding_out(["x"] * 3 + ["y"] * 3, ["a", "b", "c", "a", "b", "b"]).startswith("the class 'y' has 2 ")
    assert why_no_holding_out(["x"] * 3, ["a", "b", "c"]) == ""
