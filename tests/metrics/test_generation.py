"""Scores of generated sequences, against closed formulas, invariants and negative controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.metrics import negative_controls as controls
from pipeline.metrics.generation import (
    Space,
    as_clips,
    content_distance,
    copied_share,
    differences,
    diversity,
    diversity_ratio,
    frechet,
    frechet_pooled,
    frechet_time,
    modes,
    nearest,
    pooled,
    resample,
    share_of_the_way,
)


def sines(count: int, seed: int, steps: int = 24, size: int = 5) -> list[np.ndarray]:
    """Waves of random frequencies and phases, after the toy set of TimeGAN."""
    random = np.random.default_rng(seed)
    frequency, phase = random.uniform(0.1, 1, (count, 1, size)), random.uniform(-np.pi, np.pi, (count, 1, size))
    return list(np.sin(frequency * np.arange(steps)[None, :, None] + phase))


def moving(count: int, seed: int, size: int = 6) -> list[np.ndarray]:
    """Clips of 14 to 20 steps: a blob crosses an image of size x size from left to right, in a row of its own;
    flattened.
    """
    random = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        steps, row, pace = random.integers(14, 21), random.uniform(1, size - 2), random.uniform(0.25, 0.45)
        columns, rows = np.meshgrid(np.arange(size), np.arange(size))
        at = -1 + pace * np.arange(steps)[:, None, None]
        clips.append(np.exp(-((columns - at) ** 2) - (rows - row) ** 2).reshape(steps, -1))
    return clips


WORLDS = {"sines": sines, "moving": moving}


def exact_samples(mean: np.ndarray, root: np.ndarray, seed: int) -> np.ndarray:
    """Samples whose mean and covariance are exactly `mean` and root root'."""
    x = np.random.default_rng(seed).normal(size=(50, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ root.T + mean


def test_the_frechet_distance_of_axis_aligned_gaussians_is_the_closed_formula():
    mean_a, mean_b = np.array([1.0, 2.0, 0.0]), np.array([0.0, 2.5, -1.0])
    a, b = np.array([1.0, 0.5, 2.0]), np.array([0.2, 0.5, 3.0])
    got = frechet(exact_samples(mean_a, np.diag(a), 0), exact_samples(mean_b, np.diag(b), 1))
    assert got == pytest.approx(((mean_a - mean_b) ** 2).sum() + ((a - b) ** 2).sum())


def test_the_frechet_distance_of_any_gaussians_is_the_trace_of_the_root_of_the_product():
    random = np.random.default_rng(0)
    root_a, root_b, shift = random.normal(size=(4, 4)), random.normal(size=(4, 4)), random.normal(size=4)
    a, b = root_a @ root_a.T, root_b @ root_b.T
    root = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()  # tr (A B)^1/2: the formula as it is printed
    got = frechet(exact_samples(np.zeros(4), root_a, 1), exact_samples(shift, root_b, 2))
    assert got == pytest.approx((shift**2).sum() + np.trace(a) + np.trace(b) - 2 * root)


@pytest.mark.parametrize(("count", "size"), [(200, 3), (5, 20), (30, 1)])
def test_the_frechet_distance_is_zero_for_equal_sets_symmetric_and_invariant_to_rotations(count, size):
    random = np.random.default_rng(count)
    a, b = random.normal(size=(count, size)), random.normal(1, 2, (count + 1, size))
    rotation = np.linalg.qr(random.normal(size=(size, size)))[0]
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a))
    assert frechet(a, b) == pytest.approx(frechet(a @ rotation + 3, b @ rotation + 3))
    assert frechet(3 * a, 3 * b) == pytest.approx(9 * frechet(a, b))


def test_full_shrinkage_leaves_means_and_mean_variances():
    random = np.random.default_rng(3)
    a, b = random.normal(size=(40, 4)) * [1, 2, 3, 4], random.normal(1, 1, (60, 4))
    variance_a, variance_b = a.var(0, ddof=1).mean(), b.var(0, ddof=1).mean()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + 4 * (math.sqrt(variance_a) - math.sqrt(variance_b)) ** 2
    assert frechet(a, b, shrinkage=1.0) == pytest.approx(expected)


@pytest.mark.parametrize("world", WORLDS)
def test_by_changes_controls_are_far_and_other_real_clips_near(world):
    real, other = WORLDS[world](40, 0), WORLDS[world](40, 1)
    random, space = np.random.default_rng(0), Space.fit(real)
    floor = frechet_time(real, other, space)
    made = {
        "frozen": controls.frozen(other, random),
        "still mean": controls.still_mean(other),
        "shuffled": controls.shuffled(other, random),
        "noise": controls.noise(other, random),
        "correlated noise": controls.correlated_noise(other, random),
        "mean + noise": controls.mean_plus_noise(other, random),
    }
    for name, clips in made.items():
        assert frechet_time(real, clips, space) > 5 * floor, name
    assert frechet_time(real, controls.copied(real, 40, random), space) == pytest.approx(0, abs=1e-9)
    for still in ("frozen", "still mean"):
        assert (
            share_of_the_way(frechet_time(real, made[still], space), floor, frechet_time(real, made["noise"], space))
            < 0.5
        )


def test_clips_with_a_direction_are_far_from_themselves_reversed():
    real, other = moving(40, 0), moving(40, 1)
    space = Space.fit(real)
    backwards = [clip[::-1] for clip in other]
    assert frechet_time(real, backwards, space) > 3 * frechet_time(real, other, space)
    assert frechet_pooled(real, backwards, space) == pytest.approx(frechet_pooled(real, other, space))


def test_the_pooled_score_accepts_a_still_mean():
    real, other = moving(40, 0), moving(40, 1)
    random, space = np.random.default_rng(0), Space(np.zeros(36), np.eye(36), np.eye(36), 1.0)
    still = frechet_pooled(real, controls.still_mean(other), space)
    assert still == pytest.approx(frechet_pooled(real, other, space))
    assert still == pytest.approx(frechet_pooled(real, controls.shuffled(other, random), space))


def test_scores_are_invariant_to_rotations_and_units():
    real, other = sines(20, 0), sines(20, 1)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    turned_real, turned_other = [7 * clip @ rotation for clip in real], [7 * clip @ rotation for clip in other]
    assert frechet_time(turned_real, turned_other) == pytest.approx(frechet_time(real, other))
    assert frechet_pooled(turned_real, turned_other) == pytest.approx(49 * frechet_pooled(real, other))


@pytest.mark.parametrize("size", [2, 40])
def test_a_space_finds_the_directions_of_real_clips_with_more_steps_or_more_dimensions(size):
    random = np.random.default_rng(0)
    into = np.linalg.qr(random.normal(size=(300, 5)))[
        0
    ].T  # (5, 300): the clips live in five of three hundred dimensions
    clips = [clip @ into for clip in sines(10, 0, steps=7)]
    space = Space.fit(clips, size)
    for basis in (space.basis, space.change_basis):
        assert np.allclose(basis.T @ basis, np.eye(size))
    features = space.features(clips)
    assert np.allclose([(row**2).sum() for row in features], [((clip - space.mean) ** 2).sum() for clip in clips])
    if size > 5:
        assert np.allclose([row[:, -1] for row in features], 0, atol=1e-6)
        assert all((clip[:, -1] > 0.5).all() for clip in space.features([clip + 1 for clip in clips]))
    wanted = np.linalg.svd(np.concatenate(clips) - space.mean)[2][0]
    assert abs(space.basis[:, 0] @ wanted) == pytest.approx(1)


def test_a_space_has_fewer_directions_for_few_clips_and_never_more_than_dimensions():
    wide = np.random.default_rng(0).normal(size=(80, 4, 50))
    assert [Space.fit(wide[:n]).basis.shape[1] for n in (1, 10, 44, 80)] == [3, 16, 22, 32]
    assert Space.fit(wide[:, :, :3]).basis.shape[1] == 3


def test_differences_are_zero_for_a_frozen_clip_and_depend_on_the_direction_of_time():
    turns = np.arange(25)[:, None] * 0.5 + [0, -np.pi / 2]
    circle = np.cos(turns)
    random = np.random.default_rng(0)
    assert not differences(controls.frozen([circle], random)).any()
    assert not differences(controls.still_mean([circle])).any()
    assert np.allclose(differences([circle + 5]), differences([circle]))
    assert np.allclose(differences([3 * circle]), 3 * differences([circle]))
    there, back = differences([circle])[0], differences([circle[::-1]])[0]
    assert there.shape == (5 * 2 - 1,)
    assert np.allclose(back[2:6], there[2:6])  # how much it moves is the same
    assert np.allclose(back[:2], -there[:2])  # where to is not
    assert there[-1] > 0.4 > -0.4 > back[-1]  # nor which way round
    smooth, torn = differences([circle])[0, 6:8], differences(controls.shuffled([circle], random))[0, 6:8]
    assert (smooth > 0).all() and (torn < 0).all()


def test_the_share_of_the_way_is_one_at_the_floor_and_zero_at_the_ceiling():
    assert share_of_the_way(2.0, 2.0, 10.0) == 1
    assert share_of_the_way(10.0, 2.0, 10.0) == 0
    assert share_of_the_way(4.0, 2.0, 10.0) == 0.75
    assert share_of_the_way(12.0, 2.0, 10.0) == -0.25


def test_a_copy_has_distance_zero_and_new_clips_are_like_the_test_set():
    train, test, made = sines(60, 0), sines(60, 1), sines(60, 2)
    copies = controls.copied(train, 70, np.random.default_rng(0))
    assert len(copies) == 70
    assert not nearest(copies, train).any()
    assert copied_share(copies, train, test) == 1
    assert copied_share(made, train, test) < 0.2
    brute = [min(np.sqrt(((a - b) ** 2).sum(1).mean()) for b in train) for a in made[:3]]
    assert np.allclose(nearest(made[:3], train, steps=24), brute)


def test_diversity_is_the_mean_over_pairs_and_falls_when_clips_repeat():
    clips = [np.full((4, 3), value) for value in (0.0, 1.0, 3.0)]
    assert diversity(clips) == pytest.approx(np.sqrt(3) * (1 + 3 + 2) / 3)
    assert diversity([clips[0]] * 3) == 0
    real = sines(30, 0)
    assert diversity_ratio(real, real) == 1
    assert diversity_ratio(real[:1] * 15 + real[1:2] * 15, real) < 0.7


def test_modes_counts_classes_by_hand():
    assert modes([0, 0, 2, 2], 4) == {"covered": 2, "effective": pytest.approx(2), "count": 4}
    assert modes(np.arange(5), 5)["effective"] == pytest.approx(5)
    assert 1 < modes([0] * 9 + [1], 2)["effective"] < 1.5


def test_content_distance_by_hand():
    assert content_distance([np.array([[0.0, 0], [6, 8]]), np.zeros((3, 2))]) == pytest.approx((5 + 0) / 2)


def test_resampling_keeps_the_ends_and_lines():
    line = np.linspace(0, 1, 7)[:, None] * [1, -2]
    assert np.allclose(resample(line, 19), np.linspace(0, 1, 19)[:, None] * [1, -2])
    assert np.array_equal(resample(line, 7), line)
    assert np.array_equal(resample(line[:1], 3), np.repeat(line[:1], 3, 0))


def test_controls_have_the_statistics_that_they_promise():
    real, random = moving(30, 0), np.random.default_rng(0)
    for made in (controls.frozen(real, random), controls.still_mean(real), controls.shuffled(real, random)):
        assert [clip.shape for clip in made] == [clip.shape for clip in real]
    for still, source in zip(controls.frozen(real, random), real, strict=True):
        assert (still == still[0]).all() and (source == still[0]).all(1).any()
    assert np.allclose(pooled(controls.still_mean(real)), pooled(real))
    for torn, source in zip(controls.shuffled(real, random), real, strict=True):
        assert np.array_equal(np.sort(torn, 0), np.sort(source, 0)) and not np.array_equal(torn, source)
    steps = np.concatenate(real)
    drawn = np.concatenate(controls.noise(real * 10, random))
    assert np.allclose(drawn.mean(0), steps.mean(0), atol=0.02) and np.allclose(drawn.std(0), steps.std(0), atol=0.02)
    drawn = np.concatenate(controls.correlated_noise(real * 5, random))
    assert np.allclose(np.cov(drawn, rowvar=False), np.cov(steps, rowvar=False), atol=0.02)
    still = controls.mean_plus_noise(real, random, scale=0)
    assert all(np.allclose(resample(clip, 14)[[0, -1]], still[0][[0, -1]]) for clip in still)
    again = controls.noise(real, np.random.default_rng(7)), controls.noise(real, np.random.default_rng(7))
    assert all(np.array_equal(a, b) for a, b in zip(*again, strict=True))


def test_half_the_modes_are_the_clips_of_every_second_label_or_of_one_side():
    clips = [np.full((3, 2), float(number)) for number in range(6)]
    kept = controls.half_the_modes(clips, ["c", "a", "b", "a", "d", "b"])
    assert [clip[0, 0] for clip in kept] == [0, 1, 3]
    side = {clip[0, 0] for clip in controls.half_the_modes(clips)}
    assert side in ({0, 1, 2}, {3, 4, 5})


def test_tensors_arrays_and_lists_give_the_same_scores():
    stacked = np.stack(sines(12, 0))
    tensor = torch.tensor(stacked, requires_grad=True)
    assert frechet_time(tensor, list(tensor)) == pytest.approx(frechet_time(stacked, list(stacked)), abs=1e-12)
    given = stacked.copy()
    pooled(stacked), Space.fit(stacked).pairs(stacked)
    assert np.array_equal(given, stacked)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: as_clips([]), "no clip to measure"),
        (lambda: as_clips([np.zeros((3, 2)), np.zeros((3, 4))]), "one D"),
        (lambda: as_clips([np.zeros(3)]), r"\(T, D\)"),
        (lambda: frechet_time(sines(3, 0), [np.zeros((2, 5))]), "needs 3 steps"),
        (lambda: pooled([np.full((3, 2), np.nan)]), "NaN"),
        (lambda: Space.fit(np.ones((3, 4, 2))), "clips that move"),
        (lambda: Space.fit(sines(3, 0), 0), "at least 1"),
        (lambda: frechet(np.zeros((5, 2)), np.zeros((5, 3))), r"give \(N, K\)"),
        (lambda: frechet(np.zeros((5, 2)), np.zeros((1, 2))), ">= 2"),
        (lambda: frechet(np.zeros((5, 2)), np.zeros((5, 2)), shrinkage=1.5), "Give 0"),
        (lambda: share_of_the_way(1, 2, 2), "cannot tell them apart"),
        (lambda: diversity(np.zeros((1, 3, 2))), "at least two"),
        (lambda: modes([0, 4], 4), r"0\.\.3"),
        (lambda: modes([], 4), "at least one"),
        (lambda: nearest(sines(2, 0), sines(2, 0), steps=0), "at least 1"),
    ],
)
def test_wrong_input_gives_a_sentence(ask, words):
    with pytest.raises(ValueError, match=words):
        ask()
