"""How far an answer can be trusted: probabilities that mean what they say, and a word for what is none of the classes.

In: logits and features of training and validation samples, once. Out: a temperature, a distance and a threshold, stored
with the model. Knows nothing of videos, steps or how the logits came about.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.metrics.calibration import fit_temperature, negative_log_likelihood, threshold_at
from pipeline.models.mahalanobis import Mahalanobis

FEWEST = 10
"""Validation samples below which nothing is fitted: a temperature or a threshold from a handful says nothing."""

KEPT = 0.95
"""The share of known validation samples that the threshold calls known."""


class Trust(nn.Module):
    """Temperature scaling (Guo et al. 2017) and `unknown` by the Mahalanobis distance to the nearest class.

    Why not the logits: max logit and energy ask a classifier that was trained to ignore whatever does not part its own
    classes. The distance is taken in what the core is given, not in its outputs, for the same reason. `make show
    P=unknown` measures it on classes left out, beside energy and max logit.

    temperature divides the logits: it moves no class past another. 1 until it is fitted. threshold: nan until it is
    fitted; what is farther is unknown.
    """

    def __init__(self, *, num_classes: int, size: int) -> None:
        super().__init__()
        self.nearest = Mahalanobis(num_classes=num_classes, size=size)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("threshold", torch.tensor(math.nan))

    def fit_familiar(self, features: Tensor, labels: Tensor) -> None:
        """What is familiar: features (N, D) and labels (N,) of training samples, every class among them."""
        self.nearest.fit(features, labels)

    def fit_held_out(self, logits: Tensor, features: Tensor, labels: Tensor) -> None:
        """Temperature and threshold, from validation samples: logits (N, C), features (N, D), labels (N,).

        A label counts as 1 - 1 / (N + 2) sure (Platt 1999): a few samples that are all right do not ask for certainty.
        The temperature stays 1 where that prior alone would make the likelihood of the samples worse.
        """
        found = fit_temperature(logits, labels, smoothing=1 / (len(labels) + 2))
        is_better = negative_log_likelihood(logits, labels, found) <= negative_log_likelihood(logits, labels)
        self.get_buffer("temperature").fill_(found if is_better else 1.0)
        distances = self.distance(features).cpu()
        if (said := distances[distances.isfinite()]).numel():
            self.get_buffer("threshold").fill_(-threshold_at(-said, KEPT))

    def scaled(self, logits: Tensor) -> Tensor:
        """Logits whose softmax is calibrated."""
        return logits / self.get_buffer("temperature").to(logits)

    def distance(self, features: Tensor) -> Tensor:
        """(B, D) -> (B,): about 1 for what is as usual as the training samples; nan where nobody can say."""
        found = self.nearest(features.to(self.get_buffer("threshold").device))
        return found if self.nearest.is_fitted else torch.full_like(found, math.nan)

    def is_unknown(self, distance: float) -> bool | None:
        """Whether a sample so far away is none of the classes; None where there is no threshold, or no distance."""
        threshold = float(self.get_buffer("threshold"))
        return None if math.isnan(threshold) or math.isnan(distance) else distance > threshold
