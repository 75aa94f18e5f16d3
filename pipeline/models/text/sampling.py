"""Sampling sequences of tokens from a model's distribution, with temperature, top-k and nucleus, for a whole batch.

In: a step function and an initial state as in `beam_search`, and a random generator, so that a draw can be repeated.
Out: `Hypotheses`. Knows nothing of words, cores or videos.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.recurrent.core import State
from pipeline.models.text.beam_search import Hypotheses, StepFunction, check_counts, check_end


def sample(
    step: StepFunction,
    state: State,
    start: Tensor,
    *,
    end: int | None,
    max_length: int,
    generator: torch.Generator,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Hypotheses:
    """Draw `samples` sequences per row; `step` is called once per time step.

    `log_probability` and `score` are those of the model itself, before temperature, top_k and top_p. They carry
    gradients if the step does. Drawn at temperature 1 with neither top_k nor top_p, they are the log-probabilities that
    REINFORCE multiplies by its reward (Williams 1992).

    Args:
        step: see `StepFunction`.
        state: tensors (B, ...), the initial state.
        start: (B,) int64, the tokens that are read first. They are not part of the sequences.
        end: the token that ends a sequence. None: every sequence has max_length tokens (text without an end token,
            such as characters).
        max_length: most tokens, with `end`. A sequence that has not ended by then is cut there, without `end`.
        generator: on the device of `start`.
        samples: sequences per row.
        temperature: see `distribution`.
        top_k: see `distribution`.
        top_p: see `distribution`.

    Raises ValueError for max_length or samples below 1, an `end` outside the vocabulary, and as `distribution`.
    """
    check_counts(max_length=max_length, samples=samples)
    batch = start.shape[0]
    rows = torch.arange(batch, device=start.device).repeat_interleave(samples)
    tokens, state = start.index_select(0, rows), tuple(part.index_select(0, rows) for part in state)
    is_finished = torch.zeros_like(tokens, dtype=torch.bool)
    drawn: list[Tensor] = []
    terms: list[Tensor] = []
    lengths = torch.zeros_like(tokens)
    for _ in range(max_length):
        log_probabilities, state = step(tokens, state)
        if end is not None:
            check_end(end, log_probabilities.shape[1])
        probabilities, order = distribution(log_probabilities.detach(), temperature, top_k, top_p)
        tokens = order.gather(1, torch.multinomial(probabilities, 1, generator=generator))[:, 0]
        token_log_probability = log_probabilities.gather(1, tokens[:, None])[:, 0]
        lengths = lengths + (~is_finished).long()
        terms.append(torch.where(is_finished, 0.0, token_log_probability))
        tokens = tokens if end is None else torch.where(is_finished, end, tokens)
        drawn.append(tokens)
        is_finished = is_finished if end is None else is_finished | (tokens == end)
        if end is not None and is_finished.all():
            break
    log_probability = torch.stack(terms, dim=1).sum(dim=1).reshape(batch, samples)
    sequences = torch.stack(drawn, dim=1).reshape(batch, samples, -1)
    return Hypotheses(sequences, lengths.reshape(batch, samples), log_probability, log_probability)


def distribution(
    log_probabilities: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> tuple[Tensor, Tensor]:
    """The distribution to draw from: softmax(logits / temperature), cut to the top k and then to the nucleus.

    Args:
        log_probabilities: (N, V); logits work as well.
        temperature: divides the logits. Below 1 the distribution is sharper, above 1 flatter.
        top_k: keep the k most probable tokens only (Fan et al. 2018).
        top_p: keep the nucleus only: the smallest set of the most probable tokens whose probabilities sum to at least p
            (Holtzman et al. 2020), after temperature and top_k. It always contains the most probable token.

    Returns probabilities (N, K) and the tokens that they belong to (N, K) int64, in falling order where top_k or top_p
    is given.

    Raises ValueError for a temperature of 0 or less, a top_k below 1, or a top_p outside (0, 1].
    """
    if not temperature > 0:
        raise ValueError(
            f"temperature={temperature}: it divides the logits, so it must be above 0. For the most probable token use "
            "top_k=1."
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k}: at least 1 token must be left to draw from. Leave it out to keep all.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: it must be a probability in (0, 1], usually 0.9. Leave it out to keep all.")
    logits = log_probabilities / temperature
    if top_k is None and top_p is None:  # the frequent case needs no order, and sorting is most of the cost
        return logits.softmax(dim=1), torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    ranked, order = logits.topk(logits.shape[1] if top_k is None else min(top_k, logits.shape[1]), dim=1)
    probabilities = ranked.softmax(dim=1)
    if top_p is not None:
        sum_before = probabilities.cumsum(dim=1) - probabilities
        is_outside = sum_before >= top_p
        is_outside[:, 0] = False
        probabilities = probabilities.masked_fill(is_outside, 0.0)
        probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    return probabilities, order
