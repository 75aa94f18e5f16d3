"""The distance to the nearest class: against the textbook's formula, scikit-learn's shrinkage, and by invariances."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.mahalanobis import Mahalanobis, ledoit_wolf


def samples(num: int, size: int, classes: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % classes
    centres = 4 * torch.randn(classes, size, generator=generator)
    mix = torch.randn(size, size, generator=generator) / size**0.5
    return centres[labels] + torch.randn(num, size, generator=generator) @ mix, labels


def fitted(x, labels, rank: int = 128) -> Mahalanobis:
    found = Mahalanobis(num_classes=int(labels.max()) + 1, size=x.shape[1], rank=rank)
    found.fit(x, labels)
    return found


@pytest.mark.parametrize(("num", "size"), [(60, 8), (12, 30), (40, 40), (30, 1)])
def test_it_is_the_textbooks_distance_with_the_shrunk_covariance(num, size):
    x, labels = samples(num, size)
    strange = 5 * torch.randn(20, size, generator=torch.Generator().manual_seed(1))
    means = torch.stack([x[labels == c].mean(0) for c in range(3)]).double()
    left = x.double() - means[labels]
    shrinkage, sphere = ledoit_wolf(left)
    covariance = (1 - shrinkage) * left.T @ left / num + shrinkage * sphere * torch.eye(size, dtype=torch.float64)
    away = strange.double()[:, None] - means
    wanted = torch.einsum("bcd,de,bce->bc", away, covariance.inverse(), away).amin(1) / size
    torch.testing.assert_close(fitted(x, labels)(strange).double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("num", "size"), [(60, 8), (12, 30), (40, 40)])
def test_the_shrinkage_is_scikit_learns(num, size):
    covariance = pytest.importorskip("sklearn.covariance")
    x, _ = samples(num, size)
    centred = (x - x.mean(0)).double()
    shrinkage, sphere = ledoit_wolf(centred)
    oracle = covariance.LedoitWolf(assume_centered=True).fit(centred.numpy())
    assert shrinkage == pytest.approx(oracle.shrinkage_, rel=1e-6)
    assert sphere == pytest.approx(float((centred.T @ centred).diagonal().mean() / num), rel=1e-6)


def test_few_directions_keep_the_large_variances_and_the_mean_of_the_rest():
    x, labels = samples(400, 20)
    whole, few = fitted(x, labels), fitted(x, labels, rank=5)
    a, b = (1 / m.get_buffer("precisions") for m in (whole, few))
    torch.testing.assert_close(b, a[:5])
    assert float(1 / few.get_buffer("precision")) == pytest.approx(float(a[5:].mean()), rel=1e-4)


def test_far_is_farther_and_a_class_mean_is_nowhere_far():
    x, labels = samples(60, 10)
    found = fitted(x, labels)
    away = torch.randn(1, 10, generator=torch.Generator().manual_seed(2))
    means = found.get_buffer("means")
    distances = found(means[1] + torch.tensor([0.0, 30.0, 60.0, 120.0])[:, None] * away)
    assert float(distances[0]) == pytest.approx(0, abs=1e-6) and (distances.diff() > 0).all()


def test_turning_and_moving_and_stretching_the_features_changes_nothing():
    x, labels = samples(50, 12)
    strange = 4 * torch.randn(9, 12, generator=torch.Generator().manual_seed(3))
    turn = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(4)))[0]
    plain = fitted(x, labels)(strange)
    moved = fitted(7 * x @ turn + 3, labels)(7 * strange @ turn + 3)
    torch.testing.assert_close(plain, moved, rtol=1e-3, atol=1e-4)


def test_before_fit_it_says_so_and_classes_without_spread_give_finite_distances():
    x, _ = samples(6, 4)
    unfitted = Mahalanobis(num_classes=3, size=4)
    assert not unfitted.is_fitted and (unfitted(x) == 0).all()
    still = fitted(torch.eye(4)[:3], torch.arange(3))
    assert still.is_fitted and still(x).isfinite().all()
    assert (fitted(torch.ones(3, 4), torch.arange(3))(x)).isfinite().all()
