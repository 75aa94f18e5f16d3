"""Stamps as files have them -> the times that a player would show."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence

import pytest

from pipeline.media.timeline import HOLD_SECONDS, WRAP_SECONDS, Picture, Shown, Timeline, usual_rate

STEP = 1 / 30


def show(stamps: Iterable[float | None], *, duration: float = 0.0, **settings) -> tuple[Timeline, list[Shown[int]]]:
    timeline = Timeline(**{"rate": 30.0, **settings})
    pictures = [Picture(stamp, duration, number) for number, stamp in enumerate(stamps)]
    shown = list(timeline.show(iter(pictures)))
    assert [one.frame for one in shown] == list(range(len(pictures))), "no picture is dropped or moved"
    return timeline, shown


def steady(count: int, start: float = 0.0, step: float = STEP) -> list[float]:
    return [start + number * step for number in range(count)]


def assert_times(shown: Sequence[Shown[int]], times: Sequence[float], tolerance: float = STEP / 2) -> None:
    assert [one.time for one in shown] == pytest.approx(list(times), abs=tolerance)


def test_steady_stamps_stay_as_they_are() -> None:
    timeline, shown = show(steady(300))
    assert_times(shown, steady(300), 1e-9)
    assert timeline.jumps is None and timeline.gaps is None and timeline.last_duration == pytest.approx(STEP)


@pytest.mark.parametrize("place", [1, 2, 100, 297, 298])
@pytest.mark.parametrize("jump", [3 * 3600.0, 86400.0, -50.0, 0.5])
def test_a_lone_outlier_is_placed_after_its_neighbour(place: int, jump: float) -> None:
    stamps = steady(300)
    stamps[place] += jump
    timeline, shown = show(stamps)
    assert_times(shown, steady(300), STEP)
    assert all(one.seconds_before_gap == 0 for one in shown)
    assert timeline.jumps is not None and timeline.jumps.count == 1


def test_an_outlier_at_the_end_is_one_step_later() -> None:
    timeline, shown = show([*steady(299), 10800.0])
    assert_times(shown, steady(300))
    assert timeline.jumps is not None and timeline.jumps.place == pytest.approx(298 * STEP)


def test_a_wrong_first_stamp_is_placed_before_the_next() -> None:
    for first in (10800.0, 1e6):
        _, shown = show([first, *steady(299, STEP)])
        assert_times(shown, steady(300))


@pytest.mark.parametrize("second", [7000.0, -500.0, 0.0, 3.0])
def test_a_restart_of_the_clock_is_joined_in_a_stream_that_joins(second: float) -> None:
    stamps = [*steady(150, 100.0), *steady(150, second)]
    timeline, shown = show(stamps, joins=True)
    assert_times(shown, steady(300, 100.0))
    assert timeline.jumps is not None and timeline.gaps is None


def test_a_33_bit_clock_that_wraps_goes_on() -> None:
    start = WRAP_SECONDS - 2.0
    stamps = [stamp % WRAP_SECONDS for stamp in steady(300, start)]
    _, shown = show(stamps)
    assert_times(shown, steady(300, start))


def test_a_clock_that_goes_back_and_forth_uses_the_earlier_offset() -> None:
    stamps = [*steady(50), *steady(50, 5000 + 50 * STEP), *steady(50, 100 * STEP)]
    _, shown = show(stamps, joins=True)
    assert_times(shown, steady(150))


def test_a_long_gap_is_named_and_the_picture_before_it_is_shown_for_one_step() -> None:
    stamps = [*steady(90), *steady(90, 63.0)]
    timeline, shown = show(stamps)
    assert_times(shown, stamps)
    assert [one.frame for one in shown if one.seconds_before_gap] == [90]
    assert shown[90].seconds_before_gap == pytest.approx(STEP)
    assert timeline.gaps is not None and timeline.gaps.count == 1 and timeline.jumps is None


@pytest.mark.parametrize("pause", [0.2, 6.0, HOLD_SECONDS])
def test_a_picture_that_is_held_is_no_gap(pause: float) -> None:
    stamps = [*steady(30), *steady(30, 29 * STEP + pause)]
    timeline, shown = show(stamps)
    assert_times(shown, stamps)
    assert timeline.gaps is None and timeline.jumps is None and not any(one.seconds_before_gap for one in shown)


def test_one_picture_a_second_and_a_single_picture_stay_as_they_are() -> None:
    timeline, shown = show(steady(20, step=1.0), rate=1.0)
    assert_times(shown, steady(20, step=1.0), 1e-9)
    assert timeline.jumps is None
    _, shown = show([5.0])
    assert_times(shown, [5.0])


def test_pictures_without_stamps_follow_one_another_at_the_rate_or_by_their_durations() -> None:
    _, shown = show([None] * 60, rate=50.0)
    assert_times(shown, steady(60, step=0.02), 1e-9)
    _, shown = show([None] * 60, rate=50.0, duration=0.04)
    assert_times(shown, steady(60, step=0.04), 1e-9)
    timeline, shown = show([None] * 60, rate=None)
    assert_times(shown, steady(60, step=0.04), 1e-9)
    assert timeline.is_rate_assumed
    _, shown = show([0.0, 0.5, 0.1, 9.0], rate=25.0, has_order_only=True)
    assert_times(shown, steady(4, step=0.04), 1e-9)


@pytest.mark.parametrize("rate", [24000 / 1001, 25.0, 30000 / 1001, 30.0, 60.0])
def test_whole_milliseconds_are_put_on_the_grid_of_the_stream(rate: float) -> None:
    exact = steady(2000, step=1 / rate)
    _, from_mp4 = show(exact, rate=rate)
    _, from_matroska = show([round(1000 * stamp) / 1000 for stamp in exact], rate=rate)
    assert [one.time for one in from_matroska] == [one.time for one in from_mp4]
    assert_times(from_mp4, exact, 1e-9)


def test_a_variable_rate_keeps_its_stamps() -> None:
    generator = random.Random(0)
    stamps = [0.0]
    for _ in range(200):
        stamps.append(stamps[-1] + generator.uniform(0.005, 0.07))
    _, shown = show(stamps)
    assert_times(shown, stamps, 1.2e-3)
    assert all(later.time > earlier.time for earlier, later in itertools.pairwise(shown))


def test_times_increase_whatever_the_stamps_are() -> None:
    generator = random.Random(1)
    for _ in range(200):
        stamps = [generator.choice([None, generator.uniform(-100, 100), number * STEP]) for number in range(40)]
        _, shown = show(stamps, joins=generator.random() < 0.5)
        assert all(later.time > earlier.time for earlier, later in itertools.pairwise(shown))
        assert all(math.isfinite(one.time) for one in shown)


def test_usual_rates() -> None:
    assert usual_rate(29.97) == 30000 / 1001 and usual_rate(23.976) == 24000 / 1001 and usual_rate(25.0001) == 25
    assert usual_rate(17.3) == 17.3 and usual_rate(30.0) == 30
