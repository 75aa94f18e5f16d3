"""The frames of a video: background, objects and figure.

In: a body, a Scene, the poses of a script. Out: frames uint8 (H, W, 3), RGB, one after another.
The arithmetic on pixels uses integers, and coordinates are rounded to 1/16 pixel. So the frames are the same on every
machine. This file knows nothing about labels, time and files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from camera import HEIGHT, Camera, Colour, Light, as_colour, random_camera, random_drift
from figures import COLOURS, SHIFT, Body, Pose, capsule, darker, figure_layers, to_sixteenths
from props import RAIL, WALL_DEPTH, WINDOW, prop_layers, shadow_layer
from script import Scene

MARGIN = 8  # pixels of background outside each edge of the frame, for the movement of the camera


def fill(image: np.ndarray, points: np.ndarray, colour: Colour) -> None:
    """Draw a convex polygon (N, 2), in pixels, into the image."""
    cv2.fillConvexPoly(image, to_sixteenths(np.asarray(points, float)), colour, cv2.LINE_AA, SHIFT)


def box_blur(image: np.ndarray, radius: int) -> np.ndarray:
    """The mean over a square around each pixel, rounded down to an integer."""
    for axis in (0, 1):
        padded = np.pad(
            image.astype(np.int64), [(radius + 1, radius) if a == axis else (0, 0) for a in range(3)], mode="edge"
        )
        total = np.cumsum(padded, axis=axis)
        size = 2 * radius + 1
        high, low = (
            np.take(total, range(size, total.shape[axis]), axis),
            np.take(total, range(0, total.shape[axis] - size), axis),
        )
        image = (high - low) // size
    return image.astype(np.uint8)


def random_base(rng: np.random.Generator, avoid: Sequence[Colour]) -> np.ndarray:
    """A random colour that is far from the colours to avoid. After twelve attempts it is the last one."""
    base = np.zeros(3, np.int64)
    for _ in range(12):
        base = rng.integers(95, 236) + rng.integers(-34, 35, size=3)
        if all(np.abs(base - np.array(colour)).sum() > 110 for colour in avoid):
            break
    return base


def random_wall(rng: np.random.Generator, height: int, width: int, avoid: Sequence[Colour]) -> np.ndarray:
    """A colour gradient with a texture and up to four blurred ellipses, far from the colours to avoid."""
    base = random_base(rng, avoid)
    ends = np.clip(base + rng.integers(-24, 25, size=(2, 3)), 30, 245)
    down, across = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    share = (down * 256 // height, across * 256 // width, (down * width + across * height) * 128 // (height * width))[
        rng.integers(3)
    ]
    wall = np.broadcast_to(ends[0] + (ends[1] - ends[0]) * share // 256, (height, width, 3)).copy()
    unit, faint = height // 120, int(rng.integers(4, 13))
    period = int(rng.integers(7, 19)) * unit
    kind = rng.choice(["plain", "stripes", "checks", "blotches", "blotches"])
    if kind == "stripes":
        wall += faint * (across // period % 2)
    elif kind == "checks":
        wall -= faint * ((across // period + down // period) % 2)
    elif kind == "blotches":
        coarse = rng.integers(-2 * faint, 2 * faint + 1, size=(height // period + 1, width // period + 1, 1))
        wall += np.repeat(np.repeat(coarse, period, 0), period, 1)[:height, :width]
    wall = np.clip(wall, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 5)):
        size = rng.integers(8, 30, size=2) * unit
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        shade = np.clip(base + rng.integers(-40, 41, size=3), 20, 250).tolist()
        cv2.ellipse(wall, centre, size.tolist(), int(rng.integers(180)), 0, 360, shade, -1)
    radius = period // 2 if kind == "blotches" else 2 * unit
    return box_blur(box_blur(wall, radius), radius)


def rectangle(camera: Camera, left: float, right: float, low: float, high: float, depth: float) -> np.ndarray:
    """An upright rectangle of the world as pixels (4, 2)."""
    corners = [(left, depth, low), (right, depth, low), (right, depth, high), (left, depth, high)]
    return camera.project(np.array(corners)) + MARGIN


def random_background(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, body: Body) -> np.ndarray:
    """The wall, the floor, furniture and the window behind the curtains: uint8, with a margin around the frame."""
    height, width = camera.height + 2 * MARGIN, camera.width + 2 * MARGIN
    image = random_wall(rng, height, width, [COLOURS[body.shirt], COLOURS[body.legs], body.skin])
    floor = rng.integers(70, 190) + rng.integers(-25, 26, size=3)
    floor = as_colour(np.clip(floor, 30, 230))
    fill(image, rectangle(camera, -3, 3, -3, 0, WALL_DEPTH), floor)
    if rng.random() < 0.5:  # boards
        for i in range(-12, 13):
            ends = camera.project(np.array([(0.18 * i, WALL_DEPTH, 0), (0.34 * i, 1.2, 0)])) + MARGIN
            start, end = to_sixteenths(ends).tolist()
            cv2.line(image, start, end, darker(floor, 90), max(1, camera.height // 120), cv2.LINE_AA, SHIFT)
    board = rng.choice([0.0, 0.03, 0.05])
    fill(image, rectangle(camera, -3, 3, 0, 0.008 + board, WALL_DEPTH), darker(floor, int(rng.integers(50, 75))))
    taken = [scene.spots[scene.home["window"]]] if "window" in scene.props else []
    for _ in range(rng.integers(0, 4)):
        furnish(rng, camera, image, taken)
    if "window" in scene.props:
        x = scene.spots[scene.home["window"]]
        fill(image, rectangle(camera, x - RAIL, x + RAIL, *WINDOW, WALL_DEPTH), (236, 236, 230))
        fill(
            image,
            rectangle(camera, x - RAIL + 0.03, x + RAIL - 0.03, WINDOW[0] + 0.03, WINDOW[1] - 0.03, WALL_DEPTH),
            (150, 206, 246),
        )
        fill(
            image,
            rectangle(camera, x - RAIL + 0.03, x + RAIL - 0.03, WINDOW[0] + 0.03, WINDOW[0] + 0.2, WALL_DEPTH),
            (122, 186, 92),
        )
        fill(
            image,
            rectangle(camera, x - 0.012, x + 0.012, WINDOW[0] + 0.03, WINDOW[1] - 0.03, WALL_DEPTH),
            (236, 236, 230),
        )
    return ((image.astype(np.int32) * light.gain) >> 8).clip(0, 255).astype(np.uint8)


def furnish(rng: np.random.Generator, camera: Camera, image: np.ndarray, taken: list[float]) -> None:
    """Draw a picture, a cupboard or a plant at the wall, unless its position is taken."""
    x = rng.uniform(-1.0, 1.0)
    colours = [as_colour(rng.integers(60, 220, size=3)) for _ in range(2)]
    kind = rng.choice(["picture", "cupboard", "plant"])
    wide, high, low = rng.uniform(0.1, 0.2), rng.uniform(0.35, 0.75), rng.uniform(0.7, 0.95)
    if any(abs(x - other) < RAIL + 0.22 for other in taken):
        return
    taken.append(x)
    if kind == "picture":
        fill(image, rectangle(camera, x - wide, x + wide, low, low + 0.3, WALL_DEPTH), darker(colours[0], 60))
        fill(image, rectangle(camera, x - wide + 0.03, x + wide - 0.03, low + 0.03, low + 0.27, WALL_DEPTH), colours[1])
    elif kind == "cupboard":
        fill(image, rectangle(camera, x - wide, x + wide, 0, high, WALL_DEPTH + 0.05), darker(colours[0], 65))
        for i in range(2):
            bottom = 0.03 + i * high / 2
            fill(
                image,
                rectangle(
                    camera, x - wide + 0.02, x + wide - 0.02, bottom, bottom + high / 2 - 0.04, WALL_DEPTH + 0.05
                ),
                darker(colours[0], 80),
            )
    else:
        for angle in np.linspace(-1.1, 1.1, 7):
            ends = np.array([(x, WALL_DEPTH, 0.2), (x + 0.3 * np.sin(angle), WALL_DEPTH, 0.2 + 0.34 * np.cos(angle))])
            start, end = (camera.project(ends) + MARGIN)[:, None]
            fill(
                image,
                capsule(start, end, 0.012 * camera.scale, 0.03 * camera.scale)[0],
                (54, 118 + int(20 * angle), 62),
            )
        fill(image, rectangle(camera, x - 0.08, x + 0.08, 0, 0.2, WALL_DEPTH + 0.03), darker(colours[1], 80))


def crop(background: np.ndarray, move: np.ndarray, height: int, width: int) -> np.ndarray:
    """The background as the camera sees it after a movement in sixteenths of a pixel.

    Each pixel is the weighted mean of four neighbours, on integers.
    """
    (column, across), (row, down) = divmod(int(move[0]) + 16 * MARGIN, 16), divmod(int(move[1]) + 16 * MARGIN, 16)
    part = background[row : row + height + 1, column : column + width + 1].astype(np.uint16)
    part = part[:, :-1] * (16 - across) + part[:, 1:] * across
    return ((part[:-1] * (16 - down) + part[1:] * down + 128) >> 8).astype(np.uint8)


def draw(
    body: Body, scene: Scene, pose: Pose, rng: np.random.Generator, *, height: int = HEIGHT, plain: bool = False
) -> Iterator[np.ndarray]:
    """Frames uint8 (height, height * 4 / 3, 3), RGB, one for each pose.

    `plain` leaves out the movement and the noise of the camera.
    """
    camera = random_camera(rng, height)
    light = Light(rng, camera)
    background = random_background(rng, camera, light, scene, body)
    drift = random_drift(rng, len(pose["x"]), height)
    if plain:
        drift[:], light.noise = 0, 0
    still = camera.project(np.array([0.0, 0.0, 0.0])) + MARGIN
    floor = as_colour(background[min(int(still[1]), background.shape[0] - 1), int(still[0])])
    layers = [shadow_layer(camera, floor, pose), *prop_layers(rng, camera, light, scene, pose)]
    layers += figure_layers(body, pose, camera.project, camera.scale, light.tint)
    for layer in layers:
        layer.move(-drift)
    depths = np.stack([layer.depth for layer in layers])
    for t, order in enumerate(np.argsort(depths, axis=0, kind="stable").T):
        frame = np.ascontiguousarray(crop(background, drift[t], camera.height, camera.width))
        for i in order:
            layers[i].paint(frame, t)
        yield light.fall(frame, rng)
