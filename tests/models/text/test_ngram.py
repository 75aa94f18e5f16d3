"""The n-gram model: probabilities sum to 1 after every history, and equal the formulas computed without shortcuts."""

from __future__ import annotations

import itertools
import math
import pickle
import random
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.models.text.ngram import (
    FALLBACK_DISCOUNTS,
    NgramLabels,
    NgramModel,
    SpecialToken,
    _adjusted_counts,
    _discounts,
)

END, START, UNKNOWN = SpecialToken.END, SpecialToken.START, SpecialToken.UNKNOWN
TOY = [s.split() for s in ("a b a b c", "a b b", "c a b", "b", "", "a a c d", "d a b c c", "a b a b a c")]
each_order = pytest.mark.parametrize("order", [1, 2, 3, 4, 5])


def longer_corpus(seed: int, count: int = 400) -> list[list[str]]:
    """Enough sentences that the discounts are estimated, not the fallback."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(40)]
    return [[words[min(39, int(rng.expovariate(0.12)))] for _ in range(rng.randrange(1, 9))] for _ in range(count)]


def reference(sentences: Sequence[Sequence[str]], order: int, known: set[str], word, history: list[str]) -> float:
    """p(word | history) by the formulas of Chen & Goodman, with every count computed from the sentences."""
    texts = [(START, *(w if w in known else UNKNOWN for w in s), END) for s in sentences]
    size = len(known) + 2

    def occurrences(length: int) -> list[tuple]:
        return [t[i : i + length] for t in texts for i in range(len(t) - length + 1)]

    def count(ngram: tuple) -> int:
        if len(ngram) == order or ngram[0] is START:
            return occurrences(len(ngram)).count(ngram)
        return len({g[0] for g in occurrences(len(ngram) + 1) if g[1:] == ngram})

    def probability(ngram: tuple) -> float:
        context, length = ngram[:-1], len(ngram)
        ngrams = {g for g in occurrences(length) if g[-1] is not START}
        all_counts = [count(g) for g in ngrams]
        n1, n2, n3, n4 = (all_counts.count(i) for i in (1, 2, 3, 4))
        discounts = FALLBACK_DISCOUNTS
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
            if 0 < d1 <= 1 and 0 < d2 <= 2 and 0 < d3 <= 3:
                discounts = (d1, d2, d3)
        lower = probability(ngram[1:]) if length > 1 else 1 / size
        followers = {g: count(g) for g in ngrams if g[:-1] == context}
        total = sum(followers.values())
        if not total:
            return lower
        own_count = followers.get(ngram, 0)
        discounted = own_count - discounts[min(own_count, 3) - 1] if own_count else 0
        backoff = sum(discounts[min(c, 3) - 1] for c in followers.values())
        return (discounted + backoff * lower) / total

    context = (START, *(w if w in known else UNKNOWN for w in history))
    tail = context[-(order - 1) :] if order > 1 else ()
    return probability((*tail, word if word in known or word is END else UNKNOWN))


@each_order
@pytest.mark.parametrize("min_count", [1, 2, 3])
def test_probabilities_sum_to_one_after_every_history(order: int, min_count: int) -> None:
    model = NgramModel.fit(TOY, order=order, min_count=min_count)
    for length in range(4):
        for history in itertools.product(["a", "b", "c", "d", "never"], repeat=length):
            log_probabilities = [model.log_probability(word, history) for word in model.words]
            assert math.fsum(map(math.exp, log_probabilities)) == pytest.approx(1.0, abs=1e-12)
            assert all(math.isfinite(p) for p in log_probabilities)


@each_order
@pytest.mark.parametrize("min_count", [1, 3])
def test_probabilities_equal_the_formulas(order: int, min_count: int) -> None:
    counts = {w: sum(s.count(w) for s in TOY) for s in TOY for w in s}
    known = {w for w, c in counts.items() if c >= min_count}
    model = NgramModel.fit(TOY, order=order, min_count=min_count)
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
            expected = math.log(reference(TOY, order, known, word, history))
            assert model.log_probability(word, history) == pytest.approx(expected, abs=1e-12)


def test_probabilities_equal_the_formulas_with_estimated_discounts() -> None:
    corpus = longer_corpus(0, 60)
    model = NgramModel.fit(corpus, order=2, min_count=2)
    known = {w for w in model.words if isinstance(w, str)}
    texts = [tuple(w if w in known else UNKNOWN for w in s) for s in corpus]
    for contexts in _adjusted_counts(texts, 2):
        assert _discounts(c for words in contexts.values() for c in words.values()) != FALLBACK_DISCOUNTS
    rng = random.Random(1)
    for sentence in rng.sample(corpus, 2):
        for i, word in enumerate([*sentence, END]):
            expected = math.log(reference(corpus, 2, known, word, sentence[:i]))
            assert model.log_probability(word, sentence[:i]) == pytest.approx(expected, abs=1e-12)


def test_discounts_by_hand() -> None:
    # n1..n4 = 9, 4, 2, 1: Y = 9/17
    assert _discounts([1] * 9 + [2] * 4 + [3] * 2 + [4] + [7] * 5) == pytest.approx(
        (1 - 2 * 9 / 17 * 4 / 9, 2 - 3 * 9 / 17 * 2 / 4, 3 - 4 * 9 / 17 * 1 / 2)
    )
    assert _discounts([1, 1, 2]) == FALLBACK_DISCOUNTS  # no count of 3
    assert _discounts([1] + [2] + [3] * 9) == FALLBACK_DISCOUNTS  # a discount below 0


@each_order
def test_rows_and_tables_are_the_probabilities_one_by_one(order: int) -> None:
    model = NgramModel.fit(TOY, order=order)
    names = ["d", "a", "c", "zzz"]
    labels = NgramLabels(model, names)
    for history in itertools.chain.from_iterable(itertools.product(range(4), repeat=n) for n in range(4)):
        state, words = labels.initial_state(), [names[i] for i in history]
        for label in history:
            state = labels.next_state(state, label)
        expected = [model.log_probability(word, words) for word in (*names, END)]
        np.testing.assert_allclose(labels.next_log_probabilities(state), expected, atol=1e-12)
        assert np.exp(model.next_log_probabilities(state)).sum() == pytest.approx(1.0)
        if order <= 2:
            np.testing.assert_allclose(model.bigram_table(names)[history[-1] if history else -1], expected, atol=1e-12)


def test_perplexity_by_hand_and_of_the_uniform_distribution() -> None:
    model = NgramModel.fit(TOY, order=3)
    sentences = [["a", "b"], [], ["zzz"]]
    terms = [("a", []), ("b", ["a"]), (END, ["a", "b"]), (END, []), ("zzz", []), (END, ["zzz"])]
    nats = -sum(model.log_probability(word, history) for word, history in terms)
    assert model.negative_log_likelihood(sentences) == (pytest.approx(nats), 6)
    assert model.perplexity(sentences) == pytest.approx(math.exp(nats / 6))
    assert math.isnan(model.perplexity([]))
    assert NgramModel.fit([], vocabulary="abc").perplexity([["a"], ["zzz", "b"]]) == pytest.approx(5.0)


def test_a_rare_word_equals_an_unknown_word() -> None:
    model = NgramModel.fit(TOY, order=3, min_count=3)  # d occurs twice
    assert "d" not in model.words
    for history in ([], ["a"], ["d", "a"], ["a", "d"]):
        assert model.log_probability("d", history) == model.log_probability("never seen", history)
        swapped = ["never seen" if w == "d" else w for w in history]
        assert model.log_probability("a", history) == model.log_probability("a", swapped)


def test_a_higher_order_has_a_lower_perplexity_on_repeating_sequences() -> None:
    rng = random.Random(0)
    corpus = []
    for _ in range(300):  # each word repeats the last but one
        a, b = rng.choice("xyz"), rng.choice("xyz")
        corpus.append([a, b] * 3)
    perplexities = [NgramModel.fit(corpus[:200], order=n).perplexity(corpus[200:]) for n in (1, 2, 3)]
    assert perplexities[2] < 0.75 * perplexities[1] and perplexities[1] <= perplexities[0]


@each_order
def test_perplexity_is_below_that_of_the_uniform_distribution(order: int) -> None:
    corpus = longer_corpus(3)
    model = NgramModel.fit(corpus[:300], order=order, min_count=2)
    assert model.perplexity(corpus[300:]) < len(model.words)
    assert pickle.loads(pickle.dumps(model)).perplexity(corpus[300:]) == model.perplexity(corpus[300:])


def test_any_hashable_is_a_word_and_special_tokens_are_not() -> None:
    model = NgramModel.fit([[1, ("x", 2)], ["</s>", 1]], order=2)
    assert model.log_probability("</s>", [1]) != model.log_probability(END, [1])
    assert math.fsum(math.exp(model.log_probability(w, [1])) for w in model.words) == pytest.approx(1.0)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="order=6: the order of an n-gram model is 1 to 5. Give one"):
        NgramModel.fit(TOY, order=6)
    with pytest.raises(ValueError, match="min_count=0: the vocabulary is either given, or it is the words"):
        NgramModel.fit(TOY, min_count=0)
    with pytest.raises(ValueError, match="min_count=2 with a vocabulary: .* or a vocabulary."):
        NgramModel.fit(TOY, min_count=2, vocabulary=["a"])
    with pytest.raises(ValueError, match="'a b' is a text, but a list of words is needed. Split it into words first"):
        NgramModel.fit(["a b"])
    model = NgramModel.fit(TOY)
    with pytest.raises(ValueError, match="'a b' is a text"):
        model.log_probability("a", "a b")
    with pytest.raises(
        ValueError, match="order 3 conditions on 2 words, and a table has room for one. Fit it with order=2"
    ):
        model.bigram_table(["a"])
