"""The core that writes: words one after another, with an eye on what another core has seen.

In: steps that were watched (B, S, H). Out: logits of every next word, all at once in training, one at a time in a search. Knows
nothing of videos, texts or losses.

    glimpse = decoder.glimpse(steps)
    logits, _ = decoder(glimpse, words)                                 # teacher forcing: no loop in Python
    found = beam_search(decoder.step(glimpse), decoder.begin(glimpse), start, end=..., width=5, max_length=20)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.beam import Step
from pipeline.models.core import Core, State
from pipeline.padded import Padded

Attention = Literal["soft", "mean", "none"]
WriterCell = Literal["lstm", "gru"]
TRAIL = 15  # steps around each that say where it was looked before


@dataclass(frozen=True)
class Glimpse:
    """What is looked back at while words are written, computed once: values (B, S, H), keys (B, S, A), mask (B, S) and a
    summary (B, 2 H), the mean and the last step.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor
    summary: Tensor


class Decoder(nn.Module):
    """Embedding -> core -> attention -> core -> readout; the readout's weights are the embedding's.

    The lower core reads the words so far; its output asks what to look at; the upper core reads both. So the glance depends on
    the words and the words on the glance, as in Bahdanau et al. 2015, and yet all steps of a given sentence are computed at
    once, on fused kernels (attention from the bottom core, as in Wu et al. 2016, arXiv 1609.08144).

    With `feed` the last glance goes into the lower core beside the next word (input feeding, Luong et al. 2015), and the soft score
    sees which steps were looked at, last and ever, around each step (location-aware attention, Chorowski et al. 2015): so it can
    follow the order of events. A given sentence is then read step by step, some 2 to 4 times slower.

    Args:
        vocabulary: words. size: width of their embeddings. input_size: H of what was watched.
        cell, hidden: of both cores. attention: `soft` weighs the steps by an additive score (Bahdanau et al. 2015; over frames
            Yao et al. 2015), `mean` takes all alike, `none` gives the cores nothing but their first state.
        dropout: on the embeddings, between the cores, and before the readout.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        size: int,
        input_size: int,
        cell: WriterCell = "gru",
        hidden: int = 256,
        attention: Attention = "soft",
        dropout: float = 0.0,
        feed: bool = False,
    ) -> None:
        super().__init__()
        self.attention: Attention = attention
        self.hidden, self.context = hidden, 0 if attention == "none" else input_size
        self.embedding = nn.Embedding(vocabulary, size)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)  # as the readout's weights they must not be larger
        self.feed = feed and self.context > 0
        fed = size + (self.context if self.feed else 0)
        self.lower = Core(cell=cell, input_size=fed, hidden=hidden)
        self.upper = Core(cell=cell, input_size=hidden + self.context, hidden=hidden)
        self.upper_size = hidden + self.context
        self.states = len(self.lower.initial_state(1))
        self.start = nn.Linear(2 * input_size, 2 * self.states * hidden)
        if attention == "soft":
            self.ask = nn.Linear(hidden, hidden)
            self.key = nn.Linear(input_size, hidden, bias=False)
            self.weigh = nn.Linear(hidden, 1, bias=False)
            self.trail = nn.Conv1d(3, hidden, TRAIL, padding=TRAIL // 2, bias=False) if self.feed else None
        self.readout = nn.Linear(hidden + self.context + size, size)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(dropout)

    def glimpse(self, steps: Padded) -> Glimpse:
        """Keys and summary of what was watched (B, S, H). Rows of length 0 look at zeros."""
        values = steps.zeroed().data
        mask = steps.mask
        count = mask.sum(1, keepdim=True).clamp(min=1)
        last = (steps.lengths - 1).clamp(min=0).to(values.device)[:, None, None].expand(-1, 1, values.shape[2])
        summary = torch.cat([values.sum(1) / count, values.gather(1, last)[:, 0]], dim=1)
        keys = self.key(values) if self.attention == "soft" else values[:, :, :0]
        return Glimpse(values, keys, mask, summary)

    def begin(self, glimpse: Glimpse) -> State:
        """The state before the first word: of the lower, then of the upper core, each (B, 1, hidden); with `feed` behind them the last
        glance (B, 1, H) and where it and all before it looked (B, 2, S).
        """
        cores = torch.tanh(self.start(glimpse.summary)).unflatten(1, (-1, 1, self.hidden)).unbind(1)
        if not self.feed:
            return tuple(cores)
        rows, steps = glimpse.mask.shape
        return (*cores, glimpse.values.new_zeros((rows, 1, self.context)), glimpse.values.new_zeros((rows, 2, steps)))

    def forward(self, glimpse: Glimpse, words: Padded, only: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """words: (B, L) ids that were said, the start first. Returns logits of the next words (B, L, V) and the weights of the
        glances (B, L, S). only: (B, L) bool, the places whose logits are wanted, N of them: then they are (N, V), for over a
        large vocabulary they are most of the work.
        """
        vectors = words.map(lambda w: self.embedding(w)).zeroed()
        drops = self._masks(vectors.data), self._masks(vectors.data.new_empty((len(glimpse.mask), 1, self.upper_size)))
        state = self.begin(glimpse)
        if self.feed:
            told, weights = self._in_steps(glimpse, vectors.data * drops[0], drops[1], state)
        else:
            low, _ = self.lower(vectors.map(lambda v: v * drops[0]), state[: self.states])
            context, weights = self._glance(glimpse, low.data)
            high, _ = self.upper(low.map(lambda h: torch.cat([h, context], dim=2) * drops[1]), state[self.states :])
            told = torch.cat([high.data, context, vectors.data], dim=2)
        return self._say(told if only is None else told[only]), weights

    def _in_steps(self, glimpse: Glimpse, vectors: Tensor, drop: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """What `_say` reads of every word (B, L, ...) and the weights of the glances, a word at a time."""
        told: list[Tensor] = []
        weights: list[Tensor] = []
        for vector in vectors.unbind(1):
            one, weight, state = self._one(glimpse, vector, state, drop)
            told.append(one)
            weights.append(weight)
        return torch.stack(told, dim=1), torch.cat(weights, dim=1)

    def _one(
        self, glimpse: Glimpse, vectors: Tensor, state: State, drop: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """One word of each of N rows: what `_say` reads (N, ...), the weights (B, N / B, S), the state behind it."""
        cores, seen = (state[:-2], state[-2][:, 0]) if self.feed else (state, vectors[:, :0])
        low, state_low = self.lower.step(torch.cat([vectors, seen], dim=1), cores[: self.states])
        looked = state[-1] if self.feed else None
        context, weights = self._glance(glimpse, low.unflatten(0, (len(glimpse.mask), -1)), looked)
        context = context.flatten(0, 1)
        both = torch.cat([low, context], dim=1)
        high, state_high = self.upper.step(both if drop is None else both * drop[:, 0], cores[self.states :])
        after: State = (*state_low, *state_high)
        if looked is not None:
            now = weights.flatten(0, 1)
            after = (*after, context[:, None], torch.stack([now, looked[:, 1] + now], dim=1))
        return torch.cat([high, context, vectors], dim=1), weights, after

    def _masks(self, like: Tensor) -> Tensor:
        """What an input is multiplied with in training: one mask a sentence (Gal & Ghahramani 2016), (B, 1, D)."""
        ones = like.new_ones((like.shape[0], 1, like.shape[2]))
        if not self.training or not self.dropout.p:
            return ones
        return ones.bernoulli_(1.0 - self.dropout.p) / (1.0 - self.dropout.p)

    def step(self, glimpse: Glimpse) -> Step:
        """The function that a search calls: it reads one word a row, never the prefix."""

        def read(tokens: Tensor, state: State) -> tuple[Tensor, State]:
            told, _, state = self._one(glimpse, self.embedding(tokens), state)
            return F.log_softmax(self._say(told).float(), dim=1), state

        return read

    def _glance(self, glimpse: Glimpse, asked: Tensor, looked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """asked: (B, Q, hidden), looked: (B * Q, 2, S) -> what was looked at (B, Q, H or nothing) and how much of each step
        (B, Q, S).
        """
        mask = glimpse.mask[:, None]
        if self.attention == "soft":
            sought = self.ask(asked)[:, :, None] + glimpse.keys[:, None]
            if looked is not None and self.trail is not None:
                real = mask.to(looked.dtype).expand(-1, asked.shape[1], -1).flatten(0, 1)[:, None]
                sought = sought + self.trail(torch.cat([looked, real], dim=1)).mT.unflatten(0, asked.shape[:2])
            scores = self.weigh(torch.tanh(sought))[..., 0]
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            weights = torch.where(mask, scores.softmax(-1), 0.0)
        else:
            weights = (mask / mask.sum(-1, keepdim=True).clamp(min=1)).expand(-1, asked.shape[1], -1)
        weights = weights.to(glimpse.values.dtype)
        if not self.context:
            return asked[..., :0], weights
        return weights @ glimpse.values, weights

    def _say(self, told: Tensor) -> Tensor:
        """What the upper core, the glance and the last word come to (..., hidden + H + E) -> logits (..., V)."""
        return F.linear(self.dropout(torch.tanh(self.readout(told))), self.embedding.weight, self.bias)
