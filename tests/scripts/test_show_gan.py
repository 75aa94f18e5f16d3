"""The tools of the proofs of generated features and sentences: the grammar, BLEU against a whole set, few clips."""

from __future__ import annotations

import gan_series
import gan_tokens
import numpy as np
import pytest
from captions import PHRASES, random_captions  # type: ignore[attr-defined]
from figures import random_body  # type: ignore[attr-defined]

from pipeline.data.manifest_rows import Row
from pipeline.metrics.captions import bleu


def test_every_caption_is_grammatical_and_broken_captions_are_not() -> None:
    rng = np.random.default_rng(0)
    for number in range(200):
        labels = [str(label) for label in rng.choice(list(PHRASES), size=1 + number % 5)]
        for text in random_captions(rng, random_body(rng), labels, 2):
            assert gan_tokens.is_grammatical(text), text
            words = text.split()
            assert not gan_tokens.is_grammatical(" ".join(words[:-1])), "its end is missing"
            assert not gan_tokens.is_grammatical(" ".join([*words, words[-1]])), "it continues behind its end"
            assert not gan_tokens.is_grammatical(" ".join([words[0], *words])), "its first word is repeated"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A person in orange shirt sits down.",
        "A person sits down, then stands up, then sits down.",
        "The person sits down, then.",
        "The person stands up and then sits down and then stands up.",
        "The person waves.",
    ],
)
def test_similar_texts_outside_the_grammar_are_not_grammatical(text: str) -> None:
    assert not gan_tokens.is_grammatical(text)


def test_an_action_that_never_followed_another_is_not_possible() -> None:
    world = gan_tokens.World.of(["A person sits down and then stands up."])
    assert world.is_possible("The tall figure in a red shirt takes a seat, then stands up.")
    assert not world.is_possible("The tall figure stands up, then takes a seat.")
    assert not world.is_possible("The tall figure in a red shirt and red trousers takes a seat, then stands up.")


def test_bleu_against_a_set_is_bleu_with_all_its_texts_as_references() -> None:
    rng = np.random.default_rng(0)
    said, true = ([" ".join(rng.choice(list("abcd"), size=rng.integers(4, 9))) for _ in range(20)] for _ in range(2))
    told, references = [t.split() for t in said], [t.split() for t in true]
    assert gan_tokens.bleu_4(said, true) == pytest.approx(bleu(told, [references] * len(told))[-1])
    others = [[*told[:i], *told[i + 1 :]] for i in range(len(told))]
    assert gan_tokens.bleu_4(said) == pytest.approx(bleu(told, others)[-1])


def _clips() -> gan_series.Clips:
    rng = np.random.default_rng(0)
    rows = [Row(f"{i}.npy", "train", f"g{i // 4}", ("up", "down")[i % 2]) for i in range(128)]
    return gan_series.Clips([rng.normal(size=(4 + i % 3, 5)).astype(np.float32) for i in range(128)], rows)


def test_few_clips_have_different_groups_and_added_clips_have_other_groups() -> None:
    for seed in range(5):
        draw = gan_series.FewClips.draw(_clips(), seed)
        for label in ("up", "down"):
            few, more = ([row.group for row in part.rows if row.label == label] for part in (draw.few, draw.more))
            assert (
                len(few) == len(set(few)) == gan_series.NUM_FEW and len(more) == len(set(more)) == gan_series.NUM_ADDED
            )
            assert not set(few) & set(more)


def test_added_clips_come_from_clips_of_their_class() -> None:
    few = gan_series.FewClips.draw(_clips(), 0).few
    for added in (gan_series.add_noise(few, np.random.default_rng(0)), gan_series.mix(few, np.random.default_rng(0))):
        assert sorted(added.labels) == ["down"] * gan_series.NUM_ADDED + ["up"] * gan_series.NUM_ADDED
    mixed = gan_series.mix(few, np.random.default_rng(1))
    for value, label in zip(mixed.values, mixed.labels, strict=True):
        own = [v for v, one in zip(few.values, few.labels, strict=True) if one == label]
        lines = []
        for a in own:
            for b in own:
                steps = len(value)
                if a is not b and min(len(a), len(b)) == steps:
                    rest = np.stack([(a[:steps] - b[:steps]).ravel()], 1)
                    lines.append(np.linalg.lstsq(rest, (value - b[:steps]).ravel(), rcond=None)[1].sum())
        assert min(lines) < 1e-8, "it is between two clips of its class"


def test_halves_share_no_group_and_a_sample_has_the_same_classes() -> None:
    clips = _clips()
    one, two = gan_series.split_groups(clips, np.random.default_rng(0))
    assert not set(one.groups) & set(two.groups) and len(one.rows) + len(two.rows) == len(clips.rows)
    few = gan_series.FewClips.draw(clips, 0).few
    assert sorted(gan_series.sample_like(few, two, np.random.default_rng(0)).labels) == sorted(few.labels)
