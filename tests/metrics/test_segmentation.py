"""Segmentation metrics against slow, literal implementations, average precision against scikit-learn."""

from __future__ import annotations

import functools
import itertools
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
    predicted, truths = [], []
    for number in range(videos):
        length = int(random.integers(0, 40)) if number > 3 else number // 2
        truth = np.repeat(random.integers(0, classes, 50), random.integers(1, 8, 50))[:length]
        shifted = np.roll(truth, int(random.integers(-2, 3)))
        is_wrong = random.random(length) < 0.15
        predicted.append(np.where(is_wrong, random.integers(0, classes, length), shifted).tolist())
        truths.append(np.where(random.random(length) < 0.1 * unknown, -1, truth).tolist())
    return predicted, truths


def slow_runs(labels, background) -> list[tuple[int, int, int]]:
    result, start = [], 0
    for step in range(1, len(labels) + 1):
        if step == len(labels) or labels[step] != labels[start]:
            result.append((labels[start], start, step))
            start = step
    return [run for run in result if run[0] != background and run[0] != -1]


def slow_counts(predicted, true, overlap, background) -> tuple[int, int, int]:
    """The definition of f1_counts, with sets of steps as intervals."""
    predicted, true = slow_runs(predicted, background), slow_runs(true, background)
    is_matched = [False] * len(true)
    tp = fp = 0
    for label, start, stop in predicted:
        best, best_overlap = None, -1.0
        for number, (true_label, first, last) in enumerate(true):
            a, b = set(range(start, stop)), set(range(first, last))
            iou = len(a & b) / len(a | b) if true_label == label else 0.0
            if iou > best_overlap:
                best, best_overlap = number, iou
        if best is not None and best_overlap >= overlap and not is_matched[best]:
            tp, is_matched[best] = tp + 1, True
        else:
            fp += 1
    return tp, fp, is_matched.count(False)


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
        segments = runs(labels, background)
        assert segments == slow_runs(labels, background)
        covered = [step for _, start, stop in segments for step in range(start, stop)]
        assert covered == [step for step, label in enumerate(labels) if label != background]
    assert runs([]) == []


@each_background
@pytest.mark.parametrize("overlap", [*OVERLAPS, 0.75, 1.0])
def test_f1_equals_the_slow_count(overlap, background):
    predicted, true = timelines(1)
    tp = fp = fn = 0
    for s, t in zip(predicted, true, strict=True):
        counts = slow_counts(s, t, overlap, background)
        assert f1_counts(s, t, overlap, background) == counts
        tp, fp, fn = tp + counts[0], fp + counts[1], fn + counts[2]
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    expected = 2 * precision * recall / (precision + recall)
    assert 0 < expected < 1
    assert f1_at(predicted, true, overlap, background) == pytest.approx(expected)


@each_background
def test_edit_equals_the_naive_recursion(background):
    predicted, true = timelines(2, videos=60)
    scores = set()
    for s, t in zip(predicted, true, strict=True):
        one, other = (tuple(label for label, _, _ in slow_runs(labels, background)) for labels in (s, t))
        longest = max(len(one), len(other))
        expected = 1 - naive_distance(one, other) / longest if longest else 1.0
        assert edit_score(s, t, background) == pytest.approx(expected)
        scores.add(round(expected, 2))
    assert len(scores) > 5


def test_values_worked_out_by_hand():
    #        0  1  2  3  4  5  6  7  8  9
    true = [0, 0, 1, 1, 1, 1, 2, 2, 0, 0]
    predicted = [0, 1, 1, 1, 0, 1, 2, 0, 0, 0]
    assert frame_accuracy([predicted], [true]) == 0.7
    assert frame_accuracy([predicted], [true], 0) == pytest.approx(4 / 6)
    # predicted 0 1 0 1 2 0, true 0 1 2 0: two deletions of six
    assert edit_score(predicted, true) == pytest.approx(1 - 2 / 6)
    # without background: predicted 1 1 2, true 1 2
    assert edit_score(predicted, true, 0) == pytest.approx(1 - 1 / 3)
    # overlaps without background: 1 at 1..4 with 2..6 = 2/5; 1 at 5..6 = 1/4, of a segment already matched; 2 = 1/2
    assert [f1_counts(predicted, true, o, 0) for o in OVERLAPS] == [(2, 1, 0), (2, 1, 0), (1, 2, 1)]


@each_background
def test_correct_labels_score_one_and_wrong_labels_score_zero(background):
    _, true = timelines(3)
    metrics = segmentation(true, true, background)
    scores = {name: value for name, value in metrics.items() if name not in ("background", "count")}
    assert set(scores.values()) == {1.0}
    wrong = [[99] * len(t) for t in true]
    assert frame_accuracy(wrong, true, background) == 0
    assert f1_at(wrong, true, 0.1, background) == 0


@each_background
def test_neither_the_order_of_videos_nor_the_names_of_classes_matter(background):
    predicted, true = timelines(4, unknown=True)
    metrics = segmentation(predicted, true, background)
    order = np.random.default_rng(0).permutation(len(predicted))
    assert segmentation([predicted[i] for i in order], [true[i] for i in order], background) == pytest.approx(metrics)
    new_labels = np.array([7, 5, 6, 4, -1])  # -1 indexes the last
    predicted, true = ([new_labels[ints(video)] for video in videos] for videos in (predicted, true))
    renamed_metrics = segmentation(predicted, true, None if background is None else 7)
    assert renamed_metrics == pytest.approx(metrics)


def ints(labels) -> np.ndarray:
    return np.asarray(labels, dtype=np.int64)


def test_lists_arrays_and_tensors_give_the_same():
    predicted, true = timelines(5)
    metrics = segmentation(predicted, true, 0)
    assert segmentation([ints(s) for s in predicted], [ints(t) for t in true], 0) == metrics
    assert (
        segmentation([torch.tensor(s).long() for s in predicted], [torch.tensor(t).long() for t in true], 0) == metrics
    )


def test_the_result_names_its_treatment_of_the_background():
    predicted, true = timelines(6)
    counted_videos = [i for i, t in enumerate(true) if len(t)]
    counted, left_out = segmentation(predicted, true), segmentation(predicted, true, 0)
    assert counted["background"] == "counted" and left_out["background"] == "left out"
    assert counted["count"] == left_out["count"] == len(counted_videos) < len(true)
    assert counted["edit"] == pytest.approx(np.mean([edit_score(predicted[i], true[i]) for i in counted_videos]))
    assert left_out["f1_25"] == f1_at(predicted, true, 0.25, 0) != counted["f1_25"]
    assert left_out["frame_accuracy_all"] == counted["frame_accuracy"] != left_out["frame_accuracy"]


def test_predictions_on_unknown_steps_do_not_matter():
    random = np.random.default_rng(7)
    predicted, true = timelines(7, unknown=True)
    other = [
        np.where(ints(t) == -1, random.integers(0, 4, len(t)), ints(s)) for s, t in zip(predicted, true, strict=True)
    ]
    assert any((ints(s) != o).any() for s, o in zip(predicted, other, strict=True))
    for background in (None, 0):
        assert segmentation(predicted, true, background) == segmentation(other, true, background)


def test_unknown_stretches_split_a_video_into_parts():
    predicted, true = [1, 1, 1, 1, 1, 2, 2], [1, 1, -1, 1, 1, 2, 2]
    assert runs(true) == [(1, 0, 2), (1, 3, 5), (2, 5, 7)]
    assert f1_counts(predicted, true, 0.5) == (3, 0, 0)
    assert edit_score(predicted, true) == 1
    for s, t in zip(*timelines(8, unknown=True), strict=True):
        holes = [-1, *[step for step, label in enumerate(t) if label == -1], len(t)]
        parts = [(s[a + 1 : b], t[a + 1 : b]) for a, b in itertools.pairwise(holes)]
        for overlap in OVERLAPS:
            summed = np.sum([f1_counts(*part, overlap) for part in parts], axis=0)
            assert f1_counts(s, t, overlap) == tuple(summed)


def test_nothing_to_measure_is_nan_and_empty_is_legal():
    metrics = segmentation([[], [1, 2]], [[], [-1, -1]])
    assert metrics["count"] == 0
    assert all(math.isnan(metrics[name]) for name in ("frame_accuracy", "edit", "f1_10", "f1_25", "f1_50"))
    assert segmentation([], [])["count"] == 0
    assert edit_score([], []) == 1 and edit_score([0, 0], [0, 0], 0) == 1
    assert f1_counts([1], [0], 0.5, 0) == (0, 1, 0) and f1_counts([0], [1], 0.5, 0) == (0, 0, 1)


def test_errors_name_the_problem():
    with pytest.raises(ValueError, match="3 predicted and 2 true steps"):
        edit_score([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="predictions of 1 videos and true labels of 0"):
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
def test_average_precision_equals_scikit_learn_with_equal_scores(levels):
    random = np.random.default_rng(levels)
    for count in (1, 2, 7, 50):
        scores = random.integers(0, levels, count) / 7 - 20
        positive = random.random(count) < 0.4
        positive[0] = True
        precision = average_precision(scores, positive)
        assert precision == pytest.approx(average_precision_score(positive, scores))
        reached, expected = 0.0, 0.0  # the definition: a threshold at each distinct score
        for threshold in sorted(set(scores), reverse=True):
            is_selected = scores >= threshold
            recall = (is_selected & positive).sum() / positive.sum()
            expected += (recall - reached) * (is_selected & positive).sum() / is_selected.sum()
            reached = recall
        assert precision == pytest.approx(expected)
    assert math.isnan(average_precision([0.5], [False])) and math.isnan(average_precision([], []))


def test_average_precision_distinguishes_large_scores():
    assert average_precision([200.0, 201.0, 202.0], [0, 1, 1]) == 1


def test_online_map_pools_frames_and_leaves_out_background_and_unknown_frames():
    random = np.random.default_rng(9)
    labels = [random.integers(-1, 4, length) for length in (30, 1, 17)] + [np.empty(0, dtype=int)]
    scores = [torch.tensor(random.random((len(y), 6))).softmax(-1) for y in labels]
    table, true = np.concatenate([s.numpy() for s in scores]), np.concatenate(labels)
    table, true = table[true >= 0], true[true >= 0]
    expected = [average_precision_score(true == c, table[:, c]) for c in range(4)]
    metrics = online_per_frame_map(scores, labels, background=0)
    assert metrics["per_class"][0] is None and metrics["per_class"][4:] == [None, None]
    assert metrics["per_class"][1:4] == pytest.approx(expected[1:])
    assert metrics["per_frame_map"] == pytest.approx(np.mean(expected[1:])) and metrics["background"] == "left out"
    counted = online_per_frame_map(scores, labels)
    assert counted["per_frame_map"] == pytest.approx(np.mean(expected)) and counted["background"] == "counted"
    perfect = online_per_frame_map([np.eye(6)[y] for y in labels], labels, 0)
    assert perfect["per_frame_map"] == 1
    assert math.isnan(online_per_frame_map([], [])["per_frame_map"])
    assert math.isnan(online_per_frame_map([np.zeros((1, 2))], [[-1]])["per_frame_map"])
