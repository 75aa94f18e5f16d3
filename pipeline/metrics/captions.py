"""How close sentences come to what people wrote: BLEU, ROUGE-L and CIDEr-D. Pure functions; they know nothing of models.

In: hypotheses, one sentence a video, and references, one or more sentences a video. A sentence is a list or tuple of words, and a
word is anything hashable: a string or the number of a token. `tokenize` makes such a list of a text. No word is special: cut
the end token and the padding off first. An empty sentence is legal and scores 0.
Out: numbers as the papers define them: BLEU and ROUGE-L in 0..1, CIDEr-D in 0..10. Papers print all three times 100.

They equal coco-caption's (pycocoevalcap 1.2) on the same words. Two differences: where no n-gram of an order is right, BLEU is 0
as in its paper, not the small number that coco-caption's guard against division by zero leaves; and the words come from a plain
rule (`tokenize`), not from Stanford's PTB tokenizer, so compare only what was cut by the same rule.
METEOR is left out: it needs Java or WordNet and tables of synonyms, and re-implementations without them give other numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Sentence = Sequence[Hashable]
Ngram = tuple[Hashable, ...]

ORDERS = 4  # n-grams of 1 to 4 words, in BLEU and in CIDEr-D
ROUGE_BETA = 1.2  # weighs recall above precision; coco-caption's choice
CIDER_SIGMA = 6.0  # words of difference in length that are forgiven

_CLITICS = frozenset(["n't", "'s", "'m", "'d", "'ll", "'re", "'ve"])
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))(?!\w)")
_PUNCTUATION = re.compile(r"(?<!\d)[.,:]|[.,:](?!\d)|[!?;…\"“”„«»`()\[\]{}]|--+|[–—]")


def tokenize(text: str) -> list[str]:
    """A text -> its words: lower-case, punctuation off, as the Penn Treebank cuts in plain cases.

    Split at spaces; `don't` is `do n't` and `man's` is `man 's`; hyphens and apostrophes inside a word stay (`t-shirt`,
    `o'clock`), and so do points, commas and colons between digits (`3.5`). Writing without spaces stays one word.
    """
    bare = _PUNCTUATION.sub(" ", text.lower().replace("’", "'").replace("‘", "'"))
    words = (word if word in _CLITICS else word.strip("'-") for word in _CLITIC.sub(r" \1", bare).split())
    return [word for word in words if word]


def captions(
    hypotheses: Sequence[Sentence],
    references: Sequence[Sequence[Sentence]],
    frequencies: DocumentFrequencies | None = None,
) -> dict[str, Any]:
    """One hypothesis and a list of references a video -> bleu_1..bleu_4 (corpus), rouge_l and cider_d (means over videos), count.

    All three rise with the number of references: compare only what was judged against equally many.
    """
    pairs = _videos(hypotheses, references)
    found: dict[str, Any] = {
        f"bleu_{order}": value for order, value in enumerate(bleu(hypotheses, references), start=1)
    }
    found["rouge_l"] = float(rouge_l(hypotheses, references).mean()) if pairs else float("nan")
    found["cider_d"] = float(CiderD(references, frequencies).scores(hypotheses).mean()) if pairs else float("nan")
    return {**found, "count": len(pairs)}


def bleu(hypotheses: Sequence[Sentence], references: Sequence[Sequence[Sentence]]) -> list[float]:
    """BLEU-1, ..., BLEU-4 of a corpus, 0..1; nan without a video (Papineni et al. 2002, without smoothing)."""
    pairs = _videos(hypotheses, references)
    if not pairs:
        return [float("nan")] * ORDERS
    return bleu_of(np.sum([bleu_counts(said, written) for said, written in pairs], axis=0)).tolist()


def bleu_counts(hypothesis: Sentence, references: Sequence[Sentence]) -> np.ndarray:
    """What BLEU counts of one video, (2 + 2 * 4,) int64: length, the closest reference's length, right n-grams, n-grams.

    An n-gram is right as often as in that reference where it is most frequent. Of two equally close lengths the shorter counts.
    The counts of a corpus are the sum of its videos': rows of these with `bleu_of` are what `bootstrap.sums_interval` takes.
    """
    length = len(hypothesis)
    closest = min((len(reference) for reference in references), key=lambda n: (abs(n - length), n))
    right = []
    for order in range(1, ORDERS + 1):
        most: Counter[Ngram] = Counter()
        for reference in references:
            most |= _ngrams(reference, order)
        right.append((_ngrams(hypothesis, order) & most).total())
    return np.array([length, closest, *right, *(max(0, length - order + 1) for order in range(1, ORDERS + 1))])


def bleu_of(counts: np.ndarray) -> np.ndarray:
    """Summed counts (..., 2 + 2 * 4) -> BLEU-1, ..., BLEU-4 (..., 4): BP exp(mean over orders of log p_n), BP = min(1, exp(1 - r / c))."""
    length, closest, right, said = np.split(np.asarray(counts, dtype=np.float64), [1, 2, 2 + ORDERS], axis=-1)
    with np.errstate(divide="ignore"):  # log 0 is -inf, and its exp is the 0 that is meant
        logs = np.log(right) - np.log(np.maximum(said, 1))
    mean = logs.cumsum(axis=-1) / np.arange(1, ORDERS + 1)
    return np.exp(np.minimum(0, 1 - closest / np.maximum(length, 1)) + mean)


def rouge_l(hypotheses: Sequence[Sentence], references: Sequence[Sequence[Sentence]]) -> np.ndarray:
    """ROUGE-L of each video, (N,) float64 in 0..1 (Lin 2004, with beta 1.2 as in coco-caption).

    From the longest common subsequence L with each reference: precision max(L / words said), recall max(L / words of the
    reference), each maximum on its own, F = (1 + beta^2) P R / (R + beta^2 P).
    """
    scores = []
    for said, written in _videos(hypotheses, references):
        common = [longest_common_subsequence(said, reference) for reference in written]
        precision = max(common) / len(said) if said else 0.0
        recall = max(shared / len(reference) for shared, reference in zip(common, written, strict=True) if reference)
        weighed = recall + ROUGE_BETA**2 * precision
        scores.append((1 + ROUGE_BETA**2) * precision * recall / weighed if weighed else 0.0)
    return np.array(scores, dtype=np.float64)


def longest_common_subsequence(one: Sentence, other: Sentence) -> int:
    """How many words both have in one order: a row of the table is the bits of one whole number (Hyyrö 2004)."""
    places: dict[Hashable, int] = {}
    for number, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << number
    full = (1 << len(other)) - 1
    row = full  # a zero bit is a place where the table rises by one
    for word in one:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & full
    return len(other) - row.bit_count()


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many of `num_videos` videos an n-gram stands in any reference. n-grams that are not in `counts` stand in none."""

    counts: dict[Ngram, int]
    num_videos: int


def document_frequencies(references: Sequence[Sequence[Sentence]]) -> DocumentFrequencies:
    """The references of each video -> how frequent n-grams of 1 to 4 words are. For reuse: take the training set's."""
    counts: Counter[Ngram] = Counter()
    for written in references:
        counts.update({gram for words in written for order in range(1, ORDERS + 1) for gram in _ngrams(words, order)})
    return DocumentFrequencies(dict(counts), len(references))


class CiderD:
    """CIDEr-D against fixed references (Vedantam et al. 2015, arXiv 1411.5726v2): n = 1..4, sigma 6, clipped, times 10.

    score = 10 / 4 * sum_n mean_j exp(-(l - l_j)^2 / (2 sigma^2)) * min(g_n, g_nj) . g_nj / (|g_n| |g_nj|), where g_n are counts
    of n-grams times log(videos / videos that have it). coco-caption's `Cider` is this too, not plain CIDEr.

    The references are indexed once; then a sentence costs about a lookup an n-gram and reference that have it in common, so
    that it can be a reward in every step of self-critical training (Rennie et al. 2017). There, put the end token into
    references and hypotheses as a word: without it, sentences that break off ("a man with a") score too well.

    Args:
        references: the sentences of each video, at least one.
        frequencies: the document frequencies; by default those of `references`, as coco-caption does. Numbers from different
            frequencies do not compare. Raises ValueError when they stem from fewer than two videos: all weights would be 0.
    """

    def __init__(
        self, references: Sequence[Sequence[Sentence]], frequencies: DocumentFrequencies | None = None
    ) -> None:
        for number, written in enumerate(references):
            _check_references(number, written)
        known = document_frequencies(references) if frequencies is None else frequencies
        if known.num_videos < 2:
            raise ValueError(
                f"CIDEr-D weighs words by how few videos have them, and the document frequencies stem from {known.num_videos}. "
                "Give the references of at least two videos, or `frequencies` of a larger set such as the training captions."
            )
        self._rarest = math.log(known.num_videos)  # of what stands in one video or none
        self._weights = {gram: self._rarest - math.log(count) for gram, count in known.counts.items() if count > 1}
        self._lengths = [[len(words) for words in written] for written in references]
        self._postings = [self._index(written) for written in references]

    def scores(self, hypotheses: Sequence[Sentence], videos: Sequence[int] | None = None) -> np.ndarray:
        """Of each hypothesis, (N,) float64 in 0..10. `videos`: whose references it meets; by default one hypothesis a video."""
        if videos is None:
            videos = range(len(self._postings))
        if len(hypotheses) != len(videos):
            raise ValueError(
                f"There are {len(hypotheses)} hypotheses for {len(videos)} videos. Give one a video, in the order of the "
                "references, or say with `videos` to which video each belongs."
            )
        return np.array([self._score(words, video) for words, video in zip(hypotheses, videos, strict=True)])

    def _score(self, words: Sentence, video: int) -> float:
        _check_words(words)
        postings = self._postings[video]
        lengths = self._lengths[video]
        alike = [0.0] * len(lengths)
        for vector in self._vectors(words):
            norm = math.hypot(*vector.values())
            for gram, weight in vector.items():
                for reference, theirs, share in postings.get(gram, ()):
                    alike[reference] += min(weight, theirs) * share / norm
        forgiven = (math.exp(-((len(words) - length) ** 2) / (2 * CIDER_SIGMA**2)) for length in lengths)
        return 10 / ORDERS / len(lengths) * sum(a * f for a, f in zip(alike, forgiven, strict=True))

    def _vectors(self, words: Sentence) -> list[dict[Ngram, float]]:
        """The weighted n-grams of each order."""
        weights, rarest = self._weights, self._rarest
        counts = (_ngrams(words, order) for order in range(1, ORDERS + 1))
        return [{gram: count * weights.get(gram, rarest) for gram, count in found.items()} for found in counts]

    def _index(self, written: Sequence[Sentence]) -> dict[Ngram, list[tuple[int, float, float]]]:
        """n-gram -> (reference, its weight there, weight / norm of the reference's order). What weighs nothing is not there."""
        postings: dict[Ngram, list[tuple[int, float, float]]] = {}
        for number, words in enumerate(written):
            for vector in self._vectors(words):
                norm = math.hypot(*vector.values())
                for gram, weight in vector.items():
                    if weight > 0:
                        postings.setdefault(gram, []).append((number, weight, weight / norm))
        return postings


def _ngrams(words: Sentence, order: int) -> Counter[Ngram]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _videos(
    hypotheses: Sequence[Sentence], references: Sequence[Sequence[Sentence]]
) -> list[tuple[Sentence, Sequence[Sentence]]]:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"There are {len(hypotheses)} hypotheses and references of {len(references)} videos. Give one hypothesis and a list "
            "of references a video, in one order."
        )
    for number, (said, written) in enumerate(zip(hypotheses, references, strict=True)):
        _check_words(said)
        _check_references(number, written)
    return list(zip(hypotheses, references, strict=True))


def _check_references(number: int, written: Sequence[Sentence]) -> None:
    if isinstance(written, str) or not len(written):
        raise ValueError(
            f"Video {number} has {written!r} as references. Give a list of sentences, each a list of words, at least one; "
            "leave out videos that nobody described."
        )
    for words in written:
        _check_words(words)
    if not any(len(words) for words in written):
        raise ValueError(f"All references of video {number} are empty. Give one with a word, or leave the video out.")


def _check_words(words: Sentence) -> None:
    if isinstance(words, str):
        raise ValueError(f"{words!r} is a text, where a list of words is needed. Cut it with `tokenize` first.")
