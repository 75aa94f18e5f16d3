"""An n-gram language model: what word comes next, told by counts of the last few.

In: sentences of words (anything hashable). Out: log-probabilities of a word behind others, perplexities, tables for decoding.
Knows nothing of tensors, videos or files.

Modified Kneser-Ney smoothing, interpolated (Chen & Goodman 1999, "An empirical study of smoothing techniques for language
modeling", equations 19 to 26): every count gives a little away, and what was given away goes to the model of the shorter
history, in which a word counts as often as it stood behind different words. The shortest of all is uniform.

    model = NgramModel.fit(sentences, order=3, minimum=2)
    model.perplexity(others)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from itertools import chain

import numpy as np

from pipeline.metrics.sequence import perplexity

Word = Hashable
Context = tuple[Word, ...]
"""The last words, as many as the model looks at; `Mark.START` before a sentence's first."""

LONGEST = 5
FALLBACK = (0.5, 1.0, 1.5)
"""The discounts where the counts are too few to estimate them: those that KenLM falls back to (Heafield et al. 2013)."""


class Mark(Enum):
    """No words. START stands before every sentence and is never predicted, END behind it, UNKNOWN for any word that is not
    known.
    """

    START = "<s>"
    END = "</s>"
    UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Behind:
    """What was seen behind one context: known, the discounted share of each word; rest, what the shorter context shares out."""

    known: dict[Word, float]
    rest: float


@dataclass(frozen=True)
class NgramModel:
    """words: all that can be said, `UNKNOWN` and `END` the last two; they sum to 1 behind every history."""

    order: int
    words: tuple[Word, ...]
    behind: dict[Context, Behind]

    @classmethod
    def fit(
        cls,
        sentences: Iterable[Sequence[Word]],
        *,
        order: int = 3,
        minimum: int = 1,
        vocabulary: Iterable[Word] | None = None,
    ) -> NgramModel:
        """Count the sentences.

        Args:
            sentences: without marks; an empty one is legal.
            order: 1 to 5; it looks at order - 1 words of the history.
            minimum: words seen fewer times are not known: they become `UNKNOWN`, here and later.
            vocabulary: the words that are known, in place of `minimum`. Perplexities compare over equal vocabularies only.

        Raises ValueError for an order or minimum outside its bounds, for both ways to say what is known, and for a text
        where its words are needed.
        """
        if not 1 <= order <= LONGEST:
            raise ValueError(f"order={order}: an n-gram model counts 1 to {LONGEST} words in a row. Give one of these.")
        if minimum < 1 or (minimum > 1 and vocabulary is not None):
            raise ValueError(
                f"minimum={minimum}{'' if vocabulary is None else ' beside a vocabulary'}: a word is known if it was seen at "
                "least once, or more often, or is in a given vocabulary. Give a minimum of 1 or more, or a vocabulary."
            )
        told = [_words(sentence) for sentence in sentences]
        seen = Counter(chain.from_iterable(told))
        kept = dict.fromkeys(w for w in seen if seen[w] >= minimum) if vocabulary is None else dict.fromkeys(vocabulary)
        tuples = [tuple(w if w in kept else Mark.UNKNOWN for w in sentence) for sentence in told]
        behind: dict[Context, Behind] = {}
        for counts in _adjusted_counts(tuples, order):
            behind |= _smoothed(counts)
        return cls(order, (*kept, Mark.UNKNOWN, Mark.END), behind)

    @cached_property
    def _index(self) -> dict[Word, int]:
        return {word: i for i, word in enumerate(self.words)}

    def begin(self) -> Context:
        """The context of a sentence's first word."""
        return self.after((), Mark.START)

    def after(self, context: Context, word: Word) -> Context:
        """The context behind one more word."""
        told = word if word is Mark.START or word in self._index else Mark.UNKNOWN
        return (*context, told)[-(self.order - 1) :] if self.order > 1 else ()

    def log_probability(self, word: Word, history: Sequence[Word]) -> float:
        """The log-probability of a word behind others, natural logarithm. history: all words of the sentence before; `Mark.END` is a word to ask
        for, and any word that is not known is `UNKNOWN`.
        """
        context = self.begin()
        for said in _words(history)[-self.order :]:
            context = self.after(context, said)
        return self._log_probability(word, context)

    def row(self, context: Context) -> np.ndarray:
        """(len(words),) float64: the log-probability of each word behind a context."""
        shares = np.full(len(self.words), 1.0 / len(self.words))
        for found in self._known(context):
            shares *= found.rest
            shares[[self._index[word] for word in found.known]] += list(found.known.values())
        return np.log(shares)

    def nats(self, sentences: Iterable[Sequence[Word]]) -> tuple[float, int]:
        """(- sum of log-probabilities, how many): of all words of the sentences and an end behind each."""
        total, count = 0.0, 0
        for sentence in sentences:
            context = self.begin()
            for word in (*_words(sentence), Mark.END):
                total -= self._log_probability(word, context)
                context, count = self.after(context, word), count + 1
        return total, count

    def perplexity(self, sentences: Iterable[Sequence[Word]]) -> float:
        """The exponential of the mean nats a word, each sentence's end included and unknown words as `UNKNOWN`; nan without a sentence."""
        return perplexity(*self.nats(sentences))

    def table(self, names: Sequence[Word]) -> np.ndarray:
        """(L + 1, L + 1) float64 log-probabilities for L names: of the column's behind the row's; the last row is the
        sentence's start, the last column its end. Only an order of 1 or 2 fits into a table: ValueError.
        """
        if self.order > 2:
            raise ValueError(
                f"A model of order {self.order} looks at {self.order - 1} words, and a table has room for one. Fit it with "
                "order=2, or decode with NgramLabels."
            )
        labels = NgramLabels(self, names)
        return np.stack([labels.row(self.after((), word)) for word in (*names, Mark.START)])

    def _log_probability(self, word: Word, context: Context) -> float:
        share, told = 1.0 / len(self.words), word if word in self._index else Mark.UNKNOWN
        for found in self._known(context):
            share = found.known.get(told, 0.0) + found.rest * share
        return math.log(share)

    def _known(self, context: Context) -> Iterable[Behind]:
        """The seen ends of a context, the empty one first. Where one was never seen, no longer one was."""
        for length in range(len(context) + 1):
            found = self.behind.get(context[len(context) - length :])
            if found is None:
                return
            yield found


class NgramLabels:
    """An n-gram model as CTC decoding asks it (`ctc.LanguageModel`): labels 0 .. L - 1 are the names, in their order."""

    def __init__(self, model: NgramModel, names: Sequence[Word]) -> None:
        self.model, self.names = model, names
        index = {word: i for i, word in enumerate(model.words)}
        self.places = [index.get(name, index[Mark.UNKNOWN]) for name in (*names, Mark.END)]
        self.row = lru_cache(maxsize=4096)(self._row)

    def begin(self) -> Context:
        """The context of the first word."""
        return self.model.begin()

    def after(self, state: Context, label: int) -> Context:
        """The context behind one more label."""
        return self.model.after(state, self.names[label])

    def _row(self, state: Context) -> np.ndarray:
        """(L + 1,): log-probabilities of each label, and of the end."""
        return self.model.row(state)[self.places]


def _words(sentence: Sequence[Word]) -> Sequence[Word]:
    if isinstance(sentence, str):
        raise ValueError(
            f"{sentence!r} is a text, where a list is needed. Cut it into words first, or list(text) for its letters."
        )
    return sentence


def _adjusted_counts(sentences: Iterable[tuple[Word, ...]], order: int) -> list[dict[Context, Counter[Word]]]:
    """For each length of history: context -> word -> count. The longest are counted as they come; of the others it is counted
    what different words stood before them, but for those that begin a sentence, where nothing can.
    """
    grams: list[Counter[Context]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        told = (Mark.START, *sentence, Mark.END)
        for end in range(2, len(told) + 1):
            for length in range(1, min(order, end) + 1):
                grams[length - 1][told[end - length : end]] += 1
    for shorter, longer in zip(grams, grams[1:], strict=False):  # upwards: `longer` still holds plain counts
        begins = {gram: count for gram, count in shorter.items() if gram[0] is Mark.START}
        shorter.clear()
        shorter.update(gram[1:] for gram in longer)
        shorter.update(begins)
    found: list[dict[Context, Counter[Word]]] = [{} for _ in range(order)]
    for contexts, counted in zip(found, grams, strict=True):
        for gram, count in counted.items():
            contexts.setdefault(gram[:-1], Counter())[gram[-1]] = count
    return found


def _smoothed(counts: dict[Context, Counter[Word]]) -> dict[Context, Behind]:
    """Counts of one length of history -> shares that leave something for the shorter one."""
    discounts = _discounts(chain.from_iterable(words.values() for words in counts.values()))
    found = {}
    for context, words in counts.items():
        total = sum(words.values())
        given = {word: discounts[min(count, 3) - 1] for word, count in words.items()}
        known = {word: (count - given[word]) / total for word, count in words.items()}
        found[context] = Behind(known, sum(given.values()) / total)
    return found


def _discounts(counts: Iterable[int]) -> tuple[float, ...]:
    """Of counts 1, 2, and 3 or more (Chen & Goodman 1999, equation 26)."""
    of = Counter(counts)
    if not (of[1] and of[2] and of[3]):
        return FALLBACK
    share = of[1] / (of[1] + 2 * of[2])
    found = tuple(c - (c + 1) * share * of[c + 1] / of[c] for c in (1, 2, 3))
    return found if all(0.0 < d <= c for c, d in zip((1, 2, 3), found, strict=True)) else FALLBACK
