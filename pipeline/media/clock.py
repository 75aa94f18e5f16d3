"""The clock: it samples a video `rate` times a second, by presentation time.

In: frames with presentation times. Out: look times k / rate, and the frame that is shown at each. Training, batch and
stream share this clock, so they see the same frames. Knows nothing about files or pixels.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

TOLERANCE = 1e-6  # seconds: a frame that begins this little after a look counts as shown, as times are rounded


@dataclass(frozen=True)
class Clock:
    """rate: looks a second, above 0. Raises ValueError for any other rate."""

    rate: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(
                f"The clock has a rate of {self.rate} looks a second. A rate is a finite number above 0. "
                "Set for example rate=4."
            )

    def look_times(self, seconds: float) -> np.ndarray:
        """The look times k / rate (k = 0, 1, ...) below `seconds`, the length of a video; at least one. (T,)."""
        count = max(1, math.ceil((seconds - TOLERANCE) * self.rate))
        return np.arange(count, dtype=np.float64) / self.rate

    def has_look(self, start: float, end: float) -> bool:
        """Whether a look falls on a frame that is shown from `start` until `end` (seconds since the first frame)."""
        k = max(0, math.floor((start - TOLERANCE) * self.rate))
        while k / self.rate + TOLERANCE < start:
            k += 1
        return k / self.rate + TOLERANCE < end

    def sample(
        self, frames: Iterable[tuple[float, T]], last_duration: float | Callable[[], float]
    ) -> Iterator[tuple[float, T]]:
        """(presentation time, frame) in order -> (look time, the frame shown then).

        The frame shown at a look is the last one whose time, counted from the first frame, is <= the look time. Looks
        end at the last frame's time plus last_duration seconds. last_duration is a number, or a function that is called
        after the last frame (some decoders learn the duration late). One frame gives at least one look, no frame gives
        none. One frame is kept in memory, whatever the length.
        """
        k, first, current = 0, 0.0, None
        for time, frame in frames:
            if current is None:
                first = time
            else:
                while k / self.rate + TOLERANCE < time - first:
                    yield k / self.rate, current[1]
                    k += 1
            current = (time - first, frame)
        if current is None:
            return
        end = current[0] + (last_duration() if callable(last_duration) else last_duration)
        while k == 0 or k / self.rate < end - TOLERANCE:
            yield k / self.rate, current[1]
            k += 1
