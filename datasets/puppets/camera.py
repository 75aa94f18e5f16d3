"""The camera and the light of a video.

In: a random generator. Out: a Camera that projects points of the world to pixels, its movement, and a Light.
This file knows nothing about the figures and the objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

HEIGHT, WIDTH = 120, 160
SLOPE = 0.17  # a point one unit nearer to the viewer appears lower by this share of a unit

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255


def as_colour(values: Iterable[int]) -> Colour:
    """Three numbers as a colour of plain integers, the type that OpenCV takes."""
    red, green, blue = (int(value) for value in values)
    return red, green, blue


@dataclass(frozen=True)
class Camera:
    """A parallel projection.

    `scale` is in pixels per unit of length. `ground` is the pixel of the world point (0, 0, 0). `roll` is in radians.
    """

    height: int
    width: int
    scale: float
    ground: tuple[float, float]
    roll: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) as pixels (..., 2)."""
        across = self.scale * points[..., 0]
        down = self.scale * (SLOPE * points[..., 1] - points[..., 2])
        sine, cosine = np.sin(self.roll), np.cos(self.roll)
        return np.stack(
            [self.ground[0] + cosine * across - sine * down, self.ground[1] + sine * across + cosine * down], axis=-1
        )


def random_camera(rng: np.random.Generator, height: int = HEIGHT) -> Camera:
    """A camera with a random scale, position and roll, for frames of this height."""
    scale = rng.uniform(0.69, 0.77) * height
    width = height * WIDTH // HEIGHT
    ground = (width / 2 + rng.uniform(-0.03, 0.03) * height, rng.uniform(0.92, 0.95) * height)
    return Camera(height, width, scale, ground, rng.uniform(-0.05, 0.05))


def random_drift(rng: np.random.Generator, frames: int, height: int) -> np.ndarray:
    """The shift of the camera at each frame, in sixteenths of a pixel (T, 2).

    It is the sum of a linear movement and a slow sine wave.
    """
    time = np.linspace(-1, 1, frames)[:, None]
    line, size, pace, phase = (rng.uniform(low, high, size=2) for low, high in ((-1, 1), (0, 1), (0.5, 2), (0, 1)))
    drift = 0.018 * line * time + 0.01 * size * np.sin(2 * np.pi * (pace * time / 2 + phase))
    return np.rint(drift * height * 16).astype(np.int32)


class Light:
    """The colour, the strength and the gradient of the light, and the noise of the camera."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        self.gain: np.ndarray = rng.integers(200, 268, size=3) // 2 + int(rng.integers(200, 268)) // 2  # in 1/256
        slope = rng.integers(-22, 23, size=2)
        down = np.arange(camera.height)[:, None] * 2 - camera.height
        across = np.arange(camera.width)[None] * 2 - camera.width
        self.field = ((slope[0] * down) // camera.height + (slope[1] * across) // camera.width).astype(np.int16)
        self.noise = int(rng.choice([1, 3, 3, 7]))

    def tint(self, colour: Colour) -> Colour:
        """A colour as it appears in this light."""
        return as_colour(min(255, int(c) * int(g) >> 8) for c, g in zip(colour, self.gain, strict=True))

    def fall(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The frame with the gradient of the light, and with new noise."""
        grain = rng.integers(0, 256, size=frame.shape[:2], dtype=np.uint8)
        change = self.field + (grain & self.noise) - ((grain >> 4) & self.noise)
        return np.clip(frame + change[..., None], 0, 255).astype(np.uint8)
