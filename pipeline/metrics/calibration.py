"""Calibration of probabilities, and detection of unknown classes. Pure functions.

In: logits or probabilities (N, C), labels (N,), scores (N,): lists, arrays or CPU tensors. Out: numbers. They know
nothing of models. Two quantities have opposite directions, and each function says which one it takes: a *confidence* is
high for known classes, a *score for unknown* is high for unknown classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.metrics.bootstrap import Groups, grouped_interval, sums_interval


def fit_temperature(
    logits: Any, labels: Any, *, lowest: float = 0.05, highest: float = 20.0, smoothing: float = 0.0
) -> float:
    """The temperature T in [lowest, highest] that minimises the mean NLL of softmax(logits / T).

    Guo et al. 2017 (ICML). logits: (N, C) and labels: (N,) of the validation split. The NLL is convex in 1 / T, so its
    derivative there has at most one zero. It is found by bisection in float64, which needs no start value and no step
    size. Where the derivative has no zero, the result is a bound: `lowest` if every row is correct (the optimum is then
    T -> 0), `highest` if the logits carry no information. Logits with equal columns give 1.

    smoothing: the share of each label that is spread evenly over all classes. 1 / (N + 2) (Platt 1999) avoids extreme
    temperatures on a validation split that is small or without errors.

    Raises ValueError for no rows, labels outside 0..C-1, and logits that are not finite.
    """
    table, targets = torch.as_tensor(logits, dtype=torch.float64).detach(), torch.as_tensor(labels).long()
    _check(table, targets)
    if not table.isfinite().all():
        raise ValueError(
            "Some logits are nan or infinite. A temperature needs finite logits. Find the inputs or weights that made "
            "them nan or infinite."
        )
    if (table == table[:, :1]).all():
        return 1.0
    label_mean = (1 - smoothing) * table.gather(1, targets[:, None]).mean() + smoothing * table.mean()

    def derivative(inverse: float) -> float:  # d NLL / d (1 / T) = E[logit under the model] - E[logit under the labels]
        return float(((table * inverse).softmax(1) * table).sum(1).mean() - label_mean)

    low, high = math.log(1 / highest), math.log(1 / lowest)
    if derivative(1 / lowest) <= 0:
        return lowest
    if derivative(1 / highest) >= 0:
        return highest
    for _ in range(50):  # log(400) / 2^50 is below the precision of float64 here
        middle = (low + high) / 2
        low, high = (middle, high) if derivative(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def negative_log_likelihood(logits: Any, labels: Any, temperature: float = 1.0) -> float:
    """Logits (N, C), labels (N,) -> the mean of -log softmax(logits / temperature)[label], in float64."""
    table, targets = torch.as_tensor(logits, dtype=torch.float64).detach(), torch.as_tensor(labels).long()
    _check(table, targets)
    return float(torch.nn.functional.cross_entropy(table / temperature, targets))


def expected_calibration_error(probabilities: Any, labels: Any, bins: int = 15) -> float:
    """The mean |confidence - accuracy| of the top class, over `bins` equal bins of confidence.

    probabilities: (N, C), labels: (N,). Naeini et al. 2015 (AAAI), Guo et al. 2017. Bins are closed at the low end. The
    error is smaller with fewer bins and larger with fewer rows, so compare only errors of equal bins and similar sizes.
    `expected_calibration_error_interval` gives its confidence interval.
    """
    return float(_mean_gap(_gaps(probabilities, labels, bins).sum(0, keepdim=True).numpy())[0])


def expected_calibration_error_interval(
    probabilities: Any,
    labels: Any,
    groups: Groups = None,
    *,
    bins: int = 15,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The bootstrap interval of `expected_calibration_error`, over groups.

    It is biased upwards: a resample is noisier than the sample, and noise adds to an average of absolute values. The
    error may therefore lie below the middle of the interval, and for very good models below its low end.
    """
    rows = _gaps(probabilities, labels, bins)
    return sums_interval(_mean_gap, rows, groups, repeats=repeats, level=level, seed=seed)


def _gaps(probabilities: Any, labels: Any, bins: int) -> Tensor:
    """(N, bins + 1): confidence minus is-correct in the bin of each row, and a last column of ones that counts rows."""
    table, targets = _probabilities(probabilities, labels)
    confidence, predicted = table.max(1)
    borders = torch.arange(bins + 1) / bins  # linspace rounds: 0.2 would lie below its third border of 15
    index = torch.bucketize(confidence, borders, right=True) - 1  # closed at the low end
    gaps = torch.zeros(len(table), bins, dtype=torch.float64)
    gaps[torch.arange(len(table)), index] = confidence.double() - (predicted == targets).double()
    return torch.cat([gaps, torch.ones(len(table), 1, dtype=torch.float64)], 1)


def coverage_risk(confidence: Any, is_correct: Any) -> list[tuple[float, float]]:
    """The coverage-risk curve: (coverage, risk) for each distinct confidence, the highest first (El-Yaniv & Wiener
    2010).

    confidence: (N,), is_correct: (N,). Coverage is the share of samples with at least this confidence. Risk is the
    share of these samples whose prediction is wrong.
    """
    values = torch.as_tensor(confidence, dtype=torch.float64).detach().numpy()
    order = np.argsort(-values, kind="stable")
    if not len(order):
        return []
    last = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)  # equal confidences come together
    wrong = (~np.asarray(is_correct, dtype=bool)[order]).cumsum()[last]
    return [(float(n / len(order)), float(w / n)) for n, w in zip(last + 1, wrong, strict=True)]


def area_under_coverage_risk(curve: list[tuple[float, float]]) -> float:
    """AURC (Geifman et al. 2019, ICLR): the mean risk over all coverages 1/N..1. Lower is better; nan for no curve."""
    starts = [0.0, *(coverage for coverage, _ in curve)]
    area = sum((stop - start) * risk for start, (stop, risk) in zip(starts, curve, strict=False))
    return area if curve else float("nan")


def auroc(scores: Any, is_unknown: Any) -> float:
    """The share of (unknown, known) pairs in which the unknown sample scores higher; equal scores count half.

    scores: scores for unknown (N,), is_unknown: (N,). 0.5 is chance; nan if there are no unknown or no known samples.
    It is computed here from ranks (Mann & Whitney 1947), because torchmetrics passes scores outside 0..1 through a
    sigmoid in float32, which makes large scores equal.
    """
    values = torch.as_tensor(scores, dtype=torch.float64).detach().numpy()
    if np.isnan(values).any():
        raise ValueError(
            "A score for unknown is nan, and nan has no rank. Give numbers: find the inputs that gave a score of nan."
        )
    unknown = np.asarray(is_unknown, dtype=bool)
    positives, negatives = int(unknown.sum()), int((~unknown).sum())
    if not positives or not negatives:
        return float("nan")
    _, index, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (count.cumsum() - (count - 1) / 2)[index]  # equal scores share the mean of their ranks
    return float((ranks[unknown].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_interval(
    scores: Any, is_unknown: Any, groups: Groups = None, *, repeats: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of `auroc`, over groups. Draws without known or without unknown samples are left out."""
    values = torch.as_tensor(scores, dtype=torch.float64).detach().numpy()
    rows = np.stack([values, np.asarray(is_unknown, dtype=np.float64)], 1)
    return grouped_interval(
        lambda draw: auroc(draw[:, 0], draw[:, 1]), rows, groups, repeats=repeats, level=level, seed=seed
    )


def max_logit(logits: Any) -> Tensor:
    """Logits (..., C) -> scores for unknown (...,): the negative of the highest logit (Hendrycks et al. 2022, ICML)."""
    return -torch.as_tensor(logits).amax(-1)


def energy(logits: Any, temperature: float = 1.0) -> Tensor:
    """Logits (..., C) -> scores for unknown (...,): -T log sum exp(logits / T) (Liu et al. 2020, NeurIPS).

    For T -> 0 it is `max_logit`.
    """
    return -temperature * (torch.as_tensor(logits) / temperature).logsumexp(-1)


def threshold_at(confidence_of_known: Any, keep: float = 0.95) -> float:
    """The highest threshold that at least the share `keep` of the known validation samples reaches.

    confidence_of_known: (N,). A sample counts as known where its confidence >= threshold. A score for unknown becomes a
    confidence by its negative: `threshold_at(-energy(logits))`.
    """
    values = torch.as_tensor(confidence_of_known, dtype=torch.float64).detach().flatten().sort(descending=True).values
    if not len(values) or not 0 < keep <= 1:
        raise ValueError(
            f"{len(values)} known samples, keep={keep}: a threshold needs at least one known sample of the validation "
            "split, and a share to keep above 0 and up to 1."
        )
    return float(values[math.ceil(keep * len(values) - 1e-9) - 1])  # because 0.55 * 100 is 55.00000000000001


def _mean_gap(sums: np.ndarray) -> np.ndarray:
    return np.abs(sums[:, :-1]).sum(1) / sums[:, -1]


def _check(table: Tensor, targets: Tensor) -> None:
    assert table.ndim == 2 and targets.shape == table.shape[:1], "logits or probabilities are (N, C), labels (N,)"
    num_classes = table.shape[1]
    if not len(table):
        raise ValueError(
            "There is no row to calibrate on. Give the predictions on a validation split, or leave calibration out."
        )
    lowest, highest = int(targets.min()), int(targets.max())
    if not 0 <= lowest <= highest < num_classes:
        raise ValueError(
            f"Labels run from {lowest} to {highest}, but there are {num_classes} classes: labels lie in "
            f"0..{num_classes - 1}. Leave out rows without a label, and check that both use the same vocabulary."
        )


def _probabilities(probabilities: Any, labels: Any) -> tuple[Tensor, Tensor]:
    table, targets = torch.as_tensor(probabilities).detach(), torch.as_tensor(labels).long()
    _check(table, targets)
    if not (table >= 0).all() or not (table <= 1 + 1e-5).all():
        raise ValueError(
            f"Values run from {float(table.min()):.3g} to {float(table.max()):.3g}, and probabilities lie in 0..1. "
            "Give softmax(logits / temperature), not logits."
        )
    return table.float().clamp(max=1 - 1e-7), targets  # 1.0 belongs to the last bin
