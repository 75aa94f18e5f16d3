"""A generator with separate codes for content and motion: noise and a class go in, a sequence comes out.

In: codes and classes. Out: a sequence (B, T, ...) and the state to continue from. Knows nothing of critics, losses or
files.

    codes = generator.draw(count, steps) sequence, state = generator(codes, labels) more, state =
    generator(generator.draw(count, 100)._replace(content=codes.content), labels, state)  # the same content, longer
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.models.choices import Motion
from pipeline.models.gan.codes import LatentCodes, append_codes, concat_codes, draw_normal
from pipeline.models.recurrent.core import Core, State
from pipeline.padded import Padded


class SequenceDecoder(Protocol):
    """From content (B, C) and motion (B, T, H) to a sequence; every decoder is an nn.Module as well."""

    def __call__(self, content: Tensor, motion: Tensor) -> Tensor:
        """The sequence (B, T, ...)."""
        ...


class Condition(nn.Module):
    """The condition of a generator (the class label): its embedding, and the initial state of the core that depends on
    it.

    Args:
        core: whose state it gives; it is not part of this module. classes: 0 where there are none. start_size: of the
        codes that the state depends on beside the class. embedding: E, width of a class's vector.
    """

    def __init__(self, *, core: Core, classes: int, start_size: int, embedding: int) -> None:
        super().__init__()
        assert core.is_causal, "a generator's core has one direction"
        self.state_shape = (len(core.initial_state(1)), core.layers, core.hidden)
        self.embedding = nn.Embedding(max(1, classes), embedding)
        self.to_state = nn.Linear(start_size + embedding, self.state_shape[0] * core.layers * core.hidden)

    @property
    def weight(self) -> Tensor:
        """The vectors of the classes (classes, E); their device and dtype are those of the generator."""
        return self.embedding.weight

    def forward(self, labels: Tensor) -> Tensor:
        """Classes (B,) -> vectors (B, E)."""
        return self.embedding(labels)

    def initial_state(self, context: Tensor) -> State:
        """The core's state before the first step. context: the codes and the class's vector (B, start_size + E)."""
        return torch.tanh(self.to_state(context)).unflatten(1, self.state_shape).unbind(1)


class Generator(nn.Module):
    """Separate codes for content and motion, after MoCoGAN (Tulyakov et al. 2018, arXiv 1707.04993).

    One code says what is shown. A recurrent core turns noise into motion. A decoder joins the two at every step. The
    core continues from a state, so a sequence may be longer than those of the training, in constant memory.

    Args:
        core: reads [noise, class] (B, T, motion_size + embedding). decoder: from content and motion to the sequence.
        classes: 0 where there are none. content_size: C. motion_size: M. embedding: E, width of a class's vector.
        motion: `independent` replaces the core's output by noise, to measure what the core contributes.
    """

    def __init__(
        self,
        *,
        core: Core,
        decoder: nn.Module,
        classes: int,
        content_size: int = 64,
        motion_size: int = 16,
        embedding: int = 32,
        motion: Motion = "core",
    ) -> None:
        super().__init__()
        self.content_size, self.motion_size = content_size, motion_size
        self.core, self.decoder = core, decoder
        self.condition = Condition(core=core, classes=classes, start_size=content_size, embedding=embedding)
        self.independent_motion = None
        if motion == "independent":
            self.independent_motion = nn.Linear(motion_size + embedding, core.output_size)
            self.core.requires_grad_(False)
            self.condition.to_state.requires_grad_(False)

    @staticmethod
    def core_input(motion_size: int, embedding: int) -> int:
        """The width of what the core reads at every step."""
        return motion_size + embedding

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> LatentCodes:
        """Standard normal codes of `count` sequences: content (B, C), motion (B, T, M), start (B, C)."""
        like = self.condition.weight
        content, start = (draw_normal((count, self.content_size), like, random) for _ in range(2))
        return LatentCodes(content, draw_normal((count, steps, self.motion_size), like, random), start)

    def forward(
        self, codes: LatentCodes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, State]:
        """The sequence (B, T - skip, ...) and the state to continue from.

        labels: (B,) classes, zeros where there are none. state: continue from it. skip: leave out that many first
        steps.
        """
        condition = self.condition(labels)
        if state is None:
            state = self.condition.initial_state(torch.cat([codes.start, condition], dim=1))
        noise, after = append_codes(codes.motion, condition), state
        if self.independent_motion is not None:
            motion = torch.tanh(self.independent_motion(noise))
        else:
            outputs, after = self.core(Padded(noise, torch.full((len(noise),), noise.shape[1])), state)
            motion = outputs.data
        return self.decoder(torch.cat([codes.content, condition], dim=1), motion[:, skip:]), after


class FeatureDecoder(nn.Module):
    """A network of three layers from content and motion to the numbers of every step."""

    def __init__(self, *, content_size: int, motion_size: int, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(content_size + motion_size, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, width),
        )

    def forward(self, content: Tensor, motion: Tensor) -> Tensor:
        """(B, C), (B, T, H) -> (B, T, width)."""
        return self.net(concat_codes(content, motion))
