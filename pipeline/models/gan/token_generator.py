"""A generator of texts: at every step it draws a token.

In: codes and classes. Out: one-hot tokens (B, T, V), and the state to continue from. Knows nothing of critics, losses
or words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.tokenizer import END, PAD, START
from pipeline.models.gan.codes import LatentCodes, draw_normal
from pipeline.models.gan.generator import Condition
from pipeline.models.recurrent.core import Core, State


class TokenGenerator(nn.Module):
    """Draws each token by Gumbel-softmax (Jang et al. 2017, Maddison et al. 2017), straight-through.

    So a critic sees tokens, and the gradient passes. At every step the core reads noise, the condition and the last
    token. The noise of the draw is part of the motion code, behind the M numbers that the core reads: the same codes
    give the same text. Only `padding` follows `end`. Before `end` there is neither padding nor another `start`.

    Args:
        core: reads (B, T, motion_size + 2 * embedding). vocabulary_size: V. classes: 0 where there are none.
        content_size: C. motion_size: M. embedding: E, width of a class's vector and of a token's. start, end, padding:
        ids of tokens. temperature: of the softmax that gives the gradient.
    """

    def __init__(
        self,
        *,
        core: Core,
        vocabulary_size: int,
        classes: int,
        content_size: int = 64,
        motion_size: int = 16,
        embedding: int = 32,
        start: int = START,
        end: int = END,
        padding: int = PAD,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.content_size, self.motion_size, self.vocabulary_size = content_size, motion_size, vocabulary_size
        self.core = core
        self.condition = Condition(core=core, classes=classes, start_size=content_size, embedding=embedding)
        self.token_embedding = nn.Embedding(vocabulary_size, embedding)
        self.readout = nn.Linear(core.output_size + content_size + embedding, vocabulary_size)
        self.start, self.end, self.padding, self.temperature = start, end, padding, temperature

    @staticmethod
    def core_input(motion_size: int, embedding: int) -> int:
        """The width of what the core reads at every step."""
        return motion_size + 2 * embedding

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> LatentCodes:
        """Standard normal codes: content (B, C), motion (B, T, M + V), start (B, C)."""
        like = self.condition.weight
        content, start = (draw_normal((count, self.content_size), like, random) for _ in range(2))
        motion, gumbel = (
            draw_normal((count, steps, size), like, random) for size in (self.motion_size, self.vocabulary_size)
        )
        return LatentCodes(content, torch.cat([motion, gumbel], dim=2), start)

    def forward(
        self, codes: LatentCodes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, State]:
        """One-hot tokens (B, T, V) and the state to continue from. Arguments as of `Generator.forward`; skip must be 0.

        The state ends with the vector of the last token (B, 1, E) and with 1 where the text has ended, else 0, (B, 1,
        1).
        """
        assert not skip, "a text is generated from its first token"
        condition = self.condition(labels)
        if state is None:
            core_state = self.condition.initial_state(torch.cat([codes.start, condition], dim=1))
            last = self.token_embedding(torch.full((len(condition),), self.start, device=condition.device))
            has_ended = torch.zeros(len(condition), 1, dtype=torch.bool, device=condition.device)
        else:
            core_state, last, has_ended = state[:-2], state[-2][:, 0], state[-1][:, 0] > 0
        ids = torch.arange(self.vocabulary_size, device=condition.device)
        padding = (ids == self.padding).to(condition.dtype)
        forbidden = torch.where((ids == self.start) | (ids == self.padding), -torch.inf, 0.0).to(condition.dtype)
        tokens = []
        for codes_of_step in codes.motion.unbind(1):
            noise, gumbel = codes_of_step.split([self.motion_size, self.vocabulary_size], dim=1)
            output, core_state = self.core.step(torch.cat([noise, condition, last], dim=1), core_state)
            logits = self.readout(torch.cat([output, codes.content, condition], dim=1))
            logits = logits + forbidden
            token = torch.where(has_ended, padding, gumbel_softmax(logits, gumbel, self.temperature))
            has_ended = has_ended | (token[:, self.end : self.end + 1] > 0.5)
            tokens.append(token)
            last = token @ self.token_embedding.weight
        return torch.stack(tokens, dim=1), (*core_state, last[:, None], has_ended[:, None].to(last.dtype))


def gumbel_softmax(logits: Tensor, normal: Tensor, temperature: float) -> Tensor:
    """Logits (B, V) and standard normal numbers (B, V) -> one-hot (B, V), drawn from softmax(logits).

    The gradient is that of the softmax of logits + Gumbel noise at this temperature (straight-through).
    """
    gumbel = -torch.log(-torch.special.log_ndtr(normal))  # the probability of a normal number is uniform
    soft = torch.softmax((logits + gumbel) / temperature, dim=1)
    hard = F.one_hot(soft.argmax(1), soft.shape[1]).to(soft.dtype)
    return hard - soft.detach() + soft
