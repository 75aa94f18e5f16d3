"""Where the viewer stands and how the light falls.

In: a random generator. Out: a Camera that projects points of the world to pixels, its drift, and a Light.
Knows nothing about what there is to be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HEIGHT, WIDTH = 120, 160
SLOPE = 0.17  # how much lower in the picture a point appears that is nearer to the viewer


@dataclass(frozen=True)
class Camera:
    """Parallel projection: `scale` pixels a length unit, the point below (0, 0, 0) at `ground`, turned by `roll` radians."""

    height: int
    width: int
    scale: float
    ground: tuple[float, float]
    roll: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """World (..., 3) to pixels (..., 2)."""
        across = self.scale * points[..., 0]
        down = self.scale * (SLOPE * points[..., 1] - points[..., 2])
        sine, cosine = np.sin(self.roll), np.cos(self.roll)
        return np.stack(
            [self.ground[0] + cosine * across - sine * down, self.ground[1] + sine * across + cosine * down], axis=-1
        )


def random_camera(rng: np.random.Generator, height: int = HEIGHT) -> Camera:
    scale = rng.uniform(0.69, 0.77) * height
    width = height * WIDTH // HEIGHT
    ground = (width / 2 + rng.uniform(-0.03, 0.03) * height, rng.uniform(0.92, 0.95) * height)
    return Camera(height, width, scale, ground, rng.uniform(-0.05, 0.05))


def random_drift(rng: np.random.Generator, frames: int, height: int) -> np.ndarray:
    """How far the camera has moved at each frame, in sixteenths of a pixel (T, 2): a slow line and a slow wave."""
    time = np.linspace(-1, 1, frames)[:, None]
    line, size, pace, phase = (rng.uniform(low, high, size=2) for low, high in ((-1, 1), (0, 1), (0.5, 2), (0, 1)))
    drift = 0.018 * line * time + 0.01 * size * np.sin(2 * np.pi * (pace * time / 2 + phase))
    return np.rint(drift * height * 16).astype(np.int32)


class Light:
    """The colour and the strength of the light, and how it falls across the picture."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        self.gain = rng.integers(200, 268, size=3) // 2 + int(rng.integers(200, 268)) // 2  # in 1/256
        slope = rng.integers(-22, 23, size=2)
        down = np.arange(camera.height)[:, None] * 2 - camera.height
        across = np.arange(camera.width)[None] * 2 - camera.width
        self.field = ((slope[0] * down) // camera.height + (slope[1] * across) // camera.width).astype(np.int16)
        self.noise = int(rng.choice([1, 3, 3, 7]))

    def tint(self, colour: tuple[int, int, int]) -> tuple[int, int, int]:
        return tuple(int(min(255, int(c) * int(g) >> 8)) for c, g in zip(colour, self.gain, strict=True))  # type: ignore[return-value]

    def fall(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The frame in this light, with a new grain."""
        grain = rng.integers(0, 256, size=frame.shape[:2], dtype=np.uint8)
        change = self.field + (grain & self.noise) - ((grain >> 4) & self.noise)
        return np.clip(frame + change[..., None], 0, 255).astype(np.uint8)
