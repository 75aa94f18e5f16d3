"""The edit distance (Levenshtein 1966) between two sequences, and the edit operations of the cheapest alignment.

In: two sequences of hashable items: words, letters, labels. Out: integers. It knows nothing of what the items mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def edit_operations(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> tuple[int, int, int]:
    """(substitutions, deletions, insertions) of an alignment that turns the reference into the hypothesis.

    It is an alignment with the fewest operations and, among these, with the most substitutions. This makes the three
    counts unique. One table finds both: each operation costs a large number, and a deletion or insertion one more.
    """
    numbers: dict[Hashable, int] = {}
    hypothesis_ids, reference_ids = (
        np.array([numbers.setdefault(item, len(numbers)) for item in items], dtype=np.int64)
        for items in (hypothesis, reference)
    )
    large = len(hypothesis_ids) + len(reference_ids) + 1
    columns = np.arange(len(reference_ids) + 1) * (large + 1)
    row = columns
    for number, item in enumerate(hypothesis_ids, start=1):
        substituted = row[:-1] + large * (reference_ids != item)
        costs = np.append(number * (large + 1), np.minimum(row[1:] + large + 1, substituted))
        row = np.minimum.accumulate(costs - columns) + columns  # deletions: large + 1 more for each step to the right
    operations, gaps = divmod(int(row[-1]), large)
    deletions = (gaps + len(reference_ids) - len(hypothesis_ids)) // 2
    return operations - gaps, deletions, gaps - deletions


def edit_distance(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """The fewest substitutions, deletions and insertions that turn the reference into the hypothesis."""
    return sum(edit_operations(hypothesis, reference))
