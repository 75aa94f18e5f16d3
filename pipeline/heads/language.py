"""A head that predicts the next token: a language model on the output of the core.

In: the output of the core for a text (B, T, H), and the text itself. Out: loss terms and, as the prediction, the
probability of the text. Knows nothing of files, nor of how texts are tokenized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.tokenizer import Tokenizer
from pipeline.heads.targets import NoTarget
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.sequence import bits_per_character, perplexity
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Likelihood, Prediction
from pipeline.models.process_mean import mean_over_processes
from pipeline.padded import sequence_dropout

CHUNK_STEPS = 1024
"""The logits of a large vocabulary need much memory: they are computed for so many steps at a time."""


class LanguageMemory(NamedTuple):
    """The text so far.

    log_probability: (B,), of its tokens. num_tokens: (B,), how many of them were predicted. next_token: (B, V),
    log-probabilities of the next token. has_any: (B,) bool, whether there was a token.
    """

    log_probability: Tensor
    num_tokens: Tensor
    next_token: Tensor
    has_any: Tensor


class LanguageResult(NamedTuple):
    """One text: negative log-likelihood in nats, number of predicted tokens, and number of their characters."""

    nats: float
    num_tokens: int
    num_characters: int


class Language(nn.Module):
    """p(w_{t+1} | w_1 ... w_t) from the core's output at step t.

    The first token of a text is not predicted; with `add_bos_eos` it is the start token. embedding: that of the
    encoder, whose weights are tied to those of the output layer (Press & Wolf 2017, Inan et al. 2017); None: the output
    layer has weights of its own. dropout: before the output layer, with one mask for each sequence.
    """

    opponent: nn.Module | None
    is_per_step = False
    monitor = "log_likelihood"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        tokenizer: Tokenizer,
        embedding: nn.Embedding | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.target = NoTarget()
        self.name, self.tokenizer, self.dropout = name, tokenizer, dropout
        self._tied_embedding = (embedding,)  # a tuple, because the encoder registers and stores it
        size = input_size if embedding is None else embedding.embedding_dim
        self.project = nn.Linear(input_size, size) if size != input_size else nn.Identity()
        self.readout = nn.Linear(input_size, len(tokenizer)) if embedding is None else None
        self.bias = nn.Parameter(torch.zeros(len(tokenizer)))

    def logits(self, steps: Tensor) -> Tensor:
        """(B, T, H) -> logits of the next token (B, T, V)."""
        if self.training and self.dropout:
            steps = sequence_dropout(steps, self.dropout)
        (embedding,) = self._tied_embedding
        if embedding is not None:
            return F.linear(self.project(steps), embedding.weight, self.bias)
        assert self.readout is not None
        return self.readout(steps) + self.bias

    def _ids(self, output: CoreOutput) -> Tensor:
        ids = output.raw["tokens"].zeroed().data
        return ids if ids.ndim == 2 else ids[:, :, 0]

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """Cross-entropy a token, in nats. The last step of a window has no target: its next token is outside."""
        nats, count = self._negative_log_likelihood(output)
        return {self.name: mean_over_processes(nats.sum(), count.sum(), self.training)}

    def _negative_log_likelihood(self, output: CoreOutput) -> tuple[Tensor, Tensor]:
        """Of each row: negative log-likelihood in nats of the tokens after the first (B,), and their number (B,)."""
        ids, mask = self._ids(output), output.steps.mask[:, 1:]
        steps = output.steps.zeroed().data[:, :-1]
        nats = steps.new_zeros(len(ids), dtype=torch.float32)
        for start in range(0, max(1, steps.shape[1]), CHUNK_STEPS):  # no step: a loss of 0 that has a gradient
            chunk = slice(start, start + CHUNK_STEPS)
            logits = self.logits(steps[:, chunk]).float()
            losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:][:, chunk], reduction="none")
            nats = nats + torch.where(mask[:, chunk], losses, 0.0).sum(1)
        return nats, mask.sum(1)

    @torch.no_grad()
    def observe(self, output: CoreOutput, memory: LanguageMemory | None = None) -> LanguageMemory:
        """Add these tokens. The first one is scored by the prediction at the last step of the window before."""
        ids, has_any = self._ids(output), output.steps.mask[:, 0]
        nats, count = self._negative_log_likelihood(output)
        next_token = self.logits(output.steps.zeroed().last()[:, None]).float().log_softmax(-1)[:, 0]
        if memory is None:
            return LanguageMemory(-nats, count, next_token, has_any)
        continues = memory.has_any & has_any
        first = torch.where(continues, memory.next_token.gather(1, ids[:, :1])[:, 0], 0.0)
        return LanguageMemory(
            memory.log_probability + first - nats,
            memory.num_tokens + continues + count,
            torch.where(has_any[:, None], next_token, memory.next_token),
            memory.has_any | has_any,
        )

    def answer(self, memory: LanguageMemory) -> list[Prediction]:
        """The probability of each text."""
        rows = zip(memory.log_probability.tolist(), memory.num_tokens.tolist(), strict=True)
        return [Likelihood(log_probability, num_tokens) for log_probability, num_tokens in rows]

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[LanguageResult]:
        """Negative log-likelihood, tokens and characters of each text."""
        nats, counts = self._negative_log_likelihood(output)
        texts = [
            self.tokenizer.decode(ids[1:length].tolist())
            for ids, length in zip(self._ids(output), output.steps.lengths, strict=True)
        ]
        rows = zip(nats.tolist(), counts.tolist(), map(len, texts), strict=True)
        return [LanguageResult(*values) for values in rows]

    def metrics(self, results: Sequence[LanguageResult]) -> dict[str, Any]:
        """Nats and perplexity a token, and bits a character, over all tokens of all texts together. `log_likelihood` is
        minus the nats, so that higher is better.
        """
        nats, num_tokens = sum(result.nats for result in results), sum(result.num_tokens for result in results)
        num_characters = sum(result.num_characters for result in results)
        mean = nats / num_tokens if num_tokens else float("nan")
        return {
            "nats": mean,
            "perplexity": perplexity(nats, num_tokens),
            "log_likelihood": -mean,
            "bits_per_character": bits_per_character(nats, num_characters),
            "count": len(results),
        }

    def confidence_interval(
        self, results: Sequence[LanguageResult], groups: Sequence[str | None]
    ) -> tuple[float, float]:
        """The 95 % interval of the log-likelihood a token, resampled by group."""
        likelihoods, num_tokens = [-result.nats for result in results], [result.num_tokens for result in results]
        return ratio_interval(likelihoods, num_tokens, groups, is_share=False)
