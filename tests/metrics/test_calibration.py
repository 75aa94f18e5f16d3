"""Calibration and unknown classes, against loops, pair counting, grids and simulated data of known temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipeline.metrics.bootstrap import grouped_interval
from pipeline.metrics.calibration import (
    area_under_coverage_risk,
    auroc,
    auroc_interval,
    coverage_risk,
    energy,
    expected_calibration_error,
    expected_calibration_error_interval,
    fit_temperature,
    max_logit,
    negative_log_likelihood,
    threshold_at,
)


def simulated(
    temperature: float, count: int = 4000, classes: int = 5, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `temperature` times too sharp for the labels drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits * temperature, labels


def literal_error(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        rows = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if number <= row.max() * bins < number + 1 or (number == bins - 1 and row.max() == 1)
        ]
        if rows:
            confidence, correct = np.mean([c for c, _ in rows]), np.mean([r for _, r in rows])
            total += float(abs(confidence - correct)) * len(rows) / len(labels)
    return total


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_of_simulated_data_is_recovered(true):
    assert fit_temperature(*simulated(true)) == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_no_temperature_of_a_fine_grid_is_better(seed):
    logits, labels = simulated(2.0, count=37, seed=seed)
    fitted = fit_temperature(logits, labels)
    best = negative_log_likelihood(logits, labels, fitted)
    grid = np.exp(np.linspace(math.log(0.05), math.log(20), 3000))
    assert 0.05 < fitted < 20
    assert best <= min(negative_log_likelihood(logits, labels, t) for t in grid) + 1e-12


def test_scaled_logits_scale_the_temperature_and_shifted_rows_do_not_change_it():
    logits, labels = simulated(1.5, count=200)
    fitted = fit_temperature(logits, labels)
    assert fit_temperature(3 * logits.double(), labels) == pytest.approx(3 * fitted, rel=1e-9)
    assert fit_temperature(logits.double() + 1000 * torch.arange(200)[:, None], labels) == pytest.approx(
        fitted, rel=1e-6
    )
    assert (
        fit_temperature(logits.tolist(), labels.tolist()) == fit_temperature(logits.numpy(), labels.numpy()) == fitted
    )
    assert fit_temperature(logits, labels) == fitted


def test_without_an_optimum_inside_the_bounds_the_result_is_a_bound():
    confident = torch.eye(4) * 3
    assert fit_temperature(confident, torch.arange(4)) == 0.05
    assert fit_temperature(confident, torch.arange(4), lowest=0.5) == 0.5
    assert fit_temperature(confident, torch.arange(4).roll(1)) == 20
    assert fit_temperature(torch.full((4, 3), 0.1), torch.tensor([0, 1, 2, 0])) == 1


def test_smoothing_avoids_an_extreme_temperature_without_errors():
    confident, labels = torch.eye(4).repeat(25, 1) * 3, torch.arange(4).repeat(25)
    share = 1 / 102
    fitted = fit_temperature(confident, labels, smoothing=share)
    assert 0.05 < fitted < 20
    # the optimum's probabilities are the smoothed labels: (1 - s) + s / 4 for its own class
    assert float((confident[0] / fitted).softmax(0)[0]) == pytest.approx(1 - share * 3 / 4)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_calibration_error_equals_the_loop(bins):
    logits, labels = simulated(1.7, count=700)
    probabilities = logits.softmax(1)
    expected = literal_error(probabilities.double().numpy(), labels.numpy(), bins)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-6)
    assert expected_calibration_error(probabilities.double().numpy(), labels.tolist(), bins) == pytest.approx(
        expected, abs=1e-6
    )


@pytest.mark.parametrize("bins", [2, 4, 5, 7, 10, 15, 20, 30])
def test_a_confidence_at_a_border_is_in_the_bin_above(bins):
    """Beside a wrong row in the middle of a bin, a right row at its low border lessens the error of one bin."""
    for number in range(1, bins):
        border, middle = number / bins, (number + 0.5) / bins
        rows = np.array([[c, *[(1 - c) / 60] * 60] for c in (border, middle)])  # 61 classes: the first is the top
        error = expected_calibration_error(rows, [0, 1], bins)
        assert error == pytest.approx(abs(border + middle - 1) / 2, abs=1e-6), number
        below = np.array([[c, *[(1 - c) / 60] * 60] for c in (border - 1e-4, middle)])
        error = expected_calibration_error(below, [0, 1], bins)
        assert error == pytest.approx((abs(border - 1e-4 - 1) + middle) / 2, abs=1e-6), number


def test_a_probability_of_one_is_in_the_last_bin():
    probabilities = np.array([[1.0, 0.0], [0.97, 0.03]])
    # one bin: |0.985 - 0.5|; with a bin for 1.0 alone it would be (|1 - 0| + |0.97 - 1|) / 2 = 0.515
    assert expected_calibration_error(probabilities, [1, 0]) == pytest.approx(0.485, abs=1e-6)
    assert expected_calibration_error(np.eye(3), [0, 1, 2]) == pytest.approx(0, abs=1e-6)


def test_the_fitted_temperature_reduces_the_error_on_other_data():
    logits, labels = simulated(3.0, count=8000)
    fitted = fit_temperature(logits[:4000], labels[:4000])
    before = expected_calibration_error(logits[4000:].softmax(1), labels[4000:])
    after = expected_calibration_error((logits[4000:] / fitted).softmax(1), labels[4000:])
    assert before > 0.1 and after < 0.03


def test_the_interval_of_the_error_equals_the_bootstrap_of_the_error():
    logits, labels = simulated(2.0, count=120)
    probabilities, groups = logits.softmax(1), np.arange(120) % 13
    slow = grouped_interval(
        lambda rows: expected_calibration_error(probabilities[rows], labels[rows]), np.arange(120), groups, repeats=60
    )
    interval = expected_calibration_error_interval(probabilities, labels, groups, repeats=60)
    assert interval == pytest.approx(slow, abs=1e-6)
    assert interval[0] < expected_calibration_error(probabilities, labels) < interval[1]


def test_coverage_risk_equals_the_loop_over_thresholds():
    random = np.random.default_rng(0)
    confidence, correct = random.integers(0, 12, 80) / 12, random.random(80) < 0.7
    expected = []
    for threshold in sorted(set(confidence), reverse=True):
        is_covered = confidence >= threshold
        expected.append((is_covered.mean(), 1 - correct[is_covered].mean()))
    curve = coverage_risk(confidence, correct)
    assert np.allclose(curve, expected)
    assert curve[-1] == pytest.approx((1, 1 - correct.mean()))
    order = random.permutation(80)
    assert coverage_risk(confidence[order], torch.tensor(correct[order])) == curve
    assert coverage_risk([], []) == []


def test_the_area_is_the_mean_risk_and_is_smaller_for_a_better_order():
    random = np.random.default_rng(1)
    confidence, correct = random.permutation(50).astype(float), random.random(50) < 0.6
    order = np.argsort(-confidence)
    risks = [1 - correct[order[:n]].mean() for n in range(1, 51)]
    assert area_under_coverage_risk(coverage_risk(confidence, correct)) == pytest.approx(np.mean(risks))
    areas = [area_under_coverage_risk(coverage_risk(c, correct)) for c in (correct, np.zeros(50), ~correct)]
    assert areas[0] < areas[1] == pytest.approx(1 - correct.mean()) and areas[1] < areas[2]
    assert area_under_coverage_risk(coverage_risk([0.3, 0.9], [True, True])) == 0
    assert math.isnan(area_under_coverage_risk([]))


@pytest.mark.parametrize("levels", [2, 9, 10**9])
def test_auroc_equals_pair_counting(levels):
    random = np.random.default_rng(levels)
    for count in (2, 5, 60):
        scores, unknown = random.integers(0, levels, count) - 30.0, random.random(count) < 0.4
        unknown[0], unknown[1] = True, False
        pairs = [(a > b) + (a == b) / 2 for a in scores[unknown] for b in scores[~unknown]]
        area = auroc(scores, unknown)
        assert area == pytest.approx(np.mean(pairs)) and area == pytest.approx(roc_auc_score(unknown, scores))
        assert auroc(-scores, unknown) == pytest.approx(1 - area)
        assert auroc(scores, ~unknown) == pytest.approx(1 - area)
        assert auroc(torch.tensor(np.cbrt(scores)), unknown) == pytest.approx(area)
    assert math.isnan(auroc([1.0, 2.0], [True, True])) and math.isnan(auroc([], []))


def test_auroc_distinguishes_large_scores():
    assert auroc([200.0, 201.0, 202.0], [False, False, True]) == 1


def test_the_interval_of_auroc_has_about_the_stated_coverage():
    """Unknown scores are N(1, 1), known N(0, 1): the true AUROC is Phi(1 / sqrt 2).

    Three standard errors of 0.95 with 60 data sets are 0.08.
    """
    truth = 0.5 * (1 + math.erf(0.5))
    covered = 0
    for seed in range(60):
        unknown = np.arange(120) % 2 == 0
        scores = np.random.default_rng(seed).normal(size=120) + unknown
        low, high = auroc_interval(scores, unknown, repeats=150, seed=seed)
        covered += low <= truth <= high
    assert 0.86 <= covered / 60 <= 1
    interval = auroc_interval([1.0, 2.0, 3.0], [True, False, False], ["a", "b", "b"])
    assert all(map(math.isnan, interval))  # of two groups, only draws with both have an AUROC, and it is always 0


def test_energy_equals_its_formula_and_for_low_temperatures_the_highest_logit():
    logits = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_hand = -2.0 * np.log(np.exp(logits.numpy() / 2.0).sum(-1))
    assert np.allclose(energy(logits, 2.0), by_hand)
    assert torch.allclose(energy(logits, 1e-3), max_logit(logits), atol=1e-2)
    assert torch.equal(max_logit(logits), -logits.max(-1).values)
    assert float(max_logit([1.0, 3.0])) == -3 and energy(logits.numpy()).shape == (6, 3)
    assert float(energy([1000.0, 0.0])) == -1000


def test_samples_unlike_all_classes_score_higher():
    known, unknown = torch.eye(4) * 5, torch.full((4, 4), 0.2)
    for score in (max_logit, energy):
        scores = torch.cat([score(known), score(unknown)])
        assert auroc(scores, [False] * 4 + [True] * 4) == 1


@pytest.mark.parametrize("keep", [0.05, 0.55, 0.9, 0.95, 1.0])
def test_the_threshold_is_the_highest_that_keeps_the_share(keep):
    random = np.random.default_rng(0)
    for confidence in (random.random(100), random.random(7), np.array([0.5]), random.integers(0, 3, 50) / 3):
        threshold = threshold_at(confidence, keep)
        assert (confidence >= threshold).mean() >= keep - 1e-12
        for higher in set(confidence[confidence > threshold]):
            assert (confidence >= higher).mean() < keep
    assert threshold_at(torch.arange(100)) == 5


def test_errors_name_the_problem():
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="There is no row to calibrate on"):
        fit_temperature(torch.zeros(0, 3), [])
    with pytest.raises(ValueError, match="Labels run from -1 to 3, but there are 3 classes"):
        fit_temperature(logits, [-1, 3])
    with pytest.raises(ValueError, match="Some logits are nan or infinite"):
        fit_temperature([[0.0, math.inf], [0.0, 1.0]], [0, 1])
    with pytest.raises(ValueError, match="Values run from -2 to 3, and probabilities lie in 0..1"):
        expected_calibration_error([[-2.0, 3.0]], [0])
    with pytest.raises(ValueError, match="nan has no rank"):
        auroc([math.nan, 1.0], [True, False])
    with pytest.raises(ValueError, match="0 known samples, keep=0.95"):
        threshold_at([])
    with pytest.raises(ValueError, match="1 known samples, keep=95"):
        threshold_at([1.0], 95)
