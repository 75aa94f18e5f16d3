"""One definition of "upright, square pixels, this size" for every backend. In and out: uint8 (H, W, 3) RGB.

Knows nothing about files or time.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Fit = Literal["crop", "squash", "letterbox"]
FITS: tuple[Fit, ...] = ("crop", "squash", "letterbox")


@dataclass(frozen=True)
class Transform:
    """Any frame -> (size, size, 3).

    fit: "letterbox" shows all and fills the rest with black, "crop" fills the square and cuts the middle out, "squash"
    shows all and bends the proportions. Errors: ValueError for a size below 1 or an unknown fit.
    """

    size: int = 224
    fit: Fit = "letterbox"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(
                f"The picture has no size ({self.size} pixels). A side has at least 1 pixel. Set for example size=224."
            )
        if self.fit not in FITS:
            raise ValueError(
                f"This way to fit a picture is not known ({self.fit!r}). It is one of {', '.join(FITS)}. Set fit to one."
            )

    def __call__(self, frame: np.ndarray, rotation: int = 0, aspect: float = 1.0) -> np.ndarray:
        """A frame as stored (H, W, 3); rotation: degrees clockwise to apply, a multiple of 90; aspect: width of a pixel
        / its height, as stored -> (size, size, 3), upright.
        """
        height, width = frame.shape[:2]
        shown_width = width * aspect
        if self.fit == "squash":
            scaled = resize(frame, self.size, self.size)
        else:
            choose = max if self.fit == "letterbox" else min
            scale = self.size / choose(shown_width, height)
            scaled = resize(frame, max(1, round(shown_width * scale)), max(1, round(height * scale)))
        turned = turn(scaled, rotation)
        return turned if turned.shape[:2] == (self.size, self.size) else self._place(turned)

    def _place(self, frame: np.ndarray) -> np.ndarray:
        """Centres the frame in the square, cutting what is over and leaving the rest black."""
        height, width = frame.shape[:2]
        top, left = max(0, height - self.size) // 2, max(0, width - self.size) // 2
        cut = frame[top : top + self.size, left : left + self.size]
        square = np.zeros((self.size, self.size, 3), np.uint8)
        top, left = (self.size - cut.shape[0]) // 2, (self.size - cut.shape[1]) // 2
        square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
        return square


def show(frame: np.ndarray, rotation: int, width: int, height: int) -> np.ndarray:
    """The frame as a person sees it: stored (H, W, 3) -> (height, width, 3), turned clockwise by rotation degrees."""
    if rotation % 180:
        return turn(resize(frame, height, width), rotation)
    return turn(resize(frame, width, height), rotation)


def resize(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) -> (height, width, 3): areas are averaged when it shrinks, else pixels are interpolated linearly."""
    if frame.shape[:2] == (height, width):
        return frame
    is_smaller = width <= frame.shape[1] and height <= frame.shape[0]
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)


def turn(frame: np.ndarray, rotation: int) -> np.ndarray:
    """Turns (H, W, 3) clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(frame, k=-rotation // 90 % 4)) if rotation % 360 else frame
