"""The clock samples frames at k / rate, the same as brute force over all frames."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.media.clock import Clock


def brute_force(times: list[float], last_duration: float, rate: float) -> list[tuple[float, int]]:
    """At every look the last frame that has begun, by comparison with all of them."""
    starts = [time - times[0] for time in times]
    looks = [k / rate for k in range(10_000) if k == 0 or k / rate < starts[-1] + last_duration - 1e-6]
    return [(look, max(i for i, start in enumerate(starts) if start <= look + 1e-6)) for look in looks]


@pytest.mark.parametrize("seed", range(20))
def test_sampling_equals_brute_force_on_random_times(seed: int) -> None:
    random = np.random.default_rng(seed)
    gaps = random.choice([1e-3, 1 / 60, 1 / 30, 0.25, 1.7], size=random.integers(1, 60))
    times = (random.uniform(-5, 5) + np.cumsum(gaps)).tolist()
    rate, last_duration = float(random.choice([0.3, 1, 4, 7.3, 30])), float(random.choice([0.0, 1 / 30, 2.0]))
    pairs = list(Clock(rate).sample(((time, i) for i, time in enumerate(times)), last_duration))
    assert pairs == brute_force(times, last_duration, rate)
    assert [look for look, _ in pairs] == Clock(rate).look_times(times[-1] - times[0] + last_duration).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_has_look_is_true_for_the_sampled_frames_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    times = [0.0, *np.cumsum(random.choice([1e-3, 1 / 30, 0.25], size=50)).tolist()]
    sampled = {frame for _, frame in Clock(4).sample(((time, i) for i, time in enumerate(times)), 0.5)}
    ends = [*times[1:], times[-1] + 0.5]
    intervals = enumerate(zip(times, ends, strict=True))
    assert sampled == {i for i, (start, end) in intervals if Clock(4).has_look(start, end)}


def test_one_frame_gives_one_look_and_no_frame_gives_none() -> None:
    assert list(Clock(4).sample([(7.0, "a")], 0.0)) == [(0.0, "a")]
    assert list(Clock(4).sample([], 1.0)) == []
    assert Clock(4).look_times(0).tolist() == [0.0]
    assert Clock(4).look_times(0.5).tolist() == [0.0, 0.25]


def test_a_frame_at_the_time_of_a_look_is_shown_at_it_despite_rounding() -> None:
    times = [float(np.float32(k) / np.float32(10)) for k in range(30)]  # float32 times, wrong by up to 1e-7
    assert [frame for _, frame in Clock(10).sample(((t, i) for i, t in enumerate(times)), 0.1)] == list(range(30))


def test_sampling_keeps_one_frame_in_memory() -> None:
    class Frame:
        pass

    alive: weakref.WeakSet[Frame] = weakref.WeakSet()

    def frames() -> Iterator[tuple[float, Frame]]:
        for index in range(1000):
            frame = Frame()
            alive.add(frame)
            yield index / 30, frame
            del frame

    largest = 0
    for _ in Clock(4).sample(frames(), 1 / 30):
        largest = max(largest, len(alive))
    assert largest <= 2  # the current frame and the next one


def test_a_clock_needs_a_finite_rate_above_0() -> None:
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"A rate is a finite number above 0\. Set for example rate=4"):
            Clock(rate)
