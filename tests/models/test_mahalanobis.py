"""The distance to the nearest class: the formula, the shrinkage of scikit-learn, and invariances."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.mahalanobis import Mahalanobis, ledoit_wolf


def samples(num_samples: int, size: int, classes: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % classes
    class_means = 4 * torch.randn(classes, size, generator=generator)
    mixing = torch.randn(size, size, generator=generator) / size**0.5
    return class_means[labels] + torch.randn(num_samples, size, generator=generator) @ mixing, labels


def fitted(x, labels, rank: int = 128) -> Mahalanobis:
    distance = Mahalanobis(num_classes=int(labels.max()) + 1, size=x.shape[1], rank=rank)
    distance.fit(x, labels)
    return distance


@pytest.mark.parametrize(("num_samples", "size"), [(60, 8), (12, 30), (40, 40), (30, 1)])
def test_the_distance_follows_the_formula_with_the_shrunk_covariance(num_samples, size):
    x, labels = samples(num_samples, size)
    others = 5 * torch.randn(20, size, generator=torch.Generator().manual_seed(1))
    means = torch.stack([x[labels == c].mean(0) for c in range(3)]).double()
    centred = x.double() - means[labels]
    shrinkage, mean_variance = ledoit_wolf(centred)
    identity = torch.eye(size, dtype=torch.float64)
    covariance = (1 - shrinkage) * centred.T @ centred / num_samples + shrinkage * mean_variance * identity
    differences = others.double()[:, None] - means
    squares = torch.einsum("bcd,de,bce->bc", differences, covariance.inverse(), differences)
    torch.testing.assert_close(fitted(x, labels)(others).double(), squares.amin(1) / size, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num_samples", "size"), [(60, 8), (12, 30), (40, 40)])
def test_the_shrinkage_equals_that_of_scikit_learn(num_samples, size):
    covariance = pytest.importorskip("sklearn.covariance")
    x, _ = samples(num_samples, size)
    centred = (x - x.mean(0)).double()
    shrinkage, mean_variance = ledoit_wolf(centred)
    reference = covariance.LedoitWolf(assume_centered=True).fit(centred.numpy())
    assert shrinkage == pytest.approx(reference.shrinkage_, rel=1e-6)
    assert mean_variance == pytest.approx(float((centred.T @ centred).diagonal().mean() / num_samples), rel=1e-6)


def test_a_small_rank_keeps_the_largest_variances_and_the_mean_of_the_others():
    x, labels = samples(400, 20)
    full, small = fitted(x, labels), fitted(x, labels, rank=5)
    full_variances, small_variances = (1 / module.get_buffer("precisions") for module in (full, small))
    torch.testing.assert_close(small_variances, full_variances[:5])
    residual_variance = float(1 / small.get_buffer("residual_precision"))
    assert residual_variance == pytest.approx(float(full_variances[5:].mean()), rel=1e-4)


def test_the_distance_is_zero_at_a_class_mean_and_grows_away_from_it():
    x, labels = samples(60, 10)
    distance = fitted(x, labels)
    direction = torch.randn(1, 10, generator=torch.Generator().manual_seed(2))
    means = distance.get_buffer("means")
    distances = distance(means[1] + torch.tensor([0.0, 30.0, 60.0, 120.0])[:, None] * direction)
    assert float(distances[0]) == pytest.approx(0, abs=1e-6)
    assert (distances.diff() > 0).all()


def test_rotation_shift_and_scale_of_the_features_change_nothing():
    x, labels = samples(50, 12)
    others = 4 * torch.randn(9, 12, generator=torch.Generator().manual_seed(3))
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(4)))[0]
    plain = fitted(x, labels)(others)
    transformed = fitted(7 * x @ rotation + 3, labels)(7 * others @ rotation + 3)
    torch.testing.assert_close(plain, transformed, rtol=1e-3, atol=1e-4)


def test_distances_are_zero_before_fit_and_finite_for_classes_without_variance():
    x, _ = samples(6, 4)
    unfitted = Mahalanobis(num_classes=3, size=4)
    assert not unfitted.is_fitted
    assert (unfitted(x) == 0).all()
    no_variance = fitted(torch.eye(4)[:3], torch.arange(3))
    assert no_variance.is_fitted
    assert no_variance(x).isfinite().all()
    assert fitted(torch.ones(3, 4), torch.arange(3))(x).isfinite().all()
