"""A small random language model, for the tests of beam search and sampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.text.beam_search import Hypotheses

END = 1


class ToyLanguageModel(nn.Module):
    """A small random GRU in float64 over token embeddings. `rows` holds the number of rows of each call."""

    def __init__(self, vocabulary: int, seed: int = 0, sharpness: float = 3.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(vocabulary, 6).double()
        self.cell = nn.GRUCell(6, 8).double()
        self.out = nn.Linear(8, vocabulary).double()
        self.sharpness = sharpness
        self.rows: list[int] = []

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (hidden,) = state
        self.rows.append(len(tokens))
        hidden = self.cell(self.embed(tokens), hidden)
        return (self.out(hidden) * self.sharpness).log_softmax(-1), (hidden,)

    def log_probability(self, sequence: list[int], start: int, hidden: Tensor) -> float:
        """The log-probability of one sequence, token by token from the start."""
        state, total, last = (hidden[None],), 0.0, start
        for token in sequence:
            scores, state = self(torch.tensor([last]), state)
            total, last = total + scores[0, token].item(), token
        return total


def random_states(batch: int, seed: int = 5) -> tuple[tuple[Tensor, ...], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, 8, generator=generator, dtype=torch.float64),), torch.zeros(batch, dtype=torch.int64)


def sequences_of(hypotheses: Hypotheses, row: int) -> list[tuple[int, ...]]:
    return [
        tuple(tokens[:length].tolist())
        for tokens, length in zip(hypotheses.tokens[row], hypotheses.lengths[row], strict=True)
        if length
    ]
