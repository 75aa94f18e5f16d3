"""Whether confidence can be trusted, and whether the unknown is told from the known. Pure functions; they know nothing of models.

In: logits or probabilities (N, C), labels (N,), scores (N,): lists, arrays or CPU tensors. Out: numbers.
Two orientations, each named where it is used: *confidence* is high for what is known, a *score for unknown* is high for what is not.
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
    """Logits (N, C), labels (N,) of validation -> the T in [lowest, highest] that minimises the mean NLL of softmax(logits / T).

    Guo et al. 2017 (ICML). The NLL is convex in 1 / T, so its slope there crosses zero at most once: bisection in float64, no
    start, no step size, the same answer each time. Where the slope never crosses, the answer is a bound: `lowest` if every row is
    right (the data then ask for T -> 0), `highest` if the logits say nothing. `smoothing` moves that share of each label evenly
    onto all classes; 1 / (N + 2) (Platt 1999) keeps a small or all-right validation set from asking for certainty.
    Logits that do not care (all columns equal) give 1. Errors: no rows, labels outside 0..C-1, logits that are not finite.
    """
    table, truth = torch.as_tensor(logits, dtype=torch.float64).detach(), torch.as_tensor(labels).long()
    _check(table, truth)
    if not table.isfinite().all():
        raise ValueError(
            "Some logits are nan or infinite; a temperature needs finite ones. Look for what made them so."
        )
    if (table == table[:, :1]).all():
        return 1.0
    wanted = (1 - smoothing) * table.gather(1, truth[:, None]).mean() + smoothing * table.mean()

    def slope(sharpness: float) -> float:  # d NLL / d (1 / T) = E[logit under the model] - E[logit under the labels]
        return float(((table * sharpness).softmax(1) * table).sum(1).mean() - wanted)

    low, high = math.log(1 / highest), math.log(1 / lowest)
    if slope(1 / lowest) <= 0:
        return lowest
    if slope(1 / highest) >= 0:
        return highest
    for _ in range(50):  # log(400) / 2^50: the last digits of a float64
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def negative_log_likelihood(logits: Any, labels: Any, temperature: float = 1.0) -> float:
    """Logits (N, C), labels (N,) -> the mean of -log softmax(logits / temperature)[label], in float64."""
    table, truth = torch.as_tensor(logits, dtype=torch.float64).detach(), torch.as_tensor(labels).long()
    _check(table, truth)
    return float(torch.nn.functional.cross_entropy(table / temperature, truth))


def expected_calibration_error(probabilities: Any, labels: Any, bins: int = 15) -> float:
    """Probabilities (N, C), labels (N,) -> the mean |confidence - accuracy| of the top answer over `bins` equal bins of confidence.

    Naeini et al. 2015 (AAAI), Guo et al. 2017; bins are closed at the low end. It shrinks with fewer bins and grows with fewer rows: compare like
    with like, and see `expected_calibration_error_interval`.
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
    """The bootstrap interval of the above, over groups. It leans upwards: a resample is noisier than the sample, and noise adds to
    an average of absolute values. So the error itself may lie below its middle, and for very good models below its low end.
    """
    rows = _gaps(probabilities, labels, bins)
    return sums_interval(_mean_gap, rows, groups, repeats=repeats, level=level, seed=seed)


def _gaps(probabilities: Any, labels: Any, bins: int) -> Tensor:
    """(N, bins + 1): confidence minus is-right in the bin of each row, and a 1 that counts it."""
    table, truth = _probabilities(probabilities, labels)
    confidence, answer = table.max(1)
    place = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1), right=True) - 1  # closed at the low end
    gaps = torch.zeros(len(table), bins, dtype=torch.float64)
    gaps[torch.arange(len(table)), place] = confidence.double() - (answer == truth).double()
    return torch.cat([gaps, torch.ones(len(table), 1, dtype=torch.float64)], 1)


def coverage_risk(confidence: Any, is_right: Any) -> list[tuple[float, float]]:
    """Confidence (N,), is_right (N,) -> (coverage, risk) for each distinct confidence, the highest first (El-Yaniv & Wiener 2010).

    Answer only what is at least so confident: coverage is the share that gets an answer, risk the share of those that is wrong.
    """
    values = torch.as_tensor(confidence, dtype=torch.float64).detach().numpy()
    order = np.argsort(-values, kind="stable")
    if not len(order):
        return []
    last = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)  # equal confidences are answered together
    wrong = (~np.asarray(is_right, dtype=bool)[order]).cumsum()[last]
    return [(float(n / len(order)), float(w / n)) for n, w in zip(last + 1, wrong, strict=True)]


def area_under_coverage_risk(curve: list[tuple[float, float]]) -> float:
    """AURC (Geifman et al. 2019, ICLR): the mean risk over all coverages 1/N..1, low is good; nan for an empty curve."""
    starts = [0.0, *(coverage for coverage, _ in curve)]
    area = sum((stop - start) * risk for start, (stop, risk) in zip(starts, curve, strict=False))
    return area if curve else float("nan")


def auroc(scores: Any, is_unknown: Any) -> float:
    """Scores for unknown (N,), is_unknown (N,) -> the share of (unknown, known) pairs in which the unknown scores higher, equal: half.

    0.5 is chance; nan if there are no unknown or no known. Own, by ranks (Mann & Whitney 1947): torchmetrics passes scores
    outside 0..1 through a sigmoid in float32, which makes large ones equal.
    """
    values = torch.as_tensor(scores, dtype=torch.float64).detach().numpy()
    if np.isnan(values).any():
        raise ValueError("A score for unknown is nan, and nan has no rank. Give numbers; look for what made it nan.")
    unknown = np.asarray(is_unknown, dtype=bool)
    positives, negatives = int(unknown.sum()), int((~unknown).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (count.cumsum() - (count - 1) / 2)[place]  # equal scores share the middle of their ranks
    return float((ranks[unknown].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_interval(
    scores: Any, is_unknown: Any, groups: Groups = None, *, repeats: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of `auroc`, over groups; draws with one kind only are left out."""
    values = torch.as_tensor(scores, dtype=torch.float64).detach().numpy()
    rows = np.stack([values, np.asarray(is_unknown, dtype=np.float64)], 1)
    return grouped_interval(
        lambda drawn: auroc(drawn[:, 0], drawn[:, 1]), rows, groups, repeats=repeats, level=level, seed=seed
    )


def max_logit(logits: Any) -> Tensor:
    """Logits (..., C) -> scores for unknown (...,): minus the highest logit (Hendrycks et al. 2022, ICML)."""
    return -torch.as_tensor(logits).amax(-1)


def energy(logits: Any, temperature: float = 1.0) -> Tensor:
    """Logits (..., C) -> scores for unknown (...,): -T log sum exp(logits / T) (Liu et al. 2020, NeurIPS). T -> 0 is `max_logit`."""
    return -temperature * (torch.as_tensor(logits) / temperature).logsumexp(-1)


def threshold_at(confidence_of_known: Any, keep: float = 0.95) -> float:
    """Confidence (N,) of known samples of validation -> the highest threshold that at least the share `keep` of them reaches.

    Known is what has confidence >= threshold. The confidence of a score for unknown is minus it: `threshold_at(-energy(logits))`.
    """
    values = torch.as_tensor(confidence_of_known, dtype=torch.float64).detach().flatten().sort(descending=True).values
    if not len(values) or not 0 < keep <= 1:
        raise ValueError(
            f"{len(values)} known samples, keep={keep}: a threshold needs at least one known sample of validation "
            "and a share to keep above 0 and up to 1."
        )
    return float(values[math.ceil(keep * len(values) - 1e-9) - 1])  # less a hair: 0.55 * 100 is 55.00000000000001


def _mean_gap(sums: np.ndarray) -> np.ndarray:
    return np.abs(sums[:, :-1]).sum(1) / sums[:, -1]


def _check(table: Tensor, truth: Tensor) -> None:
    assert table.ndim == 2 and truth.shape == table.shape[:1], "logits or probabilities are (N, C), labels (N,)"
    count = table.shape[1]
    if not len(table):
        raise ValueError(
            "There is no row to calibrate on. Give the answers on a validation set, or leave calibration out."
        )
    if not 0 <= int(truth.min()) <= int(truth.max()) < count:
        raise ValueError(
            f"Labels run from {int(truth.min())} to {int(truth.max())}, but there are {count} classes: labels lie in "
            f"0..{count - 1}. Leave out rows of unknown truth, and check that both use the same vocabulary."
        )


def _probabilities(probabilities: Any, labels: Any) -> tuple[Tensor, Tensor]:
    table, truth = torch.as_tensor(probabilities).detach(), torch.as_tensor(labels).long()
    _check(table, truth)
    if not (table >= 0).all() or not (table <= 1 + 1e-5).all():
        raise ValueError(
            f"Values run from {float(table.min()):.3g} to {float(table.max()):.3g}, and probabilities lie in 0..1. "
            "Give softmax(logits / temperature), not logits."
        )
    return table.float().clamp(max=1 - 1e-7), truth  # 1.0 belongs into the last bin
