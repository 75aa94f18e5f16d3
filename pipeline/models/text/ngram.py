"""An n-gram language model with modified Kneser-Ney smoothing: the distribution of a word after the last n - 1 words.

In: sentences of words (anything hashable). Out: log-probabilities of a word after others, perplexities, and tables for
decoding. Knows nothing of tensors, videos or files.

    p(w | h)  = (c(h, w) - D(c(h, w))) / c(h) + gamma(h) * p(w | h'),   h' = h without its first word
    gamma(h)  = sum_w D(c(h, w)) / c(h),   c(h) = sum_w c(h, w)
    p(w)      interpolates with the uniform distribution in the same way
    D(1) = 1 - 2 Y n_2 / n_1,   D(2) = 2 - 3 Y n_3 / n_2,   D(3 or more) = 3 - 4 Y n_4 / n_3,   Y = n_1 / (n_1 + 2 n_2)

For the longest histories c(h, w) is the number of occurrences. For shorter ones it is the number of different words
that stand before (h, w). n_i is how many (h, w) of one length have c = i. Source: Chen & Goodman 1999, "An empirical
study of smoothing techniques for language modeling", equations 19 to 26, interpolated.

    model = NgramModel.fit(sentences, order=3, min_count=2)
    model.perplexity(test_sentences)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from itertools import chain, pairwise

import numpy as np

from pipeline.metrics.sequence import perplexity

Word = Hashable
Context = tuple[Word, ...]
"""The last words, at most order - 1 of them; `SpecialToken.START` before the first word of a sentence."""

MAX_ORDER = 5
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""D(1), D(2), D(3 or more) where the counts are too few to estimate them: those of KenLM (Heafield et al. 2013)."""


class SpecialToken(Enum):
    """Tokens that are not words. START stands before every sentence and is never predicted. END stands after it.
    UNKNOWN replaces any word outside the vocabulary.
    """

    START = "<s>"
    END = "</s>"
    UNKNOWN = "<unk>"


@dataclass(frozen=True)
class ContextDistribution:
    """The words after one context. discounted: (c - D) / c(h) of each word that occurs there. backoff: gamma(h), the
    share of the distribution of the shorter context.
    """

    discounted: dict[Word, float]
    backoff: float


@dataclass(frozen=True)
class NgramModel:
    """A distribution of the next word in every context.

    order: n. words: all that can be predicted, `UNKNOWN` and `END` last; their probabilities sum to 1. contexts: the
    counts of every context that occurs in the training sentences, as discounted distributions.
    """

    order: int
    words: tuple[Word, ...]
    contexts: dict[Context, ContextDistribution]

    @classmethod
    def fit(
        cls,
        sentences: Iterable[Sequence[Word]],
        *,
        order: int = 3,
        min_count: int = 1,
        vocabulary: Iterable[Word] | None = None,
    ) -> NgramModel:
        """Count the sentences.

        Args:
            sentences: without special tokens; an empty one is legal.
            order: 1 to 5; the model conditions on order - 1 words.
            min_count: words with fewer occurrences are not in the vocabulary: they become `UNKNOWN`, here and later.
            vocabulary: the words of the vocabulary, instead of `min_count`. Perplexities compare over equal
                vocabularies only.

        Raises ValueError for an order or min_count out of range, for both a min_count and a vocabulary, and for a text
        where a list of words is needed.
        """
        if not 1 <= order <= MAX_ORDER:
            raise ValueError(f"order={order}: the order of an n-gram model is 1 to {MAX_ORDER}. Give one of these.")
        if min_count < 1 or (min_count > 1 and vocabulary is not None):
            raise ValueError(
                f"min_count={min_count}{'' if vocabulary is None else ' with a vocabulary'}: the vocabulary is either "
                "given, or it is the words with at least min_count occurrences. Give a min_count of 1 or more, or a "
                "vocabulary."
            )
        texts = [_words(sentence) for sentence in sentences]
        counts = Counter(chain.from_iterable(texts))
        frequent = (word for word in counts if counts[word] >= min_count)
        known = dict.fromkeys(frequent if vocabulary is None else vocabulary)
        encoded = [tuple(word if word in known else SpecialToken.UNKNOWN for word in text) for text in texts]
        contexts: dict[Context, ContextDistribution] = {}
        for ngram_counts in _adjusted_counts(encoded, order):
            contexts |= _discounted(ngram_counts)
        return cls(order, (*known, SpecialToken.UNKNOWN, SpecialToken.END), contexts)

    @cached_property
    def _index(self) -> dict[Word, int]:
        return {word: i for i, word in enumerate(self.words)}

    def initial_state(self) -> Context:
        """The context of the first word of a sentence."""
        return self.next_state((), SpecialToken.START)

    def next_state(self, context: Context, word: Word) -> Context:
        """The context after one more word."""
        token = word if word is SpecialToken.START or word in self._index else SpecialToken.UNKNOWN
        return (*context, token)[-(self.order - 1) :] if self.order > 1 else ()

    def log_probability(self, word: Word, history: Sequence[Word]) -> float:
        """The log-probability of a word after others, natural logarithm.

        history: all words of the sentence before it. word: `SpecialToken.END` gives the probability that the sentence
        ends. A word outside the vocabulary counts as `UNKNOWN`.
        """
        context = self.initial_state()
        for previous in _words(history)[-self.order :]:
            context = self.next_state(context, previous)
        return self._log_probability(word, context)

    def next_log_probabilities(self, context: Context) -> np.ndarray:
        """(len(words),) float64: the log-probability of each word in a context."""
        probabilities = np.full(len(self.words), 1.0 / len(self.words))
        for distribution in self._suffixes(context):
            probabilities *= distribution.backoff
            index = [self._index[word] for word in distribution.discounted]
            probabilities[index] += list(distribution.discounted.values())
        return np.log(probabilities)

    def negative_log_likelihood(self, sentences: Iterable[Sequence[Word]]) -> tuple[float, int]:
        """(-sum of log-probabilities in nats, number of terms), over all words and the end of every sentence."""
        total, count = 0.0, 0
        for sentence in sentences:
            context = self.initial_state()
            for word in (*_words(sentence), SpecialToken.END):
                total -= self._log_probability(word, context)
                context, count = self.next_state(context, word), count + 1
        return total, count

    def perplexity(self, sentences: Iterable[Sequence[Word]]) -> float:
        """The exponential of the mean negative log-likelihood per word, with the end of each sentence as a word, and
        with unknown words as `UNKNOWN`; nan without a sentence.
        """
        return perplexity(*self.negative_log_likelihood(sentences))

    def bigram_table(self, names: Sequence[Word]) -> np.ndarray:
        """(L + 1, L + 1) float64 for L names: the log-probability of the column's word after the row's.

        The last row is the start of a sentence, the last column its end.

        Raises ValueError for an order above 2: a table has room for one word of history.
        """
        if self.order > 2:
            raise ValueError(
                f"A model of order {self.order} conditions on {self.order - 1} words, and a table has room for one. "
                "Fit it with order=2, or decode with NgramLabels."
            )
        labels = NgramLabels(self, names)
        histories = (*names, SpecialToken.START)
        return np.stack([labels.next_log_probabilities(self.next_state((), word)) for word in histories])

    def _log_probability(self, word: Word, context: Context) -> float:
        probability = 1.0 / len(self.words)
        token = word if word in self._index else SpecialToken.UNKNOWN
        for distribution in self._suffixes(context):
            probability = distribution.discounted.get(token, 0.0) + distribution.backoff * probability
        return math.log(probability)

    def _suffixes(self, context: Context) -> Iterable[ContextDistribution]:
        """The distributions of the suffixes of a context, the empty one first, up to the longest that has occurred."""
        for length in range(len(context) + 1):
            distribution = self.contexts.get(context[len(context) - length :])
            if distribution is None:
                return
            yield distribution


class NgramLabels:
    """An n-gram model as a `ctc.LanguageModel`: labels 0 .. L - 1 are the names, in their order."""

    def __init__(self, model: NgramModel, names: Sequence[Word]) -> None:
        self.model, self.names = model, names
        index = {word: i for i, word in enumerate(model.words)}
        self.indices = [index.get(name, index[SpecialToken.UNKNOWN]) for name in (*names, SpecialToken.END)]
        self.next_log_probabilities = lru_cache(maxsize=4096)(self._next_log_probabilities)

    def initial_state(self) -> Context:
        """The context of the first word."""
        return self.model.initial_state()

    def next_state(self, state: Context, label: int) -> Context:
        """The context after one more label."""
        return self.model.next_state(state, self.names[label])

    def _next_log_probabilities(self, state: Context) -> np.ndarray:
        """(L + 1,): the log-probability of each label, and of the end."""
        return self.model.next_log_probabilities(state)[self.indices]


def _words(sentence: Sequence[Word]) -> Sequence[Word]:
    if isinstance(sentence, str):
        raise ValueError(
            f"{sentence!r} is a text, but a list of words is needed. Split it into words first, or use list(text) for "
            "its characters."
        )
    return sentence


def _adjusted_counts(sentences: Iterable[tuple[Word, ...]], order: int) -> list[dict[Context, Counter[Word]]]:
    """For each length of history: context -> word -> count.

    The n-grams of the longest length are counted as they occur. The count of a shorter one is the number of different
    words before it. An n-gram at the start of a sentence has none before it, and keeps its number of occurrences.
    """
    ngrams: list[Counter[Context]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        tokens = (SpecialToken.START, *sentence, SpecialToken.END)
        for end in range(2, len(tokens) + 1):
            for length in range(1, min(order, end) + 1):
                ngrams[length - 1][tokens[end - length : end]] += 1
    for shorter, longer in pairwise(ngrams):  # upwards: `longer` still holds occurrences
        at_start = {ngram: count for ngram, count in shorter.items() if ngram[0] is SpecialToken.START}
        shorter.clear()
        shorter.update(ngram[1:] for ngram in longer)
        shorter.update(at_start)
    by_context: list[dict[Context, Counter[Word]]] = [{} for _ in range(order)]
    for contexts, counts in zip(by_context, ngrams, strict=True):
        for ngram, count in counts.items():
            contexts.setdefault(ngram[:-1], Counter())[ngram[-1]] = count
    return by_context


def _discounted(counts: dict[Context, Counter[Word]]) -> dict[Context, ContextDistribution]:
    """The counts of one length of history -> the distribution of each context, discounted for the shorter one."""
    discounts = _discounts(chain.from_iterable(words.values() for words in counts.values()))
    distributions = {}
    for context, words in counts.items():
        total = sum(words.values())
        discount = {word: discounts[min(count, 3) - 1] for word, count in words.items()}
        discounted = {word: (count - discount[word]) / total for word, count in words.items()}
        distributions[context] = ContextDistribution(discounted, sum(discount.values()) / total)
    return distributions


def _discounts(counts: Iterable[int]) -> tuple[float, ...]:
    """D(1), D(2) and D(3 or more) (Chen & Goodman 1999, equation 26)."""
    n = Counter(counts)
    if not (n[1] and n[2] and n[3]):
        return FALLBACK_DISCOUNTS
    y = n[1] / (n[1] + 2 * n[2])
    discounts = tuple(c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3))
    is_valid = all(0.0 < d <= c for c, d in zip((1, 2, 3), discounts, strict=True))
    return discounts if is_valid else FALLBACK_DISCOUNTS
