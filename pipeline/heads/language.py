"""Which word comes next: a language model over the core.

In: what the core has seen of a text (B, T, H), and the text itself. Out: loss terms, and as an answer how probable the text is. Knows
nothing of files or of how texts are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.data.words import Words
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.sequence import bits_per_character, perplexity
from pipeline.models.prediction import Likelihood, Prediction
from pipeline.models.seen import Seen

Memory = tuple[Tensor, Tensor, Tensor, Tensor]
"""Summed log-probability (B,), tokens predicted (B,), the last step's log-probabilities (B, V), whether there is one (B,)."""

CHUNK = 1024  # steps whose logits over a large vocabulary lie in memory at once


class Evidence(NamedTuple):
    """One text: its negative log-likelihood in nats, how many tokens were predicted, and how many characters they are."""

    nats: float
    tokens: int
    characters: int


class Language(nn.Module):
    """p(w_{t+1} | w_1 ... w_t) from the core's output at step t.

    The first token of a text is not predicted: where there is a start token it is that. embedding: of the encoder, whose
    weights are the readout's too (Press & Wolf 2017, Inan et al. 2017); None gives the readout its own. dropout: before the
    readout, one mask a sequence.
    """

    opponent: nn.Module | None
    stepwise = False
    watched = "log_likelihood"

    def __init__(
        self, *, name: str, input_size: int, words: Words, embedding: nn.Embedding | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.opponent = None
        self.name, self.words, self.dropout = name, words, dropout
        self._tied = (embedding,)  # in a tuple: it is the encoder's, and is stored there
        size = input_size if embedding is None else embedding.embedding_dim
        self.project = nn.Linear(input_size, size) if size != input_size else nn.Identity()
        self.readout = nn.Linear(input_size, len(words)) if embedding is None else None
        self.bias = nn.Parameter(torch.zeros(len(words)))

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """Nothing to look up: the text is its own truth."""
        return torch.zeros((), dtype=torch.int64)

    def logits(self, steps: Tensor) -> Tensor:
        """(B, T, H) -> scores of every next token (B, T, V)."""
        if self.training and self.dropout:
            keep = 1.0 - self.dropout
            steps = steps * (steps.new_empty((steps.shape[0], 1, steps.shape[2])).bernoulli_(keep) / keep)
        (embedding,) = self._tied
        if embedding is not None:
            return F.linear(self.project(steps), embedding.weight, self.bias)
        assert self.readout is not None
        return self.readout(steps) + self.bias

    def _ids(self, seen: Seen) -> Tensor:
        ids = seen.raw["tokens"].zeroed().data
        return ids if ids.ndim == 2 else ids[:, :, 0]

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """Cross-entropy a token, in nats. The last step of a window has no next word in it and teaches nothing."""
        nats, count = self._nats(seen)
        return {self.name: nats.sum() / count.sum().clamp(min=1)}

    def _nats(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Of each row: negative log-likelihood of the tokens behind the first (B,), and how many they are (B,)."""
        ids, mask = self._ids(seen), seen.steps.mask[:, 1:]
        steps = seen.steps.zeroed().data[:, :-1]
        nats = steps.new_zeros(len(ids), dtype=torch.float32)
        for start in range(0, steps.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            logits = self.logits(steps[:, part]).float()
            every = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:][:, part], reduction="none")
            nats = nats + torch.where(mask[:, part], every, 0.0).sum(1)
        return nats, mask.sum(1)

    @torch.no_grad()
    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """Sums over these tokens; the first of a window is judged by what the last step of the one before expected."""
        ids, has_any = self._ids(seen), seen.steps.mask[:, 0]
        nats, count = self._nats(seen)
        at = (seen.steps.lengths - 1).clamp(min=0).to(ids.device)[:, None, None].expand(-1, 1, seen.steps.data.shape[2])
        expected = self.logits(seen.steps.zeroed().data.gather(1, at)).float().log_softmax(-1)[:, 0]
        if memory is None:
            return -nats, count, expected, has_any
        total, tokens, before, is_known = memory
        joins = is_known & has_any
        first = torch.where(joins, before.gather(1, ids[:, :1])[:, 0], 0.0)
        kept = torch.where(has_any[:, None], expected, before)
        return total + first - nats, tokens + joins + count, kept, is_known | has_any

    def answer(self, memory: Memory) -> list[Prediction]:
        """How probable each text is."""
        return [Likelihood(p, n) for p, n in zip(memory[0].tolist(), memory[1].tolist(), strict=True)]

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Evidence]:
        """Nats, tokens and characters of each text."""
        nats, count = self._nats(seen)
        texts = [
            self.words.decode(ids[1:length].tolist())
            for ids, length in zip(self._ids(seen), seen.steps.lengths, strict=True)
        ]
        return [Evidence(n, c, len(t)) for n, c, t in zip(nats.tolist(), count.tolist(), texts, strict=True)]

    def metrics(self, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """Nats and perplexity a token, bits a character, over all tokens of all texts together; `log_likelihood` is minus the
        nats, so that more is better.
        """
        nats, tokens = sum(e.nats for e in evidence), sum(e.tokens for e in evidence)
        characters = sum(e.characters for e in evidence)
        mean = nats / tokens if tokens else float("nan")
        found = {"nats": mean, "perplexity": perplexity(nats, tokens), "log_likelihood": -mean}
        return {**found, "bits_per_character": bits_per_character(nats, characters), "count": len(evidence)}

    def interval(self, evidence: Sequence[Evidence], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the log-likelihood a token, drawn by groups."""
        return ratio_interval([-e.nats for e in evidence], [e.tokens for e in evidence], groups)
