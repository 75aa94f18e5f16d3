"""Perplexity, word error rate and span F1 against brute force and by hand."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest

from pipeline.metrics.sequence import (
    bits_per_character,
    edits,
    perplexity,
    span_f1,
    spans,
    token_accuracy,
    word_error_rate,
)


def test_perplexity_of_a_uniform_guess_is_the_size_of_the_vocabulary() -> None:
    assert perplexity(20 * math.log(50), 20) == pytest.approx(50)
    assert bits_per_character(20 * math.log(8), 20) == pytest.approx(3)
    probabilities = [0.5, 0.25, 0.1]
    nats = -sum(map(math.log, probabilities))
    assert perplexity(nats, 3) == pytest.approx(math.prod(probabilities) ** (-1 / 3))
    assert perplexity(0, 3) == 1 and math.isnan(perplexity(0, 0)) and perplexity(1e6, 2) == math.inf
    with pytest.raises(ValueError, match="A negative log-likelihood of -1 is impossible for words"):
        perplexity(-1, 3)
    with pytest.raises(ValueError, match="look for what made it nan"):
        bits_per_character(math.nan, 3)


def slow_edits(said: tuple, written: tuple) -> tuple[int, int, int]:
    """Every alignment; the fewest errors, of those the most substitutions."""

    @functools.cache
    def ways(i: int, j: int) -> frozenset:
        if not i and not j:
            return frozenset([(0, 0, 0)])
        found = set()
        if i and j:
            found |= {(s + (said[i - 1] != written[j - 1]), d, n) for s, d, n in ways(i - 1, j - 1)}
        if i:
            found |= {(s, d, n + 1) for s, d, n in ways(i - 1, j)}
        if j:
            found |= {(s, d + 1, n) for s, d, n in ways(i, j - 1)}
        return frozenset(found)

    return min(ways(len(said), len(written)), key=lambda way: (sum(way), -way[0]))


@pytest.mark.parametrize("seed", range(4))
def test_word_errors_are_those_of_the_cheapest_alignment(seed: int) -> None:
    random = np.random.default_rng(seed)
    said, written = ([random.integers(0, 3, random.integers(0, 7)).tolist() for _ in range(12)] for _ in range(2))
    errors = [slow_edits(tuple(one), tuple(other)) for one, other in zip(said, written, strict=True)]
    assert [edits(one, other) for one, other in zip(said, written, strict=True)] == errors
    found = word_error_rate(said, written)
    assert found["word_error_rate"] == pytest.approx(sum(map(sum, errors)) / sum(map(len, written)))
    counts = tuple(found[name] for name in ("substitutions", "deletions", "insertions"))
    assert counts == tuple(sum(column) for column in zip(*errors, strict=True))
    assert found["sentence_error_rate"] == np.mean([one != other for one, other in zip(said, written, strict=True)])


def test_word_error_rate_by_hand() -> None:
    found = word_error_rate([["the", "cat", "sat", "up"], []], [["a", "cat", "sat"], ["so"]])
    assert found == {
        "word_error_rate": 3 / 4,
        "sentence_error_rate": 1.0,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 1,
        "words": 4,
        "count": 2,
    }
    assert word_error_rate([["so"]], [["so"]])["word_error_rate"] == 0
    assert math.isnan(word_error_rate([["a"]], [[]])["word_error_rate"])
    assert word_error_rate([list("abc")], [list("x")])["word_error_rate"] == 3.0
    assert math.isnan(word_error_rate([], [])["word_error_rate"])
    with pytest.raises(ValueError, match="There are 1 hypotheses and 0 references. Give both of each, in one order."):
        word_error_rate([["a"]], [])
    with pytest.raises(ValueError, match="'a b' is a text, where a list is needed. Cut it into words first"):
        word_error_rate(["a b"], ["a b"])


# Tags, strict spans as seqeval 1.2.2 has them (mode="strict", scheme=IOB2), and those of the conlleval script's rule.
ILLEGAL = [
    ("B-X I-X O B-Y", [("X", 0, 2), ("Y", 3, 4)], [("X", 0, 2), ("Y", 3, 4)]),
    ("B-X B-X I-X", [("X", 0, 1), ("X", 1, 3)], [("X", 0, 1), ("X", 1, 3)]),
    ("O I-X I-X O", [], [("X", 1, 3)]),
    ("B-X I-Y I-Y", [("X", 0, 1)], [("X", 0, 1), ("Y", 1, 3)]),
    ("I-X B-X I-Y I-X", [("X", 1, 2)], [("X", 0, 1), ("X", 1, 2), ("Y", 2, 3), ("X", 3, 4)]),
    ("B-X O I-X", [("X", 0, 1)], [("X", 0, 1), ("X", 2, 3)]),
    ("", [], []),
]


@pytest.mark.parametrize(("tags", "strict", "lenient"), ILLEGAL)
def test_spans(tags: str, strict: list, lenient: list) -> None:
    assert spans(tags.split()) == strict
    assert spans(tags.split(), strict=False) == lenient


def slow_spans(tags: list[str]) -> set:
    """Every (type, start, stop) that is a span by IOB2's words: B- of the type, then I- of it, and no further I- of it."""
    found = set()
    for start, stop in itertools.combinations(range(len(tags) + 1), 2):
        for kind in "XY":
            is_one = tags[start] == f"B-{kind}" and all(tag == f"I-{kind}" for tag in tags[start + 1 : stop])
            if is_one and (stop == len(tags) or tags[stop] != f"I-{kind}"):
                found.add((kind, start, stop))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_span_f1_is_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    true = [random.choice(names, random.integers(0, 10)).tolist() for _ in range(30)]
    said = [[tag if random.random() < 0.8 else str(random.choice(names)) for tag in tags] for tags in true]
    assert [set(spans(tags)) for tags in said] == [slow_spans(tags) for tags in said]
    found = span_f1(said, true)
    for kinds, scores in [("XY", found), ("X", found["per_type"]["X"]), ("Y", found["per_type"]["Y"])]:
        one, other = (
            {(n, *span) for n, tags in enumerate(sentences) for span in slow_spans(tags) if span[0] in kinds}
            for sentences in (said, true)
        )
        precision, recall = len(one & other) / len(one), len(one & other) / len(other)
        assert scores["precision"] == pytest.approx(precision) and scores["recall"] == pytest.approx(recall)
        assert scores["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
        assert scores["spans"] == len(other)
    assert span_f1(true, true)["f1"] == 1.0 and found["count"] == 30


def test_one_wrong_border_costs_a_span_and_gains_none() -> None:
    found = span_f1([["B-X", "I-X", "O"]], [["B-X", "O", "B-Y"]])
    assert (found["f1"], found["precision"], found["recall"], found["spans"]) == (0.0, 0.0, 0.0, 2)
    assert math.isnan(found["per_type"]["Y"]["precision"]) and found["per_type"]["Y"]["recall"] == 0
    assert math.isnan(span_f1([["O"]], [["O"]])["f1"])


def test_token_accuracy() -> None:
    assert token_accuracy([["N", "V"], [], ["N"]], [["N", "N"], [], ["N"]]) == pytest.approx(2 / 3)
    assert math.isnan(token_accuracy([[]], [[]]))


def test_tags_say_what_is_wrong() -> None:
    for tag in ("PER", "B", "I-", "O-PER", "E-PER", ""):
        with pytest.raises(
            ValueError, match=f"'{tag}' is no IOB2 tag. Use O, or B- and I- with the type, such as B-PER."
        ):
            spans(["O", tag])
    with pytest.raises(ValueError, match="Sentence 0 has 1 predicted and 2 true tags. Give both one tag a word"):
        span_f1([["O"]], [["O", "O"]])
    with pytest.raises(ValueError, match="There are 1 tagged sentences and 2 true ones"):
        token_accuracy([["O"]], [["O"], ["O"]])
