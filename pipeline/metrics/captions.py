"""Metrics of captions: BLEU, ROUGE-L and CIDEr-D. Pure functions.

In: hypotheses, one sentence for each video, and references, one or more sentences for each video. A sentence is a list
or tuple of words. A word is anything hashable: a string or the number of a token. `tokenize` splits a text into words.
No word is special, so remove the end token and the padding first. An empty sentence is legal and scores 0. Out: numbers
as the papers define them: BLEU and ROUGE-L in 0..1, CIDEr-D in 0..10. Papers print all three times 100. The functions
know nothing of models.

On the same words they equal coco-caption (pycocoevalcap 1.2), with two differences. Where no n-gram of an order
matches, BLEU is 0 as in its paper; coco-caption adds a small number to avoid a division by zero, which leaves a small
score. And the words come from a plain rule (`tokenize`), not from Stanford's PTB tokenizer, so compare only scores of
the same rule. METEOR is left out: it needs Java or WordNet and tables of synonyms, and re-implementations without them
give other numbers.
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
CIDER_SIGMA = 6.0  # standard deviation of the Gaussian penalty on the difference in length, in words

_CLITICS = frozenset(["n't", "'s", "'m", "'d", "'ll", "'re", "'ve"])
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))(?!\w)")
_PUNCTUATION = re.compile(r"(?<!\d)[.,:]|[.,:](?!\d)|[!?;…\"“”„«»`()\[\]{}]|--+|[–—]")  # noqa: RUF001 (all dashes)


def tokenize(text: str) -> list[str]:
    """Split a text into lower-case words without punctuation, in plain cases as the Penn Treebank does.

    The text is split at spaces. `don't` becomes `do n't` and `man's` becomes `man 's`. Hyphens and apostrophes inside a
    word stay (`t-shirt`, `o'clock`), and so do points, commas and colons between digits (`3.5`). A script without
    spaces stays one word.
    """
    cleaned = _PUNCTUATION.sub(" ", text.lower().replace("’", "'").replace("‘", "'"))  # noqa: RUF001 (quotes)
    words = (word if word in _CLITICS else word.strip("'-") for word in _CLITIC.sub(r" \1", cleaned).split())
    return [word for word in words if word]


def captions(
    hypotheses: Sequence[Sentence],
    references: Sequence[Sequence[Sentence]],
    frequencies: DocumentFrequencies | None = None,
) -> dict[str, Any]:
    """All caption metrics of one hypothesis and a list of references for each video.

    Returns bleu_1..bleu_4 (of the corpus), rouge_l and cider_d (means over videos) and count. All of them rise with the
    number of references, so compare only scores with equally many references.
    """
    pairs = _pairs(hypotheses, references)
    metrics: dict[str, Any] = {
        f"bleu_{order}": value for order, value in enumerate(bleu(hypotheses, references), start=1)
    }
    metrics["rouge_l"] = float(rouge_l(hypotheses, references).mean()) if pairs else float("nan")
    metrics["cider_d"] = float(CiderD(references, frequencies).scores(hypotheses).mean()) if pairs else float("nan")
    return {**metrics, "count": len(pairs)}


def bleu(hypotheses: Sequence[Sentence], references: Sequence[Sequence[Sentence]]) -> list[float]:
    """BLEU-1, ..., BLEU-4 of a corpus, 0..1; nan without a video (Papineni et al. 2002, without smoothing)."""
    pairs = _pairs(hypotheses, references)
    if not pairs:
        return [float("nan")] * ORDERS
    return bleu_from_counts(np.sum([bleu_counts(*pair) for pair in pairs], axis=0)).tolist()


def bleu_counts(hypothesis: Sentence, references: Sequence[Sentence]) -> np.ndarray:
    """The counts that BLEU sums over videos, (2 + 2 * 4,) int64.

    They are the length c of the hypothesis, the length r of the closest reference, the matching n-grams of each order
    and all n-grams of each order. An n-gram matches at most as often as in the reference where it is most frequent. Of
    two equally close lengths the shorter counts. The counts of a corpus are the sum over its videos, so
    `bootstrap.sums_interval` takes rows of counts with `bleu_from_counts`.
    """
    length = len(hypothesis)
    closest = min((len(reference) for reference in references), key=lambda n: (abs(n - length), n))
    matches = []
    for order in range(1, ORDERS + 1):
        maximum: Counter[Ngram] = Counter()
        for reference in references:
            maximum |= _ngrams(reference, order)
        matches.append((_ngrams(hypothesis, order) & maximum).total())
    return np.array([length, closest, *matches, *(max(0, length - order + 1) for order in range(1, ORDERS + 1))])


def bleu_from_counts(counts: np.ndarray) -> np.ndarray:
    """Summed counts (..., 2 + 2 * 4) of `bleu_counts` -> BLEU-1, ..., BLEU-4 (..., 4).

    BLEU-N = BP exp(mean over n <= N of log p_n), with the brevity penalty BP = min(1, exp(1 - r / c)).
    """
    length, closest, matches, total = np.split(np.asarray(counts, dtype=np.float64), [1, 2, 2 + ORDERS], axis=-1)
    with np.errstate(divide="ignore"):  # log 0 is -inf, and exp(-inf) is the correct 0
        logs = np.log(matches) - np.log(np.maximum(total, 1))
    mean = logs.cumsum(axis=-1) / np.arange(1, ORDERS + 1)
    return np.exp(np.minimum(0, 1 - closest / np.maximum(length, 1)) + mean)


def rouge_l(hypotheses: Sequence[Sentence], references: Sequence[Sequence[Sentence]]) -> np.ndarray:
    """ROUGE-L of each video, (N,) float64 in 0..1 (Lin 2004, with beta 1.2 as in coco-caption).

    L is the length of the longest common subsequence with each reference. Precision is max(L / words of the hypothesis)
    and recall is max(L / words of the reference), each maximum on its own. F = (1 + beta^2) P R / (R + beta^2 P).
    """
    scores = []
    for hypothesis, video_references in _pairs(hypotheses, references):
        lengths = [longest_common_subsequence(hypothesis, reference) for reference in video_references]
        precision = max(lengths) / len(hypothesis) if hypothesis else 0.0
        recall = max(
            length / len(reference) for length, reference in zip(lengths, video_references, strict=True) if reference
        )
        denominator = recall + ROUGE_BETA**2 * precision
        scores.append((1 + ROUGE_BETA**2) * precision * recall / denominator if denominator else 0.0)
    return np.array(scores, dtype=np.float64)


def longest_common_subsequence(first: Sentence, second: Sentence) -> int:
    """The length of the longest common subsequence. A row of the table is the bits of one integer (Hyyrö 2004)."""
    positions: dict[Hashable, int] = {}
    for position, word in enumerate(second):
        positions[word] = positions.get(word, 0) | 1 << position
    full = (1 << len(second)) - 1
    row = full  # a zero bit is a position where the table rises by one
    for word in first:
        matches = row & positions.get(word, 0)
        row = (row + matches | row - matches) & full
    return len(second) - row.bit_count()


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many of `num_videos` videos an n-gram occurs in any reference. An n-gram without a count occurs in
    none.
    """

    counts: dict[Ngram, int]
    num_videos: int


def document_frequencies(references: Sequence[Sequence[Sentence]]) -> DocumentFrequencies:
    """The document frequencies of n-grams of 1 to 4 words, from the references of each video.

    For comparable scores of several data sets, pass the references of the training split.
    """
    counts: Counter[Ngram] = Counter()
    for sentences in references:
        ngrams = (_ngrams(words, order) for words in sentences for order in range(1, ORDERS + 1))
        counts.update({ngram for counter in ngrams for ngram in counter})
    return DocumentFrequencies(dict(counts), len(references))


class CiderD:
    """CIDEr-D against fixed references (Vedantam et al. 2015, arXiv 1411.5726v2): n = 1..4, sigma 6, clipped, times 10.

    score = 10 / 4 * sum_n mean_j exp(-(l - l_j)^2 / (2 sigma^2)) * min(g_n, g_nj) . g_nj / (|g_n| |g_nj|), where g_n
    are counts of n-grams times log(videos / videos that contain the n-gram). coco-caption's `Cider` computes this too,
    not plain CIDEr.

    The references are indexed once. The cost of a sentence is then about one look-up for each n-gram and each reference
    that contains it, so the score can be a reward in every step of self-critical training (Rennie et al. 2017). For
    such training, add the end token as a word to references and hypotheses: without it, sentences that break off ("a
    man with a") score too well.

    Args:
        references: the sentences of each video, at least one.
        frequencies: the document frequencies; by default those of `references`, as in coco-caption. Scores with
            different frequencies are not comparable. Raises ValueError when they come from fewer than two videos,
            because all weights would be 0.
    """

    def __init__(
        self, references: Sequence[Sequence[Sentence]], frequencies: DocumentFrequencies | None = None
    ) -> None:
        for number, sentences in enumerate(references):
            _check_references(number, sentences)
        frequencies = document_frequencies(references) if frequencies is None else frequencies
        if frequencies.num_videos < 2:
            raise ValueError(
                "CIDEr-D weights an n-gram by the number of videos that contain it, and the number of videos here is "
                f"{frequencies.num_videos}. Give the references of at least two videos, or `frequencies` of a larger "
                "set such as the training captions."
            )
        self._max_idf = math.log(frequencies.num_videos)  # of an n-gram that occurs in one video or in none
        self._idf = {ngram: self._max_idf - math.log(n) for ngram, n in frequencies.counts.items() if n > 1}
        self._lengths = [[len(words) for words in sentences] for sentences in references]
        self._postings = [self._index(sentences) for sentences in references]

    def scores(self, hypotheses: Sequence[Sentence], videos: Sequence[int] | None = None) -> np.ndarray:
        """The score of each hypothesis, (N,) float64 in 0..10.

        videos: the video of each hypothesis, as an index into the references; by default one hypothesis for each video.
        """
        if videos is None:
            videos = range(len(self._postings))
        if len(hypotheses) != len(videos):
            raise ValueError(
                f"There are {len(hypotheses)} hypotheses for {len(videos)} videos. Give one hypothesis for each video, "
                "in the order of the references, or pass the video of each hypothesis as `videos`."
            )
        return np.array([self._score(words, video) for words, video in zip(hypotheses, videos, strict=True)])

    def _score(self, words: Sentence, video: int) -> float:
        _check_words(words)
        postings = self._postings[video]
        lengths = self._lengths[video]
        similarities = [0.0] * len(lengths)
        for vector in self._vectors(words):
            norm = math.hypot(*vector.values())
            for ngram, weight in vector.items():
                for reference, reference_weight, normalised in postings.get(ngram, ()):
                    similarities[reference] += min(weight, reference_weight) * normalised / norm
        penalties = (math.exp(-((len(words) - length) ** 2) / (2 * CIDER_SIGMA**2)) for length in lengths)
        return 10 / ORDERS / len(lengths) * sum(s * p for s, p in zip(similarities, penalties, strict=True))

    def _vectors(self, words: Sentence) -> list[dict[Ngram, float]]:
        """The tf-idf weights of the n-grams of each order."""
        idf, max_idf = self._idf, self._max_idf
        counts = (_ngrams(words, order) for order in range(1, ORDERS + 1))
        return [{ngram: n * idf.get(ngram, max_idf) for ngram, n in ngrams.items()} for ngrams in counts]

    def _index(self, sentences: Sequence[Sentence]) -> dict[Ngram, list[tuple[int, float, float]]]:
        """n-gram -> (reference, its weight there, weight / norm of the reference's order). Weights of 0 are left
        out.
        """
        postings: dict[Ngram, list[tuple[int, float, float]]] = {}
        for number, words in enumerate(sentences):
            for vector in self._vectors(words):
                norm = math.hypot(*vector.values())
                for ngram, weight in vector.items():
                    if weight > 0:
                        postings.setdefault(ngram, []).append((number, weight, weight / norm))
        return postings


def _ngrams(words: Sentence, order: int) -> Counter[Ngram]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _pairs(
    hypotheses: Sequence[Sentence], references: Sequence[Sequence[Sentence]]
) -> list[tuple[Sentence, Sequence[Sentence]]]:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"There are {len(hypotheses)} hypotheses and references of {len(references)} videos. Give one hypothesis "
            "and a list of references for each video, in the same order."
        )
    for number, (hypothesis, sentences) in enumerate(zip(hypotheses, references, strict=True)):
        _check_words(hypothesis)
        _check_references(number, sentences)
    return list(zip(hypotheses, references, strict=True))


def _check_references(number: int, sentences: Sequence[Sentence]) -> None:
    if isinstance(sentences, str) or not len(sentences):
        raise ValueError(
            f"Video {number} has {sentences!r} as references. Give a list of at least one sentence, each a list of "
            "words. Leave out videos without captions."
        )
    for words in sentences:
        _check_words(words)
    if not any(len(words) for words in sentences):
        raise ValueError(
            f"All references of video {number} are empty. Give a reference with at least one word, or leave the "
            "video out."
        )


def _check_words(words: Sentence) -> None:
    if isinstance(words, str):
        raise ValueError(f"{words!r} is a text, but a list of words is needed. Split it with `tokenize` first.")
