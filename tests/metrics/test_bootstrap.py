"""The cluster bootstrap: the fast function equals the general one, and the intervals have about the stated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.metrics.bootstrap import grouped_interval, ratio_interval, sums_interval, wilson_interval


def mean(rows) -> float:
    return float(np.mean(rows))


def people(seed: int, groups: int = 30, each: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Items of one person share a random offset; the true mean is 0."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(groups, 1)) + random.normal(size=(groups, each))
    return values.ravel(), np.repeat(np.arange(groups), each)


def test_a_draw_takes_whole_groups_and_as_many_as_there_are():
    names = list("abacabad")
    draws: list[list[str]] = []

    def record(rows: list[str]) -> float:
        draws.append(rows)
        return float(len(draws))

    grouped_interval(record, names, names, repeats=200)
    sizes = {name: names.count(name) for name in names}
    for rows in draws:
        times = {name: rows.count(name) / sizes[name] for name in sizes}
        assert all(count == int(count) for count in times.values())
        assert sum(times.values()) == len(sizes)
    assert len({tuple(rows) for rows in draws}) > 50


@pytest.mark.parametrize("grouped", [True, False])
def test_the_fast_function_equals_the_general_one_draw_for_draw(grouped):
    random = np.random.default_rng(0)
    values, groups = random.normal(size=(90, 2)) + 5, random.permutation(np.arange(90) % 11) if grouped else None
    slow = grouped_interval(lambda rows: float(rows[:, 0].sum() / rows[:, 1].sum()), values, groups, repeats=300)
    assert ratio_interval(values[:, 0], values[:, 1], groups, repeats=300) == pytest.approx(slow)
    fast = sums_interval(lambda sums: sums[:, 0] / sums[:, 1], values, groups, repeats=300)
    assert fast == pytest.approx(slow)
    slow = grouped_interval(lambda rows: mean(rows[:, 0]), values, groups, repeats=300)
    assert ratio_interval(values[:, 0], groups=groups, repeats=300) == pytest.approx(slow)


def test_arrays_tensors_and_lists_with_any_group_names_give_the_same():
    values, groups = people(1)
    expected = grouped_interval(mean, values, groups, repeats=100)
    names = [f"person {g}" for g in groups]
    assert grouped_interval(mean, values.tolist(), names, repeats=100) == pytest.approx(expected)
    interval = grouped_interval(
        lambda rows: float(rows.mean()), torch.tensor(values), torch.tensor(groups), repeats=100
    )
    assert interval == pytest.approx(expected)
    by_index = grouped_interval(lambda index: mean(values[index]), np.arange(len(values)), groups, repeats=100)
    assert by_index == expected


def test_the_seed_determines_the_draws_and_no_global_state_changes():
    values, groups = people(2)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()  # type: ignore[index, union-attr]
    assert ratio_interval(values, None, groups) == ratio_interval(values, None, groups)
    assert ratio_interval(values, None, groups) != ratio_interval(values, None, groups, seed=1)
    assert (np.random.get_state()[1] == before[0]).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_higher_level_is_wider_and_contains_the_estimate():
    values, groups = people(3)
    narrow, wide = (ratio_interval(values, None, groups, level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_the_width_of_the_interval_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(4).normal(size=2000)
    low, high = ratio_interval(values, repeats=4000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(len(values)), rel=0.05)


def test_intervals_over_groups_have_the_stated_coverage_and_those_over_items_have_not():
    """100 data sets of 30 people: 0.93 expected (see the module); +- 0.08 is three standard errors."""
    covered = {"groups": 0, "items": 0}
    for seed in range(100):
        values, groups = people(seed)
        for name, names in (("groups", groups), ("items", None)):
            low, high = ratio_interval(values, None, names, repeats=200, seed=seed)
            covered[name] += low <= 0 <= high
    assert 0.85 <= covered["groups"] / 100 <= 0.99
    assert covered["items"] / 100 < 0.85


def test_draws_with_a_statistic_of_nan_are_left_out():
    values = np.array([1.0, 2.0, 3.0, float("nan")])

    def mean_or_nan(rows) -> float:
        return float("nan") if np.isnan(rows).any() else mean(rows)

    low, high = grouped_interval(mean_or_nan, values)
    assert 1 <= low <= high <= 3


def test_fewer_than_two_groups_have_no_interval():
    for interval in (
        ratio_interval([], None),
        ratio_interval([0, 0], [0, 0]),
        ratio_interval([0.5], None),
        ratio_interval([1.0], None, is_share=False),
        ratio_interval([1.5, 0.2], None, ["a", "a"]),
        grouped_interval(mean, [1.0, 0.0], ["a", "a"]),
        grouped_interval(mean, []),
        grouped_interval(lambda rows: float("nan"), [1, 2]),
    ):
        assert all(math.isnan(end) for end in interval)


def test_a_share_of_which_all_or_none_is_right_has_the_interval_of_wilson():
    """9 of 9: the lower end is n / (n + z^2) by Wilson's formula, 0.70 (Brown, Cai & DasGupta 2001)."""
    low, high = ratio_interval(np.ones(9))
    assert low == pytest.approx(9 / (9 + 1.959964**2), abs=1e-6) and round(low, 2) == 0.70 and high == 1.0
    assert ratio_interval(torch.ones(9, dtype=torch.bool)) == (low, high)
    assert ratio_interval(np.zeros(9)) == (0.0, pytest.approx(1 - low))
    assert ratio_interval([4] * 9, [4] * 9) == (low, high), "4 frames of each of 9 videos are not 36 videos"
    assert ratio_interval([1] * 27, None, [i % 9 for i in range(27)]) == (low, high), "9 persons are not 27"
    assert ratio_interval([1, 1, 0], [1, 1, 0]) == wilson_interval(1, 2), "an item that counts nothing is no group"
    assert ratio_interval(np.ones(9), level=0.5)[0] > low
    no_share = ratio_interval([1.0] * 9, is_share=False)
    assert all(map(math.isnan, no_share)), "CIDEr-D ends at 10: a mean of it is no share, and all draws are equal"
    assert ratio_interval([1, 0] * 4, None, list("aabbccdd")) == wilson_interval(0.5, 4), "all groups are alike"
    assert all(map(math.isnan, grouped_interval(mean, [0.3] * 5)))
    assert ratio_interval([0.3, 0.3, 0.3, 0.31], is_share=False)[0] == pytest.approx(0.3)


def test_one_and_two_groups_have_the_interval_of_wilson_by_groups():
    low, high = ratio_interval([1, 1, 1, 0], None, ["a", "a", "b", "b"])
    assert (low, high) == wilson_interval(0.75, 2) and low < 0.25 and high > 0.95
    assert ratio_interval([1.0, 0.0], None, ["a", "a"]) == wilson_interval(0.5, 1)
    three = ratio_interval([1, 1, 1, 0, 1, 1], None, list("aabbcc"))
    assert three != wilson_interval(5 / 6, 3) and three[0] >= 0.5, "three groups are resampled"


@pytest.mark.parametrize(("right", "count", "low", "high"), [(5, 10, 0.2366, 0.7634), (1, 10, 0.0179, 0.4042)])
def test_the_interval_of_wilson_equals_published_values(right, count, low, high):
    assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=1e-4)


def test_errors_name_the_problem():
    with pytest.raises(ValueError, match="There are 3 items and 2 groups"):
        grouped_interval(mean, [1, 2, 3], ["a", "b"])
    with pytest.raises(ValueError, match="repeats=0, level=0.95: an interval needs at least one repeat"):
        ratio_interval([1, 0], repeats=0)
    with pytest.raises(ValueError, match="level=95: an interval needs .* a level between 0 and 1"):
        ratio_interval([1, 0], level=95)
