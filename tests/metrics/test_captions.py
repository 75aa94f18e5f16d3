"""Caption metrics against the numbers of pycocoevalcap, against sacrebleu, and against the equations of the papers."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import sacrebleu

from pipeline.metrics.bootstrap import sums_interval
from pipeline.metrics.captions import (
    CiderD,
    bleu,
    bleu_counts,
    bleu_from_counts,
    captions,
    document_frequencies,
    longest_common_subsequence,
    rouge_l,
    tokenize,
)

# Sentences written for this test: a hypothesis and its references. The numbers are those of pycocoevalcap 1.2 on them
# (Bleu(4), Rouge(), Cider()).
VIDEOS = [
    (
        "a man is slicing a ripe tomato",
        [
            "a man slices a tomato",
            "someone is slicing a ripe red tomato with a knife",
            "a cook is cutting a tomato",
        ],
    ),
    (
        "a dog runs after a ball on the beach",
        ["a brown dog runs after a ball", "the dog is chasing a ball along the beach", "a dog runs on the beach"],
    ),
    ("two girls are dancing", ["two girls are dancing", "a pair of girls dance on a stage", "girls dance"]),
    (
        "the the the the the the",
        ["the cat sits on the mat", "a cat is on the mat in the house", "there is a cat on a mat"],
    ),
    (
        "a woman is riding a horse in a field of tall yellow flowers under a clear sky",
        [
            "a woman rides a horse",
            "a lady is riding a horse in a field",
            "the woman on the horse rides through flowers",
        ],
    ),
    ("boat", ["a boat sails past the old harbour", "boat", "a small boat on a lake"]),
    (
        "zebras juggle umbrellas",
        ["a boy plays the guitar", "a boy is playing a guitar on a bench", "someone plays guitar"],
    ),
    (
        "a man is a man is a man is playing a drum",
        ["a man is playing a drum", "a man plays the drum loudly", "a drummer is playing"],
    ),
]
HYPOTHESES = [hypothesis.split() for hypothesis, _ in VIDEOS]
REFERENCES = [[text.split() for text in texts] for _, texts in VIDEOS]
GOLDEN_BLEU = [0.6610169491413387, 0.5805075648852277, 0.516589052742227, 0.44994210857338107]
GOLDEN_ROUGE = [0.7625, 0.8299319727891156, 1.0, 0.3333333333333333, 0.6515353805073432, 1.0, 0.0, 0.7093023255813954]
GOLDEN_CIDER = [
    1.8872188257985543,
    3.8259394496017056,
    3.760963158507839,
    0.07963539370109901,
    0.8371103718469803,
    1.3978495115262102,
    0.0,
    1.230354161303914,
]


def corpus(seed: int, videos: int = 12, words: int = 9, empty: bool = True) -> tuple[list, list]:
    """Random sentences from a small vocabulary, so that n-grams repeat.

    Hypotheses may be empty and may have words that no reference has.
    """
    random = np.random.default_rng(seed)

    def sentence(low: int, high: int, vocabulary: int) -> list[str]:
        return [f"w{number}" for number in random.integers(0, vocabulary, random.integers(low, high))]

    hypotheses = [sentence(0 if empty else 1, 12, words + 2) for _ in range(videos)]
    return hypotheses, [[sentence(1, 12, words) for _ in range(random.integers(1, 5))] for _ in range(videos)]


def ngrams(words, n: int) -> list[tuple]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def slow_bleu(hypotheses, references, n_max: int) -> float:
    """Papineni et al. 2002, section 2: modified precision and brevity penalty."""
    length = sum(map(len, hypotheses))
    closest = 0
    for words, refs in zip(hypotheses, references, strict=True):
        best = min(abs(len(ref) - len(words)) for ref in refs)
        closest += min(len(ref) for ref in refs if abs(len(ref) - len(words)) == best)
    product = 1.0
    for n in range(1, n_max + 1):
        matches = total = 0
        for words, refs in zip(hypotheses, references, strict=True):
            for ngram in set(ngrams(words, n)):
                count = ngrams(words, n).count(ngram)
                matches += min(count, max(ngrams(ref, n).count(ngram) for ref in refs))
                total += count
        product *= matches / total if total else 0.0
    if not length:
        return 0.0
    return product ** (1 / n_max) * (1.0 if length > closest else math.exp(1 - closest / length))


def slow_cider(hypotheses, references, all_references) -> list[float]:
    """Vedantam et al. 2015, equations 1 to 4 with the changes of CIDEr-D (section 6), with dense vectors."""
    scores = []
    for words, refs in zip(hypotheses, references, strict=True):
        total = 0.0
        for n in range(1, 5):
            every = sorted({g for s in [words, *refs, *itertools.chain(*all_references)] for g in ngrams(s, n)})
            df = np.array([sum(any(g in ngrams(r, n) for r in video) for video in all_references) for g in every])
            idf = np.log(len(all_references)) - np.log(np.maximum(df, 1))

            def g(sentence, n=n, every=every, idf=idf):
                counts = Counter(ngrams(sentence, n))
                return np.array([counts[ngram] for ngram in every]) * idf

            for ref in refs:
                own, theirs = g(words), g(ref)
                norms = np.linalg.norm(own) * np.linalg.norm(theirs)
                cosine = float(np.minimum(own, theirs) @ theirs / norms) if norms else 0.0
                total += 10 * math.exp(-((len(words) - len(ref)) ** 2) / (2 * 6**2)) * cosine / len(refs) / 4
        scores.append(total)
    return scores


def slow_lcs(one: tuple, other: tuple) -> int:
    @functools.cache
    def common(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if one[i - 1] == other[j - 1]:
            return common(i - 1, j - 1) + 1
        return max(common(i - 1, j), common(i, j - 1))

    return common(len(one), len(other))


def test_scores_equal_those_of_pycocoevalcap() -> None:
    tolerance = 1e-8  # coco-caption adds 1e-9 to denominators
    assert bleu(HYPOTHESES, REFERENCES) == pytest.approx(GOLDEN_BLEU, rel=tolerance)
    np.testing.assert_allclose(rouge_l(HYPOTHESES, REFERENCES), GOLDEN_ROUGE, rtol=1e-12)
    np.testing.assert_allclose(CiderD(REFERENCES).scores(HYPOTHESES), GOLDEN_CIDER, rtol=1e-12)


def test_captions_returns_all_metrics() -> None:
    metrics = captions(HYPOTHESES, REFERENCES)
    assert [metrics[f"bleu_{n}"] for n in (1, 2, 3, 4)] == bleu(HYPOTHESES, REFERENCES)
    assert metrics["rouge_l"] == pytest.approx(np.mean(GOLDEN_ROUGE))
    assert metrics["cider_d"] == pytest.approx(np.mean(GOLDEN_CIDER))
    assert metrics["count"] == len(VIDEOS)


@pytest.mark.parametrize("seed", range(6))
def test_bleu_equals_the_paper(seed: int) -> None:
    hypotheses, references = corpus(seed, words=4 if seed % 2 else 9)
    expected = [slow_bleu(hypotheses, references, n) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(bleu(hypotheses, references), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_bleu_equals_sacrebleu(seed: int) -> None:
    hypotheses, references = corpus(seed, words=4, empty=False)
    texts = [" ".join(words) for words in hypotheses]
    one = sacrebleu.corpus_bleu(
        texts, [[" ".join(refs[0]) for refs in references]], smooth_method="none", tokenize="none", force=True
    )
    assert bleu(hypotheses, [refs[:1] for refs in references])[3] == pytest.approx(one.score / 100, rel=1e-12)
    streams = itertools.zip_longest(*([" ".join(ref) for ref in refs] for refs in references))
    several = sacrebleu.corpus_bleu(
        texts, [list(stream) for stream in streams], smooth_method="none", tokenize="none", force=True
    )
    assert bleu(hypotheses, references)[3] == pytest.approx(several.score / 100, rel=1e-12)


def test_the_brevity_penalty_takes_the_closest_and_of_equals_the_shorter_reference() -> None:
    hypothesis = list("abcdef")
    assert bleu_counts(hypothesis, [list("abcdefgh"), list("abcd")])[1] == 4
    assert bleu([hypothesis], [[list("abcdefgh"), list("abcd")]]) == [1.0] * 4
    assert bleu([hypothesis], [[list("abcdefgh")]]) == pytest.approx([math.exp(1 - 8 / 6)] * 4)


def test_the_counts_of_bleu_can_be_summed_and_bootstrapped() -> None:
    rows = np.array([bleu_counts(*pair) for pair in zip(HYPOTHESES, REFERENCES, strict=True)])
    assert bleu_from_counts(rows.sum(0)).tolist() == bleu(HYPOTHESES, REFERENCES)
    interval = sums_interval(lambda sums: bleu_from_counts(sums)[:, 3], rows, repeats=50, seed=1)
    assert min(interval) <= bleu(HYPOTHESES, REFERENCES)[3] <= max(interval)


@pytest.mark.parametrize("seed", range(4))
def test_cider_equals_the_paper(seed: int) -> None:
    hypotheses, references = corpus(seed, videos=6)
    np.testing.assert_allclose(
        CiderD(references).scores(hypotheses), slow_cider(hypotheses, references, references), rtol=1e-11, atol=1e-13
    )
    _, training = corpus(seed + 100, videos=9)
    scorer = CiderD(references, document_frequencies(training))
    np.testing.assert_allclose(
        scorer.scores(hypotheses), slow_cider(hypotheses, references, training), rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("seed", range(4))
def test_rouge_equals_its_definition(seed: int) -> None:
    hypotheses, references = corpus(seed, words=4)
    expected = []
    for words, refs in zip(hypotheses, references, strict=True):
        common = [slow_lcs(tuple(words), tuple(ref)) for ref in refs]
        p = max(shared / len(words) if words else 0.0 for shared in common)
        r = max(shared / len(ref) for shared, ref in zip(common, refs, strict=True))
        expected.append((1 + 1.44) * p * r / (r + 1.44 * p) if p and r else 0.0)
    np.testing.assert_allclose(rouge_l(hypotheses, references), expected, rtol=1e-12)


def test_the_longest_common_subsequence_of_long_sentences() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(0, 5, 150).tolist(), random.integers(0, 5, 130).tolist()
    assert longest_common_subsequence(one, other) == slow_lcs(tuple(one), tuple(other))
    assert longest_common_subsequence(other, one) == longest_common_subsequence(one, other)
    assert longest_common_subsequence(one, []) == longest_common_subsequence([], one) == 0


def test_a_perfect_hypothesis_reaches_the_maximum() -> None:
    only = [[refs[1]] for refs in REFERENCES[:5]]
    metrics = captions([refs[0] for refs in only], only)
    assert [metrics[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx([1.0] * 4)
    assert metrics["rouge_l"] == pytest.approx(1.0)
    assert metrics["cider_d"] == pytest.approx(10.0)


def test_the_order_of_references_and_of_videos_does_not_matter() -> None:
    expected = captions(HYPOTHESES, REFERENCES)
    assert captions(HYPOTHESES, [refs[::-1] for refs in REFERENCES]) == pytest.approx(expected, rel=1e-12)
    assert captions(HYPOTHESES[::-1], REFERENCES[::-1]) == pytest.approx(expected, rel=1e-12)


def test_words_may_be_numbers() -> None:
    number = {word: i for i, word in enumerate({w for s in [*HYPOTHESES, *itertools.chain(*REFERENCES)] for w in s})}
    hypotheses = [tuple(number[word] for word in words) for words in HYPOTHESES]
    references = [[[number[word] for word in words] for words in refs] for refs in REFERENCES]
    assert captions(hypotheses, references) == pytest.approx(captions(HYPOTHESES, REFERENCES), rel=1e-12)


def test_empty_hypotheses_are_legal_and_score_zero() -> None:
    metrics = captions([[] for _ in REFERENCES], REFERENCES)
    assert {key: value for key, value in metrics.items() if value} == {"count": len(VIDEOS)}
    one_empty = [[], *HYPOTHESES[1:]]
    assert rouge_l(one_empty, REFERENCES)[0] == CiderD(REFERENCES).scores(one_empty)[0] == 0
    assert bleu(one_empty, REFERENCES)[0] < bleu(HYPOTHESES, REFERENCES)[0]
    assert math.isnan(captions([], [])["cider_d"]) and math.isnan(captions([], [])["bleu_4"])


def test_unknown_words_lower_the_scores() -> None:
    extended = [[*words, "xyzzy"] for words in HYPOTHESES]
    assert bleu(extended, REFERENCES)[0] < bleu(HYPOTHESES, REFERENCES)[0]
    assert (CiderD(REFERENCES).scores(extended) <= CiderD(REFERENCES).scores(HYPOTHESES)).sum() >= len(HYPOTHESES) - 1
    assert captions([["xyzzy"] for _ in HYPOTHESES], REFERENCES)["cider_d"] == 0


def test_repeated_words_do_not_raise_cider() -> None:
    scorer = CiderD(REFERENCES)
    once, often = scorer.scores([["boat"], ["boat"] * 6], [5, 5])
    assert often < once


def test_cider_takes_the_references_of_the_given_video() -> None:
    scorer = CiderD(REFERENCES)
    samples, videos = [HYPOTHESES[1], HYPOTHESES[0], HYPOTHESES[1], HYPOTHESES[2]], [1, 0, 0, 2]
    scores = scorer.scores(samples, videos)
    np.testing.assert_allclose(scores[[0, 1, 3]], np.array(GOLDEN_CIDER)[[1, 0, 2]], rtol=1e-12)
    assert scores[2] == pytest.approx(slow_cider([HYPOTHESES[1]], [REFERENCES[0]], REFERENCES)[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man, who SINGS, is here.", "a man who sings is here"),
        ("Don't stop the man's t-shirt", "do n't stop the man 's t-shirt"),
        ("They’re at five o'clock; 'really'!", "they 're at five o'clock really"),
        ('3.5 metres, at 10:30. And 1,000 (more) -- "so"...', "3.5 metres at 10:30 and 1,000 more so"),
        ("ein Mädchen läuft über die Straße.", "ein mädchen läuft über die straße"),
        ("  \n ... - ' ", ""),
        ("<unk> dogs", "<unk> dogs"),
    ],
)
def test_tokenize(text: str, words: str) -> None:
    assert tokenize(text) == words.split()
    assert tokenize(" ".join(tokenize(text))) == tokenize(text), "a second pass changes nothing"


def test_errors_name_the_problem() -> None:
    with pytest.raises(ValueError, match="There are 1 hypotheses and references of 8 videos. Give one hypothesis"):
        bleu(HYPOTHESES[:1], REFERENCES)
    with pytest.raises(ValueError, match="'a dog' is a text, but a list of words is needed. Split it with `tokenize`"):
        rouge_l(["a dog"], [[["a", "dog"]]])
    with pytest.raises(ValueError, match="'a dog' is a text"):
        bleu([["a", "dog"]], [["a dog"]])
    with pytest.raises(ValueError, match="'a dog' is a text"):
        CiderD(REFERENCES).scores(["a dog"], [0])
    with pytest.raises(ValueError, match=r"Video 0 has \[\] as references. Give a list of at least one sentence"):
        bleu([["a"]], [[]])
    with pytest.raises(ValueError, match="Video 0 has 'a dog' as references"):
        bleu([["a"]], ["a dog"])
    with pytest.raises(ValueError, match="All references of video 1 are empty"):
        CiderD([[["a"]], [[]]])
    with pytest.raises(ValueError, match="the number of videos here is 1. Give the references of at least two"):
        CiderD(REFERENCES[:1])
    with pytest.raises(ValueError, match="There are 2 hypotheses for 8 videos. Give one hypothesis for each"):
        CiderD(REFERENCES).scores(HYPOTHESES[:2])
