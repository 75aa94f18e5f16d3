"""How unlike the training samples of every class a sample is.

In: features (N, D) with their classes, once. Out: for any features a distance that grows with strangeness. Knows nothing
of videos, logits or thresholds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mahalanobis(nn.Module):
    """The squared Mahalanobis distance to the nearest class mean, over D (Lee et al. 2018, NeurIPS, "A simple unified
    framework for detecting out-of-distribution samples").

    One covariance for all classes, of what is left when each sample's class mean is taken away, shrunk towards the
    sphere by as much as Ledoit & Wolf (2004, J. Multivariate Anal. 88) estimate from the samples themselves: no knob to
    turn, and it exists with fewer samples than dimensions. Kept in memory as `rank` directions with their variances and
    one variance for all others (the largest directions are kept where there are more), so that wide features cost
    rank * D numbers, not D * D.

    Before `fit` it has learned nothing, and says 0 of everything.
    """

    def __init__(self, *, num_classes: int, size: int, rank: int = 128) -> None:
        super().__init__()
        rank = min(rank, size)
        self.register_buffer("means", torch.zeros(num_classes, size))
        self.register_buffer("directions", torch.zeros(rank, size))
        self.register_buffer("precisions", torch.zeros(rank))
        self.register_buffer("precision", torch.zeros(()))

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` was called, on this or on the stored one."""
        return bool(self.get_buffer("precision") > 0)

    def fit(self, features: Tensor, classes: Tensor) -> None:
        """Features (N, D), classes (N,) int64 of training samples, every class among them."""
        means = self.get_buffer("means")
        x, classes = features.detach().double().cpu(), classes.cpu()
        counts = classes.bincount(minlength=len(means))
        assert x.shape[1] == means.shape[1] and len(counts) == len(means) and int(counts.min()) > 0
        centres = torch.zeros(means.shape, dtype=x.dtype).index_add_(0, classes, x) / counts[:, None]
        left = x - centres[classes]
        num, size = left.shape
        shrinkage, sphere = ledoit_wolf(left)
        _, values, directions = torch.linalg.svd(left, full_matrices=False)
        rank = min(len(self.get_buffer("precisions")), len(values))
        variances = (1 - shrinkage) * values.square() / num + shrinkage * sphere
        rest = (1 - shrinkage) * float(values[rank:].square().sum()) / num / max(1, size - rank) + shrinkage * sphere
        floor = 1e-6 * sphere or 1.0  # one sample a class, so no spread at all: plain distances
        means.copy_(centres)
        self.get_buffer("directions").zero_()[:rank] = directions[:rank].to(means)
        self.get_buffer("precisions").zero_()[:rank] = (1 / variances[:rank].clamp(min=floor)).to(means)
        self.get_buffer("precision").fill_(1 / max(rest, floor))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B,): the distance to the nearest class over D, about 1 for what is as usual as the training samples."""
        directions, rest = self.get_buffer("directions"), self.get_buffer("precision")
        away = features.to(directions.dtype)[:, None] - self.get_buffer("means")  # (B, C, D)
        along = away @ directions.T  # (B, C, R)
        across = away - along @ directions  # what no kept direction explains
        distances = rest * across.square().sum(-1) + along.square() @ self.get_buffer("precisions")
        return distances.amin(1) / features.shape[1]


def ledoit_wolf(centred: Tensor) -> tuple[float, float]:
    """Centred samples (N, D) -> (shrinkage in [0, 1], mean variance): (1 - s) * covariance + s * mean variance * I.

    Ledoit & Wolf 2004, lemma 3.2 to 3.4, by the (N, N) products of the samples: D may be large.
    """
    num, size = centred.shape
    products = centred @ centred.T / num if num < size else centred.T @ centred / num
    sphere = float(products.diagonal().sum()) / size
    squares = float(products.square().sum())
    distance = squares - size * sphere**2
    noise = (float(centred.square().sum(1).square().sum()) / num - squares) / num
    if distance <= 0:
        return 1.0, sphere
    return min(1.0, max(0.0, noise / distance)), sphere
