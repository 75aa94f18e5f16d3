"""Beam search for the most probable sequences of tokens, for a whole batch at once.

In: a step function (the last tokens and a state -> log-probabilities of the next tokens and the new state), the initial
state and the first tokens. Out: `Hypotheses`. The state is carried, so no token is read twice. Knows nothing of words,
cores, attention or videos.

    hypotheses = beam_search(step, state, start, end=end_token, width=5, max_length=20, length_penalty=0.7)
    best = hypotheses.tokens[:, 0]               # (B, L), of which the first hypotheses.lengths[:, 0] are the sequence
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.models.recurrent.core import State


class StepFunction(Protocol):
    """One time step of N rows.

    The rows stand in the order of the batch, N / B of them for each of its B rows. N may differ from call to call. The
    search selects rows in every tensor of the state. What all hypotheses of a row share (the steps that they attend to)
    should not be in the state: a function that reads its rows as (B, N / B, ...) needs no copies of it.
    """

    def __call__(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens: (N,) int64. state: tensors (N, ...). Returns log-probabilities (N, V) of the next token and the state
        after `tokens`. A token that is not allowed has -inf.
        """
        ...


@dataclass(frozen=True)
class Hypotheses:
    """W sequences for each of B rows, best first (samples: in the order of drawing), on the device of the search.

    tokens: (B, W, L) int64, with the end token, and more end tokens as padding. lengths: (B, W) int64, with the end
    token. log_probability: (B, W), summed over these tokens. score: (B, W), by which they are ranked; -inf and length 0
    where there are fewer than W sequences.
    """

    tokens: Tensor
    lengths: Tensor
    log_probability: Tensor
    score: Tensor


@torch.no_grad()
def beam_search(
    step: StepFunction,
    state: State,
    start: Tensor,
    *,
    end: int,
    width: int,
    max_length: int,
    length_penalty: float = 0.0,
    no_repeat_ngram: int | None = None,
) -> Hypotheses:
    """Extend the `width` most probable prefixes of each row by one token per call of `step`.

    An extension by `end` that is among the `width` best extensions of a step is a finished sequence and leaves the
    beam. A row is done when it has `width` finished sequences and no prefix in the beam scores above the worst of them,
    rated as if it ended after one more token; with width 1, when it has one. So width 1 is greedy search, and a width
    with room for all prefixes makes the search exhaustive.

    Args:
        step: see `StepFunction`.
        state: tensors (B, ...), the initial state.
        start: (B,) int64, the tokens that are read first. They are not part of the sequences.
        end: the token that ends a sequence.
        width: prefixes and finished sequences per row.
        max_length: most tokens of a sequence, with `end`. The last one is always `end`, at the probability that it has.
        length_penalty: sequences are ranked by log-probability / length ** length_penalty, where the length includes
            `end`. 1 is the mean per token. 0 is the log-probability itself, which prefers short sequences. This is the
            plain form, not that of Wu et al. 2016.
        no_repeat_ngram: no sequence contains the same n-gram of this length twice. 3 forbids repeated trigrams (Paulus
            et al. 2018).

    Raises ValueError for a width, max_length or no_repeat_ngram below 1, or an `end` outside the vocabulary.
    """
    check_counts(width=width, max_length=max_length, no_repeat_ngram=no_repeat_ngram)
    batch = start.shape[0]
    first_rows = torch.arange(batch, device=start.device)[:, None]
    tokens, prefixes = start, start.new_empty((batch, 1, 0))
    scores = finished = None
    for length in range(1, max_length + 1):
        log_probabilities, state = step(tokens, state)
        beams, vocabulary_size = prefixes.shape[1], log_probabilities.shape[1]
        if scores is None or finished is None:
            check_end(end, vocabulary_size)
            scores = log_probabilities.new_zeros((batch, 1))
            finished = _no_hypotheses(scores, width, max_length, end)
        total = scores[:, :, None] + log_probabilities.reshape(batch, beams, vocabulary_size)
        if no_repeat_ngram is not None and length >= no_repeat_ngram:
            total = without_repeats(total, prefixes, no_repeat_ngram)
        if length == max_length:
            best = total[:, :, end].topk(min(width, beams))
            return _add_finished(finished, best.values, prefixes, best.indices, end, length_penalty)
        (ended, ended_parent), (scores, parent, token) = _extensions(total, width, end)
        finished = _add_finished(finished, ended, prefixes, ended_parent, end, length_penalty)
        scores = scores.masked_fill(_is_done(finished, scores, length + 1, length_penalty), -torch.inf)
        if not (scores > -torch.inf).any():
            return finished
        prefixes = torch.cat([_select(prefixes, parent), token[:, :, None]], dim=2)
        rows = (first_rows * beams + parent).flatten()
        tokens, state = token.flatten(), tuple(part.index_select(0, rows) for part in state)
    raise AssertionError("the last step returns")


def _extensions(total: Tensor, width: int, end: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The best extensions by one token, from scores (B, beams, V).

    Returns those that end among the `width` best (score, parent), and the `width` best that do not end (score, parent,
    token), each (B, <= width). A score of -inf marks an entry that is not one of them.
    """
    beams, vocabulary_size = total.shape[1:]
    # each prefix has one extension that ends, so twice the width always contains enough that do not
    best, index = total.flatten(1).topk(min(2 * width, beams * vocabulary_size))
    parent, token = index // vocabulary_size, index % vocabulary_size
    is_end = token == end
    ended = best.masked_fill(~is_end, -torch.inf)
    scores, kept = best.masked_fill(is_end, -torch.inf).topk(min(width, best.shape[1]))
    return (ended[:, :width], parent[:, :width]), (scores, parent.gather(1, kept), token.gather(1, kept))


def _is_done(finished: Hypotheses, scores: Tensor, length: int, length_penalty: float) -> Tensor:
    """(B, 1) bool: whether no prefix with one of these scores, ended at `length`, would be among the finished ones."""
    worst = finished.score.amin(dim=1, keepdim=True)
    best_possible = scores.amax(dim=1, keepdim=True) / length**length_penalty
    return (worst > -torch.inf) & ((worst >= best_possible) | (finished.score.shape[1] == 1))


def check_counts(**counts: int | None) -> None:
    """Raise ValueError for a count below 1. None is allowed."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: it must be at least 1. Give 1 or more.")


def check_end(end: int, vocabulary_size: int) -> None:
    """Raise ValueError for an end token outside the vocabulary."""
    if not 0 <= end < vocabulary_size:
        raise ValueError(
            f"end={end} is not in the vocabulary: tokens are 0..{vocabulary_size - 1}. Give the index of the end token."
        )


def _no_hypotheses(like: Tensor, width: int, max_length: int, end: int) -> Hypotheses:
    shape = (like.shape[0], width)
    scores = like.new_full(shape, -torch.inf)
    tokens = torch.full((*shape, max_length), end, device=like.device)
    return Hypotheses(tokens, torch.zeros(shape, dtype=torch.int64, device=like.device), scores, scores)


def _add_finished(
    finished: Hypotheses, log_probability: Tensor, prefixes: Tensor, parent: Tensor, end: int, length_penalty: float
) -> Hypotheses:
    """The best of the finished sequences and of those that end now.

    parent: (B, K), which of the prefixes (B, beams, length - 1) end now. log_probability: (B, K), -inf where an entry
    does not end.
    """
    length = prefixes.shape[2] + 1
    words = _select(prefixes, parent)
    padding = words.new_full((*parent.shape, finished.tokens.shape[2] - words.shape[2]), end)
    lengths = torch.where(log_probability > -torch.inf, length, 0)
    all_scores = torch.cat([finished.score, log_probability / length**length_penalty], dim=1)
    score, kept = all_scores.topk(finished.score.shape[1])
    return Hypotheses(
        tokens=_select(torch.cat([finished.tokens, torch.cat([words, padding], dim=2)], dim=1), kept),
        lengths=torch.cat([finished.lengths, lengths], dim=1).gather(1, kept),
        log_probability=torch.cat([finished.log_probability, log_probability], dim=1).gather(1, kept),
        score=score,
    )


def _select(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens: (B, N, L). index: (B, K). Returns (B, K, L)."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


def without_repeats(scores: Tensor, prefixes: Tensor, order: int) -> Tensor:
    """Scores (B, W, V) with -inf at every token that would repeat an n-gram of its prefix. prefixes: (B, W, T)."""
    if prefixes.shape[2] < order:
        return scores
    ngrams = prefixes.unfold(2, order, 1)  # (B, W, T - order + 1, order)
    last = prefixes[:, :, prefixes.shape[2] - order + 1 :]
    is_same = (ngrams[..., :-1] == last[:, :, None]).all(dim=3)
    forbidden = torch.where(is_same, -torch.inf, 0.0).to(scores)
    return scores + torch.zeros_like(scores).scatter_reduce(2, ngrams[..., -1], forbidden, "amin")
