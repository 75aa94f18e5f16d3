"""Caption metrics against pycocoevalcap's numbers, sacrebleu and the papers' equations, taken literally."""

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
    bleu_of,
    captions,
    document_frequencies,
    longest_common_subsequence,
    rouge_l,
    tokenize,
)

# Sentences made up for this test, a hypothesis and its references; the numbers are pycocoevalcap 1.2's (Bleu(4), Rouge(), Cider()) on them.
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
SAID = [said.split() for said, _ in VIDEOS]
WRITTEN = [[text.split() for text in written] for _, written in VIDEOS]
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
    """Random sentences of few words, so that n-grams repeat; ragged, hypotheses may be empty and may know other words."""
    random = np.random.default_rng(seed)

    def sentence(low: int, high: int, known: int) -> list[str]:
        return [f"w{number}" for number in random.integers(0, known, random.integers(low, high))]

    said = [sentence(0 if empty else 1, 12, words + 2) for _ in range(videos)]
    return said, [[sentence(1, 12, words) for _ in range(random.integers(1, 5))] for _ in range(videos)]


def grams(words, n: int) -> list[tuple]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def slow_bleu(said, written, n_max: int) -> float:
    """Papineni et al. 2002, section 2: modified precision and brevity penalty."""
    length = sum(map(len, said))
    closest = 0
    for words, refs in zip(said, written, strict=True):
        best = min(abs(len(ref) - len(words)) for ref in refs)
        closest += min(len(ref) for ref in refs if abs(len(ref) - len(words)) == best)
    product = 1.0
    for n in range(1, n_max + 1):
        right = total = 0
        for words, refs in zip(said, written, strict=True):
            for gram in set(grams(words, n)):
                count = grams(words, n).count(gram)
                right += min(count, max(grams(ref, n).count(gram) for ref in refs))
                total += count
        product *= right / total if total else 0.0
    if not length:
        return 0.0
    return product ** (1 / n_max) * (1.0 if length > closest else math.exp(1 - closest / length))


def slow_cider(said, written, corpus_refs) -> list[float]:
    """Vedantam et al. 2015, equations 1 to 4 with the changes of CIDEr-D (section 6), on dense vectors over all n-grams."""
    answer = []
    for words, refs in zip(said, written, strict=True):
        total = 0.0
        for n in range(1, 5):
            every = sorted({g for s in [words, *refs, *itertools.chain(*corpus_refs)] for g in grams(s, n)})
            df = np.array([sum(any(g in grams(r, n) for r in video) for video in corpus_refs) for g in every])
            idf = np.log(len(corpus_refs)) - np.log(np.maximum(df, 1))

            def g(sentence, n=n, every=every, idf=idf):
                counts = Counter(grams(sentence, n))
                return np.array([counts[gram] for gram in every]) * idf

            for ref in refs:
                mine, theirs = g(words), g(ref)
                norms = np.linalg.norm(mine) * np.linalg.norm(theirs)
                cosine = float(np.minimum(mine, theirs) @ theirs / norms) if norms else 0.0
                total += 10 * math.exp(-((len(words) - len(ref)) ** 2) / (2 * 6**2)) * cosine / len(refs) / 4
        answer.append(total)
    return answer


def slow_common(one: tuple, other: tuple) -> int:
    @functools.cache
    def common(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if one[i - 1] == other[j - 1]:
            return common(i - 1, j - 1) + 1
        return max(common(i - 1, j), common(i, j - 1))

    return common(len(one), len(other))


def test_the_published_implementation_gives_the_same_numbers() -> None:
    assert bleu(SAID, WRITTEN) == pytest.approx(GOLDEN_BLEU, rel=1e-8)  # coco-caption adds 1e-9 to what it divides by
    np.testing.assert_allclose(rouge_l(SAID, WRITTEN), GOLDEN_ROUGE, rtol=1e-12)
    np.testing.assert_allclose(CiderD(WRITTEN).scores(SAID), GOLDEN_CIDER, rtol=1e-12)


def test_captions_holds_them_all() -> None:
    found = captions(SAID, WRITTEN)
    assert [found[f"bleu_{n}"] for n in (1, 2, 3, 4)] == bleu(SAID, WRITTEN)
    assert found["rouge_l"] == pytest.approx(np.mean(GOLDEN_ROUGE))
    assert found["cider_d"] == pytest.approx(np.mean(GOLDEN_CIDER))
    assert found["count"] == len(VIDEOS)


@pytest.mark.parametrize("seed", range(6))
def test_bleu_is_the_paper_s(seed: int) -> None:
    said, written = corpus(seed, words=4 if seed % 2 else 9)
    expected = [slow_bleu(said, written, n) for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(bleu(said, written), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_bleu_is_sacrebleu_s(seed: int) -> None:
    said, written = corpus(seed, words=4, empty=False)
    texts = [" ".join(words) for words in said]
    one = sacrebleu.corpus_bleu(
        texts, [[" ".join(refs[0]) for refs in written]], smooth_method="none", tokenize="none", force=True
    )
    assert bleu(said, [refs[:1] for refs in written])[3] == pytest.approx(one.score / 100, rel=1e-12)
    streams = itertools.zip_longest(*([" ".join(ref) for ref in refs] for refs in written))
    several = sacrebleu.corpus_bleu(
        texts, [list(stream) for stream in streams], smooth_method="none", tokenize="none", force=True
    )
    assert bleu(said, written)[3] == pytest.approx(several.score / 100, rel=1e-12)


def test_bleu_s_brevity_takes_the_closest_and_of_equals_the_shorter_reference() -> None:
    hypothesis = list("abcdef")
    assert bleu_counts(hypothesis, [list("abcdefgh"), list("abcd")])[1] == 4
    assert bleu([hypothesis], [[list("abcdefgh"), list("abcd")]]) == [1.0] * 4
    assert bleu([hypothesis], [[list("abcdefgh")]]) == pytest.approx([math.exp(1 - 8 / 6)] * 4)


def test_bleu_s_counts_add_up_and_can_be_drawn_anew() -> None:
    rows = np.array([bleu_counts(said, written) for said, written in zip(SAID, WRITTEN, strict=True)])
    assert bleu_of(rows.sum(0)).tolist() == bleu(SAID, WRITTEN)
    interval = sums_interval(lambda sums: bleu_of(sums)[:, 3], rows, repeats=50, seed=1)
    assert min(interval) <= bleu(SAID, WRITTEN)[3] <= max(interval)


@pytest.mark.parametrize("seed", range(4))
def test_cider_is_the_paper_s(seed: int) -> None:
    said, written = corpus(seed, videos=6)
    np.testing.assert_allclose(CiderD(written).scores(said), slow_cider(said, written, written), rtol=1e-11, atol=1e-13)
    _, training = corpus(seed + 100, videos=9)
    scorer = CiderD(written, document_frequencies(training))
    np.testing.assert_allclose(scorer.scores(said), slow_cider(said, written, training), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("seed", range(4))
def test_rouge_is_its_definition(seed: int) -> None:
    said, written = corpus(seed, words=4)
    expected = []
    for words, refs in zip(said, written, strict=True):
        common = [slow_common(tuple(words), tuple(ref)) for ref in refs]
        p = max(shared / len(words) if words else 0.0 for shared in common)
        r = max(shared / len(ref) for shared, ref in zip(common, refs, strict=True))
        expected.append((1 + 1.44) * p * r / (r + 1.44 * p) if p and r else 0.0)
    np.testing.assert_allclose(rouge_l(said, written), expected, rtol=1e-12)


def test_the_longest_common_subsequence_of_long_sentences() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(0, 5, 150).tolist(), random.integers(0, 5, 130).tolist()
    assert longest_common_subsequence(one, other) == slow_common(tuple(one), tuple(other))
    assert longest_common_subsequence(other, one) == longest_common_subsequence(one, other)
    assert longest_common_subsequence(one, []) == longest_common_subsequence([], one) == 0


def test_a_perfect_hypothesis_reaches_the_maximum() -> None:
    only = [[refs[1]] for refs in WRITTEN[:5]]
    found = captions([refs[0] for refs in only], only)
    assert [found[f"bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx([1.0] * 4)
    assert found["rouge_l"] == pytest.approx(1.0)
    assert found["cider_d"] == pytest.approx(10.0)


def test_the_order_of_references_and_of_videos_plays_no_part() -> None:
    before = captions(SAID, WRITTEN)
    assert captions(SAID, [refs[::-1] for refs in WRITTEN]) == pytest.approx(before, rel=1e-12)
    assert captions(SAID[::-1], WRITTEN[::-1]) == pytest.approx(before, rel=1e-12)


def test_words_may_be_numbers() -> None:
    number = {word: i for i, word in enumerate({w for s in [*SAID, *itertools.chain(*WRITTEN)] for w in s})}
    said = [tuple(number[word] for word in words) for words in SAID]
    written = [[[number[word] for word in words] for words in refs] for refs in WRITTEN]
    assert captions(said, written) == pytest.approx(captions(SAID, WRITTEN), rel=1e-12)


def test_empty_hypotheses_are_legal_and_score_nothing() -> None:
    found = captions([[] for _ in WRITTEN], WRITTEN)
    assert {key: value for key, value in found.items() if value} == {"count": len(VIDEOS)}
    one_empty = [[], *SAID[1:]]
    assert rouge_l(one_empty, WRITTEN)[0] == CiderD(WRITTEN).scores(one_empty)[0] == 0
    assert bleu(one_empty, WRITTEN)[0] < bleu(SAID, WRITTEN)[0]
    assert math.isnan(captions([], [])["cider_d"]) and math.isnan(captions([], [])["bleu_4"])


def test_unknown_words_only_dilute() -> None:
    strange = [[*words, "xyzzy"] for words in SAID]
    assert bleu(strange, WRITTEN)[0] < bleu(SAID, WRITTEN)[0]
    assert (CiderD(WRITTEN).scores(strange) <= CiderD(WRITTEN).scores(SAID)).sum() >= len(SAID) - 1
    assert captions([["xyzzy"] for _ in SAID], WRITTEN)["cider_d"] == 0


def test_cider_s_clipping_gives_nothing_for_saying_it_twice() -> None:
    scorer = CiderD(WRITTEN)
    once, often = scorer.scores([["boat"], ["boat"] * 6], [5, 5])
    assert often < once


def test_cider_meets_the_references_of_the_video_it_is_told() -> None:
    scorer = CiderD(WRITTEN)
    samples, videos = [SAID[1], SAID[0], SAID[1], SAID[2]], [1, 0, 0, 2]
    got = scorer.scores(samples, videos)
    np.testing.assert_allclose(got[[0, 1, 3]], np.array(GOLDEN_CIDER)[[1, 0, 2]], rtol=1e-12)
    assert got[2] == pytest.approx(slow_cider([SAID[1]], [WRITTEN[0]], WRITTEN)[0])


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
    assert tokenize(" ".join(tokenize(text))) == tokenize(text)  # cut once is cut


def test_captions_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="There are 1 hypotheses and references of 8 videos. Give one hypothesis and"):
        bleu(SAID[:1], WRITTEN)
    with pytest.raises(ValueError, match="'a dog' is a text, where a list of words is needed. Cut it with `tokenize`"):
        rouge_l(["a dog"], [[["a", "dog"]]])
    with pytest.raises(ValueError, match="'a dog' is a text"):
        bleu([["a", "dog"]], [["a dog"]])
    with pytest.raises(ValueError, match="'a dog' is a text"):
        CiderD(WRITTEN).scores(["a dog"], [0])
    with pytest.raises(ValueError, match=r"Video 0 has \[\] as references. Give a list of sentences"):
        bleu([["a"]], [[]])
    with pytest.raises(ValueError, match="Video 0 has 'a dog' as references"):
        bleu([["a"]], ["a dog"])
    with pytest.raises(ValueError, match="All references of video 1 are empty"):
        CiderD([[["a"]], [[]]])
    with pytest.raises(ValueError, match="the document frequencies stem from 1. Give the references of at least two"):
        CiderD(WRITTEN[:1])
    with pytest.raises(ValueError, match="There are 2 hypotheses for 8 videos. Give one a video"):
        CiderD(WRITTEN).scores(SAID[:2])
