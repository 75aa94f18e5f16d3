"""The types of decoding: a window of frames with their times, and the warnings that a decoder collects.

Knows nothing about files, codecs or networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Backend = Literal["pyav", "opencv", "decord"]
"""The libraries that decode."""
LazyFrame = Callable[..., np.ndarray]
"""A frame as stored, uint8 (H, W, 3) RGB. It is converted when it is called: frame(), or frame(max_pixels) where a
frame of more pixels may be shrunk by a whole factor before it is converted."""

MAX_PIXELS = 64_000_000
"""The most pixels of a picture that is decoded. 8K has 33 million."""
LARGE_PIXELS = 9_000_000
"""A larger picture shrinks before it becomes RGB, and a pool of workers decodes one such file at a time."""

ANSWERED = frozenset({"ok", "partial"})
"""The statuses of an input with an answer. The others are failed:<reason>, timeout and crashed:<signal>."""
PARTIAL_CODES = frozenset({"packet_errors", "truncated", "damaged_frames"})
"""Codes of the warnings after which a video counts as partial: some of its frames are missing or damaged."""


@dataclass(frozen=True)
class Clip:
    """One bounded window of a video, sampled by the clock.

    frames: uint8 (T, H, W, 3) RGB, upright. times: float64 (T,), the look times in seconds since the first frame,
    strictly increasing. source: the path of the video. warnings: "code: sentence", all that were known when the window
    was finished. So the last window of a file has all of them.
    """

    frames: np.ndarray  # (T, H, W, 3)
    times: np.ndarray  # (T,)
    source: str
    warnings: tuple[str, ...] = ()


class DecodeObserver:
    """It is told what a decoder does, and limits it. This one does nothing with it; the worker counts.

    max_pixels: of a picture; a file with larger ones is refused.
    """

    max_pixels = MAX_PIXELS

    def on_large(self) -> None:
        """A file has pictures of more than LARGE_PIXELS. It is called before one is decoded, and may wait."""

    def on_packet(self) -> None:
        """A packet, or a part of the file, was read."""

    def on_picture(self, pixels: int) -> None:
        """A picture of so many pixels was decoded."""


NO_OBSERVER = DecodeObserver()


@dataclass
class DecodeWarnings:
    """What a decoder learns while it reads.

    warnings: one sentence for each warning code. last_duration: how long the last frame is shown, in seconds. observer:
    it is told about each packet and picture.
    """

    warnings: dict[str, str] = field(default_factory=dict)
    last_duration: float = 0.0
    observer: DecodeObserver = NO_OBSERVER

    def warn(self, warning: str) -> None:
        """Add "code: sentence". It replaces an earlier warning of the same code, so each code occurs once."""
        code, sentence = warning.split(": ", 1)
        self.warnings[code] = sentence

    def lines(self) -> tuple[str, ...]:
        """The warnings as "code: sentence", oldest first."""
        return tuple(f"{code}: {sentence}" for code, sentence in self.warnings.items())


def is_partial(warnings: Sequence[str]) -> bool:
    """Whether any of the warnings ("code: sentence") says that frames are missing or damaged."""
    return any(warning.partition(":")[0] in PARTIAL_CODES for warning in warnings)
