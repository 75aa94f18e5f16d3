"""How soon an answer is right and how soon it stays, from the answers after each step. Pure functions.

In: of each clip, logits (T, C): row t is the answer after steps 0..t; and its label. Lists, arrays or CPU tensors; clips differ in T.
Out: numbers. Knows nothing of models or seconds: divide steps by the rate. Clips without a step have no answer and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def early_curve(
    prefix_logits: Sequence[Any], labels: Sequence[int], fractions: Sequence[float] = TENTHS
) -> list[tuple[float, float]]:
    """(fraction, accuracy of the answer after ceil(fraction * T) steps) for each fraction in (0, 1] (Ryoo 2011, ICCV)."""
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"A fraction of {fraction} cannot be seen of a clip. Give fractions above 0 and up to 1.")
    clips = _clips(prefix_logits, labels)
    answers = [(logits.argmax(-1), label) for logits, label in clips]
    curve = []
    for fraction in fractions:
        # less a hair: 0.55 * 100 is 55.00000000000001, and means 55
        right = [int(said[math.ceil(fraction * len(said) - 1e-9) - 1]) == label for said, label in answers]
        curve.append((float(fraction), _mean(right)))
    return curve


def settled_after(logits: Any) -> int:
    """Logits (T, C), T >= 1 -> the number of steps seen when the answer became the final one for good, 1..T."""
    said = torch.as_tensor(logits).argmax(-1)
    other = (said != said[-1]).nonzero()
    return int(other[-1]) + 2 if len(other) else 1


def mean_time_to_decision(prefix_logits: Sequence[Any], labels: Sequence[int]) -> dict[str, float | int]:
    """When the answer settles: from which step on it is the final answer and never changes again, right or wrong.

    `settled_share` and `settled_steps`: means over all clips of steps seen / T and of steps seen. `right_share` and `right_steps`:
    the same over the clips whose final answer is right (nan if there is none); `right`: how many of `count` those are.
    It is known only afterwards (compare the minimum prediction length of Xing et al. 2009, IJCAI); a rule that can be used while
    watching is `decide_at`.
    """
    clips = _clips(prefix_logits, labels)
    rows = [(settled_after(logits), len(logits), int(logits[-1].argmax()) == label) for logits, label in clips]
    right = [row for row in rows if row[2]]
    return {
        "settled_share": _mean([steps / length for steps, length, _ in rows]),
        "settled_steps": _mean([steps for steps, _, _ in rows]),
        "right_share": _mean([steps / length for steps, length, _ in right]),
        "right_steps": _mean([steps for steps, _, _ in right]),
        "right": len(right),
        "count": len(rows),
    }


def decide_at(
    prefix_logits: Sequence[Any], labels: Sequence[int], confidence: float, temperature: float = 1.0
) -> dict[str, float | int]:
    """Stop at the first step whose highest probability (softmax of logits / temperature) reaches `confidence`, else at the end.

    `accuracy` of the answers so given, `share` and `steps`: means of the part of the clip and of the steps seen until then,
    `decided`: the share of clips that reached the confidence at all.
    """
    accuracy, shares, steps, decided = [], [], [], []
    for logits, label in _clips(prefix_logits, labels):
        sure = ((logits / temperature).softmax(-1).amax(-1) >= confidence).nonzero()
        stop = int(sure[0]) if len(sure) else len(logits) - 1
        accuracy.append(int(logits[stop].argmax()) == label)
        shares.append((stop + 1) / len(logits))
        steps.append(stop + 1)
        decided.append(len(sure) > 0)
    return {
        "accuracy": _mean(accuracy),
        "share": _mean(shares),
        "steps": _mean(steps),
        "decided": _mean(decided),
        "count": len(steps),
    }


def _clips(prefix_logits: Sequence[Any], labels: Sequence[int]) -> list[tuple[Tensor, int]]:
    if len(prefix_logits) != len(labels):
        raise ValueError(f"There are {len(prefix_logits)} clips and {len(labels)} labels. Give one label a clip.")
    clips = [torch.as_tensor(logits, dtype=torch.float64).detach() for logits in prefix_logits]
    return [(logits, int(label)) for logits, label in zip(clips, labels, strict=True) if len(logits)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
