"""Perplexity, word error rate and span F1 against brute force and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pipeline.metrics.edit_distance import edit_operations
from pipeline.metrics.sequence import (
    bits_per_character,
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
    with pytest.raises(ValueError, match="Check for nan in the probabilities"):
        bits_per_character(math.nan, 3)


@pytest.mark.parametrize("seed", range(4))
def test_word_errors_are_sums_of_edit_operations(seed: int) -> None:
    random = np.random.default_rng(seed)
    hypotheses, references = (
        [random.integers(0, 3, random.integers(0, 7)).tolist() for _ in range(12)] for _ in range(2)
    )
    pairs = list(zip(hypotheses, references, strict=True))
    operations = [edit_operations(hypothesis, reference) for hypothesis, reference in pairs]
    metrics = word_error_rate(hypotheses, references)
    assert metrics["word_error_rate"] == pytest.approx(sum(map(sum, operations)) / sum(map(len, references)))
    counts = tuple(metrics[name] for name in ("substitutions", "deletions", "insertions"))
    assert counts == tuple(sum(column) for column in zip(*operations, strict=True))
    assert metrics["sentence_error_rate"] == np.mean([one != other for one, other in pairs])


def test_word_error_rate_by_hand() -> None:
    metrics = word_error_rate([["the", "cat", "sat", "up"], []], [["a", "cat", "sat"], ["so"]])
    assert metrics == {
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
    with pytest.raises(ValueError, match="There are 1 hypotheses and 0 references. Give one of each for every"):
        word_error_rate([["a"]], [])
    with pytest.raises(ValueError, match="'a b' is a text, but a list is needed. Split it into words"):
        word_error_rate(["a b"], ["a b"])


# Tags; strict spans as in seqeval 1.2.2 (mode="strict", scheme=IOB2); spans as in the conlleval script.
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
def test_spans_of_legal_and_illegal_tags(tags: str, strict: list, lenient: list) -> None:
    assert spans(tags.split()) == strict
    assert spans(tags.split(), strict=False) == lenient


def slow_spans(tags: list[str]) -> set:
    """Every (type, start, stop) that is a span in IOB2: B- of the type, then I- of it, and no further I- of it."""
    result = set()
    for start, stop in itertools.combinations(range(len(tags) + 1), 2):
        for kind in "XY":
            is_span = tags[start] == f"B-{kind}" and all(tag == f"I-{kind}" for tag in tags[start + 1 : stop])
            if is_span and (stop == len(tags) or tags[stop] != f"I-{kind}"):
                result.add((kind, start, stop))
    return result


@pytest.mark.parametrize("seed", range(4))
def test_span_f1_equals_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    choices = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    true_tags = [random.choice(choices, random.integers(0, 10)).tolist() for _ in range(30)]
    predicted_tags = [
        [tag if random.random() < 0.8 else str(random.choice(choices)) for tag in tags] for tags in true_tags
    ]
    assert [set(spans(tags)) for tags in predicted_tags] == [slow_spans(tags) for tags in predicted_tags]
    metrics = span_f1(predicted_tags, true_tags)
    for kinds, scores in [("XY", metrics), ("X", metrics["per_type"]["X"]), ("Y", metrics["per_type"]["Y"])]:
        predicted, true = (
            {(n, *span) for n, tags in enumerate(sentences) for span in slow_spans(tags) if span[0] in kinds}
            for sentences in (predicted_tags, true_tags)
        )
        precision, recall = len(predicted & true) / len(predicted), len(predicted & true) / len(true)
        assert scores["precision"] == pytest.approx(precision) and scores["recall"] == pytest.approx(recall)
        assert scores["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
        assert scores["spans"] == len(true)
    assert span_f1(true_tags, true_tags)["f1"] == 1.0 and metrics["count"] == 30


def test_a_span_with_one_wrong_border_is_wrong() -> None:
    metrics = span_f1([["B-X", "I-X", "O"]], [["B-X", "O", "B-Y"]])
    assert (metrics["f1"], metrics["precision"], metrics["recall"], metrics["spans"]) == (0.0, 0.0, 0.0, 2)
    assert math.isnan(metrics["per_type"]["Y"]["precision"]) and metrics["per_type"]["Y"]["recall"] == 0
    assert math.isnan(span_f1([["O"]], [["O"]])["f1"])


def test_token_accuracy() -> None:
    assert token_accuracy([["N", "V"], [], ["N"]], [["N", "N"], [], ["N"]]) == pytest.approx(2 / 3)
    assert math.isnan(token_accuracy([[]], [[]]))


def test_errors_of_tags_name_the_problem() -> None:
    for tag in ("PER", "B", "I-", "O-PER", "E-PER", ""):
        with pytest.raises(
            ValueError, match=f"'{tag}' is no IOB2 tag. Use O, or B- and I- with the type, such as B-PER."
        ):
            spans(["O", tag])
    with pytest.raises(ValueError, match="Sentence 0 has 1 predicted and 2 true tags. Give one tag for each word"):
        span_f1([["O"]], [["O", "O"]])
    with pytest.raises(ValueError, match="There are 1 predicted sentences and 2 true sentences"):
        token_accuracy([["O"]], [["O"], ["O"]])
