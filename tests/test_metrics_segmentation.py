"""Segment metrics against slow, literal re-implementations; average precision against scikit-learn and its definition."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from pipeline.metrics.segmentation import (
    average_precision,
    edit_score,
    f1_at,
    f1_counts,
    frame_accuracy,
    online_per_frame_map,
    runs,
    segmentation,
)

OVERLAPS = (0.10, 0.25, 0.50)
each_background = pytest.mark.parametrize("background", [None, 0])


def timelines(seed: int, videos: int = 40, classes: int = 4, unknown: bool = False) -> tuple[list, list]:
    """Predictions that resemble the truth, ragged, some empty, some of one step."""
    random = np.random.default_rng(seed)
    said, true = [], []
    for number in range(videos):
        length = int(random.integers(0, 40)) if number > 3 else number // 2
        truth = np.repeat(random.integers(0, classes, 50), random.integers(1, 8, 50))[:length]
        guess = np.roll(truth, int(random.integers(-2, 3)))
        wrong = random.random(length) < 0.15
        said.append(np.where(wrong, random.integers(0, classes, length), guess).tolist())
        true.append(np.where(random.random(length) < 0.1 * unknown, -1, truth).tolist())
    return said, true


def slow_runs(labels, background) -> list[tuple[int, int, int]]:
    found, start = [], 0
    for step in range(1, len(labels) + 1):
        if step == len(labels) or labels[step] != labels[start]:
            found.append((labels[start], start, step))
            start = step
    return [run for run in found if run[0] != background and run[0] != -1]


def slow_counts(said, true, overlap, background) -> tuple[int, int, int]:
    """The counting as it is told in words, with sets of steps for intervals."""
    said, true = slow_runs(said, background), slow_runs(true, background)
    hit = [False] * len(true)
    tp = fp = 0
    for label, start, stop in said:
        best, best_overlap = None, -1.0
        for number, (name, first, last) in enumerate(true):
            a, b = set(range(start, stop)), set(range(first, last))
            found = len(a & b) / len(a | b) if name == label else 0.0
            if found > best_overlap:
                best, best_overlap = number, found
        if best is not None and best_overlap >= overlap and not hit[best]:
            tp, hit[best] = tp + 1, True
        else:
            fp += 1
    return tp, fp, hit.count(False)


def naive_distance(one: tuple, other: tuple) -> int:
    @functools.cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(
            distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        )

    return distance(len(one), len(other))


@each_background
def test_runs_are_maximal_and_cover_every_step_that_is_not_left_out(background):
    for labels in timelines(0)[0]:
        found = runs(labels, background)
        assert found == slow_runs(labels, background)
        covered = [step for _, start, stop in found for step in range(start, stop)]
        assert covered == [step for step, label in enumerate(labels) if label != background]
    assert runs([]) == []


@each_background
@pytest.mark.parametrize("overlap", [*OVERLAPS, 0.75, 1.0])
def test_f1_equals_the_slow_count(overlap, background):
    said, true = timelines(1)
    tp = fp = fn = 0
    for s, t in zip(said, true, strict=True):
        counts = slow_counts(s, t, overlap, background)
        assert f1_counts(s, t, overlap, background) == counts
        tp, fp, fn = tp + counts[0], fp + counts[1], fn + counts[2]
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    expected = 2 * precision * recall / (precision + recall)
    assert 0 < expected < 1
    assert f1_at(said, true, overlap, background) == pytest.approx(expected)


@each_background
def test_edit_equals_the_naive_recursion(background):
    said, true = timelines(2, videos=60)
    seen = set()
    for s, t in zip(said, true, strict=True):
        one, other = (tuple(label for label, _, _ in slow_runs(labels, background)) for labels in (s, t))
        longest = max(len(one), len(other))
        expected = 1 - naive_distance(one, other) / longest if longest else 1.0
        assert edit_score(s, t, background) == pytest.approx(expected)
        seen.add(round(expected, 2))
    assert len(seen) > 5


def test_values_worked_out_by_hand():
    #        0  1  2  3  4  5  6  7  8  9
    true = [0, 0, 1, 1, 1, 1, 2, 2, 0, 0]
    said = [0, 1, 1, 1, 0, 1, 2, 0, 0, 0]
    assert frame_accuracy([said], [true]) == 0.7
    assert frame_accuracy([said], [true], 0) == pytest.approx(4 / 6)
    # said 0 1 0 1 2 0, true 0 1 2 0: two to delete of six
    assert edit_score(said, true) == pytest.approx(1 - 2 / 6)
    # without background: said 1 1 2, true 1 2
    assert edit_score(said, true, 0) == pytest.approx(1 - 1 / 3)
    # overlaps without background: 1 at 1..4 with 2..6 = 2/5; 1 at 5..6 = 1/4, of a segment already taken; 2 = 1/2
    assert [f1_counts(said, true, o, 0) for o in OVERLAPS] == [(2, 1, 0), (2, 1, 0), (1, 2, 1)]


@each_background
def test_perfect_is_one_and_nothing_said_is_zero(background):
    _, true = timelines(3)
    found = segmentation(true, true, background)
    numbers = {name: value for name, value in found.items() if name not in ("background", "count")}
    assert set(numbers.values()) == {1.0}
    nothing = [[99] * len(t) for t in true]
    assert frame_accuracy(nothing, true, background) == 0
    assert f1_at(nothing, true, 0.1, background) == 0


@each_background
def test_neither_the_order_of_videos_nor_the_names_of_classes_matter(background):
    said, true = timelines(4, unknown=True)
    found = segmentation(said, true, background)
    order = np.random.default_rng(0).permutation(len(said))
    assert segmentation([said[i] for i in order], [true[i] for i in order], background) == pytest.approx(found)
    renamed = np.array([7, 5, 6, 4, -1])  # -1 indexes the last
    said, true = ([renamed[ints(video)] for video in videos] for videos in (said, true))
    there = segmentation(said, true, None if background is None else 7)
    assert there == pytest.approx(found)


def ints(labels) -> np.ndarray:
    return np.asarray(labels, dtype=np.int64)


def test_lists_arrays_and_tensors_are_one():
    said, true = timelines(5)
    found = segmentation(said, true, 0)
    assert segmentation([ints(s) for s in said], [ints(t) for t in true], 0) == found
    assert segmentation([torch.tensor(s).long() for s in said], [torch.tensor(t).long() for t in true], 0) == found


def test_the_dict_says_its_policy_and_holds_the_parts():
    said, true = timelines(6)
    judged = [i for i, t in enumerate(true) if len(t)]
    counted, left_out = segmentation(said, true), segmentation(said, true, 0)
    assert counted["background"] == "counted" and left_out["background"] == "left out"
    assert counted["count"] == left_out["count"] == len(judged) < len(true)
    assert counted["edit"] == pytest.approx(np.mean([edit_score(said[i], true[i]) for i in judged]))
    assert left_out["f1_25"] == f1_at(said, true, 0.25, 0) != counted["f1_25"]
    assert left_out["frame_accuracy_all"] == counted["frame_accuracy"] != left_out["frame_accuracy"]


def test_what_is_said_where_the_truth_is_unknown_plays_no_part():
    random = np.random.default_rng(7)
    said, true = timelines(7, unknown=True)
    other = [np.where(ints(t) == -1, random.integers(0, 4, len(t)), ints(s)) for s, t in zip(said, true, strict=True)]
    assert any((ints(s) != o).any() for s, o in zip(said, other, strict=True))
    for background in (None, 0):
        assert segmentation(said, true, background) == segmentation(other, true, background)


def test_unknown_stretches_cut_as_if_the_parts_were_videos_of_their_own():
    said, true = [1, 1, 1, 1, 1, 2, 2], [1, 1, -1, 1, 1, 2, 2]
    assert runs(true) == [(1, 0, 2), (1, 3, 5), (2, 5, 7)]
    assert f1_counts(said, true, 0.5) == (3, 0, 0)
    assert edit_score(said, true) == 1
    for s, t in zip(*timelines(8, unknown=True), strict=True):
        holes = [-1, *[step for step, label in enumerate(t) if label == -1], len(t)]
        parts = [(s[a + 1 : b], t[a + 1 : b]) for a, b in zip(holes, holes[1:], strict=False)]
        for overlap in OVERLAPS:
            summed = np.sum([f1_counts(*part, overlap) for part in parts], axis=0)
            assert f1_counts(s, t, overlap) == tuple(summed)


def test_nothing_to_measure_is_nan_and_empty_is_legal():
    found = segmentation([[], [1, 2]], [[], [-1, -1]])
    assert found["count"] == 0
    assert all(math.isnan(found[name]) for name in ("frame_accuracy", "edit", "f1_10", "f1_25", "f1_50"))
    assert segmentation([], [])["count"] == 0
    assert edit_score([], []) == 1 and edit_score([0, 0], [0, 0], 0) == 1
    assert f1_counts([1], [0], 0.5, 0) == (0, 1, 0) and f1_counts([0], [1], 0.5, 0) == (0, 0, 1)


def test_errors_are_sentences():
    with pytest.raises(ValueError, match="3 predicted and 2 true steps"):
        edit_score([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="1 videos are predicted and 0 are true"):
        f1_at([[1]], [], 0.5)
    with pytest.raises(ValueError, match=r"overlap=50: an intersection over union lies in \(0, 1\]"):
        f1_counts([1], [1], 50)
    with pytest.raises(ValueError, match="2 rows of scores and 1 labels"):
        online_per_frame_map([np.zeros((2, 3))], [[0]])
    with pytest.raises(ValueError, match="Labels run from 0 to 3, but the scores have 3 columns"):
        online_per_frame_map([np.zeros((2, 3))], [[0, 3]])
    with pytest.raises(ValueError, match="nan has no rank"):
        average_precision([0.1, float("nan")], [1, 0])


@pytest.mark.parametrize("levels", [3, 10, 10**9])
def test_average_precision_equals_scikit_learn_ties_and_all(levels):
    random = np.random.default_rng(levels)
    for count in (1, 2, 7, 50):
        scores = random.integers(0, levels, count) / 7 - 20
        positive = random.random(count) < 0.4
        positive[0] = True
        found = average_precision(scores, positive)
        assert found == pytest.approx(average_precision_score(positive, scores))
        gained, total = 0.0, 0.0  # the definition: a threshold at each distinct score
        for threshold in sorted(set(scores), reverse=True):
            taken = scores >= threshold
            recall = (taken & positive).sum() / positive.sum()
            total += (recall - gained) * (taken & positive).sum() / taken.sum()
            gained = recall
        assert found == pytest.approx(total)
    assert math.isnan(average_precision([0.5], [False])) and math.isnan(average_precision([], []))


def test_average_precision_tells_large_scores_apart():
    assert average_precision([200.0, 201.0, 202.0], [0, 1, 1]) == 1


def test_online_map_pools_frames_leaves_the_background_out_and_drops_unknown_ones():
    random = np.random.default_rng(9)
    labels = [random.integers(-1, 4, length) for length in (30, 1, 17)] + [np.empty(0, dtype=int)]
    scores = [torch.tensor(random.random((len(y), 6))).softmax(-1) for y in labels]
    table, true = np.concatenate([s.numpy() for s in scores]), np.concatenate(labels)
    table, true = table[true >= 0], true[true >= 0]
    expected = [average_precision_score(true == c, table[:, c]) for c in range(4)]
    found = online_per_frame_map(scores, labels, background=0)
    assert found["per_class"][0] is None and found["per_class"][4:] == [None, None]
    assert found["per_class"][1:4] == pytest.approx(expected[1:])
    assert found["per_frame_map"] == pytest.approx(np.mean(expected[1:])) and found["background"] == "left out"
    counted = online_per_frame_map(scores, labels)
    assert counted["per_frame_map"] == pytest.approx(np.mean(expected)) and counted["background"] == "counted"
    perfect = online_per_frame_map([np.eye(6)[y] for y in labels], labels, 0)
    assert perfect["per_frame_map"] == 1
    assert math.isnan(online_per_frame_map([], [])["per_frame_map"])
    assert math.isnan(online_per_frame_map([np.zeros((1, 2))], [[-1]])["per_frame_map"])
