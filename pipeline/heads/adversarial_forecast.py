"""A head that forecasts a sequence, with a critic that compares its forecasts with what really followed.

In and out as `Forecast`. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.heads.adversarial_training import AdversarialLoss
from pipeline.heads.forecast import Forecast
from pipeline.models.core_output import CoreOutput
from pipeline.models.gan.critic import Critic
from pipeline.models.gan.frame_tensors import feature_image
from pipeline.models.gan.losses import CriticInput, frozen, generator_loss
from pipeline.models.gan.pca import FeaturePCA
from pipeline.models.process_mean import process_weight

PREVIEW_WINDOWS = 4
"""Pairs of windows that are shown during the training."""


class AdversarialForecast(Forecast):
    """A forecast that learns by its error and by a critic (after Mathieu et al. 2016, arXiv 1511.05440).

    The mean of all possible futures has the least squared error, and it moves less than each of them. The critic sees
    windows: the `context` values before a place and the `horizon` values behind it, real or forecast. So a forecast
    must also move as real values do.

    Args:
        critic: scores windows (N, context + horizon, K). pca: the numbers that it sees. weight: of the critic beside
        the error. adversarial_loss: the loss terms of both players. forecast: arguments of `Forecast`.
    """

    skips_core = False

    def __init__(
        self, *, critic: Critic, pca: FeaturePCA, weight: float, adversarial_loss: AdversarialLoss, **forecast: Any
    ) -> None:
        super().__init__(**forecast)
        self.opponent = critic
        self.pca, self.weight, self.adversarial_loss = pca, weight, adversarial_loss
        self.pretrain_share, self.is_adversarial, self.draw_of_step = 0.0, True, 0.0
        self._preview = torch.zeros(0, self.context + self.horizon, 1)

    def fit_sequences(self, sequences: Iterable[Tensor]) -> None:
        """Fit the PCA to the training values, each sequence (T, D). ValueError where none is as long as a window."""
        training = list(sequences)
        longest, needed = max(map(len, training), default=0), self.context + self.horizon
        if longest < needed:
            raise ValueError(
                f"The longest row of the training part has {longest} steps, and a forecast with its context has "
                f"{self.context} + {self.horizon}. Give longer rows, or set a smaller context or horizon."
            )
        self.pca.fit(training)

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """The terms of the forecast for the player "model", the critic's for the player of this head's name."""
        if player == self.name:
            with torch.no_grad():
                real, forecast = self._windows(output)
            weight = process_weight(len(real), real.device, self.training)
            return {term: weight * value for term, value in self._critic_terms(real, forecast).items()}
        terms = super().loss(output, batch, player)
        real, forecast = self._windows(output)
        with frozen(self._critic):
            scores = self._critic(forecast, *self._lengths_and_labels(forecast))
            with torch.no_grad():  # for the hinge loss as well: each pass updates the critic's spectral norms
                real_scores = self._critic(real, *self._lengths_and_labels(real))
        gan_loss = self.adversarial_loss.gan_loss
        term = generator_loss(gan_loss, real_scores, scores) if len(scores) else forecast.sum()
        weight = self.weight * process_weight(len(scores), scores.device, self.training)
        return {**terms, f"{self.name}_adversarial": weight * term}

    def _windows(self, output: CoreOutput) -> tuple[Tensor, Tensor]:
        """Real windows and the same with forecasts, (N, context + horizon, K), at random places, at most as many as
        rows.
        """
        row, step, now, behind = self._origin_indices(output)
        drawn = torch.randperm(len(row), device=row.device)[: len(output.steps.lengths)]
        row, step, now, behind = (index[drawn] for index in (row, step, now, behind))
        values = self._values(output)
        before = values[row[:, None], now[:, None] - torch.arange(self.context, device=row.device).flip(0)]
        point, _ = self.forecast(output.steps.zeroed().data[row, step], values[row, now])
        real = torch.cat([before, values[row[:, None], behind]], dim=1)
        return self.pca(real), self.pca(torch.cat([before, point], dim=1))

    def _critic_terms(self, real: Tensor, forecast: Tensor) -> dict[str, Tensor]:
        """The critic's terms; zeros where no row is long enough for a window."""
        if not len(real):
            zero = 0.0 * torch.stack([p.sum() for p in self._critic.parameters()]).sum()
            has_penalty = self.adversarial_loss.penalty_weight > 0 and self.training
            return {f"{self.name}_critic": zero} | ({f"{self.name}_gradient_penalty": zero} if has_penalty else {})
        pairs = zip(real[:PREVIEW_WINDOWS], forecast[:PREVIEW_WINDOWS], strict=True)
        self._preview = torch.cat([torch.stack(pair) for pair in pairs])
        return self.adversarial_loss.critic_terms(
            self._critic,
            CriticInput(real.float(), None),
            CriticInput(forecast.float(), None),
            *self._lengths_and_labels(real),
            self.draw_of_step,
        )

    @staticmethod
    def _lengths_and_labels(windows: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (N, T, K) all have their whole length and no class."""
        labels = torch.zeros(len(windows), dtype=torch.int64, device=windows.device)
        return torch.full((len(windows),), windows.shape[1]), labels

    @property
    def _critic(self) -> Critic:
        assert isinstance(self.opponent, Critic)
        return self.opponent

    def stop_reason(self, means: Mapping[str, float]) -> str:
        """Why the training should stop, from the mean loss terms of the last steps; empty where it should go on."""
        return self.adversarial_loss.stop_reason(means)

    def preview(self, batch: Batch) -> np.ndarray:
        """The last windows that the critic saw, each real one above its forecast, as grey values: uint8 (H, W, 3)."""
        return feature_image(self._preview)
