"""A head that generates texts against a critic.

In: real texts as tokens, and their classes. Out: loss terms for both players and, from codes, texts. Knows nothing of
files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.tokenizer import PAD, Tokenizer
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
from pipeline.metrics.captions import tokenize
from pipeline.metrics.generation_report import GeneratedPair, scores_of_texts
from pipeline.models.core_output import CoreOutput
from pipeline.models.gan.codes import GeneratedKind, LatentCodes
from pipeline.models.gan.critic import Critic
from pipeline.models.gan.losses import CriticInput
from pipeline.models.gan.moving_average import MovingAverage
from pipeline.models.gan.token_generator import TokenGenerator
from pipeline.models.process_mean import max_over_processes
from pipeline.models.recurrent.core import State
from pipeline.padded import Padded


class GenerateTokens(nn.Module):
    """The generator belongs to the model, the critic is its opponent.

    After the training `average` generates, see `MovingAverage`. It is updated before each step, so it is one step late.

    Args:
        sense: the raw tokens to generate. tokenizer: turns ids into texts. ema_decay: of the average, a step.
    """

    opponent: nn.Module | None
    monitor = "bleu_4"
    is_per_step, skips_core = False, True
    makes: GeneratedKind = "tokens"

    def __init__(
        self,
        *,
        name: str,
        sense: str,
        vocabulary: Vocabulary,
        tokenizer: Tokenizer,
        generator: TokenGenerator,
        critic: Critic,
        adversarial_loss: AdversarialLoss,
        ema_decay: float = 0.999,
    ) -> None:
        super().__init__()
        self.target = ConditionTarget(vocabulary)
        self.name, self.sense, self.vocabulary, self.tokenizer = name, sense, vocabulary, tokenizer
        self.adversarial_loss = adversarial_loss
        self.pretrain_share, self.is_adversarial, self.draw_of_step = 0.0, True, 0.0
        self.generator, self.opponent = generator, critic
        self.average = MovingAverage(generator, ema_decay)
        self.register_buffer("longest", torch.zeros((), dtype=torch.int64))  # steps of the longest training text
        self._longest = 0  # the same on the CPU, so that a training step asks no device
        self.register_load_state_dict_post_hook(_measure_again)

    def train(self, mode: bool = True) -> GenerateTokens:
        """Training mode; the average stays in evaluation mode, because it is never trained."""
        super().train(mode)
        self.average.eval()
        return self

    def real(self, output: CoreOutput) -> Padded:
        """The real texts as one-hot tokens (B, T, V), without the start token. Padding tokens count as steps.

        All texts are padded to the longest text so far. A batch holds texts of similar lengths. With the batch's own
        length the generator could not end a text by itself, because it is not given that length.
        """
        data = output.raw[self.sense].zeroed().data
        ids = (data if data.ndim == 2 else data[:, :, 0])[:, 1:]
        if self.training:
            longest = self.get_buffer("longest")
            self._longest = max_over_processes(max(self._longest, ids.shape[1]), longest.device, self.training)
            longest.fill_(self._longest)
        ids = F.pad(ids, (0, max(0, self._longest - ids.shape[1])), value=PAD)
        return Padded(F.one_hot(ids, len(self.tokenizer)).float(), torch.full((len(ids),), ids.shape[1]))

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """Terms of the generator for the player "model", of the critic for the player of this head's name."""
        real, labels = self.real(output), labels_of(batch, self.name)
        real_input = CriticInput(real.data, None)
        if player == self.name:
            with torch.no_grad():
                generated = self._generated_input(real, labels)
            return self.adversarial_loss.critic_terms(
                self._critic, real_input, generated, real.lengths, labels, self.draw_of_step
            )
        if self.training:
            self.average.update_parameters(self.generator)
        generated = self._generated_input(real, labels)
        term = self.adversarial_loss.generator_term(self._critic, lambda: real_input, generated, real.lengths, labels)
        return {self.name: term}

    def _generated_input(self, real: Padded, labels: Tensor) -> CriticInput:
        """What the critic sees of generated texts, which are as long as the real ones."""
        steps = real.data.shape[1]
        random_skip(steps, 0, self.training)  # always 0, but without this draw a seed would give other texts
        tokens, _ = self.generator(self.generator.draw(len(labels), steps), labels)
        return CriticInput(Padded(tokens, real.lengths).zeroed().data, None)

    @property
    def _critic(self) -> Critic:
        assert isinstance(self.opponent, Critic)
        return self.opponent

    @torch.no_grad()
    def generate(self, codes: LatentCodes, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Ids of tokens (B, T), by the average, and the state to continue from. labels: (B,) classes."""
        tokens, after = self.average(codes, labels, state)
        return tokens.argmax(-1), after

    def observe(self, output: CoreOutput, memory: None = None) -> None:
        """Nothing: it answers to classes and codes, not to texts."""

    def answer(self, memory: None) -> list[Any]:
        """Nothing, see `generate`."""
        return []

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[GeneratedPair]:
        """Each real text beside a generated one of its class, as ids (T,); the same codes for the same rows at every
        call.
        """
        real, labels = self.real(output), labels_of(batch, self.name)
        random = seeded_by_rows(batch, labels.device)
        generated, _ = self.generate(self.generator.draw(len(labels), real.data.shape[1], random), labels)
        return pair_with_real(Padded(real.data.argmax(-1), real.lengths), generated)

    def confidence_interval(
        self, results: Sequence[GeneratedPair], groups: Sequence[str | None]
    ) -> tuple[float, float]:
        """None: BLEU compares each generated text with all real ones."""
        return float("nan"), float("nan")

    def metrics(self, results: Sequence[GeneratedPair]) -> dict[str, Any]:
        """See `scores_of_texts`."""
        real = [tokenize(self.tokenizer.decode(pair.real)) for pair in results]
        generated = [tokenize(self.tokenizer.decode(pair.generated)) for pair in results]
        return {**scores_of_texts(real, generated), "count": len(results)}

    def stop_reason(self, means: Mapping[str, float]) -> str:
        """Why the training should stop, from the mean loss terms of the last steps; empty where it should go on."""
        return self.adversarial_loss.stop_reason(means)

    @torch.no_grad()
    def preview(self, batch: Batch) -> list[str]:
        """Generated texts, always from the same codes."""
        labels, random = preview_labels(self.vocabulary, next(self.parameters()).device)
        generated, _ = self.generate(self.generator.draw(len(labels), PREVIEW_STEPS, random), labels)
        return [self.tokenizer.decode(ids) for ids in generated.tolist()]


def _measure_again(head: GenerateTokens, _: object) -> None:
    """Take the length of the longest text from the state that was loaded."""
    head._longest = int(head.get_buffer("longest"))
