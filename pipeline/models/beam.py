"""Beam search: the most probable sentences, of a whole batch at once, without ever reading a word twice.

In: a step function (the last tokens and a state -> log-probabilities of the next tokens and the new state), the state to start
from and the first tokens. Out: `Sentences`. Knows nothing of words, cores, attention or videos.

    found = beam_search(step, state, start, end=vocabulary_end, width=5, max_length=20, length_power=0.7)
    best = found.tokens[:, 0]                        # (B, L); found.lengths[:, 0] of them count, the end token included
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.models.core import State


class Step(Protocol):
    """One time step of N rows.

    The rows stand in the order of the batch, N / B of them for each of its B rows, and N may differ from call to call. The
    search picks the rows of every tensor of the state. What all words of a video share (the frames that are attended to) had
    better stay out of the state and be seen as (B, N / B, ...): so it is never copied.
    """

    def __call__(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens: (N,) int64; state: tensors (N, ...). Returns log-probabilities (N, V) and the state behind these tokens.
        A token that may not come has -inf.
        """
        ...


@dataclass(frozen=True)
class Sentences:
    """W sentences for each of B rows, best first (samples: in no order), on the device of the search.

    tokens: (B, W, L) int64, the end token included, and end tokens behind it. lengths: (B, W) int64, the end token included.
    log_probability: (B, W), summed over these tokens. score: (B, W), what they were ranked by; -inf and length 0 where there
    are fewer than W sentences.
    """

    tokens: Tensor
    lengths: Tensor
    log_probability: Tensor
    score: Tensor


@torch.no_grad()
def beam_search(
    step: Step,
    state: State,
    start: Tensor,
    *,
    end: int,
    width: int,
    max_length: int,
    length_power: float = 0.0,
    no_repeated: int | None = None,
) -> Sentences:
    """The `width` best beginnings go on side by side, picked by log-probability; `step` is called once a time step.

    One that says `end` among the `width` best of its step is a sentence, and leaves its place to another. A row is done when it
    has `width` sentences and no beginning that goes on scores above the worst of them, taken as one token longer; at width 1
    with its first sentence. So width 1 is greedy search, and with room for all beginnings the search is exhaustive.

    Args:
        step: see `Step`.
        state: tensors (B, ...), what the sentences start from.
        start: (B,) int64, the tokens to begin behind; they are no part of the sentences.
        end: the token that ends a sentence.
        width: beginnings and sentences a row.
        max_length: tokens of a sentence at most, `end` included: the last one has to be `end`, at the probability it has.
        length_power: sentences are ranked by log-probability / length ** length_power (`end` counts; 1 is the mean a token, 0
            the probability itself, which prefers short ones). The plain form, not that of Wu et al. 2016.
        no_repeated: no sentence says the same so many tokens in a row twice; 3 forbids repeated trigrams (Paulus et al. 2018).

    Raises ValueError for a width, max_length or no_repeated below 1, or an `end` outside the vocabulary.
    """
    check_counts(width=width, max_length=max_length, no_repeated=no_repeated)
    batch = start.shape[0]
    first_rows = torch.arange(batch, device=start.device)[:, None]
    tokens, history = start, start.new_empty((batch, 1, 0))
    scores = found = None
    for length in range(1, max_length + 1):
        log_probabilities, state = step(tokens, state)
        live, vocabulary = history.shape[1], log_probabilities.shape[1]
        if scores is None or found is None:
            check_end(end, vocabulary)
            scores = log_probabilities.new_zeros((batch, 1))
            found = _nothing(scores, width, max_length, end)
        total = scores[:, :, None] + log_probabilities.reshape(batch, live, vocabulary)
        if no_repeated is not None and length >= no_repeated:
            total = _without_repeats(total, history, no_repeated)
        if length == max_length:
            total = total[:, :, end].topk(min(width, live))
            return _joined(found, total.values, history, total.indices, end, length_power)
        (ended, ended_parent), (scores, parent, token) = _candidates(total, width, end)
        found = _joined(found, ended, history, ended_parent, end, length_power)
        worst = found.score.amin(dim=1, keepdim=True)
        hope = scores.amax(dim=1, keepdim=True) / (length + 1) ** length_power
        is_done = (worst > -torch.inf) & ((worst >= hope) | (width == 1))
        scores = scores.masked_fill(is_done, -torch.inf)
        if not (scores > -torch.inf).any():
            return found
        history = torch.cat([_picked(history, parent), token[:, :, None]], dim=2)
        rows = (first_rows * live + parent).flatten()
        tokens, state = token.flatten(), tuple(part.index_select(0, rows) for part in state)
    raise AssertionError("the last step returns")


def _candidates(total: Tensor, width: int, end: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Scores (B, live, V) -> those that end among the `width` best (score, parent), and the `width` best that go on (score,
    parent, token), each (B, <= width). -inf marks what is neither.
    """
    live, vocabulary = total.shape[1:]
    # at most one end a beginning: behind twice the width there are always enough that go on
    best, index = total.flatten(1).topk(min(2 * width, live * vocabulary))
    parent, token = index // vocabulary, index % vocabulary
    is_end = token == end
    ended = best.masked_fill(~is_end, -torch.inf)
    scores, kept = best.masked_fill(is_end, -torch.inf).topk(min(width, best.shape[1]))
    return (ended[:, :width], parent[:, :width]), (scores, parent.gather(1, kept), token.gather(1, kept))


def check_counts(**counts: int | None) -> None:
    """Raises ValueError for a count below 1; None is none."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: the search for sentences needs at least 1 here.")


def check_end(end: int, vocabulary: int) -> None:
    """Raises ValueError for an end token that is none."""
    if not 0 <= end < vocabulary:
        raise ValueError(
            f"end={end} is no token: the step knows tokens 0..{vocabulary - 1}. Give the number of the end token."
        )


def _nothing(like: Tensor, width: int, max_length: int, end: int) -> Sentences:
    shape = (like.shape[0], width)
    nothing = like.new_full(shape, -torch.inf)
    tokens = torch.full((*shape, max_length), end, device=like.device)
    return Sentences(tokens, torch.zeros(shape, dtype=torch.int64, device=like.device), nothing, nothing)


def _joined(
    found: Sentences, log_probability: Tensor, history: Tensor, parent: Tensor, end: int, length_power: float
) -> Sentences:
    """The best of what was found and of (B, K) beginnings (B, live, length - 1) that now end; -inf marks those that do not."""
    length = history.shape[2] + 1
    words = _picked(history, parent)
    behind = words.new_full((*parent.shape, found.tokens.shape[2] - words.shape[2]), end)
    lengths = torch.where(log_probability > -torch.inf, length, 0)
    score, kept = torch.cat([found.score, log_probability / length**length_power], dim=1).topk(found.score.shape[1])
    return Sentences(
        tokens=_picked(torch.cat([found.tokens, torch.cat([words, behind], dim=2)], dim=1), kept),
        lengths=torch.cat([found.lengths, lengths], dim=1).gather(1, kept),
        log_probability=torch.cat([found.log_probability, log_probability], dim=1).gather(1, kept),
        score=score,
    )


def _picked(tokens: Tensor, which: Tensor) -> Tensor:
    """tokens: (B, N, L); which: (B, K). Returns (B, K, L)."""
    return tokens.gather(1, which[:, :, None].expand(-1, -1, tokens.shape[2]))


def _without_repeats(scores: Tensor, history: Tensor, order: int) -> Tensor:
    """scores: (B, W, V); history: (B, W, T). Returns scores with -inf at tokens that would say an n-gram of history again."""
    if history.shape[2] < order:
        return scores
    grams = history.unfold(2, order, 1)  # (B, W, T - order + 1, order)
    last = history[:, :, history.shape[2] - order + 1 :]
    is_met = (grams[..., :-1] == last[:, :, None]).all(dim=3)
    forbidden = torch.where(is_met, -torch.inf, 0.0).to(scores)
    return scores + torch.zeros_like(scores).scatter_reduce(2, grams[..., -1], forbidden, "amin")
