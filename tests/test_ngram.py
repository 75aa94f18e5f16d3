"""The n-gram model: probabilities sum to 1 behind every history, and are those of the formulas written down word for word."""

from __future__ import annotations

import itertools
import math
import pickle
import random
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.models.ngram import FALLBACK, Mark, NgramLabels, NgramModel, _adjusted_counts, _discounts

END, START, UNKNOWN = Mark.END, Mark.START, Mark.UNKNOWN
TOY = [s.split() for s in ("a b a b c", "a b b", "c a b", "b", "", "a a c d", "d a b c c", "a b a b a c")]
each_order = pytest.mark.parametrize("order", [1, 2, 3, 4, 5])


def longer_corpus(seed: int, count: int = 400) -> list[list[str]]:
    """Enough of it that discounts are estimated, not fallen back to."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(40)]
    return [[words[min(39, int(rng.expovariate(0.12)))] for _ in range(rng.randrange(1, 9))] for _ in range(count)]


def brute(sentences: Sequence[Sequence[str]], order: int, known: set[str], word, history: list[str]) -> float:
    """p(word | history) as Chen & Goodman write it: every count looked up anew in the sentences, nothing stored."""
    told = [(START, *(w if w in known else UNKNOWN for w in s), END) for s in sentences]
    size = len(known) + 2

    def occurrences(length: int) -> list[tuple]:
        return [t[i : i + length] for t in told for i in range(len(t) - length + 1)]

    def count(gram: tuple) -> int:
        if len(gram) == order or gram[0] is START:
            return occurrences(len(gram)).count(gram)
        return len({g[0] for g in occurrences(len(gram) + 1) if g[1:] == gram})

    def shares(gram: tuple) -> float:
        context, length = gram[:-1], len(gram)
        seen = {g for g in occurrences(length) if g[-1] is not START}
        all_counts = [count(g) for g in seen]
        n1, n2, n3, n4 = (all_counts.count(i) for i in (1, 2, 3, 4))
        discounts = FALLBACK
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
            discounts = found if 0 < found[0] <= 1 and 0 < found[1] <= 2 and 0 < found[2] <= 3 else FALLBACK
        lower = shares(gram[1:]) if length > 1 else 1 / size
        behind = {g: count(g) for g in seen if g[:-1] == context}
        total = sum(behind.values())
        if not total:
            return lower
        own = behind.get(gram, 0)
        rest = sum(discounts[min(c, 3) - 1] for c in behind.values())
        return ((own - discounts[min(own, 3) - 1] if own else 0) + rest * lower) / total

    context = (START, *(w if w in known else UNKNOWN for w in history))
    tail = context[-(order - 1) :] if order > 1 else ()
    return shares((*tail, word if word in known or word is END else UNKNOWN))


@each_order
@pytest.mark.parametrize("minimum", [1, 2, 3])
def test_probabilities_sum_to_one_behind_every_history(order: int, minimum: int) -> None:
    model = NgramModel.fit(TOY, order=order, minimum=minimum)
    for length in range(4):
        for history in itertools.product(["a", "b", "c", "d", "never"], repeat=length):
            told = [model.log_probability(word, history) for word in model.words]
            assert math.fsum(map(math.exp, told)) == pytest.approx(1.0, abs=1e-12)
            assert all(math.isfinite(p) for p in told)


@each_order
@pytest.mark.parametrize("minimum", [1, 3])
def test_it_is_what_the_formulas_say(order: int, minimum: int) -> None:
    counts = {w: sum(s.count(w) for s in TOY) for s in TOY for w in s}
    known = {w for w, c in counts.items() if c >= minimum}
    model = NgramModel.fit(TOY, order=order, minimum=minimum)
    assert set(model.words) == known | {UNKNOWN, END}
    for history in (
        [],
        ["a"],
        ["a", "b"],
        ["b", "a"],
        ["c", "c"],
        ["d"],
        ["d", "d"],
        ["a", "b", "a", "b"],
        ["zzz", "a"],
    ):
        for word in ["a", "b", "c", "d", "zzz", END]:
            expected = math.log(brute(TOY, order, known, word, history))
            assert model.log_probability(word, history) == pytest.approx(expected, abs=1e-12)


def test_it_is_what_the_formulas_say_where_discounts_are_estimated() -> None:
    corpus = longer_corpus(0, 60)
    model = NgramModel.fit(corpus, order=2, minimum=2)
    known = {w for w in model.words if isinstance(w, str)}
    told = [tuple(w if w in known else UNKNOWN for w in s) for s in corpus]
    for contexts in _adjusted_counts(told, 2):
        assert _discounts(c for words in contexts.values() for c in words.values()) != FALLBACK
    rng = random.Random(1)
    for sentence in rng.sample(corpus, 2):
        for i, word in enumerate([*sentence, END]):
            expected = math.log(brute(corpus, 2, known, word, sentence[:i]))
            assert model.log_probability(word, sentence[:i]) == pytest.approx(expected, abs=1e-12)


def test_discounts_by_hand() -> None:
    # n1..n4 = 9, 4, 2, 1: Y = 9/17
    assert _discounts([1] * 9 + [2] * 4 + [3] * 2 + [4] + [7] * 5) == pytest.approx(
        (1 - 2 * 9 / 17 * 4 / 9, 2 - 3 * 9 / 17 * 2 / 4, 3 - 4 * 9 / 17 * 1 / 2)
    )
    assert _discounts([1, 1, 2]) == FALLBACK  # no count of 3
    assert _discounts([1] + [2] + [3] * 9) == FALLBACK  # a discount below 0


@each_order
def test_rows_and_tables_are_the_probabilities_one_by_one(order: int) -> None:
    model = NgramModel.fit(TOY, order=order)
    names = ["d", "a", "c", "zzz"]
    labels = NgramLabels(model, names)
    for history in itertools.chain.from_iterable(itertools.product(range(4), repeat=n) for n in range(4)):
        state, said = labels.begin(), [names[i] for i in history]
        for label in history:
            state = labels.after(state, label)
        expected = [model.log_probability(word, said) for word in (*names, END)]
        np.testing.assert_allclose(labels.row(state), expected, atol=1e-12)
        assert np.exp(model.row(state)).sum() == pytest.approx(1.0)
        if order <= 2:
            np.testing.assert_allclose(model.table(names)[history[-1] if history else -1], expected, atol=1e-12)


def test_perplexity_by_hand_and_of_the_uniform() -> None:
    model = NgramModel.fit(TOY, order=3)
    sentences = [["a", "b"], [], ["zzz"]]
    told = [("a", []), ("b", ["a"]), (END, ["a", "b"]), (END, []), ("zzz", []), (END, ["zzz"])]
    nats = -sum(model.log_probability(word, history) for word, history in told)
    assert model.nats(sentences) == (pytest.approx(nats), 6)
    assert model.perplexity(sentences) == pytest.approx(math.exp(nats / 6))
    assert math.isnan(model.perplexity([]))
    assert NgramModel.fit([], vocabulary="abc").perplexity([["a"], ["zzz", "b"]]) == pytest.approx(5.0)


def test_a_rare_word_is_no_other_than_an_unknown_one() -> None:
    model = NgramModel.fit(TOY, order=3, minimum=3)  # d comes twice
    assert "d" not in model.words
    for history in ([], ["a"], ["d", "a"], ["a", "d"]):
        assert model.log_probability("d", history) == model.log_probability("never seen", history)
        swapped = ["never seen" if w == "d" else w for w in history]
        assert model.log_probability("a", history) == model.log_probability("a", swapped)


def test_more_history_knows_more_where_there_is_some_to_know() -> None:
    rng = random.Random(0)
    corpus = []
    for _ in range(300):  # the word after next repeats
        a, b = rng.choice("xyz"), rng.choice("xyz")
        corpus.append([a, b] * 3)
    found = [NgramModel.fit(corpus[:200], order=n).perplexity(corpus[200:]) for n in (1, 2, 3)]
    assert found[2] < 0.75 * found[1] and found[1] <= found[0]


@each_order
def test_training_sentences_are_likelier_than_the_uniform(order: int) -> None:
    corpus = longer_corpus(3)
    model = NgramModel.fit(corpus[:300], order=order, minimum=2)
    assert model.perplexity(corpus[300:]) < len(model.words)
    assert pickle.loads(pickle.dumps(model)).perplexity(corpus[300:]) == model.perplexity(corpus[300:])


def test_any_hashable_is_a_word_and_marks_are_none_of_them() -> None:
    model = NgramModel.fit([[1, ("x", 2)], ["</s>", 1]], order=2)
    assert model.log_probability("</s>", [1]) != model.log_probability(END, [1])
    assert math.fsum(math.exp(model.log_probability(w, [1])) for w in model.words) == pytest.approx(1.0)


def test_they_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="order=6: an n-gram model counts 1 to 5 words in a row."):
        NgramModel.fit(TOY, order=6)
    with pytest.raises(ValueError, match="minimum=0: a word is known if it was seen at least once"):
        NgramModel.fit(TOY, minimum=0)
    with pytest.raises(ValueError, match="minimum=2 beside a vocabulary: .* or a vocabulary."):
        NgramModel.fit(TOY, minimum=2, vocabulary=["a"])
    with pytest.raises(ValueError, match="'a b' is a text, where a list is needed. Cut it into words first"):
        NgramModel.fit(["a b"])
    model = NgramModel.fit(TOY)
    with pytest.raises(ValueError, match="'a b' is a text"):
        model.log_probability("a", "a b")
    with pytest.raises(ValueError, match="order 3 looks at 2 words, and a table has room for one. Fit it with order=2"):
        model.table(["a"])
