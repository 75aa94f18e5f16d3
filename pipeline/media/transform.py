"""One resize for every backend: upright, square pixels, a fixed size. In and out: uint8 (H, W, 3) RGB.

Knows nothing about files or time.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

ResizeMode = Literal["crop", "squash", "letterbox"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)


@dataclass(frozen=True)
class Transform:
    """A frame of any size -> (size, size, 3).

    resize: "letterbox" keeps the whole frame and pads it with black, "crop" fills the square and keeps the centre,
    "squash" keeps the whole frame and changes its proportions. Raises ValueError for a size below 1 and for another
    mode.
    """

    size: int = 224
    resize: ResizeMode = "letterbox"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"The size of a frame is {self.size} pixels. It is at least 1. Set for example size=224.")
        if self.resize not in RESIZE_MODES:
            raise ValueError(
                f"The resize mode {self.resize!r} is not known. It is one of {', '.join(RESIZE_MODES)}. "
                "Set for example resize=letterbox."
            )

    def __call__(self, frame: np.ndarray, rotation: int = 0, aspect: float = 1.0) -> np.ndarray:
        """A frame as stored (H, W, 3) -> (size, size, 3), upright.

        rotation: degrees clockwise to apply, a multiple of 90. aspect: width / height of one pixel, as stored.
        """
        height, width = frame.shape[:2]
        display_width = width * aspect
        if self.resize == "squash":
            scaled = resize_frame(frame, self.size, self.size)
        else:
            longer_or_shorter = max if self.resize == "letterbox" else min
            scale = self.size / longer_or_shorter(display_width, height)
            scaled = resize_frame(frame, max(1, round(display_width * scale)), max(1, round(height * scale)))
        rotated = rotate(scaled, rotation)
        return rotated if rotated.shape[:2] == (self.size, self.size) else self._centre(rotated)

    def _centre(self, frame: np.ndarray) -> np.ndarray:
        """Centre the frame in the square: crop what is larger, pad what is smaller with black."""
        height, width = frame.shape[:2]
        top, left = max(0, height - self.size) // 2, max(0, width - self.size) // 2
        cropped = frame[top : top + self.size, left : left + self.size]
        square = np.zeros((self.size, self.size, 3), np.uint8)
        top, left = (self.size - cropped.shape[0]) // 2, (self.size - cropped.shape[1]) // 2
        square[top : top + cropped.shape[0], left : left + cropped.shape[1]] = cropped
        return square


def to_display(frame: np.ndarray, rotation: int, width: int, height: int) -> np.ndarray:
    """A frame as stored (H, W, 3) -> as displayed (height, width, 3), rotated clockwise by `rotation` degrees."""
    if rotation % 180:
        return rotate(resize_frame(frame, height, width), rotation)
    return rotate(resize_frame(frame, width, height), rotation)


def resize_frame(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) -> (height, width, 3): by the mean of areas where it shrinks, else by linear interpolation."""
    if frame.shape[:2] == (height, width):
        return frame
    import cv2  # only where frames are decoded

    is_smaller = width <= frame.shape[1] and height <= frame.shape[0]
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)


def rotate(frame: np.ndarray, degrees: int) -> np.ndarray:
    """(H, W, 3) rotated clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(frame, k=-degrees // 90 % 4)) if degrees % 360 else frame
