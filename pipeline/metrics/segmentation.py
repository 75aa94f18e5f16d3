"""How well a timeline is cut and named, from one label a step. Pure functions; they know nothing of seconds or models.

In: labels (T,) of each video, predicted and true (lists, arrays or CPU tensors; videos differ in T, and T = 0 is legal).
Out: shares between 0 and 1; nan where there was nothing to measure.

The background: `background=index` leaves that class out, as is done for GTEA: its runs are no segments, and steps that are truly
background do not count. `background=None` counts every class, as is done for 50Salads and Breakfast. The two are not comparable.

Unknown truth is -1. Such steps are not judged, and they cut: a run ends where an unknown stretch begins, in the truth and in the
prediction alike, and a new one begins behind it. So nothing is assumed of what happened there, and nothing said there counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

UNKNOWN = -1  # a truth nobody gave


def runs(labels: Any, background: int | None = None) -> list[tuple[int, int, int]]:
    """Labels (T,) -> (label, start, stop) of each stretch of equal labels, stop exclusive; -1 and the background are no runs."""
    steps = _steps(labels)
    if not len(steps):
        return []
    cuts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    named = ((int(steps[start]), start, stop) for start, stop in zip(cuts, cuts[1:], strict=False))
    return [run for run in named if run[0] not in (UNKNOWN, background)]


def frame_counts(predicted: Any, truth: Any, background: int | None = None) -> tuple[int, int]:
    """Of one video: (right steps, judged steps). Steps whose truth is -1 or the background are not judged."""
    said, true = _pair(predicted, truth)
    judged = true != UNKNOWN if background is None else (true != UNKNOWN) & (true != background)
    return int((said == true)[judged].sum()), int(judged.sum())


def frame_accuracy(predicted: Sequence[Any], truth: Sequence[Any], background: int | None = None) -> float:
    """The share of right steps among all judged steps of all videos; long videos weigh more ("mean over frames")."""
    counts = [frame_counts(p, t, background) for p, t in _videos(predicted, truth)]
    return _share(sum(right for right, _ in counts), sum(judged for _, judged in counts))


def edit_score(predicted: Any, truth: Any, background: int | None = None) -> float:
    """Of one video: 1 - Levenshtein distance of the two orders of segments / the longer one's length (Lea et al. 2016, ECCV).

    When no segment is true and none is said, the order is right: 1. How long segments last plays no part.
    """
    said, true = ([label for label, _, _ in found] for found in _pair_of_runs(predicted, truth, background))
    longest = max(len(said), len(true))
    return 1 - _levenshtein(np.asarray(said), np.asarray(true)) / longest if longest else 1.0


def f1_counts(predicted: Any, truth: Any, overlap: float, background: int | None = None) -> tuple[int, int, int]:
    """Of one video: (tp, fp, fn) of segments (Lea et al. 2017, CVPR; counted as Farha & Gall 2019, MS-TCN, do).

    In order of time, each said segment looks for the true one of its class with the highest intersection over union (the first
    of equals). It is right if that is at least `overlap` and no earlier segment took it; true segments nobody took are missed.
    """
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap={overlap}: an intersection over union lies in (0, 1]; usual are 0.1, 0.25 and 0.5.")
    said, true = _pair_of_runs(predicted, truth, background)
    names, starts, stops = np.asarray(true, dtype=np.int64).reshape(-1, 3).T
    taken = np.zeros(len(true), dtype=bool)
    for label, start, stop in said if true else ():
        shared = np.maximum(np.minimum(stop, stops) - np.maximum(start, starts), 0) * (names == label)
        union = (stop - start) + (stops - starts) - shared
        best = int((shared / union).argmax())
        if shared[best] / union[best] >= overlap:
            taken[best] = True  # taken twice counts once: the second is a false positive
    hits = int(taken.sum())
    return hits, len(said) - hits, len(true) - hits


def f1_at(predicted: Sequence[Any], truth: Sequence[Any], overlap: float, background: int | None = None) -> float:
    """Segmental F1 at an overlap: 2 tp / (2 tp + fp + fn), summed over all videos; nan if no video has a segment."""
    counts = [f1_counts(p, t, overlap, background) for p, t in _videos(predicted, truth)]
    hits, wrong, missed = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    return _share(2 * hits, 2 * hits + wrong + missed)


def segmentation(predicted: Sequence[Any], truth: Sequence[Any], background: int | None = None) -> dict[str, Any]:
    """Labels (T,) of each video, predicted and true -> frame accuracy, edit (mean over videos), F1 at 0.10, 0.25 and 0.50.

    `background` in the answer says whether that class was "left out" or "counted". Where it is left out there is also
    `frame_accuracy_all`, every known step counted: that is what papers print beside an F1 without background.
    Videos without one known step are not judged. `count` is the number of those that were.
    """
    judged = [(p, t) for p, t in _videos(predicted, truth) if (_steps(t) != UNKNOWN).any()]
    said, true = [p for p, _ in judged], [t for _, t in judged]
    edits = [edit_score(p, t, background) for p, t in judged]
    found: dict[str, Any] = {
        "frame_accuracy": frame_accuracy(said, true, background),
        "edit": _share(sum(edits), len(edits)),
        "f1_10": f1_at(said, true, 0.10, background),
        "f1_25": f1_at(said, true, 0.25, background),
        "f1_50": f1_at(said, true, 0.50, background),
        "background": "counted" if background is None else "left out",
        "count": len(judged),
    }
    return found if background is None else {**found, "frame_accuracy_all": frame_accuracy(said, true)}


def average_precision(scores: Any, is_positive: Any) -> float:
    """Scores (N,), is_positive (N,) -> the sum over distinct scores, falling, of (recall gained) * precision; nan if none is positive.

    Equal scores come in together, so their order in the list plays no part (as scikit-learn's `average_precision_score`).
    torchmetrics has it too, but passes scores outside 0..1 through a sigmoid in float32, which makes large ones equal.
    """
    values = torch.as_tensor(scores, dtype=torch.float64).detach().numpy()
    if np.isnan(values).any():
        raise ValueError("A score is nan, and nan has no rank. Give numbers; look for what made it nan.")
    order = np.argsort(-values, kind="stable")
    positive = np.asarray(is_positive, dtype=bool)[order]
    if not positive.any():
        return float("nan")
    last = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)  # the last of each stretch of equal scores
    hits = positive.cumsum()[last]
    return float((np.diff(hits, prepend=0) * hits / (last + 1)).sum() / hits[-1])


def online_per_frame_map(scores: Sequence[Any], labels: Sequence[Any], background: int | None = None) -> dict[str, Any]:
    """Scores (T, C) and labels (T,) of each video -> the mean over classes of average precision over the frames of all videos.

    The measure of online action detection (De Geest et al. 2016, ECCV; on THUMOS'14 the background is left out: it is no class
    of the mean, but its frames stay, as negatives of all others). Frames of unknown truth (-1) are not there. Classes that do not
    occur are None in `per_class` and not in the mean. Frames are ranked within a class by the score as given: softmax first.
    """
    pairs = [(torch.as_tensor(s, dtype=torch.float64).detach().numpy(), _steps(y)) for s, y in _videos(scores, labels)]
    for table, true in pairs:
        if len(table) != len(true):
            raise ValueError(
                f"A video has {len(table)} rows of scores and {len(true)} labels. Give one row and one label a step."
            )
    pairs = [(table, true) for table, true in pairs if len(true)]
    policy = "counted" if background is None else "left out"
    if not pairs:
        return {"per_frame_map": float("nan"), "per_class": [], "background": policy}
    table, true = (np.concatenate(column) for column in zip(*pairs, strict=True))
    table, true = table[true != UNKNOWN], true[true != UNKNOWN]
    count = table.shape[1]
    if len(true) and not 0 <= true.min() <= true.max() < count:
        raise ValueError(
            f"Labels run from {true.min()} to {true.max()}, but the scores have {count} columns: labels lie in 0..{count - 1}, "
            "or are -1 where the truth is unknown. Check that scores and labels use the same vocabulary."
        )
    judged = set(true.tolist()) - {background}
    per_class = [average_precision(table[:, c], true == c) if c in judged else None for c in range(count)]
    occurring = [ap for ap in per_class if ap is not None]
    return {"per_frame_map": _share(sum(occurring), len(occurring)), "per_class": per_class, "background": policy}


def _steps(labels: Any) -> np.ndarray:
    steps = np.asarray(labels)
    assert steps.ndim == 1, "labels are (T,)"
    return steps.astype(np.int64)


def _pair(predicted: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    said, true = _steps(predicted), _steps(truth)
    if len(said) != len(true):
        raise ValueError(
            f"A video has {len(said)} predicted and {len(true)} true steps. Both must have one label a step; "
            "cut both to the same clock before they are compared."
        )
    return said, true


def _pair_of_runs(predicted: Any, truth: Any, background: int | None) -> tuple[list[tuple[int, int, int]], ...]:
    said, true = _pair(predicted, truth)
    return runs(np.where(true == UNKNOWN, UNKNOWN, said), background), runs(true, background)


def _videos(predicted: Sequence[Any], truth: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(predicted) != len(truth):
        raise ValueError(
            f"{len(predicted)} videos are predicted and {len(truth)} are true. Give both of each, in one order."
        )
    return list(zip(predicted, truth, strict=True))


def _levenshtein(one: np.ndarray, other: np.ndarray) -> int:
    """Insertions, deletions and substitutions between two sequences, a row of the table at a time."""
    columns = np.arange(len(other) + 1)
    row = columns
    for number, label in enumerate(one, start=1):
        reached = np.append(number, np.minimum(row[1:] + 1, row[:-1] + (other != label)))
        row = np.minimum.accumulate(reached - columns) + columns  # insertions: one more for each step to the right
    return int(row[-1])


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
