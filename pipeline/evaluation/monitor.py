"""The metric that chooses the best epoch.

In: the heads of a model, and the setting training.monitor. Out: a `Monitor`, which turns the metrics of an epoch into
one score. Knows nothing of how metrics are measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.vocabulary import did_you_mean
from pipeline.models.head import Head

LOWER_IS_BETTER = ("perplexity", "nats", "nll", "ece", "mse", "mae", "pinball", "bits_per_character", "error_rate")
"""Endings of the metrics of which less is better, also before `_unscaled`, `_first_step` and `_last_step`."""
NO_QUALITY = ("count", "words", "unknown_", "too_short", "repeat_last_", "below_", "same_as_now_", "most_frequent_")
"""Beginnings of numbers that say nothing about how good a model is."""


@dataclass(frozen=True)
class Monitor:
    """One metric of one head, and its direction."""

    head: str
    metric: str
    is_lower_better: bool = False

    def __str__(self) -> str:
        return f"{self.head}/{self.metric} ({'lower' if self.is_lower_better else 'higher'} is better)"

    def score(self, metrics: Mapping[str, Mapping[str, Any]]) -> float:
        """The score of an epoch, from the metrics of each head: higher is better, and -inf for nan, which loses.

        Raises ValueError where the head has no such number.
        """
        values = metrics[self.head]
        names = [name for name, value in values.items() if _is_quality(name, value)]
        if self.metric not in names:
            raise ValueError(
                f"training.monitor names '{self.metric}', which is no metric of the head '{self.head}'."
                f"{did_you_mean(self.metric, names)} Its metrics are: {', '.join(names)}."
            )
        value = float(values[self.metric])
        if math.isnan(value):
            return -math.inf
        return -value if self.is_lower_better else value


def monitor_of(heads: Mapping[str, Head], setting: str | None) -> Monitor:
    """The metric of a setting "head/metric"; None: the metric that the first head monitors, of which higher is better.

    Raises ValueError for a head that the model does not have.
    """
    if setting is None:
        name, head = next(iter(heads.items()))
        return Monitor(name, head.monitor)
    name, _, metric = setting.partition("/")
    if name not in heads:
        raise ValueError(
            f"training.monitor = '{setting}' names the head '{name}', and the model has: {', '.join(heads)}. Write the "
            "name of a head, a slash and one of its metrics."
        )
    return Monitor(name, metric, _is_lower_better(metric))


def _is_lower_better(metric: str) -> bool:
    for suffix in ("_unscaled", "_first_step", "_last_step"):
        metric = metric.removesuffix(suffix)
    return metric.endswith(LOWER_IS_BETTER) or metric in ("substitutions", "deletions", "insertions", "decision_share")


def _is_quality(name: str, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith(NO_QUALITY)
