"""A head that generates clips: an autoencoder of frames, and a generator of its codes against a critic.

In: real clips and their classes. Out: loss terms for both players and, from codes, clips. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
from pipeline.models.gan.codes import GeneratedKind, LatentCodes, concat_codes
from pipeline.models.gan.critic import Critic
from pipeline.models.gan.frame_encoder import (
    EncodedFrames,
    FrameEncoder,
    gather_steps,
    random_steps,
    reconstruction_distance,
)
from pipeline.models.gan.frame_generator import FrameGenerator
from pipeline.models.gan.frame_tensors import contact_sheet, grid_means, to_pixels, to_unit_range
from pipeline.models.gan.image_to_video import ImageToVideoGenerator
from pipeline.models.gan.losses import CriticInput, frozen
from pipeline.models.gan.moving_average import MovingAverage
from pipeline.models.recurrent.core import State
from pipeline.padded import Padded

FRAMES_PER_CLIP = 4
"""Frames of a clip that are reconstructed at a step."""
HIDDEN_FIRST_FRAME = 4
"""One clip of that many is reconstructed without its first frame."""
SQUARED_WEIGHT = 2.0
"""Weight of the squared errors where a first frame is continued. Without them it is only copied at first."""
CRITIC_WEIGHT = 0.1
"""Weight of the critic beside the likelihood, for a generator that continues a first frame."""
PREVIEW_CLIPS = 4
"""Clips whose reconstructions are shown."""


class GenerateFrames(nn.Module):
    """The generator and the frame encoder belong to the model, the critic is their opponent.

    The critic sees codes of clips, and single images where `has_image_critic` says so. A generator that continues a
    first frame also learns by the likelihood of real poses.

    After the training `average` generates, see `MovingAverage`. It is updated before each step, so it is one step late.

    Args:
        sense: the raw frames to generate. frame_encoder: encodes real clips. ema_decay: of the average, a step.
        reconstruction_weight: of the distance between real and reconstructed frames. kl_weight: of the KL divergence of
        the codes, for each nat above `free_nats` (free bits, Kingma et al. 2016, arXiv 1606.04934). has_image_critic:
        the critic also scores single images. max_skip: the most windows that are left out before the one that the
        critic sees. pretrain_share: share of the training without the critic: frame encoder and frame decoder learn
        alone. Then their weights stay as they are, and the generator learns against the critic.
    """

    opponent: nn.Module | None
    monitor = "frechet_change_score"
    is_per_step, skips_core = False, True
    makes: GeneratedKind = "frames"

    def __init__(
        self,
        *,
        name: str,
        sense: str,
        vocabulary: Vocabulary,
        generator: FrameGenerator | ImageToVideoGenerator,
        critic: Critic,
        frame_encoder: FrameEncoder,
        adversarial_loss: AdversarialLoss,
        ema_decay: float = 0.999,
        reconstruction_weight: float = 20.0,
        kl_weight: float = 0.0005,
        free_nats: float = 0.0,
        has_image_critic: bool = False,
        max_skip: int = 0,
        pretrain_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.target = ConditionTarget(vocabulary)
        self.name, self.sense, self.vocabulary = name, sense, vocabulary
        self.adversarial_loss, self.has_image_critic, self.max_skip = adversarial_loss, has_image_critic, max_skip
        self.reconstruction_weight, self.kl_weight, self.free_nats = reconstruction_weight, kl_weight, free_nats
        self.pretrain_share, self.is_adversarial, self.draw_of_step = pretrain_share, True, 0.0
        self.needs_first_frame = isinstance(generator, ImageToVideoGenerator)
        self.generator, self.opponent, self.frame_encoder = generator, critic, frame_encoder
        self.average = MovingAverage(generator, ema_decay)

    def train(self, mode: bool = True) -> GenerateFrames:
        """Training mode; the average stays in evaluation mode, because it is never trained."""
        super().train(mode)
        self.average.eval()
        return self

    def real(self, output: CoreOutput) -> Padded:
        """The real frames (B, T, 3, S, S) in [-1, 1], zeros in the padding. ValueError for features."""
        raw = output.raw[self.sense]
        data = raw.zeroed().data
        if data.dtype != torch.uint8:
            raise ValueError(
                f"The head '{self.name}' generates frames, and its input is {data.dtype} of shape {tuple(data.shape)}. "
                "Frames are uint8 pixels. Set data.read: pixels."
            )
        return Padded(to_unit_range(data), raw.lengths).zeroed()

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """Terms of generator and encoder for the player "model", of the critic for the player of this head's name."""
        real, labels = self.real(output), labels_of(batch, self.name)
        if player == self.name:
            with torch.no_grad():
                real_input, generated = self._critic_input(real), self._generated_input(real, labels)
            return self.adversarial_loss.critic_terms(
                self._critic, real_input, generated, real.lengths, labels, self.draw_of_step
            )
        if not self.is_adversarial:
            return self._reconstruction_terms(real)
        if self.training:
            self.average.update_parameters(self.generator)
        if not self.pretrain_share:
            return {**self._reconstruction_terms(real), **self._generator_terms(real, labels)}
        with frozen(self.frame_encoder, self.generator.frame_decoder):
            return self._generator_terms(real, labels)

    def _reconstruction_terms(self, real: Padded) -> dict[str, Tensor]:
        """The distance of a few reconstructed frames of each clip, and the KL divergence of their codes.

        One of `HIDDEN_FIRST_FRAME` clips is decoded without its first frame. Without this the decoder only copies the
        first frame at the start of the training, and the codes stay empty.
        """
        steps = random_steps(real.device_lengths, FRAMES_PER_CLIP, self.frame_encoder.uses_first_frame)
        frames = gather_steps(real.data, steps)
        encoded = self.frame_encoder(Padded(frames, torch.full((len(frames),), FRAMES_PER_CLIP)))
        is_hidden = torch.arange(len(frames), device=frames.device) % HIDDEN_FIRST_FRAME == HIDDEN_FIRST_FRAME - 1
        decoded = self.generator.decode(encoded.content, encoded.poses, frames[:, 0], is_hidden)
        distance = reconstruction_distance(decoded, frames, SQUARED_WEIGHT if self.needs_first_frame else 0.0)
        return {
            f"{self.name}_reconstruction": self.reconstruction_weight * distance,
            f"{self.name}_kl": self.kl_weight * F.relu(encoded.kl_divergence.mean() - self.free_nats),
        }

    def _generator_terms(self, real: Padded, labels: Tensor) -> dict[str, Tensor]:
        """The generator's loss by the critic and, of a generator that continues a first frame, the likelihood of real
        poses.
        """
        if not isinstance(self.generator, ImageToVideoGenerator):
            return {self.name: self._adversarial_term(real, labels, lambda: self._critic_input(real))}
        with torch.no_grad():
            encoded = self._encode(real)
        term = self._adversarial_term(real, labels, lambda: self._encoded_input(real, encoded))
        codes = self.generator.draw(len(labels), 1)._replace(content=encoded.content, start=encoded.poses[:, 0])
        nll = self.generator.negative_log_likelihood(Padded(encoded.poses, real.lengths), codes, labels)
        return {self.name: CRITIC_WEIGHT * term, f"{self.name}_nll": nll}

    def _adversarial_term(self, real: Padded, labels: Tensor, real_input: Callable[[], CriticInput]) -> Tensor:
        generated = self._generated_input(real, labels)
        return self.adversarial_loss.generator_term(self._critic, real_input, generated, real.lengths, labels)

    def _critic_input(self, real: Padded) -> CriticInput:
        """What the critic sees of real clips."""
        return self._encoded_input(real, self._encode(real))

    def _encoded_input(self, real: Padded, encoded: EncodedFrames) -> CriticInput:
        images = None
        if self.has_image_critic:
            images = gather_steps(real.data, random_steps(real.device_lengths, 1))[:, 0]
        return CriticInput(self._codes(encoded.content, encoded.poses, real.lengths), images)

    def _generated_input(self, real: Padded, labels: Tensor) -> CriticInput:
        """What the critic sees of generated clips, which are as long as the real ones."""
        steps = real.data.shape[1]
        skip = random_skip(steps, self.max_skip, self.training)
        codes = self._with_first_frame(self.generator.draw(len(labels), skip + steps), real)
        content, poses, _ = self.generator.generate_codes(codes, labels, skip=skip)
        images = None
        if self.has_image_critic:
            pose = gather_steps(poses, random_steps(real.device_lengths, 1))
            images = self.generator.decode(content, pose, codes.first_frame)[:, 0]
        return CriticInput(self._codes(content, poses, real.lengths), images)

    def _codes(self, content: Tensor, poses: Tensor, lengths: Tensor) -> Tensor:
        """The codes of clips as the critic sees them (B, T, C + M). Where a first frame is given, poses are differences
        to its pose.
        """
        if self.needs_first_frame:
            poses = poses - poses[:, :1]
        return Padded(concat_codes(content, poses), lengths).zeroed().data

    def _encode(self, real: Padded) -> EncodedFrames:
        """The codes of real clips, sampled in training; a generator that learns by likelihood uses their means."""
        return self.frame_encoder(real, is_sampled=self.training and not self.needs_first_frame)

    @property
    def _critic(self) -> Critic:
        assert isinstance(self.opponent, Critic)
        return self.opponent

    def _with_first_frame(self, codes: LatentCodes, real: Padded) -> LatentCodes:
        """The codes continue the first frames of real clips, where the generator needs them; the encoder gets no
        gradient.
        """
        with torch.no_grad():
            return self.encode_first_frame(codes, real.data[:, 0]) if self.needs_first_frame else codes

    def encode_first_frame(self, codes: LatentCodes, first_frame: Tensor) -> LatentCodes:
        """The same motion, with the content and the start of given frames (B, 3, S, S) in [-1, 1]."""
        lengths = torch.ones(len(first_frame), dtype=torch.int64)
        encoded = self._encode(Padded(first_frame[:, None], lengths))
        return codes._replace(content=encoded.content, start=encoded.poses[:, 0], first_frame=first_frame)

    @torch.no_grad()
    def generate(self, codes: LatentCodes, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames uint8 (B, T, S, S, 3), by the average, and the state to continue from. labels: (B,) classes."""
        frames, after = self.average(codes, labels, state)
        return to_pixels(frames), after

    def observe(self, output: CoreOutput, memory: None = None) -> None:
        """Nothing: it answers to classes and codes, not to videos."""

    def answer(self, memory: None) -> list[Any]:
        """Nothing, see `generate`."""
        return []

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[GeneratedPair]:
        """Each real clip beside a generated one of its class and length, both as means of a grid; the same codes for
        the same rows.
        """
        real, labels = self.real(output), labels_of(batch, self.name)
        random = seeded_by_rows(batch, labels.device)
        codes = self._with_first_frame(self.generator.draw(len(labels), real.data.shape[1], random), real)
        generated = grid_means(self.average(codes, labels)[0])
        return pair_with_real(Padded(grid_means(real.data), real.lengths), generated)

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
        """Generated clips, always from the same codes, a row for each: uint8 (H, W, 3). First frames come from the
        batch.

        Before the critic takes part: clips of the batch, each above its reconstruction.
        """
        pixels = batch.raw[self.sense]
        if not self.is_adversarial:
            return contact_sheet(self._reconstructions(pixels))
        labels, random = preview_labels(self.vocabulary, next(self.parameters()).device)
        codes = self.generator.draw(len(labels), PREVIEW_STEPS, random)
        if self.needs_first_frame:
            first_frames = to_unit_range(pixels.data[:, 0])
            codes = self.encode_first_frame(codes, first_frames[torch.arange(len(labels)) % len(first_frames)])
        return contact_sheet(self.generate(codes, labels)[0])

    def _reconstructions(self, pixels: Padded) -> Tensor:
        """A few clips, each before its reconstruction: uint8 (2 N, T, S, S, 3)."""
        originals, lengths = pixels.data[:PREVIEW_CLIPS], pixels.lengths[:PREVIEW_CLIPS]
        clips = Padded(to_unit_range(originals), lengths)
        encoded = self.frame_encoder(clips)
        decoded = to_pixels(self.generator.decode(encoded.content, encoded.poses, clips.data[:, 0]))
        return torch.stack([originals, Padded(decoded, lengths).zeroed().data], dim=1).flatten(0, 1)
