"""What heads with a generator and a critic share: the loss terms of both players, and the codes that they generate
from.

In: a critic, and what it scores of real and generated sequences. Out: loss terms by name. Knows nothing of how
sequences are generated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.metrics.generation_report import GeneratedPair
from pipeline.models.gan.critic import Critic
from pipeline.models.gan.diff_augment import diff_augment
from pipeline.models.gan.losses import (
    CriticInput,
    GanLoss,
    critic_terms,
    frozen,
    generator_loss,
    stop_reason,
    weighted_sum,
)
from pipeline.padded import Padded

PREVIEW_STEPS = 16
"""Steps of the sequences that are shown during the training."""


@dataclass(frozen=True)
class AdversarialLoss:
    """The loss terms of the critic and of the generator of one head.

    name: of the head. gan_loss: which losses. penalty_weight: of R1 and R2, on a share `penalty_share` of the steps.
    diff_augment: strength of the augmentation of what the critic sees, real and generated. image_weight: weight of the
    critic of single images in the generator's loss.
    """

    name: str
    gan_loss: GanLoss = "hinge"
    penalty_weight: float = 0.0
    penalty_share: float = 0.25
    diff_augment: float = 0.0
    image_weight: float = 0.0

    def critic_terms(
        self, critic: Critic, real: CriticInput, generated: CriticInput, lengths: Tensor, labels: Tensor, draw: float
    ) -> dict[str, Tensor]:
        """The critic's loss and its gradient penalty. lengths and labels: (B,), the same of both kinds. draw: of the
        step, see `AdversarialHead.draw_of_step`.
        """
        return critic_terms(
            self.name,
            self.gan_loss,
            lambda side: self._scores(critic, side, lengths, labels),
            real,
            generated,
            penalty_weight=self.penalty_weight,
            penalty_share=self.penalty_share,
            draw=draw,
            is_training=critic.training,
            is_recurrent=critic.is_recurrent,
        )

    def generator_term(
        self,
        critic: Critic,
        real: Callable[[], CriticInput],
        generated: CriticInput,
        lengths: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """The generator's loss. The critic's weights get no gradient. real: called where the loss compares with real
        sequences.
        """
        with frozen(critic):
            scores = self._scores(critic, generated, lengths, labels)
            real_scores = scores
            if self.gan_loss != "hinge":
                with torch.no_grad():
                    real_scores = self._scores(critic, real(), lengths, labels)
        losses = [generator_loss(self.gan_loss, r, g) for r, g in zip(real_scores, scores, strict=True)]
        return weighted_sum(losses, self.image_weight)

    def stop_reason(self, means: Mapping[str, float]) -> str:
        """Why the training should stop, from the mean loss terms of the last steps; empty where it should go on."""
        return stop_reason(self.name, self.gan_loss, means[f"loss/{self.name}_critic"])

    def _scores(self, critic: Critic, side: CriticInput, lengths: Tensor, labels: Tensor) -> list[Tensor]:
        """The critic's scores (B,) of sequences and, where there are any, of images."""
        is_augmented = critic.training and self.diff_augment > 0
        sequences, images = side
        if is_augmented:
            sequences = Padded(diff_augment(sequences, self.diff_augment), lengths).zeroed().data
        scores = [critic(sequences, lengths, labels)]
        if images is not None:
            if is_augmented:
                images = diff_augment(images[:, None], self.diff_augment)[:, 0]
            scores.append(critic.score_images(images, labels))
        return scores


def labels_of(batch: Batch, name: str) -> Tensor:
    """The classes (B,) of a batch for the head `name`."""
    target = batch.target(name)
    assert isinstance(target, Tensor)
    return target


def random_skip(steps: int, max_skip: int, is_training: bool) -> int:
    """How many steps to leave out before the generated ones: in training 0 to `max_skip` times `steps`, else 0."""
    return steps * int(torch.randint(max_skip + 1, ())) if is_training else 0


def seeded_by_rows(batch: Batch, device: torch.device) -> torch.Generator:
    """Random numbers that are the same for the same rows at every call, and others for other rows."""
    random = torch.Generator(device)
    random.manual_seed(crc32("\n".join([*batch.sources, *map(str, batch.starts)]).encode()))
    return random


def preview_labels(vocabulary: Vocabulary, device: torch.device) -> tuple[Tensor, torch.Generator]:
    """The classes (B,) of the sequences that are shown during the training, 4 to 8, and random numbers that are always
    the same.
    """
    random = torch.Generator(device)
    random.manual_seed(0)
    names: Sequence[str] = vocabulary.names
    count = min(8, max(4, len(names)))
    return torch.arange(count, device=device) % max(1, len(names)), random


def pair_with_real(real: Padded, generated: Tensor) -> list[GeneratedPair]:
    """Real sequences (B, T, ...) beside the generated ones (B, T, ...), cut to the same lengths, on the CPU."""
    return [
        GeneratedPair(r.cpu().numpy(), g[: len(r)].cpu().numpy()) for r, g in zip(real.unpad(), generated, strict=True)
    ]
