"""The verdict in words: what the table of a classifier allows to say, by rule.

In: the rows of a report with the results of each test item, and the items. Out: a `Verdict` for each head, as plain
values and as sentences. It knows nothing of models or of how they were trained.

The rules. Two models are compared item by item: the mean difference of right answers, with an interval by group
(`metrics.bootstrap`). It is 'better' or 'worse' only where the interval leaves out 0, else 'no different'. Order
matters only if the steps forward beat the shuffled steps and the best rival that cannot see the order. Below
MIN_ITEMS test items or MIN_GROUPS groups nothing is said but 'too few to tell'.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.metrics.bootstrap import ratio_interval, wilson_interval

MIN_ITEMS = 30
MIN_GROUPS = 5
MIN_CLASS_ITEMS = 5
"""Fewer test items of a class say nothing about the class."""
MAX_WRONG = 10
"""How many wrong items the text names."""
MAJORITY = "majority class"
CHANCE = "chance"

Word = Literal["better", "worse", "no different", "too few to tell", "not measured"]
OrderWord = Literal["matters", "does not matter", "too few to tell", "not measured"]
Row = Mapping[str, Any]
"""A row of the table. A row with the key `correct` has one yes or no for each test item."""


@dataclass(frozen=True)
class TestItems:
    """What was tested, in the order of the results: paths, groups (None: not known) and true classes.

    A video that is cut into windows is several items with one path.
    """

    paths: Sequence[str]
    groups: Sequence[str | None]
    labels: Sequence[str]

    __test__ = False  # no class of tests

    @property
    def units(self) -> list[str]:
        """The group of each item; an item without a group is a group of its own, with all windows of its video."""
        return [
            f"path {path}" if group is None else f"group {group}"
            for path, group in zip(self.paths, self.groups, strict=True)
        ]

    @property
    def count(self) -> int:
        """The number of different videos."""
        return len(set(self.paths))


class Comparison(NamedTuple):
    """A model against another one. difference: of the accuracies, positive where the model is better. low, high: its 95
    % interval by group.
    """

    other: str
    accuracy: float
    difference: float
    low: float
    high: float
    word: Word


@dataclass(frozen=True)
class Verdict:
    """What can be said about one head.

    rival: against the best rival; None where there is none. shuffled: against the shuffled steps, None where they were
    not measured. small_classes: classes with few test items. confused: the two classes that are confused most often,
    and how often. wrong: (path, true class, predicted class) of each wrong item.
    """

    model: str
    accuracy: float
    num_items: int
    num_groups: int
    has_groups: bool
    rival: Comparison | None
    shuffled: Comparison | None
    order: OrderWord
    small_classes: Mapping[str, int]
    confused: tuple[str, str, int] | None
    wrong: Sequence[tuple[str, str, str]]
    next_step: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        comparisons = {
            name: None if value is None else value._asdict()
            for name, value in (("rival", self.rival), ("shuffled", self.shuffled))
        }
        return {**asdict(self), **comparisons, "wrong": [list(item) for item in self.wrong]}


def compare(
    name: str, correct: Sequence[bool], other: str, other_correct: Sequence[bool], items: TestItems
) -> Comparison:
    """Compare two models item by item. name: of the first one, for the message of the assertion."""
    assert len(correct) == len(other_correct) == len(items.paths), f"{name} and {other} have other items"
    difference = np.asarray(correct, dtype=float) - np.asarray(other_correct, dtype=float)
    low, high = ratio_interval(difference, None, items.units, is_share=False)
    if math.isnan(low):  # every draw is the same, and the interval would be a point
        mean = float(difference.mean())
        least, most = wilson_interval(abs(mean), len(set(items.units)))
        low, high = (-most, most) if mean == 0 else (least, most) if mean > 0 else (-most, -least)
    word: Word = "better" if low > 0 else "worse" if high < 0 else "no different"
    if is_too_few(items):
        word = "too few to tell"
    return Comparison(other, float(np.mean(other_correct)), float(difference.mean()), low, high, word)


def is_too_few(items: TestItems) -> bool:
    """Whether there are too few test items or groups to compare models."""
    return items.count < MIN_ITEMS or len(set(items.units)) < MIN_GROUPS


def judge(rows: Sequence[Row], items: TestItems, classes: Sequence[str], majority: str | None) -> Verdict:
    """The verdict on one head.

    rows: those of the head, that of the model first; they have the keys model, order, correct and predicted, and
    is_order_blind=False where a rival sees the order. classes: the names of the predicted numbers. majority: the most
    frequent class of the training rows, which is a rival too.
    """
    model = next(row for row in rows if row["order"] == "forward")
    rivals = {row["model"]: row["correct"] for row in rows if row["model"] != model["model"]}
    blind = [row["model"] for row in rows if row["model"] in rivals and row.get("is_order_blind", True)]
    if majority is not None:
        rivals[MAJORITY] = [label == majority for label in items.labels]

    def against(other: str | None, correct: Sequence[bool]) -> Comparison | None:
        return None if other is None else compare(model["model"], model["correct"], other, correct, items)

    def best(names: Iterable[str]) -> Comparison | None:
        name = max(names, key=lambda name: float(np.mean(rivals[name])), default=None)
        return against(name, rivals.get(name or "", ()))

    shuffled = [r["correct"] for r in rows if r["model"] == model["model"] and r["order"] == "shuffled"]
    rival, mixed = best(rivals), against("steps shuffled", shuffled[0]) if shuffled else None
    names = [classes[int(number)] for number in model["predicted"]]
    wrong = [triple for triple in zip(items.paths, items.labels, names, strict=True) if triple[1] != triple[2]]
    counts = dict.fromkeys(classes, 0) | _items_by_class(items)
    pairs = Counter((min(label, answer), max(label, answer)) for _, label, answer in wrong).most_common(1)
    confused = (*pairs[0][0], pairs[0][1]) if pairs else None
    has_groups = any(group is not None for group in items.groups)
    return Verdict(
        model=model["model"],
        accuracy=float(np.mean(model["correct"])),
        num_items=items.count,
        num_groups=len(set(items.units)),
        has_groups=has_groups,
        rival=rival,
        shuffled=mixed,
        order=_order(best([*blind, MAJORITY] if majority else blind) if blind else None, mixed, items),
        small_classes={label: n for label, n in counts.items() if n < MIN_CLASS_ITEMS},
        confused=confused,
        wrong=wrong,
        next_step=_next_step(items, has_groups, rival, confused),
    )


def floors(items: TestItems, classes: Sequence[str], majority: str | None) -> list[dict[str, Any]]:
    """The lines of the table that every classifier must beat: the majority class, and chance.

    The majority class is the most frequent one of the training rows. Chance draws each class equally often.
    """
    occurring = len(set(items.labels))
    lines = []
    if majority is not None and occurring:
        accuracy = float(np.mean([label == majority for label in items.labels]))
        mean = float(majority in items.labels) / occurring
        lines.append({"model": MAJORITY, "accuracy": accuracy, "mean_class_accuracy": mean})
    lines.append({"model": CHANCE, "accuracy": 1 / len(classes), "mean_class_accuracy": 1 / len(classes)})
    return [{**line, "order": "-", "count": len(items.labels)} for line in lines]


def _items_by_class(items: TestItems) -> dict[str, int]:
    """The number of different videos of each class that occurs."""
    return dict(Counter(label for _, label in sorted(set(zip(items.paths, items.labels, strict=True)))))


def _order(blind: Comparison | None, shuffled: Comparison | None, items: TestItems) -> OrderWord:
    """Whether the order of the steps matters. blind: against the best rival that cannot see the order."""
    if shuffled is None or blind is None:
        return "not measured"
    if is_too_few(items):
        return "too few to tell"
    return "matters" if shuffled.word == blind.word == "better" else "does not matter"


def _next_step(
    items: TestItems, has_groups: bool, rival: Comparison | None, confused: tuple[str, str, int] | None
) -> str:
    """The one thing to do next."""
    if is_too_few(items):
        return (
            f"more videos of more groups (persons, scenes): at least {MIN_ITEMS} test items of {MIN_GROUPS} groups "
            "are needed to tell"
        )
    if rival is not None and rival.word == "worse":
        if rival.other == MAJORITY:
            return "look at the data: the most frequent class alone is better than the model"
        return f"use the rival: it lies in baselines/{rival.other.replace(' ', '_')} of the run"
    if not has_groups:
        return "give groups (persons, scenes) in a manifest: without them the accuracy may be too good"
    if rival is not None and rival.word == "no different":
        return (
            "another sense: poses instead of frames (encoder.kind=series), a higher clock.rate or larger frames "
            "(encoder.size); if nothing beats the rival, use the rival"
        )
    if confused:
        return f"more training videos of {' and '.join(confused[:2])}, of new groups"
    return "test on new groups: unreel evaluate RUN data.path=OTHER"


def sentences(verdict: Verdict, split: str) -> list[str]:
    """The verdict as lines of text. split: how the test part was chosen."""
    v = verdict
    groups = (
        f"{v.num_groups} groups"
        if v.has_groups
        else "no groups are known: each counts as its own, and its person or scene may be in training too"
    )
    lines = [f"tested on {v.num_items} test items; {groups}; split: {split}"]
    if v.num_items < MIN_ITEMS or v.num_groups < MIN_GROUPS:
        lines.append(
            f"too few to tell whether a difference is chance: at least {MIN_ITEMS} items of {MIN_GROUPS} groups are "
            "needed"
        )
    if v.rival is None:
        lines.append("no rival was measured, so nothing says whether a simpler model is as good")
    else:
        lines.append(f"{v.model} against the best rival, {v.rival.other}: {_said(v.accuracy, v.rival)}")
        if v.rival.other == MAJORITY:
            lines.append("no other rival was trained (evaluation.baselines)")
    lines.append(_order_sentence(v))
    if v.small_classes:
        named = [f"{label} ({count})" for label, count in v.small_classes.items()]
        lines.append(f"fewer than {MIN_CLASS_ITEMS} test items, so little is known about: {_bounded(named)}")
    if v.confused:
        first, second, count = v.confused
        lines.append(f"most confused: {first} and {second}, {count} of {len(v.wrong)} mistakes")
    if v.wrong:
        named = [f"{path} ({label}, predicted {answer})" for path, label, answer in v.wrong]
        lines.append(f"wrong: {_bounded(named)}")
    return [*lines, f"next: {v.next_step}"]


def _said(accuracy: float, comparison: Comparison) -> str:
    interval = "no interval"
    if comparison.low == comparison.low:  # not nan
        interval = f"95 % by group {comparison.low:+.3f} to {comparison.high:+.3f}"
    return (
        f"{accuracy:.3f} and {comparison.accuracy:.3f}, difference {comparison.difference:+.3f} ({interval}): "
        f"{comparison.word}"
    )


def _order_sentence(v: Verdict) -> str:
    if v.order == "not measured":
        return "order of the steps: not measured (evaluation.order_controls and evaluation.baselines measure it)"
    assert v.shuffled is not None, "an order that was judged was measured"
    return f"order of the steps: {v.order}; {v.model} forward and shuffled: {_said(v.accuracy, v.shuffled)}"


def _bounded(names: Sequence[str]) -> str:
    more = f", and {len(names) - MAX_WRONG} more in report.json" if len(names) > MAX_WRONG else ""
    return ", ".join(names[:MAX_WRONG]) + more
