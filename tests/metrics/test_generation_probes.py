"""Probes of generated sequences: they accept real ones, reject controls, and give known answers."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from pipeline.metrics.generation_probes import (
    _folds,
    discriminative_score,
    persistence_error,
    predictive_score,
    probe_controls,
    trusted,
)


def waves(count: int, seed: int, size: int = 4, steps: int = 12) -> tuple[list[np.ndarray], list[str]]:
    """Two kinds of clips, slow and fast waves with different means and all phases: (clips, kinds)."""
    random = np.random.default_rng(seed)
    kinds = [("slow", "fast")[number % 2] for number in range(count)]
    clips = []
    for kind in kinds:
        pace, middle = (0.4, -1.0) if kind == "slow" else (0.9, 1.0)
        phase = random.uniform(-np.pi, np.pi, size)
        clips.append(middle + np.sin(pace * np.arange(steps)[:, None] + phase))
    return clips, kinds


@pytest.mark.parametrize("probe", ["weak", "strong"])
def test_a_probe_rejects_every_control_and_accepts_real_clips(probe):
    (real, _), (other, kinds) = waves(120, 0), waves(120, 1)
    controls = probe_controls(other, np.random.default_rng(0), kinds)
    against = {"real": other, **controls}
    scores = {name: discriminative_score(real, clips, probe, folds=2) for name, clips in against.items()}
    assert scores["real"] < 0.1, scores
    assert trusted(scores, margin=0.05), scores
    assert not trusted(scores | {"shuffled": scores["real"]}, margin=0.05)


def test_the_score_is_a_half_for_distant_clips_and_near_zero_for_the_same_clips():
    real, _ = waves(24, 0)
    assert discriminative_score(real, [clip + 50 for clip in real], epochs=8) == 0.5
    assert discriminative_score(real, real, epochs=2) <= 0.25


@pytest.mark.parametrize("probe", ["weak", "strong"])
def test_a_probe_that_is_told_the_class_sees_clips_of_another_class(probe):
    (real, kinds), (other, others) = waves(60, 0), waves(60, 1)
    wrong = [{"slow": "fast", "fast": "slow"}[kind] for kind in others]
    ask = partial(discriminative_score, real, other, probe, folds=2, labels=kinds)
    assert ask(generated_labels=others) < 0.15
    assert ask(generated_labels=wrong) > 0.3
    with pytest.raises(ValueError, match="60 real and 60 generated clips, and 60 and 59 classes"):
        ask(generated_labels=others[1:])


def test_lengths_tell_a_probe_nothing():
    (real, _), (other, _) = waves(40, 0), waves(40, 1)
    short = [clip[:7] for clip in other]
    cut = discriminative_score([clip[:7] for clip in real], short, epochs=3)
    assert discriminative_score(real, short, epochs=3) == cut


def test_whole_groups_are_held_out():
    random = np.random.default_rng(0)
    # each person looks like nobody else; the first twelve are "real", the others "generated"
    people = random.normal(size=(24, 1, 16)) * 3
    clips = [people[number // 5] + random.normal(0, 0.1, (6, 16)) for number in range(120)]
    names = [number // 5 for number in range(60)]
    ask = partial(discriminative_score, clips[:60], clips[60:], epochs=40)
    assert ask() > 0.4  # it knows the persons
    assert ask(groups=names, generated_groups=names) < 0.3


@pytest.mark.parametrize("probe", ["weak", "strong"])
def test_a_group_in_both_sets_is_held_out_in_both(probe):
    """Each person is once in either set and like nobody else: a probe that knows a person from one set is wrong in the
    other.
    """
    random = np.random.default_rng(0)
    people = random.normal(size=(40, 1, 8)) * 3
    first, second = ([p + random.normal(0, 0.1, (6, 8)) for p in people] for _ in range(2))
    names = [f"person {i}" for i in range(40)]
    assert discriminative_score(first, second, probe, groups=names, generated_groups=names) < 0.15
    place: dict = {}
    torch.manual_seed(0)
    one = _folds(first, names, 3, place)
    other = _folds(second, names[::-1], 3, place)
    assert one.tolist() == other.tolist()[::-1] and set(one.tolist()) == {0, 1, 2}


def test_a_probe_changes_neither_random_state_nor_threads_nor_gradients():
    real, _ = waves(24, 0)
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.inference_mode():
        first = discriminative_score(real, real[::-1], epochs=2, seed=1)
        assert not torch.is_grad_enabled()
    assert discriminative_score(real, real[::-1], epochs=2, seed=1) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_training_on_real_clips_predicts_real_ones_and_training_on_garbage_does_not():
    (real, _), (other, kinds) = waves(80, 0), waves(80, 1)
    controls = probe_controls(other, np.random.default_rng(0), kinds)
    ask = partial(predictive_score, real=real, epochs=60)
    floor, still = ask(other), persistence_error(real)
    assert floor < 0.5 * still
    for name in ("noise", "shuffled"):
        assert ask(controls[name]) > still, name


def test_the_persistence_error_is_that_of_predicting_no_change():
    real, _ = waves(6, 0)
    rows = np.concatenate(real)
    by_hand = np.mean([abs((b - a) / rows.std(0)) for clip in real for a, b in itertools.pairwise(clip)])
    assert persistence_error(real) == pytest.approx(by_hand)
    still = [np.repeat(clip[:1], 6, 0) for clip in real]
    assert predictive_score(still, real, epochs=1) == pytest.approx(by_hand, rel=0.1)
    constant = [np.concatenate([clip, np.ones((len(clip), 1))], 1) for clip in real]
    assert persistence_error(constant) == pytest.approx(by_hand * 4 / 5)


def test_a_probe_is_trusted_only_when_each_control_is_far_from_real():
    assert trusted({"real": 0.02, "noise": 0.5, "shuffled": 0.2})
    assert not trusted({"real": 0.15, "noise": 0.5, "shuffled": 0.2})


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda clips: discriminative_score(clips, clips[:5]), "needs 12 each"),
        (lambda clips: discriminative_score(clips, [clip[:, :2] for clip in clips]), "in one space"),
        (lambda clips: discriminative_score(clips, [clip[:3] for clip in clips]), "needs 4 steps"),
        (lambda clips: discriminative_score(clips, clips, folds=1), "give 2 to 12"),
        (lambda clips: discriminative_score(clips, clips, groups=[0] * 12), "at least 3 different"),
        (lambda clips: discriminative_score(clips, clips, groups=[0]), "Give each clip a group"),
        (lambda clips: discriminative_score(clips, clips, probe="huge"), "'weak' or 'strong'"),  # type: ignore
    ],
)
def test_wrong_input_gives_a_sentence(ask, words):
    with pytest.raises(ValueError, match=words):
        ask(waves(12, 0)[0])
