"""What a head that makes sequences says of itself, by nothing but what it reads. An independent network judges more strictly, see
`make show P=gan-frames`.

In: made and real sequences (T, K), or texts as words. Out: scores by name. Knows nothing of who made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.metrics.captions import bleu
from pipeline.metrics.controls import noise
from pipeline.metrics.generation import Space, as_clips, diversity_ratio, frechet_pooled, frechet_time, share_of_the_way

MOST_TEXTS = 256
"""Each is compared with each: thousands would take hours."""


class Evidence(NamedTuple):
    """One real sequence and one made with its class and length, both (T, K) of what metrics read, or ids (T,) of words."""

    real: np.ndarray
    made: np.ndarray


def scores_of_sequences(real: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> dict[str, float]:
    """`closeness` says how far their changes from step to step have come from noise (0) to real ones (1), by a Frechet distance;
    `closeness_pooled` the same of means over time, which a frozen picture does well on; `diversity` is relative to the real ones'.
    One half of the real ones (drawn, always the same) stands against the other half, what was made for it, and noise: distances of as many
    sequences. Those of fewer than three steps do not count; nan where fewer than four are left, or half of all steps change nothing.
    """
    pairs = [(r, m) for r, m in zip(real, made, strict=True) if len(r) > 2]
    if len(pairs) < 4:
        return {"closeness": float("nan")}
    real, made = [r for r, _ in pairs], [m for _, m in pairs]
    real = as_clips(real)
    try:
        space = Space.fit(real)
    except ValueError:  # most of it stands still: no changes to measure
        return {"closeness": float("nan")}
    random = np.random.default_rng(0)
    order = random.permutation(len(real)).tolist()
    half, rest = order[: len(real) // 2], order[len(real) // 2 : len(real) // 2 * 2]
    one, two, ours = [real[i] for i in half], [real[i] for i in rest], [made[i] for i in rest]
    garbage = noise(two, random)
    found = {}
    for name, distance in (("closeness", frechet_time), ("closeness_pooled", frechet_pooled)):
        floor, ceiling = distance(one, two, space), distance(one, garbage, space)
        known = floor < ceiling  # with very few sequences noise may seem nearer than the other half
        found[name] = share_of_the_way(distance(one, ours, space), floor, ceiling) if known else float("nan")
    return {**found, "diversity": diversity_ratio(made, real)}


def scores_of_texts(real: Sequence[Sequence[str]], made: Sequence[Sequence[str]]) -> dict[str, float]:
    """The share of different ones, and BLEU against real ones, at most `MOST_TEXTS` of them, evenly spaced."""
    every = -(-len(made) // MOST_TEXTS)
    true = [list(one) for one in real[::every]]
    told = [list(one) for one in made[::every]]
    return {
        "bleu_4": bleu(told, [true] * len(told))[-1] if len(made) > 1 else float("nan"),
        "distinct": len(set(map(tuple, made))) / max(1, len(made)),
    }
