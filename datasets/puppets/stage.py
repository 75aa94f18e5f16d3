"""The picture: a camera, a background, the props and the light; and the frames of a script.

In: a body, a Scene, the poses of a script. Out: frames uint8 (H, W, 3), RGB, one after another.
All arithmetic that reaches a pixel is on integers, coordinates are rounded to 1/16 pixel: the same picture on any machine.
Knows nothing about labels, time or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from figures import COLOURS, Body, Layer, capsule, darker, ellipse, figure_layers, hull, to_sixteenths, to_world
from motions import BAR_REST, BOX_HALF, SEAT_BEHIND, SEAT_HEIGHT
from script import Scene

HEIGHT, WIDTH = 120, 160
WALL_DEPTH = -0.55
SLOPE = 0.17  # how much lower in the picture a point appears that is nearer to the viewer
RAIL = 0.47  # half the width of the window with its curtains
WINDOW = (0.5, 1.14)  # its lower and upper edge
MARGIN = 8  # pixels of background beyond each edge of the frame, for the drift


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


def fill(image: np.ndarray, points, colour) -> None:
    cv2.fillConvexPoly(image, to_sixteenths(np.asarray(points, float)), colour, cv2.LINE_AA, 4)


def box_blur(image: np.ndarray, radius: int) -> np.ndarray:
    """Means over squares, on integers."""
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


def random_wall(rng: np.random.Generator, height: int, width: int, avoid: list) -> np.ndarray:
    """Colours that run into each other, a texture, and a few blurred shapes; no colour near those to avoid."""
    for _ in range(12):
        base = rng.integers(95, 236) + rng.integers(-34, 35, size=3)
        if all(np.abs(base - np.array(colour)).sum() > 110 for colour in avoid):
            break
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
    """An upright rectangle of the world in pixels (4, 2)."""
    corners = [(left, depth, low), (right, depth, low), (right, depth, high), (left, depth, high)]
    return camera.project(np.array(corners)) + MARGIN


def random_background(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, body: Body) -> np.ndarray:
    """Wall, floor, furniture and the window behind the curtains: uint8, with a margin around the frame."""
    height, width = camera.height + 2 * MARGIN, camera.width + 2 * MARGIN
    image = random_wall(rng, height, width, [COLOURS[body.shirt], COLOURS[body.legs], body.skin])
    floor = rng.integers(70, 190) + rng.integers(-25, 26, size=3)
    floor = [int(c) for c in np.clip(floor, 30, 230)]
    fill(image, rectangle(camera, -3, 3, -3, 0, WALL_DEPTH), floor)
    if rng.random() < 0.5:  # boards
        for i in range(-12, 13):
            ends = camera.project(np.array([(0.18 * i, WALL_DEPTH, 0), (0.34 * i, 1.2, 0)])) + MARGIN
            cv2.line(
                image, *to_sixteenths(ends).tolist(), darker(floor, 90), max(1, camera.height // 120), cv2.LINE_AA, 4
            )
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
    """One piece at the wall, where nothing else is: a picture, a cupboard or a plant."""
    x = rng.uniform(-1.0, 1.0)
    colours = [tuple(int(c) for c in rng.integers(60, 220, size=3)) for _ in range(2)]
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


def curtain_layers(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: dict) -> list[Layer]:
    """Two curtains with folds, as wide as the pose says."""
    layer = Layer(np.full(len(pose["x"]), -9.0))
    names = [name for name in COLOURS if name not in ("white", "black")]
    cloth, x = light.tint(COLOURS[str(rng.choice(names))]), scene.spots[scene.home["window"]]
    inner = pose["curtain"] * 0.36
    for side in (-1, 1):
        for fold in range(6):
            near, far = (x + side * (inner + (RAIL + 0.02 - inner) * share / 6) for share in (fold, fold + 1))
            low, high = WINDOW[0] - 0.07, WINDOW[1] + 0.03
            corners = [
                np.stack([across, np.full_like(across, WALL_DEPTH), np.full_like(across, up)], -1)
                for across, up in ((near, low), (far, low), (far, high), (near, high))
            ]
            layer.add(camera.project(np.stack(corners, axis=1)), darker(cloth, 82 if fold % 2 else 98))
    rail = camera.project(
        np.array([(x - RAIL - 0.06, WALL_DEPTH, WINDOW[1] + 0.03), (x + RAIL + 0.06, WALL_DEPTH, WINDOW[1] + 0.03)])
    )
    rail = np.repeat(rail[None], len(pose["x"]), axis=0)
    layer.add(capsule(rail[:, 0], rail[:, 1], 0.014 * camera.scale, 0.014 * camera.scale), light.tint((92, 66, 44)))
    return [layer]


def solid(layer: Layer, camera: Camera, centre: np.ndarray, size: tuple[float, float, float], colour) -> None:
    """A box on the ground: front, top, two planks. centre (T, 3): the middle of its foot; size: half x, half depth, z."""
    wide, deep, high = size
    corner = lambda across, depth, up: camera.project(centre + np.array([across * wide, depth * deep, up * high]))  # noqa: E731
    quad = lambda *corners: np.stack([corner(*c) for c in corners], axis=1)  # noqa: E731
    layer.shapes.append(
        (
            hull(quad((-1.05, 1.1, -0.02), (1.05, 1.1, -0.02), (1.05, -1.1, 1.03), (-1.05, -1.1, 1.03))),
            darker(colour, 50),
        )
    )
    layer.add(quad((-1, 1, 0), (1, 1, 0), (1, 1, 1), (-1, 1, 1)), colour)
    layer.add(quad((-1, 1, 1), (1, 1, 1), (1, -1, 1), (-1, -1, 1)), darker(colour, 118))
    for low in (0.3, 0.65):
        layer.add(quad((-1, 1, low), (1, 1, low), (1, 1, low + 0.05), (-1, 1, low + 0.05)), darker(colour, 72))


def prop_layers(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: dict) -> list[Layer]:
    """The curtains, the box, the stool and the barbell that this scene has."""
    frames, scale = len(pose["x"]), camera.scale
    layers = curtain_layers(rng, camera, light, scene, pose) if "window" in scene.props else []
    if "box" in scene.props:
        layer = Layer(np.full(frames, -3.0))
        wood = light.tint(((188, 136, 78), (150, 108, 70), (206, 168, 108), (132, 138, 144))[rng.integers(4)])
        solid(
            layer,
            camera,
            np.stack([pose["box"], np.full(frames, -0.06), np.zeros(frames)], -1),
            (BOX_HALF, 0.14, 0.44),
            wood,
        )
        layers.append(layer)
    if "stool" in scene.props:
        layer, wood = (
            Layer(np.full(frames, -4.0)),
            light.tint(((176, 122, 66), (96, 66, 48), (214, 214, 208), (196, 70, 60))[rng.integers(4)]),
        )
        yaw = scene.yaws["sit"]
        seat = np.array(
            [
                scene.spots[scene.home["stool"]] + SEAT_BEHIND * np.sin(yaw),
                SEAT_BEHIND * np.cos(yaw),
                SEAT_HEIGHT - 0.02,
            ]
        )
        point = lambda across, depth, up: np.repeat(
            camera.project(seat + np.array([across, depth, up]))[None], frames, 0
        )
        for across, depth in ((-0.11, -0.08), (0.11, -0.08), (-0.12, 0.1), (0.12, 0.1)):
            leg = capsule(
                point(0.8 * across, 0.8 * depth, 0),
                point(across, depth, -SEAT_HEIGHT + 0.03),
                0.02 * scale,
                0.016 * scale,
            )
            layer.add(leg, darker(wood, 70))
        layer.add(capsule(point(-0.12, 0, -0.02), point(0.12, 0, -0.02), 0.04 * scale, 0.04 * scale), darker(wood, 60))
        layer.add(capsule(point(-0.12, 0, 0), point(0.12, 0, 0), 0.034 * scale, 0.034 * scale), wood)
        layers.append(layer)
    if "barbell" in scene.props:
        layers.append(barbell_layer(rng, camera, light, scene, pose))
    return layers


def barbell_layer(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: dict) -> Layer:
    frames, scale = len(pose["x"]), camera.scale
    steady = {"x": np.full(frames, scene.spots[scene.home["barbell"]]), "yaw": np.full(frames, scene.yaws["barbell"])}
    along = np.array([-0.43, -0.39, 0.39, 0.43])
    points = np.stack(
        [np.stack([pose["bar"][:, 0], np.full(frames, left), pose["bar"][:, 1]], -1) for left in along], axis=1
    )
    world = to_world(steady, points)
    layer = Layer(world[..., 1].mean(axis=1) + np.where(pose["bar"][:, 1] > BAR_REST[1] + 1e-6, 0.0, 0.05))
    flat = camera.project(world)
    layer.add(capsule(flat[:, 0], flat[:, 3], 0.018 * scale, 0.018 * scale), light.tint((96, 98, 106)))
    plate = light.tint(((196, 44, 44), (40, 86, 176), (48, 48, 54), (226, 178, 40))[rng.integers(4)])
    turn = max(0.3, abs(float(np.sin(scene.yaws["barbell"]))))
    for i in (0, 1, 2, 3):
        right, up = np.array([[0.1 * turn * scale, 0.0]]), np.array([[0.0, -0.1 * scale]])
        layer.add(ellipse(flat[:, i], right * 1.12 + [[0.012 * scale, 0]], up * 1.1), darker(plate, 50))
        layer.add(ellipse(flat[:, i], right, up), plate if i in (0, 3) else darker(plate, 85))
    return layer


def shadow(camera: Camera, image_floor: tuple, pose: dict) -> Layer:
    """A dark patch below the figure."""
    layer = Layer(np.full(len(pose["x"]), -6.0))
    foot = camera.project(np.stack([pose["x"], np.full_like(pose["x"], 0.0), np.zeros_like(pose["x"])], -1))
    for size, percent in ((0.24, 88), (0.2, 78)):
        layer.add(
            ellipse(foot, np.array([[size * camera.scale, 0]]), np.array([[0, 0.22 * size * camera.scale]])),
            darker(image_floor, percent),
        )
    return layer


def crop(background: np.ndarray, move: np.ndarray, height: int, width: int) -> np.ndarray:
    """The background seen from a camera that moved by sixteenths of a pixel: a mean of four neighbours, on integers."""
    (column, across), (row, down) = divmod(int(move[0]) + 16 * MARGIN, 16), divmod(int(move[1]) + 16 * MARGIN, 16)
    part = background[row : row + height + 1, column : column + width + 1].astype(np.uint16)
    part = part[:, :-1] * (16 - across) + part[:, 1:] * across
    return ((part[:-1] * (16 - down) + part[1:] * down + 128) >> 8).astype(np.uint8)


def draw(
    body: Body, scene: Scene, pose: dict, rng: np.random.Generator, *, height: int = HEIGHT, plain: bool = False
) -> Iterator[np.ndarray]:
    """Frames uint8 (height, height * 4 / 3, 3), RGB, one for each pose. `plain`: no drift and no grain."""
    camera = random_camera(rng, height)
    light = Light(rng, camera)
    background = random_background(rng, camera, light, scene, body)
    drift = random_drift(rng, len(pose["x"]), height)
    if plain:
        drift[:], light.noise = 0, 0
    still = camera.project(np.array([0.0, 0.0, 0.0])) + MARGIN
    floor = tuple(int(c) for c in background[min(int(still[1]), background.shape[0] - 1), int(still[0])])
    layers = [shadow(camera, floor, pose), *prop_layers(rng, camera, light, scene, pose)]
    layers += figure_layers(body, pose, camera.project, camera.scale, light.tint)
    for layer in layers:
        layer.move(-drift)
    depths = np.stack([layer.depth for layer in layers])
    for t, order in enumerate(np.argsort(depths, axis=0, kind="stable").T):
        frame = np.ascontiguousarray(crop(background, drift[t], camera.height, camera.width))
        for i in order:
            layers[i].paint(frame, t)
        yield light.fall(frame, rng)
