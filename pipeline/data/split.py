"""Splits: which rows are for training, validation and test.

In: rows of a manifest. Out: the same rows in the same order, with `split` set. Knows nothing of files, tensors or
training. leaks.py checks whether a split that came with a dataset leaks.

A group is what must not be in two splits: a person, a recording, a film, a match. The clips of one group share people,
clothes and background, so a random split of such clips measures memory: 94.8 % on a random split of UCF101 against 60 %
on the official split has been reported.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pipeline.data.manifest_rows import Row, Split

SplitMethod = Literal["manifest", "group", "folds", "random", "random_ignoring_groups"]
Unit = list[int]
"""Indices of rows that must have the same split."""


class LeakError(ValueError):
    """The requested split would put one group into two splits."""


def apply_split(
    rows: Sequence[Row],
    method: SplitMethod,
    *,
    test_share: float = 0.2,
    validation_share: float = 0.0,
    folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    copies: Sequence[Sequence[Row]] = (),
) -> tuple[Row, ...]:
    """The rows with their split, in the same order.

    Args:
        rows: rows of a manifest.
        method: `manifest` keeps the splits of the rows. All other methods ignore them. `group` and `folds` put whole
            groups into the test split. `random` draws single rows, and refuses rows that share a group;
            `random_ignoring_groups` accepts them.
        test_share: share of the rows for the test.
        validation_share: share of the training rows for validation, where no row is for validation yet; 0 for none.
        folds: number of folds.
        fold: the fold for the test, counted from 0.
        seed: of all random choices.
        copies: rows whose files have the same content. A split that is drawn keeps them together.

    Raises ValueError, and LeakError for a random split that leaks.
    """
    original = rows
    if method == "manifest":
        rows = join_copies(_with_own_splits(rows), copies)
    elif method == "group":
        _require_groups(rows)
        rows = split_by_group(join_copies(rows, copies), test_share, seed)
    elif method == "folds":
        _require_groups(rows)
        rows = folds_by_group(join_copies(rows, copies), folds, fold, seed)
    elif method in ("random", "random_ignoring_groups"):
        if method == "random":
            _refuse_shared_groups(rows, test_share, seed)
        drawn = _draw_units(join_copies([replace(row, group=None) for row in rows], copies), test_share, seed)
        rows = join_copies(_with_groups_of(original, drawn), copies)
    else:
        valid = ", ".join(SplitMethod.__args__)
        raise ValueError(f"The split {method!r} is not known. Use one of {valid}.")
    if validation_share and not any(row.split == "val" for row in rows):
        rows = validation_from_training(rows, validation_share, seed)
    return _with_groups_of(original, rows)


def join_copies(rows: Sequence[Row], copies: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows with one group for all rows that are connected by a group or by equal files, for drawing a split.

    Rows without copies keep their group, so their splits do not change.
    """
    joined: dict[tuple[bool, str], tuple[bool, str]] = {}

    def find(unit: tuple[bool, str]) -> tuple[bool, str]:
        while unit in joined:
            unit = joined[unit]
        return unit

    units = {row.path: _unit_of(row) for row in rows}
    touched: set[tuple[bool, str]] = set()
    for same in copies:
        roots = sorted({find(units[row.path]) for row in same if row.path in units})
        touched.update(roots)
        for root in roots[1:]:
            joined[root] = roots[0]
    names = {unit: f"{find(unit)[1]}" if not find(unit)[0] else f"copies of {find(unit)[1]}" for unit in touched}
    return [replace(row, group=names[unit]) if (unit := _unit_of(row)) in names else row for row in rows]


def _unit_of(row: Row) -> tuple[bool, str]:
    """What a row is drawn with: its group, or itself where it has none."""
    return (True, row.path) if row.group is None else (False, row.group)


def _with_groups_of(original: Sequence[Row], rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with the groups that they had before they were joined."""
    return tuple(replace(row, group=old.group) for old, row in zip(original, rows, strict=True))


def validation_from_training(rows: Sequence[Row], share: float, seed: int) -> tuple[Row, ...]:
    """Turn about `share` of the training rows into validation rows. Test rows never change.

    Whole groups are moved, and rows without a group one by one, in proportion to the labels. Every class stays in
    training. The result depends on the seed and on the rows, not on their order. Raises ValueError.
    """
    training = [index for index, row in enumerate(rows) if row.split == "train"]
    if not training:
        raise ValueError("No row has the split 'train'. Validation rows are taken from it. Split the rows first.")
    if any(row.split == "val" for row in rows):
        count = sum(row.split == "val" for row in rows)
        raise ValueError(f"{count:,} rows are already for validation. Leave the validation share out.")
    return _with_split(rows, _choose_units(rows, training, share, seed, "validation"), "val")


def split_by_group(rows: Sequence[Row], test_share: float, seed: int) -> tuple[Row, ...]:
    """Whole groups for the test, about `test_share` of every label. The rest is for training, and holds every class.

    Raises ValueError.
    """
    _require_groups(rows)
    return _with_split(_all_train(rows), _choose_units(rows, range(len(rows)), test_share, seed, "test"), "test")


def folds_by_group(rows: Sequence[Row], folds: int, fold: int, seed: int = 0) -> tuple[Row, ...]:
    """Fold `fold` of `folds` (counted from 0) is for the test, the others for training. A group is in exactly one fold.

    See `fold_numbers`. Raises ValueError.
    """
    if not 0 <= fold < folds:
        raise ValueError(
            f"Fold {fold} of {folds} is requested. Folds are counted from 0 to {folds - 1}. Choose one of these."
        )
    numbers = fold_numbers(rows, folds, seed)
    return _with_split(_all_train(rows), [index for index, number in enumerate(numbers) if number == fold], "test")


def fold_numbers(rows: Sequence[Row], folds: int, seed: int = 0) -> list[int]:
    """The fold of each row, counted from 0. A group is in exactly one fold.

    A greedy method: the largest group first, each into the fold that has the fewest rows of its labels. The seed
    decides between equal folds. Raises ValueError.
    """
    _require_groups(rows)
    units = _units(rows, range(len(rows)), seed)
    if not 2 <= folds <= len(units):
        raise ValueError(
            f"{folds} folds of {len(units)} groups are requested. There must be at least two folds, and each needs a "
            "group. "
            "Change the number of folds."
        )
    totals = Counter(row.label for row in rows)
    fold_counts: list[Counter[str | None]] = [Counter() for _ in range(folds)]
    sizes, numbers = [0] * folds, [0] * len(rows)
    for unit in sorted(units, key=len, reverse=True):
        labels = Counter(rows[index].label for index in unit)

        def cost(number: int, labels: Counter[str | None] = labels, size: int = len(unit)) -> float:
            by_label = sum(n * (2 * fold_counts[number][label] + n) / totals[label] for label, n in labels.items())
            return by_label + size * (2 * sizes[number] + size) / len(rows)

        chosen = min(range(folds), key=cost)
        fold_counts[chosen].update(labels)
        sizes[chosen] += len(unit)
        for index in unit:
            numbers[index] = chosen
    return numbers


def split_random(rows: Sequence[Row], test_share: float, seed: int) -> tuple[Row, ...]:
    """Rows drawn for the test in proportion to the labels. Raises LeakError where rows share a group."""
    _refuse_shared_groups(rows, test_share, seed)
    return split_random_ignoring_groups(rows, test_share, seed)


def _refuse_shared_groups(rows: Sequence[Row], test_share: float, seed: int) -> None:
    """Raises LeakError where rows share a group."""
    sizes = Counter(row.group for row in rows if row.group is not None)
    if sizes and max(sizes.values()) > 1:
        raise LeakError(_leak_message(split_random_ignoring_groups(rows, test_share, seed), len(sizes)))


def split_random_ignoring_groups(rows: Sequence[Row], test_share: float, seed: int) -> tuple[Row, ...]:
    """As `split_random`, but clips of one group may be in both splits. The test score is then too optimistic."""
    return _with_groups_of(rows, _draw_units([replace(row, group=None) for row in rows], test_share, seed))


def _draw_units(rows: Sequence[Row], test_share: float, seed: int) -> tuple[Row, ...]:
    """Whole groups, and rows without a group, drawn for the test in proportion to the labels."""
    return _with_split(_all_train(rows), _choose_units(rows, range(len(rows)), test_share, seed, "test"), "test")


def _leak_message(rows: Sequence[Row], num_groups: int) -> str:
    """What a random split would do to the groups, with an example."""
    splits: dict[str, Counter[str | None]] = {}
    for row in rows:
        if row.group is not None:
            splits.setdefault(row.group, Counter())[row.split] += 1
    shared = sorted(group for group, counts in splits.items() if len(counts) > 1)
    result = f"put {len(shared):,} of {num_groups:,} groups into both train and test"
    if shared:
        counts = splits[shared[0]]
        result += f" (e.g. {shared[0]!r}: {counts['train']} rows in train, {counts['test']} in test)"
    return (
        f"A random split of these {len(rows):,} rows would {result}. Clips of one group share people and background, "
        "so "
        "the test would measure memory. Split by 'group' or 'folds', use 'manifest' if it has an official split, or "
        "accept the leak with 'random_ignoring_groups'."
    )


def _with_own_splits(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows, if all of them have a split. Raises ValueError."""
    missing = [row.path for row in rows if row.split is None]
    if missing:
        problem = (
            "No row has a split"
            if len(missing) == len(rows)
            else f"{len(missing):,} of {len(rows):,} rows have no split"
        )
        has_groups = any(row.group is not None for row in rows)
        raise ValueError(
            f"{problem} (e.g. {missing[0]!r}). With the split 'manifest' every row needs train, val or test. "
            f"Write that into the manifest, or split by {'group' if has_groups else 'random'!r}."
        )
    return rows


def _require_groups(rows: Sequence[Row]) -> None:
    missing = [row.path for row in rows if row.group is None]
    if missing:
        problem = f"{len(missing):,} of {len(rows):,} rows have no group (e.g. {missing[0]!r})"
        raise ValueError(f"{problem}. A split by group needs one in every row. Add them, or use the split 'random'.")


def _units(rows: Sequence[Row], indices: Iterable[int], seed: int) -> list[Unit]:
    """Rows that stay together, shuffled. The same rows in any order give the same units."""
    units: dict[tuple[bool, str], Unit] = {}
    for index in indices:
        units.setdefault(_unit_of(rows[index]), []).append(index)
    keys = sorted(units)
    random.Random(seed).shuffle(keys)
    return [units[key] for key in keys]


def _choose_units(rows: Sequence[Row], indices: Sequence[int], share: float, seed: int, split_name: str) -> list[int]:
    """Indices of whole units with about `share` of the rows of every label, and never the last unit of a label.

    The first pass takes, in random order, every unit that brings the counts of its labels nearer to the share. While
    the total is too small (as with many small classes), the second pass takes the units that exceed the share of their
    labels least.
    """
    if not 0 < share < 1:
        raise ValueError(f"The {split_name} share is {share}. It must be between 0 and 1. Use a number such as 0.2.")
    units = _units(rows, indices, seed)
    unit_labels = [Counter(rows[index].label for index in unit) for unit in units]
    totals = sum(unit_labels, Counter())
    taken: Counter[str | None] = Counter()
    chosen: list[int] = []

    def excess(number: int) -> float:
        return sum(
            n * (2 * (taken[label] - share * totals[label]) + n) / totals[label]
            for label, n in unit_labels[number].items()
        )

    def leaves_every_class(number: int) -> bool:
        return all(taken[label] + n < totals[label] for label, n in unit_labels[number].items())

    def take(number: int) -> None:
        taken.update(unit_labels[number])
        chosen.extend(units[number])

    heap = []
    for number in range(len(units)):
        if excess(number) < 0 and leaves_every_class(number):
            take(number)
        else:
            heap.append((excess(number), number))
    heapq.heapify(heap)
    while heap:
        _, number = heapq.heappop(heap)
        current = excess(number)
        if heap and current > heap[0][0]:
            heapq.heappush(heap, (current, number))  # its excess grew after others were taken
        elif leaves_every_class(number) and (not chosen or len(chosen) + len(units[number]) / 2 < share * len(indices)):
            take(number)
    if not chosen:
        raise ValueError(
            f"No {split_name} rows can be taken from {len(indices):,} rows in {len(units):,} groups: each group has "
            "all "
            "the rows of some class, and every class must stay in training. Record more groups per class, or write the "
            "splits into the manifest."
        )
    return chosen


def _all_train(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, split="train") for row in rows]


def _with_split(rows: Sequence[Row], indices: Iterable[int], split: Split) -> tuple[Row, ...]:
    """The rows, those of `indices` with another split."""
    changed = list(rows)
    for index in indices:
        changed[index] = replace(changed[index], split=split)
    return tuple(changed)
