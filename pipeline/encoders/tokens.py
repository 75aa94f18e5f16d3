"""The encoder of texts: each token becomes a vector.

In: raw["tokens"] (B, T) ids, or (B, T, 1 + C) with the character ids of each word behind its id. Out: (B, T, P). Knows
nothing of how texts are divided into tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Raw
from pipeline.encoders.adapter import Adapter
from pipeline.padded import Padded, dropout_mask

CHARACTER_EMBEDDING = 32
"""The width of the vector of a character."""


class CharacterEncoder(Protocol):
    """A recurrent core over the characters of words: (N, C, CHARACTER_EMBEDDING) -> outputs and its last state."""

    output_size: int

    def __call__(self, x: Padded) -> tuple[Padded, tuple[Tensor, ...]]:
        """See `models.recurrent.core.Core`."""
        ...


class TokensEncoder(nn.Module):
    """An embedding of tokens, joined with the output of a character encoder, then an Adapter.

    Args:
        vocabulary_size: number of tokens.
        embedding_size: width of the vector of a token. The vectors start with a standard deviation of
            embedding_size ** -0.5, so that they can be tied to the weights of a language model's output layer.
        embedding_dropout: drops whole words of the vocabulary, one mask per batch (Gal & Ghahramani 2016).
        adapter: takes the joined vectors.
        character_encoder: a core over the characters of each word, usually bidirectional (Lample et al. 2016). Its last
            state represents the word. None where no characters are read.
        num_characters: number of character ids.
    """

    sense = "tokens"
    has_frozen_features = False

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_size: int,
        embedding_dropout: float,
        adapter: Adapter,
        character_encoder: nn.Module | None = None,
        num_characters: int = 0,
    ) -> None:
        super().__init__()
        self.embedding_dropout = embedding_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        has_characters = character_encoder is not None
        self.character_embedding = nn.Embedding(num_characters, CHARACTER_EMBEDDING) if has_characters else None
        self.character_encoder = character_encoder
        self.adapter = adapter
        self.feature_size, self.output_size = adapter.input_size, adapter.output_size

    @torch.no_grad()
    def set_vectors(self, vectors: Mapping[int, Tensor]) -> None:
        """Set the vectors (embedding_size,) of some tokens, scaled to the standard deviation of the embedding."""
        if not vectors:
            return
        stacked = torch.stack(list(vectors.values()))
        scale = self.embedding.weight.std() / stacked.std().clamp(min=1e-8)
        for token, vector in vectors.items():
            self.embedding.weight[token] = vector * scale

    def forward(self, raw: Raw) -> Padded:
        """(B, T) or (B, T, 1 + C) -> (B, T, P)."""
        return self.project(self.features(raw))

    def project(self, features: Padded) -> Padded:
        """The output of `features` -> (B, T, P)."""
        return self.adapter.projected(features)

    def features(self, raw: Raw) -> Padded:
        """(B, T) or (B, T, 1 + C) -> the normalised vectors of the tokens (B, T, D), which are learned."""
        tokens = raw[self.sense].zeroed()
        ids = tokens.data if tokens.data.ndim == 2 else tokens.data[:, :, 0]
        weight = self.embedding.weight
        if self.training and self.embedding_dropout:
            weight = weight * dropout_mask(weight, (len(weight), 1), self.embedding_dropout)
        vectors = F.embedding(ids, weight)
        if self.character_encoder is not None:
            vectors = torch.cat([vectors, self.encode_characters(tokens)], dim=2)
        return self.adapter.normalised(Padded(vectors, tokens.lengths))

    def encode_characters(self, tokens: Padded) -> Tensor:
        """(B, T, 1 + C) -> (B, T, S): the last state over the characters of each word; zeros in the padding."""
        assert self.character_encoder is not None and self.character_embedding is not None and tokens.data.ndim == 3
        mask = tokens.mask
        character_ids = tokens.data[:, :, 1:][mask]  # (N, C)
        lengths = (character_ids > 0).sum(1).cpu()
        _, state = self.character_encoder(Padded(self.character_embedding(character_ids), lengths))
        last = state[0].flatten(1)  # (N, directions * H)
        return last.new_zeros((*mask.shape, last.shape[1])).masked_scatter(mask[:, :, None], last)
