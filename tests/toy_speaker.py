"""A model that speaks tiny sentences, for the tests of beam search and sampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.beam import Sentences

END = 1


class Speaker(nn.Module):
    """A small random GRU in float64 that remembers every token it was told; it counts its steps and the rows of each."""

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

    def probability(self, sentence: list[int], start: int, hidden: Tensor) -> float:
        """log p of one sentence, word by word from the start."""
        state, total, last = (hidden[None],), 0.0, start
        for token in sentence:
            scores, state = self(torch.tensor([last]), state)
            total, last = total + scores[0, token].item(), token
        return total


def beginnings(batch: int, seed: int = 5) -> tuple[tuple[Tensor, ...], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, 8, generator=generator, dtype=torch.float64),), torch.zeros(batch, dtype=torch.int64)


def listed(found: Sentences, row: int) -> list[tuple[int, ...]]:
    return [
        tuple(tokens[:length].tolist())
        for tokens, length in zip(found.tokens[row], found.lengths[row], strict=True)
        if length
    ]
