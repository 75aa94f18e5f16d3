"""Which rows train, validate and test.

Comes in: rows of a manifest. Goes out: the same rows, in the same order, with `split` set.
Knows nothing about files, tensors or training; whether a split that came with the data leaks is seen in leaks.py.

A group is what must not stand on both sides: a person, a recording, a film, a match. The clips of one group share
people, clothes and background, so a random split of grouped clips measures memory: 94.8 % random against 60 % on the
official split of UCF101 has been reported.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pipeline.data.rows import Row, Split

How = Literal["manifest", "group", "folds", "random", "random_ignoring_groups"]
Unit = list[int]  # places of rows that go to the same side together


class LeakError(ValueError):
    """A split was asked for that would put one group on both sides."""


def apply_split(
    rows: Sequence[Row],
    how: How,
    *,
    fraction_test: float = 0.2,
    fraction_validation: float = 0.0,
    folds: int = 5,
    fold: int = 0,
    seed: int = 0,
) -> tuple[Row, ...]:
    """The rows with their split, in the same order.

    `manifest` keeps the splits that the rows bring, `group` and `folds` hold whole groups out for the test, `random`
    does so by rows and refuses rows of shared groups, `random_ignoring_groups` does not refuse. All but `manifest`
    forget the splits that the rows bring. Where no row is for validation, `fraction_validation` of the training rows is
    cut off for it (0: none). Raises ValueError, LeakError for a random split that leaks.
    """
    if how == "manifest":
        rows = _with_own_splits(rows)
    elif how == "group":
        rows = split_by_group(rows, fraction_test, seed)
    elif how == "folds":
        rows = folds_by_group(rows, folds, fold, seed)
    elif how == "random":
        rows = split_random(rows, fraction_test, seed)
    elif how == "random_ignoring_groups":
        rows = split_random_ignoring_groups(rows, fraction_test, seed)
    else:
        raise ValueError(f"The split {how!r} is unknown. Known are {', '.join(How.__args__)}. Use one of them.")
    if fraction_validation and not any(row.split == "val" for row in rows):
        rows = validation_from_training(rows, fraction_validation, seed)
    return tuple(rows)


def validation_from_training(rows: Sequence[Row], fraction: float, seed: int) -> tuple[Row, ...]:
    """Turn about `fraction` of the training rows into validation rows; test rows are never touched.

    Whole groups go where groups are known (a row without one goes alone), else rows, in proportion to the labels. Every
    class stays in training. Depends on the seed and on what the rows are, not on their order.
    """
    training = [place for place, row in enumerate(rows) if row.split == "train"]
    if not training:
        raise ValueError("No row has the split 'train'. Validation rows are cut from training. Split the rows first.")
    if any(row.split == "val" for row in rows):
        count = sum(row.split == "val" for row in rows)
        raise ValueError(
            f"{count:,} rows are for validation already. None would be. Leave the validation fraction out."
        )
    return _moved(rows, _cut(rows, training, fraction, seed, "validation"), "val")


def split_by_group(rows: Sequence[Row], fraction_test: float, seed: int) -> tuple[Row, ...]:
    """Whole groups for the test, about `fraction_test` of every label; the rest trains, and every class is in it."""
    _require_groups(rows)
    everything = range(len(rows))
    return _moved(_all_train(rows), _cut(rows, everything, fraction_test, seed, "test"), "test")


def folds_by_group(rows: Sequence[Row], folds: int, fold: int, seed: int = 0) -> tuple[Row, ...]:
    """Fold `fold` of `folds` (0, 1, ...) is the test, the others train; every group stands in exactly one fold.

    Greedy: the largest group first, each into the fold that has least of its labels; the seed decides between equals.
    """
    _require_groups(rows)
    units = _units(rows, range(len(rows)), seed)
    if not 2 <= folds <= len(units):
        few = f"{folds} folds of {len(units)} groups are asked for"
        raise ValueError(f"{few}. A fold holds at least one group, and there are two folds or more. Change the number.")
    if not 0 <= fold < folds:
        raise ValueError(
            f"Fold {fold} of {folds} is asked for. Folds are counted 0 to {folds - 1}. Choose one of these."
        )
    total = Counter(row.label for row in rows)
    held: list[Counter[str | None]] = [Counter() for _ in range(folds)]
    members: list[Unit] = [[] for _ in range(folds)]
    for unit in sorted(units, key=len, reverse=True):
        labels = Counter(rows[place].label for place in unit)

        def crowding(number: int, labels: Counter[str | None] = labels, size: int = len(unit)) -> float:
            same = sum(n * (2 * held[number][label] + n) / total[label] for label, n in labels.items())
            return same + size * (2 * len(members[number]) + size) / len(rows)

        chosen = min(range(folds), key=crowding)
        held[chosen].update(labels)
        members[chosen].extend(unit)
    return _moved(_all_train(rows), members[fold], "test")


def split_random(rows: Sequence[Row], fraction_test: float, seed: int) -> tuple[Row, ...]:
    """Rows drawn for the test in proportion to the labels. Raises LeakError where rows share a group."""
    sizes = Counter(row.group for row in rows if row.group is not None)
    if sizes and max(sizes.values()) > 1:
        raise LeakError(_leak(split_random_ignoring_groups(rows, fraction_test, seed), len(sizes)))
    return split_random_ignoring_groups(rows, fraction_test, seed)


def split_random_ignoring_groups(rows: Sequence[Row], fraction_test: float, seed: int) -> tuple[Row, ...]:
    """`split_random` forced by name: clips of one group may stand on both sides, and the test then says too much."""
    alone = [replace(row, group=None) for row in rows]
    return _moved(_all_train(rows), _cut(alone, range(len(rows)), fraction_test, seed, "test"), "test")


def _leak(rows: Sequence[Row], num_groups: int) -> str:
    """What a random split would do to the groups, with an example."""
    sides: dict[str, Counter[str | None]] = {}
    for row in rows:
        if row.group is not None:
            sides.setdefault(row.group, Counter())[row.split] += 1
    both = sorted(group for group, count in sides.items() if len(count) > 1)
    counts = f"put {len(both):,} of {num_groups:,} groups on both sides"
    if both:
        one = sides[both[0]]
        counts += f" (e.g. {both[0]!r}: {one['train']} rows in train, {one['test']} in test)"
    return (
        f"A random split of these {len(rows):,} rows would {counts}. Clips of one group share people and background: "
        "the test would measure memory. Split by 'group' or 'folds', use 'manifest' if that has an official split, or "
        "force the leak by the name 'random_ignoring_groups'."
    )


def _with_own_splits(rows: Sequence[Row]) -> Sequence[Row]:
    missing = [row.path for row in rows if row.split is None]
    if missing:
        which = (
            "No row has a split"
            if len(missing) == len(rows)
            else f"{len(missing):,} of {len(rows):,} rows have no split"
        )
        grouped = any(row.group is not None for row in rows)
        raise ValueError(
            f"{which} (e.g. {missing[0]!r}). With the split 'manifest' every row says train, val or test. "
            f"Write that into the manifest, or split by {'group' if grouped else 'random'!r}."
        )
    return rows


def _require_groups(rows: Sequence[Row]) -> None:
    missing = [row.path for row in rows if row.group is None]
    if missing:
        which = f"{len(missing):,} of {len(rows):,} rows have no group (e.g. {missing[0]!r})"
        raise ValueError(f"{which}. A split by group needs one in every row. Add them, or use the split 'random'.")


def _units(rows: Sequence[Row], places: Iterable[int], seed: int) -> list[Unit]:
    """Rows that stay together, shuffled; the same for the same rows in any order."""
    together: dict[tuple[bool, str], Unit] = {}
    for place in places:
        group = rows[place].group
        together.setdefault((group is None, rows[place].path if group is None else group), []).append(place)
    keys = sorted(together)
    random.Random(seed).shuffle(keys)
    return [together[key] for key in keys]


def _cut(rows: Sequence[Row], places: Sequence[int], fraction: float, seed: int, part: str) -> list[int]:
    """Places of whole units that hold about `fraction` of every label, and never the last unit of a label.

    First every unit, in random order, that brings the counts of its labels nearer to the fraction; then, while the
    total is short (many small classes), the units that overshoot their labels least.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The {part} fraction is {fraction}. It would lie between 0 and 1. Write something like 0.2.")
    units = _units(rows, places, seed)
    labels = [Counter(rows[place].label for place in unit) for unit in units]
    total = sum(labels, Counter())
    taken: Counter[str | None] = Counter()
    chosen: list[int] = []

    def overshoot(number: int) -> float:
        return sum(
            n * (2 * (taken[label] - fraction * total[label]) + n) / total[label] for label, n in labels[number].items()
        )

    def may_leave(number: int) -> bool:
        return all(taken[label] + n < total[label] for label, n in labels[number].items())

    def take(number: int) -> None:
        taken.update(labels[number])
        chosen.extend(units[number])

    rest = []
    for number in range(len(units)):
        if overshoot(number) < 0 and may_leave(number):
            take(number)
        else:
            rest.append((overshoot(number), number))
    heapq.heapify(rest)
    while rest:
        _, number = heapq.heappop(rest)
        now = overshoot(number)
        if rest and now > rest[0][0]:
            heapq.heappush(rest, (now, number))  # it was worth more before others were taken
        elif may_leave(number) and (not chosen or len(chosen) + len(units[number]) / 2 < fraction * len(places)):
            take(number)
    if not chosen:
        raise ValueError(
            f"No {part} rows can be cut from {len(places):,} rows in {len(units):,} groups: each holds all the rows "
            "of some class. Every class stays in training. Record more groups a class, or name the splits yourself."
        )
    return chosen


def _all_train(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, split="train") for row in rows]


def _moved(rows: Sequence[Row], places: Iterable[int], split: Split) -> tuple[Row, ...]:
    moved = list(rows)
    for place in places:
        moved[place] = replace(moved[place], split=split)
    return tuple(moved)
