"""Early recognition: how soon a prediction is correct, and how soon it no longer changes.

In: for each clip its label, and logits (T, C): row t is the prediction after steps 0..t. Where only the most probable
class counts, the classes (T,) do as well. Lists, arrays or CPU tensors; clips differ in T. Out: numbers. It knows
nothing of models or seconds: divide steps by the rate to get seconds. Clips without a step have no prediction and are
left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def early_curve(
    prefixes: Sequence[Any], labels: Sequence[int], fractions: Sequence[float] = FRACTIONS
) -> list[tuple[float, float]]:
    """(fraction, accuracy after ceil(fraction * T) steps) for each fraction in (0, 1] (Ryoo 2011, ICCV).

    prefixes: logits (T, C) or classes (T,) of each clip.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"{fraction} is no part of a clip. Give fractions above 0 and up to 1.")
    clips = [(_classes(prefix), label) for prefix, label in _clips(prefixes, labels)]
    curve = []
    for fraction in fractions:
        # 1e-9 is subtracted because 0.55 * 100 is 55.00000000000001, and means 55
        correct = [
            int(predicted[math.ceil(fraction * len(predicted) - 1e-9) - 1]) == label for predicted, label in clips
        ]
        curve.append((float(fraction), _mean(correct)))
    return curve


def decision_step(prefix: Any) -> int:
    """Logits (T, C) or classes (T,), T >= 1 -> after how many steps the prediction no longer changes, 1..T."""
    predicted = _classes(torch.as_tensor(prefix))
    changes = (predicted != predicted[-1]).nonzero()
    return int(changes[-1]) + 2 if len(changes) else 1


def mean_time_to_decision(prefixes: Sequence[Any], labels: Sequence[int]) -> dict[str, float | int]:
    """When a prediction becomes final: from which step on it no longer changes, correct or not.

    prefixes: logits (T, C) or classes (T,) of each clip.

    `decision_share` and `decision_steps`: means over all clips of that step / T, and of that step. `right_share` and
    `right_steps`: the same over the clips whose final prediction is correct (nan if there is none). `right`: the number
    of these clips. `count`: the number of all clips.

    The step is known only after the end of the clip (compare the minimum prediction length of Xing et al. 2009, IJCAI).
    `decide_at` is a rule that can be used while the clip still runs.
    """
    clips = [(_classes(prefix), label) for prefix, label in _clips(prefixes, labels)]
    rows = [(decision_step(classes), len(classes), int(classes[-1]) == label) for classes, label in clips]
    correct = [row for row in rows if row[2]]
    return {
        "decision_share": _mean([steps / length for steps, length, _ in rows]),
        "decision_steps": _mean([steps for steps, _, _ in rows]),
        "right_share": _mean([steps / length for steps, length, _ in correct]),
        "right_steps": _mean([steps for steps, _, _ in correct]),
        "right": len(correct),
        "count": len(rows),
    }


def decide_at(
    prefix_logits: Sequence[Any], labels: Sequence[int], confidence: float, temperature: float = 1.0
) -> dict[str, float | int]:
    """Stop at the first step whose highest probability reaches `confidence`, else at the last step.

    The probabilities are softmax(logits / temperature). `accuracy`: of the predictions at the stops. `share` and
    `steps`: means of the part of the clip and of the steps up to the stop. `decided`: the share of clips that reach the
    confidence. `count`: the number of clips.
    """
    accuracy, shares, steps, decided = [], [], [], []
    for logits, label in _clips(prefix_logits, labels):
        confident = ((logits / temperature).softmax(-1).amax(-1) >= confidence).nonzero()
        stop = int(confident[0]) if len(confident) else len(logits) - 1
        accuracy.append(int(logits[stop].argmax()) == label)
        shares.append((stop + 1) / len(logits))
        steps.append(stop + 1)
        decided.append(len(confident) > 0)
    return {
        "accuracy": _mean(accuracy),
        "share": _mean(shares),
        "steps": _mean(steps),
        "decided": _mean(decided),
        "count": len(steps),
    }


def _classes(prefix: Tensor) -> Tensor:
    """Logits (T, C) or classes (T,) -> classes (T,)."""
    return prefix if prefix.ndim == 1 else prefix.argmax(-1)


def _clips(prefixes: Sequence[Any], labels: Sequence[int]) -> list[tuple[Tensor, int]]:
    if len(prefixes) != len(labels):
        raise ValueError(f"There are {len(prefixes)} clips and {len(labels)} labels. Give one label a clip.")
    clips = [torch.as_tensor(prefix, dtype=torch.float64).detach() for prefix in prefixes]
    return [(prefix, int(label)) for prefix, label in zip(clips, labels, strict=True) if len(prefix)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
