"""A head that generates sequences of features: a generator that learns by likelihood and against a critic.

In: real sequences of features and their classes. Out: loss terms for both players and, from codes, sequences. Knows
nothing of files, nor of what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.adversarial_training import (
    PREVIEW_STEPS,
    AdversarialLoss,
    labels_of,
    pair_with_real,
    preview_labels,
    random_skip,
    seeded_by_rows,
)
from pipeline.heads.targets import ConditionTarget
from pipeline.metrics.generation_report import GeneratedPair, scores_of_sequences
from pipeline.models.core_output import CoreOutput
from pipeline.models.gan.autoregressive_features import AutoregressiveFeatureGenerator
from pipeline.models.gan.codes import GeneratedKind, LatentCodes, concat_codes
from pipeline.models.gan.content_bank import ContentBank
from pipeline.models.gan.critic import Critic
from pipeline.models.gan.frame_tensors import feature_image
from pipeline.models.gan.losses import CriticInput
from pipeline.models.gan.moving_average import MovingAverage
from pipeline.models.gan.pca import FeaturePCA
from pipeline.models.recurrent.core import State
from pipeline.padded import Padded


class GenerateFeatures(nn.Module):
    """The generator belongs to the model, the critic is its opponent.

    After the training `average` generates, see `MovingAverage`. It is updated before each step, so it is one step late.

    Args:
        sense: the raw sequence to generate. pca: the numbers that are generated. content_bank: gives contents and
        styles. ema_decay: of the average, a step. max_skip: the most windows that are left out before the one that the
        critic sees. pretrain_share: share of the training without the critic, by likelihood alone.
    """

    opponent: nn.Module | None
    monitor = "frechet_change_score"
    is_per_step, skips_core = False, True
    makes: GeneratedKind = "features"

    def __init__(
        self,
        *,
        name: str,
        sense: str,
        vocabulary: Vocabulary,
        generator: AutoregressiveFeatureGenerator,
        critic: Critic,
        pca: FeaturePCA,
        content_bank: ContentBank,
        adversarial_loss: AdversarialLoss,
        ema_decay: float = 0.999,
        max_skip: int = 0,
        pretrain_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.target = ConditionTarget(vocabulary)
        self.name, self.sense, self.vocabulary = name, sense, vocabulary
        self.adversarial_loss, self.max_skip = adversarial_loss, max_skip
        self.pretrain_share, self.is_adversarial, self.draw_of_step = pretrain_share, True, 0.0
        self.generator, self.opponent = generator, critic
        self.average = MovingAverage(generator, ema_decay)
        self.pca, self.content_bank = pca, content_bank

    def fit_sequences(self, sequences: Iterable[Tensor]) -> None:
        """Fit the PCA to the training features, each sequence (T, D), and the content bank to their number."""
        training = list(sequences)
        self.pca.fit(training)
        self.content_bank.set_capacity(len(training))

    def train(self, mode: bool = True) -> GenerateFeatures:
        """Training mode; the average stays in evaluation mode, because it is never trained."""
        super().train(mode)
        self.average.eval()
        return self

    def real(self, output: CoreOutput) -> Padded:
        """The real features (B, T, D). ValueError for pixels."""
        raw = output.raw[self.sense]
        data = raw.zeroed().data
        if data.dtype == torch.uint8:
            raise ValueError(
                f"The head '{self.name}' generates features, and its input is pixels. Features are stored numbers. Set "
                "data.read: features."
            )
        return Padded(data.float(), raw.lengths)

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """Terms of the generator for the player "model", of the critic for the player of this head's name."""
        real, labels = self.real(output), labels_of(batch, self.name)
        if player == self.name:
            with torch.no_grad():
                real_input, generated = self._critic_input(real), self._generated_input(real, labels)
            return self.adversarial_loss.critic_terms(
                self._critic, real_input, generated, real.lengths, labels, self.draw_of_step
            )
        terms = self._likelihood_terms(real, labels)
        if not self.is_adversarial:
            return terms
        generated = self._generated_input(real, labels)
        term = self.adversarial_loss.generator_term(
            self._critic, lambda: self._critic_input(real), generated, real.lengths, labels
        )
        return {**terms, self.name: term}

    def _likelihood_terms(self, real: Padded, labels: Tensor) -> dict[str, Tensor]:
        """The negative log-likelihood of real residuals. In training their contents and styles go into the content
        bank.
        """
        content, residuals = self.pca.split_content(real)
        if self.training:
            self.average.update_parameters(self.generator)
            styles = self.average.module.encode_style(residuals)  # type: ignore[operator]
            self.content_bank.store(content, styles, labels)
        codes = self.generator.codes_like(self.generator.draw(len(labels), 1), self.pca(content), residuals)
        return {f"{self.name}_nll": self.generator.negative_log_likelihood(residuals, codes, labels)}

    def _critic_input(self, real: Padded) -> CriticInput:
        """What the critic sees of real sequences: contents and residuals (B, T, 2 K)."""
        content, residuals = self.pca.split_content(real)
        return self._codes_input(self.pca(content), residuals.data, real.lengths)

    def _generated_input(self, real: Padded, labels: Tensor) -> CriticInput:
        """What the critic sees of generated sequences, which have the contents, the styles and the lengths of the real
        ones.
        """
        steps = real.data.shape[1]
        skip = random_skip(steps, self.max_skip, self.training)
        codes = self.generator.draw(len(labels), skip + steps)
        content, residuals = self.pca.split_content(real)
        codes = self.generator.codes_like(codes, self.pca(content), residuals)
        generated, _ = self.generator(codes, labels, skip=skip)
        return self._codes_input(codes.content, generated, real.lengths)

    def _codes_input(self, content: Tensor, residuals: Tensor, lengths: Tensor) -> CriticInput:
        return CriticInput(Padded(concat_codes(content, residuals), lengths).zeroed().data, None)

    @property
    def _critic(self) -> Critic:
        assert isinstance(self.opponent, Critic)
        return self.opponent

    @torch.no_grad()
    def generate(self, codes: LatentCodes, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Features (B, T, D) in their own units, by the average, and the state to continue from. labels: (B,)."""
        content, style = self.content_bank.draw(codes.content, codes.start, labels)
        codes = codes._replace(content=self.pca(content), start=style)
        residuals, after = self.average(codes, labels, state)
        return self.pca.join_content(residuals, content), after

    def observe(self, output: CoreOutput, memory: None = None) -> None:
        """Nothing: it answers to classes and codes, not to videos."""

    def answer(self, memory: None) -> list[Any]:
        """Nothing, see `generate`."""
        return []

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[GeneratedPair]:
        """Each real sequence beside a generated one of its class and length; the same codes for the same rows at every
        call.
        """
        real, labels = self.real(output), labels_of(batch, self.name)
        random = seeded_by_rows(batch, labels.device)
        codes = self.generator.draw(len(labels), real.data.shape[1], random)
        generated = self.pca(self.generate(codes, labels)[0])
        return pair_with_real(Padded(self.pca(real.data), real.lengths), generated)

    def confidence_interval(
        self, results: Sequence[GeneratedPair], groups: Sequence[str | None]
    ) -> tuple[float, float]:
        """None: a distance of distributions belongs to all samples together."""
        return float("nan"), float("nan")

    def metrics(self, results: Sequence[GeneratedPair]) -> dict[str, Any]:
        """See `scores_of_sequences`."""
        scores = scores_of_sequences([pair.real for pair in results], [pair.generated for pair in results])
        return {**scores, "count": len(results)}

    def stop_reason(self, means: Mapping[str, float]) -> str:
        """Why the training should stop, from the mean loss terms of the last steps; empty where it should go on."""
        return self.adversarial_loss.stop_reason(means) if self.is_adversarial else ""

    @torch.no_grad()
    def preview(self, batch: Batch) -> np.ndarray:
        """Generated sequences, always from the same codes, as grey values: uint8 (H, W, 3)."""
        labels, random = preview_labels(self.vocabulary, next(self.parameters()).device)
        generated, _ = self.generate(self.generator.draw(len(labels), PREVIEW_STEPS, random), labels)
        return feature_image(self.pca(generated))
