"""The scores that a generate head reports of itself, from nothing but its own sequences. An independent network judges
more strictly, see `make show P=gan-frames`.

In: generated and real sequences (T, K), or texts as words. Out: scores by name. Knows nothing of generators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.metrics.captions import bleu
from pipeline.metrics.generation import Space, as_clips, diversity_ratio, frechet_pooled, frechet_time, share_of_the_way
from pipeline.metrics.negative_controls import noise

MAX_TEXTS = 256
"""Texts that are compared, each with each: thousands would take hours."""


class GeneratedPair(NamedTuple):
    """A real sequence and a generated one of its class and length, both (T, K), or ids (T,) of tokens."""

    real: np.ndarray
    generated: np.ndarray


def scores_of_sequences(real: Sequence[np.ndarray], generated: Sequence[np.ndarray]) -> dict[str, float]:
    """Scores of sequences that are generated for real ones, in the same order.

    `frechet_change_score`: how far their changes from step to step have come from noise (0) to real changes (1), by a
    Frechet distance. `frechet_mean_score`: the same of means over time; a frozen frame does well on it. `diversity`:
    relative to that of the real sequences. A half of the real sequences, drawn in the same way at every call, is
    compared with the other half, with what was generated for that half, and with noise, so that all distances are of as
    many sequences. Sequences of fewer than three steps are left out. A score is nan where fewer than four are left, or
    where half of all steps change nothing.
    """
    pairs = [(r, g) for r, g in zip(real, generated, strict=True) if len(r) > 2]
    if len(pairs) < 4:
        return {"frechet_change_score": float("nan")}
    real, generated = as_clips([r for r, _ in pairs]), [g for _, g in pairs]
    try:
        space = Space.fit(real)
    except ValueError:  # half of the steps change nothing, so there are no changes to measure
        return {"frechet_change_score": float("nan")}
    random = np.random.default_rng(0)
    order = random.permutation(len(real)).tolist()
    half, rest = order[: len(real) // 2], order[len(real) // 2 : len(real) // 2 * 2]
    reference, other = [real[i] for i in half], [real[i] for i in rest]
    generated_for_other, garbage = [generated[i] for i in rest], noise(other, random)
    scores = {}
    for name, distance in (("frechet_change_score", frechet_time), ("frechet_mean_score", frechet_pooled)):
        floor, ceiling = distance(reference, other, space), distance(reference, garbage, space)
        if floor < ceiling:
            scores[name] = share_of_the_way(distance(reference, generated_for_other, space), floor, ceiling)
        else:  # with very few sequences noise may be nearer than the other half
            scores[name] = float("nan")
    return {**scores, "diversity": diversity_ratio(generated, real)}


def scores_of_texts(real: Sequence[Sequence[str]], generated: Sequence[Sequence[str]]) -> dict[str, float]:
    """`distinct`: the share of different texts. `bleu_4`: against all real texts, of at most `MAX_TEXTS`, evenly
    spaced.
    """
    every = -(-len(generated) // MAX_TEXTS)
    references = [list(text) for text in real[::every]]
    candidates = [list(text) for text in generated[::every]]
    return {
        "bleu_4": bleu(candidates, [references] * len(candidates))[-1] if len(generated) > 1 else float("nan"),
        "distinct": len(set(map(tuple, generated))) / max(1, len(generated)),
    }
