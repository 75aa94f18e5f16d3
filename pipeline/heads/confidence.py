"""How reliable a classification is: calibrated probabilities, and a threshold for videos of no known class.

In: logits of held-out samples, features of training samples, distances of held-out samples, once. Out: a temperature, a
distance and a threshold, stored with the model. Knows nothing of videos, of steps, of who was held out, or of how the
logits were computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.metrics.calibration import fit_temperature, negative_log_likelihood
from pipeline.models.mahalanobis import Mahalanobis

MIN_SAMPLES = 10
"""With fewer held-out samples no temperature is fitted: it would mean little."""

MAX_DIMENSIONS = 256
"""The dimensions in which distances are measured."""


class Confidence(nn.Module):
    """Temperature scaling (Guo et al. 2017), and detection of unknown classes by the Mahalanobis distance.

    Why not a score from the logits, such as the maximum logit or the energy: a classifier learns to ignore what does
    not separate its own classes. For the same reason the distance is measured on the features before the projection,
    and not on the output of the core. `make show P=unknown` compares the three scores on classes that were left out of
    the training.

    Features wider than MAX_DIMENSIONS are reduced by a random projection of signs (Achlioptas 2003, J. Comput. Syst.
    Sci. 66), which keeps distances and has seen no sample. It is equal for all models of one width.

    temperature: divides the logits, so the order of the classes stays. 1 before it is fitted.
    threshold: a sample with a larger distance is unknown. nan before it is set.
    """

    def __init__(self, *, num_classes: int, size: int) -> None:
        super().__init__()
        self.size = min(size, MAX_DIMENSIONS)
        self.mahalanobis = Mahalanobis(num_classes=num_classes, size=self.size)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("threshold", torch.tensor(math.nan))
        self.is_reduced = size > self.size
        if self.is_reduced:
            ones = torch.randint(2, (size, self.size), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
            self.register_buffer("signs", 2 * ones - 1)

    def reset(self) -> None:
        """Forget what was fitted, which may have come with the weights that a training started from."""
        self.get_buffer("temperature").fill_(1.0)
        self.set_threshold(math.nan)
        self.mahalanobis.reset()

    def reduce(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., R): the same features, or their random projection where they are wide."""
        if not self.is_reduced:
            return features
        return features @ self.get_buffer("signs").to(features) / math.sqrt(self.size)

    def fit_distance(self, features: Tensor, labels: Tensor) -> None:
        """Fit the distance to reduced features (N, R) and labels (N,) of samples. Every class has a sample."""
        self.mahalanobis.fit(features, labels)

    def fit_temperature(self, logits: Tensor, labels: Tensor) -> None:
        """Fit the temperature to held-out samples: logits (N, C), labels (N,).

        The labels are smoothed by 1 / (N + 2) (Platt 1999), so that a few correct samples do not give extreme
        probabilities. The temperature stays 1 if, because of this smoothing, the fitted one has the larger negative
        log-likelihood.
        """
        temperature = fit_temperature(logits, labels, smoothing=1 / (len(labels) + 2))
        is_better = negative_log_likelihood(logits, labels, temperature) <= negative_log_likelihood(logits, labels)
        self.get_buffer("temperature").fill_(temperature if is_better else 1.0)

    def set_threshold(self, threshold: float) -> None:
        """Set the largest distance of a known sample; nan: none is unknown."""
        self.get_buffer("threshold").fill_(threshold)

    def scale(self, logits: Tensor) -> Tensor:
        """Logits whose softmax is calibrated."""
        return logits / self.get_buffer("temperature").to(logits)

    def distance(self, features: Tensor) -> Tensor:
        """Reduced features (B, R) -> (B,): about 1 for a usual training sample; nan before the distance is fitted."""
        distances = self.mahalanobis(features.to(self.get_buffer("threshold").device))
        return torch.where(self.mahalanobis.get_buffer("residual_precision") > 0, distances, math.nan)

    @property
    def has_threshold(self) -> bool:
        """Whether samples can be unknown."""
        return not math.isnan(float(self.get_buffer("threshold"))) and self.mahalanobis.is_fitted

    def is_unknown(self, distance: float) -> bool | None:
        """Whether a sample at this distance belongs to no known class; None without a threshold or a distance."""
        return self.are_unknown([distance])[0]

    def are_unknown(self, distances: Sequence[float]) -> list[bool | None]:
        """The same for several samples; the threshold is read once."""
        threshold = float(self.get_buffer("threshold"))
        return [None if math.isnan(threshold) or math.isnan(one) else one > threshold for one in distances]
