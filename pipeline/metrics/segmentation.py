"""Metrics of temporal segmentation, from one label for each step. Pure functions.

In: labels (T,) of each video, predicted and true. They are lists, arrays or CPU tensors; videos differ in T, and T = 0
is legal. Out: shares between 0 and 1; nan where there was nothing to measure. The functions know nothing of seconds or
models.

The background: `background=index` leaves that class out, as is usual for GTEA: its runs are no segments, and steps
whose true label is the background do not count. `background=None` counts every class, as is usual for 50Salads and
Breakfast. Scores with and without background are not comparable.

An unknown true label is -1. Such steps do not count, and they split segments: a run ends where an unknown stretch
starts, in the true and in the predicted labels, and a new run starts after it. So the metrics assume nothing about the
unknown stretch, and predictions in it do not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.metrics.edit_distance import edit_distance

UNKNOWN = -1  # the label of a step whose true class is not known
Run = tuple[int, int, int]
"""(label, start, stop), stop exclusive."""


def runs(labels: Any, background: int | None = None) -> list[Run]:
    """Labels (T,) -> the maximal stretches of equal labels, without -1 and without the background."""
    steps = _steps(labels)
    if not len(steps):
        return []
    borders = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    stretches = ((int(steps[start]), start, stop) for start, stop in itertools.pairwise(borders))
    return [run for run in stretches if run[0] not in (UNKNOWN, background)]


def frame_counts(predicted: Any, truth: Any, background: int | None = None) -> tuple[int, int]:
    """Of one video: (correct steps, counted steps). Steps whose true label is -1 or the background do not count."""
    predicted, true = _pair(predicted, truth)
    counted = true != UNKNOWN if background is None else (true != UNKNOWN) & (true != background)
    return int((predicted == true)[counted].sum()), int(counted.sum())


def frame_accuracy(predicted: Sequence[Any], truth: Sequence[Any], background: int | None = None) -> float:
    """The share of correct steps among all counted steps of all videos, so long videos have more weight."""
    counts = [frame_counts(p, t, background) for p, t in _videos(predicted, truth)]
    return _share(sum(correct for correct, _ in counts), sum(counted for _, counted in counts))


def edit_score(predicted: Any, truth: Any, background: int | None = None) -> float:
    """Of one video: 1 - edit distance of the two sequences of segments / the longer length (Lea et al. 2016, ECCV).

    The score is 1 where neither sequence has a segment. The durations of segments do not matter.
    """
    labels = [[label for label, _, _ in video_runs] for video_runs in _pair_of_runs(predicted, truth, background)]
    longest = max(map(len, labels))
    return 1 - edit_distance(*labels) / longest if longest else 1.0


def f1_counts(predicted: Any, truth: Any, overlap: float, background: int | None = None) -> tuple[int, int, int]:
    """Of one video: (tp, fp, fn) of segments (Lea et al. 2017, CVPR; counted as Farha & Gall 2019, MS-TCN, do).

    In order of time, each predicted segment is matched with the true segment of its class that has the highest
    intersection over union (the first of equals). It is a true positive if that is at least `overlap` and no earlier
    segment was matched with it. True segments without a match are false negatives.
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap={overlap}: an intersection over union lies in (0, 1]; usual are 0.1, 0.25 and 0.5.")
    predicted_runs, true_runs = _pair_of_runs(predicted, truth, background)
    labels, starts, stops = np.asarray(true_runs, dtype=np.int64).reshape(-1, 3).T
    is_matched = np.zeros(len(true_runs), dtype=bool)
    for label, start, stop in predicted_runs if true_runs else ():
        intersection = np.maximum(np.minimum(stop, stops) - np.maximum(start, starts), 0) * (labels == label)
        union = (stop - start) + (stops - starts) - intersection
        best = int((intersection / union).argmax())
        if intersection[best] / union[best] >= overlap:
            is_matched[best] = True  # a second match of the same segment is a false positive
    hits = int(is_matched.sum())
    return hits, len(predicted_runs) - hits, len(true_runs) - hits


def f1_at(predicted: Sequence[Any], truth: Sequence[Any], overlap: float, background: int | None = None) -> float:
    """Segmental F1 at an overlap: 2 tp / (2 tp + fp + fn), summed over all videos; nan if no video has a segment."""
    counts = [f1_counts(p, t, overlap, background) for p, t in _videos(predicted, truth)]
    tp, fp, fn = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    return _share(2 * tp, 2 * tp + fp + fn)


def segmentation(predicted: Sequence[Any], truth: Sequence[Any], background: int | None = None) -> dict[str, Any]:
    """Labels (T,) of each video, predicted and true -> frame accuracy, edit (mean over videos), F1 at 0.10, 0.25, 0.50.

    `background` in the result says whether that class was "left out" or "counted". Where it is left out, the result has
    `frame_accuracy_all` too, which counts every known step: papers print it beside an F1 without background. Videos
    without a known step do not count. `count` is the number of videos that count.
    """
    pairs = [(p, t) for p, t in _videos(predicted, truth) if (_steps(t) != UNKNOWN).any()]
    predicted, truth = [p for p, _ in pairs], [t for _, t in pairs]
    edit_scores = [edit_score(p, t, background) for p, t in pairs]
    metrics: dict[str, Any] = {
        "frame_accuracy": frame_accuracy(predicted, truth, background),
        "edit": _share(sum(edit_scores), len(edit_scores)),
        "f1_10": f1_at(predicted, truth, 0.10, background),
        "f1_25": f1_at(predicted, truth, 0.25, background),
        "f1_50": f1_at(predicted, truth, 0.50, background),
        "background": "counted" if background is None else "left out",
        "count": len(pairs),
    }
    return metrics if background is None else {**metrics, "frame_accuracy_all": frame_accuracy(predicted, truth)}


def average_precision(scores: Any, is_positive: Any) -> float:
    """The sum over distinct scores, in falling order, of (increase of recall) * precision; nan if none is positive.

    scores: (N,), is_positive: (N,). Equal scores enter together, so their order does not matter (as in scikit-learn's
    `average_precision_score`). It is computed here because torchmetrics passes scores outside 0..1 through a sigmoid in
    float32, which makes large scores equal.
    """
    values = torch.as_tensor(scores, dtype=torch.float64).detach().numpy()
    if np.isnan(values).any():
        raise ValueError("A score is nan, and nan has no rank. Give numbers: find the inputs that gave a score of nan.")
    order = np.argsort(-values, kind="stable")
    positive = np.asarray(is_positive, dtype=bool)[order]
    if not positive.any():
        return float("nan")
    last = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)  # the last of each stretch of equal scores
    hits = positive.cumsum()[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / hits[-1])


def online_per_frame_map(scores: Sequence[Any], labels: Sequence[Any], background: int | None = None) -> dict[str, Any]:
    """Scores (T, C) and labels (T,) of each video -> the mean over classes of the average precision over all frames.

    It is the metric of online action detection (De Geest et al. 2016, ECCV). On THUMOS'14 the background is left out:
    it is no class of the mean, but its frames stay as negatives of all other classes. Frames of unknown truth (-1) are
    removed. Classes that do not occur are None in `per_class` and not in the mean. Frames are ranked within a class by
    the scores as they are: apply softmax first.
    """
    pairs = [(torch.as_tensor(s, dtype=torch.float64).detach().numpy(), _steps(y)) for s, y in _videos(scores, labels)]
    for table, true in pairs:
        if len(table) != len(true):
            raise ValueError(
                f"A video has {len(table)} rows of scores and {len(true)} labels. Give one row and one label for each "
                "step."
            )
    pairs = [(table, true) for table, true in pairs if len(true)]
    policy = "counted" if background is None else "left out"
    if not pairs:
        return {"per_frame_map": float("nan"), "per_class": [], "background": policy}
    table, true = (np.concatenate(column) for column in zip(*pairs, strict=True))
    table, true = table[true != UNKNOWN], true[true != UNKNOWN]
    num_classes = table.shape[1]
    if len(true) and not 0 <= true.min() <= true.max() < num_classes:
        raise ValueError(
            f"Labels run from {true.min()} to {true.max()}, but the scores have {num_classes} columns: labels lie in "
            f"0..{num_classes - 1}, or are -1 where the truth is unknown. Check that scores and labels use the same "
            "vocabulary."
        )
    classes = set(true.tolist()) - {background}
    per_class = [average_precision(table[:, c], true == c) if c in classes else None for c in range(num_classes)]
    occurring = [precision for precision in per_class if precision is not None]
    return {"per_frame_map": _share(sum(occurring), len(occurring)), "per_class": per_class, "background": policy}


def _steps(labels: Any) -> np.ndarray:
    steps = np.asarray(labels)
    assert steps.ndim == 1, "labels are (T,)"
    return steps.astype(np.int64)


def _pair(predicted: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    predicted, true = _steps(predicted), _steps(truth)
    if len(predicted) != len(true):
        raise ValueError(
            f"A video has {len(predicted)} predicted and {len(true)} true steps. Give one of each for every step: "
            "sample both with the same clock before you compare them."
        )
    return predicted, true


def _pair_of_runs(predicted: Any, truth: Any, background: int | None) -> tuple[list[Run], list[Run]]:
    predicted, true = _pair(predicted, truth)
    return runs(np.where(true == UNKNOWN, UNKNOWN, predicted), background), runs(true, background)


def _videos(predicted: Sequence[Any], truth: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(predicted) != len(truth):
        raise ValueError(
            f"There are predictions of {len(predicted)} videos and true labels of {len(truth)}. Give both for each "
            "video, in the same order."
        )
    return list(zip(predicted, truth, strict=True))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
