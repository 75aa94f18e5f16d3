"""How reliable a classification is: calibrated probabilities, and a threshold for videos of no known class.

In: logits and features of training and validation samples, once. Out: a temperature, a distance and a threshold, stored
with the model. Knows nothing of videos, of steps, or of how the logits were computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.metrics.calibration import fit_temperature, negative_log_likelihood, threshold_at
from pipeline.models.mahalanobis import Mahalanobis

MIN_VALIDATION_SAMPLES = 10
"""With fewer validation samples nothing is fitted: a temperature or a threshold would mean little."""

KEEP_SHARE = 0.95
"""The share of the validation samples, all of known classes, that the threshold keeps as known."""


class Confidence(nn.Module):
    """Temperature scaling (Guo et al. 2017), and detection of unknown classes by the Mahalanobis distance.

    Why not a score from the logits, such as the maximum logit or the energy: a classifier learns to ignore what does
    not separate its own classes. For the same reason the distance is measured on the input of the core and not on its
    output. `make show P=unknown` compares the three scores on classes that were left out of the training.

    temperature: divides the logits, so the order of the classes stays. 1 before it is fitted.
    threshold: a sample with a larger distance is unknown. nan before it is fitted.
    """

    def __init__(self, *, num_classes: int, size: int) -> None:
        super().__init__()
        self.mahalanobis = Mahalanobis(num_classes=num_classes, size=size)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("threshold", torch.tensor(math.nan))

    def fit_distance(self, features: Tensor, labels: Tensor) -> None:
        """Fit the distance to features (N, D) and labels (N,) of training samples. Every class has a sample."""
        self.mahalanobis.fit(features, labels)

    def fit_calibration(self, logits: Tensor, features: Tensor, labels: Tensor) -> None:
        """Fit temperature and threshold to validation samples: logits (N, C), features (N, D), labels (N,).

        The labels are smoothed by 1 / (N + 2) (Platt 1999), so that a few correct samples do not give extreme
        probabilities. The temperature stays 1 if, because of this smoothing, the fitted one has the larger negative
        log-likelihood.
        """
        temperature = fit_temperature(logits, labels, smoothing=1 / (len(labels) + 2))
        is_better = negative_log_likelihood(logits, labels, temperature) <= negative_log_likelihood(logits, labels)
        self.get_buffer("temperature").fill_(temperature if is_better else 1.0)
        distances = self.distance(features).cpu()
        if (finite := distances[distances.isfinite()]).numel():
            self.get_buffer("threshold").fill_(-threshold_at(-finite, KEEP_SHARE))

    def scale(self, logits: Tensor) -> Tensor:
        """Logits whose softmax is calibrated."""
        return logits / self.get_buffer("temperature").to(logits)

    def distance(self, features: Tensor) -> Tensor:
        """(B, D) -> (B,): about 1 for a usual training sample; nan before the distance is fitted."""
        distances = self.mahalanobis(features.to(self.get_buffer("threshold").device))
        return distances if self.mahalanobis.is_fitted else torch.full_like(distances, math.nan)

    def is_unknown(self, distance: float) -> bool | None:
        """Whether a sample at this distance belongs to no known class; None without a threshold or a distance."""
        threshold = float(self.get_buffer("threshold"))
        return None if math.isnan(threshold) or math.isnan(distance) else distance > threshold
