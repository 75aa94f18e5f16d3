"""An attention decoder: two recurrent cores that generate tokens while they attend to the steps of another core.

In: the steps (B, S, H) that another core has put out. Out: logits of every next token, all at once in training and one
at a time in a search. Knows nothing of videos, texts or losses.

    memory = decoder.attention_memory(steps)
    logits, _ = decoder(memory, tokens)                                # teacher forcing: no loop in Python
    state = decoder.initial_state(memory)
    hypotheses = beam_search(decoder.step(memory), state, start, end=end_token, width=5, max_length=20)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.choices import Attention, DecoderCell
from pipeline.models.recurrent.core import Core, State
from pipeline.models.text.beam_search import StepFunction
from pipeline.padded import Padded, dropout_mask

LOCATION_KERNEL = 15
"""Width, in steps, of the convolution over the attention weights so far."""


@dataclass(frozen=True)
class AttentionMemory:
    """What the decoder attends to, computed once per batch.

    values: (B, S, H). keys: (B, S, A), A = hidden for soft attention, else 0. mask: (B, S) bool, True where a step is
    real. summary: (B, 2 H), the mean and the last step.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor
    summary: Tensor


class AttentionDecoder(nn.Module):
    """Embedding -> lower core -> attention -> upper core -> readout, which shares its weights with the embedding.

    With h_j the steps of the memory and e_i the embedding of token i:

        s_i        = lower(e_i, s_{i-1})
        score_ij   = v . tanh(W_q s_i + W_k h_j)                        additive attention
        a_ij       = softmax over j of score_ij
        context_i  = sum_j a_ij h_j
        u_i        = upper([s_i, context_i], u_{i-1})
        logits_i   = W_e tanh(W_r [u_i, context_i, e_i] + b_r) + b      W_e: the embedding matrix

    The first states of both cores are tanh of a linear map of the memory's summary. The attention depends on the tokens
    so far, and the next tokens depend on the attention, as in Bahdanau et al. 2015. Nevertheless all steps of a known
    sequence are computed at once on fused kernels, because the lower core does not read the context (attention from the
    bottom layer, as in Wu et al. 2016, arXiv 1609.08144).

    With `input_feeding` the lower core reads [e_i, context_{i-1}] (input feeding, Luong et al. 2015). Soft attention
    then adds f_ij inside tanh: a convolution over j of the last attention weights, of the sum of all weights so far,
    and of the mask (location-aware attention, Chorowski et al. 2015). So it can follow the order of events. A known
    sequence is then read step by step, 2 to 4 times slower.

    Args:
        vocabulary_size: V. embedding_size: the width of the embeddings. input_size: H of the memory's steps.
        cell, hidden: of both cores.
        attention: `soft` is the additive score (Bahdanau et al. 2015; over frames Yao et al. 2015). `mean` has equal
            weights. `none` gives the cores nothing but their first states.
        dropout: on the embeddings, between the cores, and before the readout.
        input_feeding: see above; without effect where attention is `none`.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_size: int,
        input_size: int,
        cell: DecoderCell = "gru",
        hidden: int = 256,
        attention: Attention = "soft",
        dropout: float = 0.0,
        input_feeding: bool = False,
    ) -> None:
        super().__init__()
        self.attention: Attention = attention
        self.hidden, self.context_size = hidden, 0 if attention == "none" else input_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)  # small: they are the readout too
        self.input_feeding = input_feeding and self.context_size > 0
        lower_size = embedding_size + (self.context_size if self.input_feeding else 0)
        self.lower = Core(cell=cell, input_size=lower_size, hidden=hidden)
        self.upper = Core(cell=cell, input_size=hidden + self.context_size, hidden=hidden)
        self.upper_size = hidden + self.context_size
        self.num_states = len(self.lower.initial_state(1))
        self.bridge = nn.Linear(2 * input_size, 2 * self.num_states * hidden)  # from the summary to the first states
        if attention == "soft":
            self.query = nn.Linear(hidden, hidden)
            self.key = nn.Linear(input_size, hidden, bias=False)
            self.score = nn.Linear(hidden, 1, bias=False)
            convolution = {"kernel_size": LOCATION_KERNEL, "padding": LOCATION_KERNEL // 2, "bias": False}
            self.location_conv = nn.Conv1d(3, hidden, **convolution) if self.input_feeding else None
        self.readout = nn.Linear(hidden + self.context_size + embedding_size, embedding_size)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = nn.Dropout(dropout)

    def attention_memory(self, steps: Padded) -> AttentionMemory:
        """Keys and summary of the steps (B, S, H). The values and the summary of a row of length 0 are zeros."""
        steps = steps.zeroed()
        values, mask = steps.data, steps.mask
        count = mask.sum(1, keepdim=True).clamp(min=1)
        summary = torch.cat([values.sum(1) / count, steps.last()], dim=1)
        keys = self.key(values) if self.attention == "soft" else values[:, :, :0]
        return AttentionMemory(values, keys, mask, summary)

    def initial_state(self, memory: AttentionMemory) -> State:
        """The state before the first token: of the lower core, then of the upper core, each (B, 1, hidden).

        With `input_feeding` two more tensors follow: the last context (B, 1, H), and the last attention weights and
        their sum so far (B, 2, S).
        """
        cores = torch.tanh(self.bridge(memory.summary)).unflatten(1, (-1, 1, self.hidden)).unbind(1)
        if not self.input_feeding:
            return tuple(cores)
        rows, steps = memory.mask.shape
        context = memory.values.new_zeros((rows, 1, self.context_size))
        return (*cores, context, memory.values.new_zeros((rows, 2, steps)))

    def forward(
        self, memory: AttentionMemory, tokens: Padded, positions: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing over known sequences.

        tokens: (B, L) ids, the start token first. positions: rows and steps (N,) where logits are wanted; then they
        are (N, V), because over a large vocabulary the logits are most of the work.

        Returns logits of the next tokens (B, L, V) and the attention weights (B, L, S).
        """
        vectors = tokens.map(lambda ids: self.embedding(ids)).zeroed()
        vector_mask = self._dropout_mask(vectors.data, vectors.data.shape[0], vectors.data.shape[2])
        upper_mask = self._dropout_mask(vectors.data, len(memory.mask), self.upper_size)
        state = self.initial_state(memory)
        if self.input_feeding:
            features, weights = self._run_loop(memory, vectors.data * vector_mask, upper_mask, state)
        else:
            low, _ = self.lower(vectors.map(lambda v: v * vector_mask), state[: self.num_states])
            context, weights = self._attend(memory, low.data)
            upper_input = low.map(lambda h: torch.cat([h, context], dim=2) * upper_mask)
            high, _ = self.upper(upper_input, state[self.num_states :])
            features = torch.cat([high.data, context, vectors.data], dim=2)
        return self._logits(features if positions is None else features[positions]), weights

    def _run_loop(
        self, memory: AttentionMemory, vectors: Tensor, upper_mask: Tensor, state: State
    ) -> tuple[Tensor, Tensor]:
        """The features of every token (B, L, ...) and the attention weights (B, L, S), one token after another."""
        features: list[Tensor] = []
        weights: list[Tensor] = []
        for vector in vectors.unbind(1):
            feature, weight, state = self._step(memory, vector, state, upper_mask)
            features.append(feature)
            weights.append(weight)
        return torch.stack(features, dim=1), torch.cat(weights, dim=1)

    def _step(
        self, memory: AttentionMemory, vectors: Tensor, state: State, upper_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """One token of each of N rows: its features (N, ...), the attention weights (B, N / B, S), the new state."""
        cores, last_context = (state[:-2], state[-2][:, 0]) if self.input_feeding else (state, vectors[:, :0])
        low, lower_state = self.lower.step(torch.cat([vectors, last_context], dim=1), cores[: self.num_states])
        past_weights = state[-1] if self.input_feeding else None
        context, weights = self._attend(memory, low.unflatten(0, (len(memory.mask), -1)), past_weights)
        context = context.flatten(0, 1)
        upper_input = torch.cat([low, context], dim=1)
        upper_input = upper_input if upper_mask is None else upper_input * upper_mask[:, 0]
        high, upper_state = self.upper.step(upper_input, cores[self.num_states :])
        new_state: State = (*lower_state, *upper_state)
        if past_weights is not None:
            last = weights.flatten(0, 1)
            new_state = (*new_state, context[:, None], torch.stack([last, past_weights[:, 1] + last], dim=1))
        return torch.cat([high, context, vectors], dim=1), weights, new_state

    def _dropout_mask(self, like: Tensor, rows: int, width: int) -> Tensor:
        """The mask for an input in training, one per sequence (Gal & Ghahramani 2016), (B, 1, D); else ones."""
        shape = (rows, 1, width)
        if not self.training or not self.dropout.p:
            return like.new_ones(shape)
        return dropout_mask(like, shape, self.dropout.p)

    def step(self, memory: AttentionMemory) -> StepFunction:
        """The step function of a search. It reads one token per row; the state holds everything before it."""

        def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
            features, _, state = self._step(memory, self.embedding(tokens), state)
            return F.log_softmax(self._logits(features).float(), dim=1), state

        return step

    def _attend(
        self, memory: AttentionMemory, queries: Tensor, past_weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """queries: (B, Q, hidden). past_weights: (B * Q, 2, S), the last attention weights and their sum so far.
        Returns the contexts (B, Q, H), or (B, Q, 0) without attention, and the attention weights (B, Q, S).
        """
        mask = memory.mask[:, None]
        if self.attention == "soft":
            energy = self.query(queries)[:, :, None] + memory.keys[:, None]
            if past_weights is not None and self.location_conv is not None:
                is_real = mask.to(past_weights.dtype).expand(-1, queries.shape[1], -1).flatten(0, 1)[:, None]
                location = self.location_conv(torch.cat([past_weights, is_real], dim=1))
                energy = energy + location.mT.unflatten(0, queries.shape[:2])
            scores = self.score(torch.tanh(energy))[..., 0]
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            weights = torch.where(mask, scores.softmax(-1), 0.0)
        else:
            weights = (mask / mask.sum(-1, keepdim=True).clamp(min=1)).expand(-1, queries.shape[1], -1)
        weights = weights.to(memory.values.dtype)
        if not self.context_size:
            return queries[..., :0], weights
        return weights @ memory.values, weights

    def _logits(self, features: Tensor) -> Tensor:
        """The upper core's output, the context and the embedding (..., features) -> logits (..., V)."""
        return F.linear(self.dropout(torch.tanh(self.readout(features))), self.embedding.weight, self.bias)
