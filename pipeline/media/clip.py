"""What decoding gives: a window of frames with their times, and the notes a reader takes on the way.

Knows nothing about files, codecs or networks.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Clip:
    """One bounded window of a video as the clock saw it.

    frames: uint8 (T, H, W, 3) RGB, upright; times: float64 (T,) seconds since the first frame, strictly increasing:
    the look times of the clock; source: the path it came from; warnings: "code: sentence", everything known when the
    window was finished, so that the last window of a file carries them all.
    """

    frames: np.ndarray  # (T, H, W, 3)
    times: np.ndarray  # (T,)
    source: str
    warnings: tuple[str, ...] = ()


@dataclass
class Notes:
    """What a reader learns while it reads: one sentence a warning code, and how long the last frame stays, in
    seconds.
    """

    warnings: dict[str, str] = field(default_factory=dict)
    last_duration: float = 0.0

    def warn(self, warning: str) -> None:
        """Keeps "code: sentence"; a code said before is replaced, so that each is said once."""
        code, sentence = warning.split(": ", 1)
        self.warnings[code] = sentence

    def lines(self) -> tuple[str, ...]:
        """The warnings as "code: sentence", oldest first."""
        return tuple(f"{code}: {sentence}" for code, sentence in self.warnings.items())
