"""Words as a sense: each token becomes a vector.

In: raw["tokens"] (B, T) ids, or (B, T, 1 + C) with the characters of each word behind its id. Out: (B, T, P). Knows nothing of how
texts are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Raw
from pipeline.encoders.adapt import Adapter
from pipeline.padded import Padded


class Speller(Protocol):
    """A recurrent core over characters: (N, C, D) -> outputs and its last state."""

    output_size: int

    def __call__(self, x: Padded) -> tuple[Padded, tuple[Tensor, ...]]:
        """See `models.core.Core`."""
        ...


class TokensEncoder(nn.Module):
    """An embedding, beside it what a core read in the characters of each word, and an Adapter over both.

    dropout: whole words of the vocabulary are left out of a batch (embedding dropout, Gal & Ghahramani 2016). speller: a core
    over the characters, bidirectional as a rule (Lample et al. 2016); its last state is the word's shape. Embeddings begin
    with a deviation of size ** -0.5, so that they can be the readout's weights too.
    """

    sense = "tokens"

    def __init__(
        self,
        *,
        vocabulary: int,
        size: int,
        dropout: float,
        adapter: Adapter,
        speller: nn.Module | None = None,
        alphabet: int = 0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.embedding = nn.Embedding(vocabulary, size)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)
        self.letters = nn.Embedding(alphabet, 32) if speller is not None else None
        self.speller = speller
        self.adapter = adapter
        self.output_size = adapter.output_size

    @torch.no_grad()
    def set_vectors(self, vectors: Mapping[int, Tensor]) -> None:
        """Start some tokens from given vectors (size,), brought to the deviation of the others."""
        if not vectors:
            return
        found = torch.stack(list(vectors.values()))
        scale = self.embedding.weight.std() / found.std().clamp(min=1e-8)
        for token, vector in vectors.items():
            self.embedding.weight[token] = vector * scale

    def forward(self, raw: Raw) -> Padded:
        """(B, T) or (B, T, 1 + C) -> (B, T, P)."""
        tokens = raw[self.sense].zeroed()
        ids = tokens.data if tokens.data.ndim == 2 else tokens.data[:, :, 0]
        weight = self.embedding.weight
        if self.training and self.dropout:
            keep = 1.0 - self.dropout
            weight = weight * (weight.new_empty((len(weight), 1)).bernoulli_(keep) / keep)
        vectors = F.embedding(ids, weight)
        if self.speller is not None:
            vectors = torch.cat([vectors, self.shapes(tokens)], dim=2)
        return self.adapter(Padded(vectors, tokens.lengths))

    def shapes(self, tokens: Padded) -> Tensor:
        """(B, T, S): what the characters of each word come to; zeros in the padding."""
        assert self.speller is not None and self.letters is not None and tokens.data.ndim == 3
        mask = tokens.mask
        spelled = tokens.data[:, :, 1:][mask]  # (N, C)
        lengths = (spelled > 0).sum(1).cpu()
        _, state = self.speller(Padded(self.letters(spelled), lengths))
        last = state[0].flatten(1)  # (N, directions * H)
        return last.new_zeros((*mask.shape, last.shape[1])).masked_scatter(mask[:, :, None], last)
