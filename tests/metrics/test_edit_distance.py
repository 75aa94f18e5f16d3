"""Edit operations and the edit distance against a search over every alignment."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from pipeline.metrics.edit_distance import edit_distance, edit_operations


def all_alignments(hypothesis: tuple, reference: tuple) -> frozenset:
    """(substitutions, deletions, insertions) of every alignment."""

    @functools.cache
    def counts(i: int, j: int) -> frozenset:
        if not i and not j:
            return frozenset([(0, 0, 0)])
        result = set()
        if i and j:
            is_different = hypothesis[i - 1] != reference[j - 1]
            result |= {(s + is_different, d, n) for s, d, n in counts(i - 1, j - 1)}
        if i:
            result |= {(s, d, n + 1) for s, d, n in counts(i - 1, j)}
        if j:
            result |= {(s, d + 1, n) for s, d, n in counts(i, j - 1)}
        return frozenset(result)

    return counts(len(hypothesis), len(reference))


@pytest.mark.parametrize("seed", range(4))
def test_the_operations_are_the_fewest_and_among_these_have_the_most_substitutions(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(12):
        hypothesis, reference = (random.integers(0, 3, random.integers(0, 7)).tolist() for _ in range(2))
        best = min(all_alignments(tuple(hypothesis), tuple(reference)), key=lambda c: (sum(c), -c[0]))
        assert edit_operations(hypothesis, reference) == best
        assert edit_distance(hypothesis, reference) == edit_distance(reference, hypothesis) == sum(best)


def test_values_worked_out_by_hand() -> None:
    assert edit_operations(["the", "cat", "sat", "up"], ["a", "cat", "sat"]) == (1, 0, 1)
    assert edit_operations([], "abc") == (0, 3, 0) and edit_operations("abc", []) == (0, 0, 3)
    assert edit_distance("kitten", "sitting") == 3 and edit_distance([], []) == 0
