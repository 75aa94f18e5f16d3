"""The one clock: a video is looked at `rate` times a second, by presentation time.

In: frames with presentation times. Out: look times k / rate and the frame shown then. Training, batch and stream
share it, so they see the same frames. Knows nothing about files or pixels.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

TOLERANCE = 1e-6  # seconds: a frame this little after a look still counts as shown (times come from fractions)


@dataclass(frozen=True)
class Clock:
    """rate: looks a second, above 0. Errors: ValueError for any other rate."""

    rate: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(
                f"The clock has a rate that no video can be watched at ({self.rate} looks a second). "
                "A rate is a finite number above 0. Set for example rate=4."
            )

    def look_times(self, seconds: float) -> np.ndarray:
        """The looks at a video of this many seconds: k / rate for k = 0, 1, ... while below seconds; at least one.
        (T,)
        """
        count = max(1, math.ceil((seconds - TOLERANCE) * self.rate))
        return np.arange(count, dtype=np.float64) / self.rate

    def has_look(self, start: float, end: float) -> bool:
        """Whether a frame shown from start until end (seconds since the first frame) is shown at any look."""
        k = max(0, math.floor((start - TOLERANCE) * self.rate))
        while k / self.rate + TOLERANCE < start:
            k += 1
        return k / self.rate + TOLERANCE < end

    def follow(
        self, frames: Iterable[tuple[float, T]], last_duration: float | Callable[[], float]
    ) -> Iterator[tuple[float, T]]:
        """Turns (presentation time, frame), in order, into (look time, the frame shown then).

        Shown is the last frame whose time, counted from the first frame, is <= the look time. Looks go on until the
        last frame's time plus last_duration seconds (a number, or a function called after the last frame, for readers
        that learn it late); one frame gives at least one look, none give none. Holds one frame, whatever the length.
        """
        looks, first, shown = 0, 0.0, None
        for time, frame in frames:
            if shown is None:
                first = time
            else:
                while looks / self.rate + TOLERANCE < time - first:
                    yield looks / self.rate, shown[1]
                    looks += 1
            shown = (time - first, frame)
        if shown is None:
            return
        end = shown[0] + (last_duration() if callable(last_duration) else last_duration)
        while looks == 0 or looks / self.rate < end - TOLERANCE:
            yield looks / self.rate, shown[1]
            looks += 1
