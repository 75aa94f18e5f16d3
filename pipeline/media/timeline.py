"""The times at which a player shows the pictures of a file, whatever its stamps say.

In: pictures in the order of the decoder, each with its stamp (seconds, or none) and its own duration. Out: the same
pictures, each with a time that is later than the one before, and whether a gap lies between. A lone outlier is placed
after its neighbour, clocks that jump, restart or wrap are joined, and long gaps are named. No picture is dropped. It
holds at most 5 pictures. Knows nothing about files, codecs or pixels.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

HOLD_SECONDS = 10.0
"""How long a picture may be held; what is longer is a gap."""
FAR_SECONDS = 30 * 3600.0
"""A distance that is longer is no gap but another clock."""
WRAP_SECONDS = 2**33 / 90000
"""The period of the 33-bit clock of MPEG streams."""
ASSUMED_RATE = 25.0
"""Pictures a second where neither stamps nor the stream tell it."""
LOOK_AHEAD, NUM_OFFSETS, NUM_STEPS = 4, 4, 31
AT_ONCE = 2.5
"""Steps: a picture that comes within them is accepted without a look ahead."""
GRID_TOLERANCE = 1.1e-3
"""Seconds: stamps this near to the regular grid of the stream are put on it. Matroska counts whole milliseconds."""
NEAR_RATE = 1e-4
"""How far, in proportion, the rate of a stream may be from a usual one."""


class Picture(NamedTuple, Generic[T]):
    """A picture as it is decoded. stamp: seconds or None; duration: its own, in seconds, 0 where it has none."""

    stamp: float | None
    duration: float
    frame: T


class Shown(NamedTuple, Generic[T]):
    """A picture with its time.

    seconds_before_gap: how long the picture before it is shown, where a gap lies between the two; else 0.
    """

    time: float
    frame: T
    seconds_before_gap: float


@dataclass(frozen=True)
class Jump:
    """What was mended. count: how often; place: seconds of the first one; seconds: its size as the stamps have it."""

    count: int
    place: float
    seconds: float


class Timeline:
    """Puts the pictures of one file on one clock.

    rate: pictures a second as the stream says, None where it does not. joins: whether the container holds the clocks of
    several recordings one after another without saying so (MPEG-TS, MPEG-PS). has_order_only: whether the stamps tell
    the order only, so that every picture comes one duration after the one before (raw streams, some AVI).
    """

    def __init__(
        self,
        *,
        rate: float | None,
        joins: bool = False,
        has_order_only: bool = False,
        hold_seconds: float = HOLD_SECONDS,
    ) -> None:
        self.rate = usual_rate(rate) if rate else None
        self.joins, self.has_order_only, self.hold = joins, has_order_only, hold_seconds
        self.jumps: Jump | None = None
        self.gaps: Jump | None = None
        self.is_rate_assumed = False
        self.last_duration = 0.0  # seconds that the last picture is shown
        self._steps: deque[float] = deque(maxlen=NUM_STEPS)
        self._offset = 0.0
        self._offsets: deque[float] = deque(maxlen=NUM_OFFSETS)
        self._last: float | None = None  # the time of the latest picture, before the grid
        self._anchor = 0.0

    def show(self, pictures: Iterable[Picture[T]]) -> Iterator[Shown[T]]:
        """The pictures with their times, as soon as they are known."""
        source = iter(pictures)
        ahead: deque[Picture[T]] = deque()
        previous = -float("inf")
        while True:
            picture = ahead.popleft() if ahead else next(source, None)
            if picture is None:
                return
            time, is_gap = self._place(picture, source, ahead)
            seconds = self._step(0.0) if is_gap else 0.0
            if self._last is not None and not is_gap:
                self._steps.append(time - self._last)
            self._last = time
            self.last_duration = self._step(picture.duration, prefers_own=True)
            on_grid = self._on_grid(time)
            previous = on_grid if on_grid > previous else max(time, previous + 1e-6)
            yield Shown(previous, picture.frame, seconds)

    def _place(self, picture: Picture[T], source: Iterator[Picture[T]], ahead: deque[Picture[T]]) -> tuple[float, bool]:
        """(the time of a picture, whether a gap lies before it)."""
        stamp, step = picture.stamp, self._step(picture.duration)
        if stamp is None or self.has_order_only:
            return (0.0 if self._last is None else self._last + (self._own(picture.duration) or step)), False
        if self._last is None:
            return self._first(stamp, step, _stamps(source, ahead)), False
        distance = stamp + self._offset - self._last
        if 0 < distance <= min(AT_ONCE * step, self.hold):
            return stamp + self._offset, False
        return self._decide(stamp, distance, step, _stamps(source, ahead), is_end=not ahead)

    def _first(self, stamp: float, step: float, following: list[float]) -> float:
        """The time of the first picture: its stamp, unless those of the next ones agree that it is wrong."""
        is_alone = len(following) >= 2 and all(
            later <= stamp or later > stamp + FAR_SECONDS or later > stamp + LOOK_AHEAD * max(self.hold, AT_ONCE * step)
            for later in following
        )
        if not is_alone:
            return stamp
        time = min(following) - step
        self._note_jump(0.0, stamp - time)
        return time

    def _decide(
        self, stamp: float, distance: float, step: float, following: list[float], *, is_end: bool
    ) -> tuple[float, bool]:
        """The time of a picture that does not simply follow the one before."""
        assert self._last is not None, "the first picture has a rule of its own"
        last = self._last
        fit = [
            later
            for later in following
            if 0 < later + self._offset - last <= self.hold and (distance <= 0 or later < stamp)
        ]
        reach = LOOK_AHEAD * max(self.hold, AT_ONCE * step)
        num_after = sum(stamp <= later <= stamp + reach for later in following)
        need = max(1, min(2, len(following)))
        if len(fit) >= need:  # a lone outlier: the next ones go on without it
            self._note_jump(last, distance)
            return min(last + step, (last + fit[0] + self._offset) / 2), False
        if 0 < distance <= self.hold:  # a picture that is held
            return stamp + self._offset, False
        back = self._earlier_clock(stamp, step)
        if num_after < need and back is None:  # nothing confirms it
            self._note_jump(last, distance)
            if not is_end:
                self._set_offset(last + step - stamp)
            return last + step, False
        if back is not None:  # a wrap, or the clock of before
            self._note_jump(last, distance)
            self._set_offset(back)
            return stamp + back, False
        if self.hold < distance <= FAR_SECONDS and not self.joins:
            self.gaps = _more(self.gaps, last, distance)
            return stamp + self._offset, True
        self._note_jump(last, distance)  # a restart, a jump, another recording
        self._set_offset(last + step - stamp)
        return last + step, False

    def _earlier_clock(self, stamp: float, step: float) -> float | None:
        """The offset with which a stamp follows the picture before: one period more or less, or an earlier one."""
        assert self._last is not None, "the first picture has a rule of its own"
        for offset in (self._offset + WRAP_SECONDS, self._offset - WRAP_SECONDS, *reversed(self._offsets)):
            if 0 < stamp + offset - self._last <= AT_ONCE * step:
                return offset
        return None

    def _set_offset(self, offset: float) -> None:
        self._offsets.append(self._offset)
        self._offset = offset

    def _note_jump(self, place: float, seconds: float) -> None:
        self.jumps = _more(self.jumps, place, seconds)

    def _own(self, duration: float) -> float:
        """The duration of a picture where it can be believed, else 0."""
        return duration if 0 < duration <= self.hold else 0.0

    def _step(self, duration: float, *, prefers_own: bool = False) -> float:
        """The usual distance of two pictures in seconds. duration: of the present one."""
        own = self._own(duration)
        if own and prefers_own:
            return own
        if len(self._steps) >= 3:
            return statistics.median(self._steps)
        if own:
            return own
        if self.rate:
            return 1 / self.rate
        self.is_rate_assumed = True
        return 1 / ASSUMED_RATE

    def _on_grid(self, time: float) -> float:
        """A time on the regular grid of the stream where it is near to it."""
        if self.rate is None or self.has_order_only:
            return time
        near = self._anchor + round((time - self._anchor) * self.rate) / self.rate
        if abs(time - near) <= GRID_TOLERANCE:
            return near
        self._anchor = time
        return time


def usual_rate(rate: float) -> float:
    """N or N * 1000 / 1001 (N = 1 to 240) where a rate is as good as one of these, else the rate itself."""
    for usual in (round(rate), round(rate * 1.001) * 1000 / 1001):
        if 0 < usual <= 240 and abs(rate - usual) <= NEAR_RATE * usual:
            return usual
    return rate


def _stamps(source: Iterator[Picture[T]], ahead: deque[Picture[T]]) -> list[float]:
    """The stamps of the next pictures, which are kept in `ahead`."""
    ahead.extend(islice(source, LOOK_AHEAD - len(ahead)))
    return [picture.stamp for picture in ahead if picture.stamp is not None]


def _more(jump: Jump | None, place: float, seconds: float) -> Jump:
    return Jump(1, place, seconds) if jump is None else Jump(jump.count + 1, jump.place, jump.seconds)
