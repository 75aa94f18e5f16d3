"""How far a sample is from the training samples of every class.

In: features (N, D) with their classes, once. Out: a distance for any features. Knows nothing of videos, logits or
thresholds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mahalanobis(nn.Module):
    """The squared Mahalanobis distance to the nearest class mean, divided by D (Lee et al. 2018, NeurIPS, "A simple
    unified framework for detecting out-of-distribution samples").

    All classes share one covariance matrix, that of the samples minus their class mean. It is shrunk towards a multiple
    of the identity. Ledoit & Wolf (2004, J. Multivariate Anal. 88) estimate the amount from the samples, so there is
    nothing to tune, and the inverse exists with fewer samples than dimensions.

    The inverse is stored as `rank` principal components with their precisions (inverse variances), and one precision
    for all other directions. So wide features need rank * D numbers and not D * D. Beyond `rank`, the components with
    the largest variances are kept.

    Before `fit` every distance is 0.
    """

    def __init__(self, *, num_classes: int, size: int, rank: int = 128) -> None:
        super().__init__()
        rank = min(rank, size)
        self.register_buffer("means", torch.zeros(num_classes, size))
        self.register_buffer("components", torch.zeros(rank, size))
        self.register_buffer("precisions", torch.zeros(rank))
        self.register_buffer("residual_precision", torch.zeros(()))

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` was called, on this module or on the one whose state it has loaded."""
        return bool(self.get_buffer("residual_precision") > 0)

    def reset(self) -> None:
        """The state before `fit`."""
        for buffer in self.buffers():
            buffer.zero_()

    def fit(self, features: Tensor, classes: Tensor) -> None:
        """features: (N, D), classes: (N,) int64, of training samples. Every class has at least one sample."""
        means = self.get_buffer("means")
        x, classes = features.detach().double().cpu(), classes.cpu()
        counts = classes.bincount(minlength=len(means))
        assert x.shape[1] == means.shape[1] and len(counts) == len(means) and int(counts.min()) > 0
        class_means = torch.zeros(means.shape, dtype=x.dtype).index_add_(0, classes, x) / counts[:, None]
        centred = x - class_means[classes]
        num_samples, size = centred.shape
        shrinkage, mean_variance = ledoit_wolf(centred)
        _, values, components = torch.linalg.svd(centred, full_matrices=False)
        rank = min(len(self.get_buffer("precisions")), len(values))
        variances = (1 - shrinkage) * values.square() / num_samples + shrinkage * mean_variance
        squares = float(values[rank:].square().sum())  # outside the kept components
        residual_variance = (1 - shrinkage) * squares / num_samples / max(1, size - rank) + shrinkage * mean_variance
        floor = 1e-6 * mean_variance or 1.0  # one sample a class has no variance: the Euclidean distance
        means.copy_(class_means)
        self.get_buffer("components").zero_()[:rank] = components[:rank].to(means)
        self.get_buffer("precisions").zero_()[:rank] = (1 / variances[:rank].clamp(min=floor)).to(means)
        self.get_buffer("residual_precision").fill_(1 / max(residual_variance, floor))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B,): the distance to the nearest class, divided by D; about 1 for a usual training sample."""
        components, residual_precision = self.get_buffer("components"), self.get_buffer("residual_precision")
        differences = features.to(components.dtype)[:, None] - self.get_buffer("means")  # (B, C, D)
        projections = differences @ components.T  # (B, C, R)
        residuals = differences - projections @ components  # outside the kept components
        distances = residual_precision * residuals.square().sum(-1) + projections.square() @ self.get_buffer(
            "precisions"
        )
        return distances.amin(1) / features.shape[1]


def ledoit_wolf(centred: Tensor) -> tuple[float, float]:
    """Centred samples (N, D) -> (shrinkage s in [0, 1], mean variance m). The estimate of the covariance matrix is
    (1 - s) * sample covariance + s * m * I.

    Ledoit & Wolf 2004, lemmas 3.2 to 3.4. It uses the (N, N) products of the samples where N < D, so D may be large.
    """
    num_samples, size = centred.shape
    is_wide = num_samples < size
    products = centred @ centred.T / num_samples if is_wide else centred.T @ centred / num_samples
    mean_variance = float(products.diagonal().sum()) / size
    squares = float(products.square().sum())
    distance = squares - size * mean_variance**2
    noise = (float(centred.square().sum(1).square().sum()) / num_samples - squares) / num_samples
    if distance <= 0:
        return 1.0, mean_variance
    return min(1.0, max(0.0, noise / distance)), mean_variance
