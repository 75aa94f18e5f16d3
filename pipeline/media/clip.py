"""The types of decoding: a window of frames with their times, and the warnings that a decoder collects.

Knows nothing about files, codecs or networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

LazyFrame = Callable[[], np.ndarray]
"""A frame as stored, uint8 (H, W, 3) RGB. It is converted when it is called."""

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


@dataclass
class DecodeWarnings:
    """What a decoder learns while it reads.

    warnings: one sentence for each warning code. last_duration: how long the last frame is shown, in seconds.
    """

    warnings: dict[str, str] = field(default_factory=dict)
    last_duration: float = 0.0

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
