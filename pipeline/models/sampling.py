"""Sentences by chance: each token drawn from the model's distribution, sharpened or cut off, for a whole batch at once.

In: a step function and a state as in `beam`, and a generator, so that the draws can be repeated. Out: `Sentences`. Knows nothing
of words, cores or videos.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.beam import Sentences, Step, check_counts, check_end
from pipeline.models.core import State


def sample(
    step: Step,
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
) -> Sentences:
    """`samples` sentences a row, in the order they were drawn; `step` is called once a time step.

    `log_probability` and `score` are the model's own, before temperature and cuts, and carry gradients if the step does: drawn
    at temperature 1 without cuts, they are what REINFORCE weighs with its reward.

    Args:
        step: see `Step`.
        state: tensors (B, ...), what the sentences start from.
        start: (B,) int64, the tokens to begin behind; they are no part of the sentences.
        end: the token that ends a sentence; None: all go on until max_length (text without end, such as characters).
        max_length: tokens at most, `end` included; what has not ended then is cut off there, without `end`.
        generator: on the device of `start`.
        samples: sentences a row.
        temperature: see `distribution`, and so top_k and top_p.
        top_k: only the k most probable tokens are drawn.
        top_p: only the nucleus is drawn.

    Raises ValueError for max_length or samples below 1, an `end` outside the vocabulary, and as `distribution`.
    """
    check_counts(max_length=max_length, samples=samples)
    batch = start.shape[0]
    rows = torch.arange(batch, device=start.device).repeat_interleave(samples)
    tokens, state = start.index_select(0, rows), tuple(part.index_select(0, rows) for part in state)
    is_over = torch.zeros_like(tokens, dtype=torch.bool)
    drawn: list[Tensor] = []
    terms: list[Tensor] = []
    lengths = torch.zeros_like(tokens)
    for _ in range(max_length):
        log_probabilities, state = step(tokens, state)
        if end is not None:
            check_end(end, log_probabilities.shape[1])
        ranked, order = distribution(log_probabilities.detach(), temperature, top_k, top_p)
        tokens = order.gather(1, torch.multinomial(ranked, 1, generator=generator))[:, 0]
        said = log_probabilities.gather(1, tokens[:, None])[:, 0]
        lengths = lengths + (~is_over).long()
        terms.append(torch.where(is_over, 0.0, said))
        tokens = tokens if end is None else torch.where(is_over, end, tokens)
        drawn.append(tokens)
        is_over = is_over if end is None else is_over | (tokens == end)
        if end is not None and is_over.all():
            break
    log_probability = torch.stack(terms, dim=1).sum(dim=1).reshape(batch, samples)
    sentences = torch.stack(drawn, dim=1).reshape(batch, samples, -1)
    return Sentences(sentences, lengths.reshape(batch, samples), log_probability, log_probability)


def distribution(
    log_probabilities: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> tuple[Tensor, Tensor]:
    """What to draw from: probabilities (N, K) and the tokens they belong to (N, K) int64; in falling order if anything is cut.

    Args:
        log_probabilities: (N, V); logits do too.
        temperature: divides the logits; below 1 sharper, above 1 flatter.
        top_k: only the k most probable tokens (Fan et al. 2018).
        top_p: only the nucleus: the fewest, most probable tokens that together have at least probability p (Holtzman et al.
            2020), after temperature and top_k. The most probable one always stays.

    Raises ValueError for a temperature of 0 or less, a top_k below 1, or a top_p outside (0, 1].
    """
    if not temperature > 0:
        raise ValueError(
            f"temperature={temperature}: it divides the logits, so it must be above 0. For the most probable token use top_k=1."
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k}: at least 1 token must be left to draw from. Leave it out to keep all.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: a probability in (0, 1] is needed; 0.9 is usual. Leave it out to keep all.")
    logits = log_probabilities / temperature
    if top_k is None and top_p is None:  # the frequent case needs no order, and sorting is most of the cost
        return logits.softmax(dim=1), torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    ranked, order = logits.topk(logits.shape[1] if top_k is None else min(top_k, logits.shape[1]), dim=1)
    probabilities = ranked.softmax(dim=1)
    if top_p is not None:
        before = probabilities.cumsum(dim=1) - probabilities
        is_outside = before >= top_p
        is_outside[:, 0] = False
        probabilities = probabilities.masked_fill(is_outside, 0.0)
        probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    return probabilities, order
