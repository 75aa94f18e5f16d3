"""The objects of a scene: curtains, a box, a stool and a barbell. Also the shadow of the figure.

In: a Scene, the poses of a script, a camera and its light. Out: layers of polygons, one polygon per frame (see
figures.py). This file knows nothing about the figure, the background and time.
"""

from __future__ import annotations

import numpy as np
from camera import Camera, Colour, Light
from figures import COLOURS, Layer, Pose, capsule, darker, ellipse, hull, to_world
from motions import BAR_REST, BOX_HALF, SEAT_BEHIND, SEAT_HEIGHT
from script import Scene

WALL_DEPTH = -0.55
RAIL = 0.47  # half of the width of the window with its curtains
WINDOW = (0.5, 1.14)  # the heights of its lower and its upper edge
WOODS = ((188, 136, 78), (150, 108, 70), (206, 168, 108), (132, 138, 144))
SEATS = ((176, 122, 66), (96, 66, 48), (214, 214, 208), (196, 70, 60))
PLATES = ((196, 44, 44), (40, 86, 176), (48, 48, 54), (226, 178, 40))
WALL, SHADOW, STOOL, BOX = -9.0, -6.0, -4.0, -3.0  # depths of layers, all behind the figure


def prop_layers(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: Pose) -> list[Layer]:
    """The layers of the objects that this scene has."""
    made = (("window", curtain_layer), ("box", box_layer), ("stool", stool_layer), ("barbell", barbell_layer))
    return [make(rng, camera, light, scene, pose) for name, make in made if name in scene.props]


def curtain_layer(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: Pose) -> Layer:
    """Two curtains with folds and their rail. The pose gives the width of the curtains."""
    layer = Layer(np.full(len(pose["x"]), WALL))
    names = [name for name in COLOURS if name not in ("white", "black")]
    cloth, x = light.tint(COLOURS[str(rng.choice(names))]), scene.spots[scene.home["window"]]
    low, high = WINDOW[0] - 0.07, WINDOW[1] + 0.03
    inner = pose["curtain"] * 0.36
    for side in (-1, 1):
        for fold in range(6):
            near, far = (x + side * (inner + (RAIL + 0.02 - inner) * share / 6) for share in (fold, fold + 1))
            corners = [
                np.stack([across, np.full_like(across, WALL_DEPTH), np.full_like(across, up)], -1)
                for across, up in ((near, low), (far, low), (far, high), (near, high))
            ]
            layer.add(camera.project(np.stack(corners, axis=1)), darker(cloth, 82 if fold % 2 else 98))
    rail = camera.project(np.array([(x + side * (RAIL + 0.06), WALL_DEPTH, high) for side in (-1, 1)]))
    rail = np.repeat(rail[None], len(pose["x"]), axis=0)
    layer.add(capsule(rail[:, 0], rail[:, 1], 0.014 * camera.scale, 0.014 * camera.scale), light.tint((92, 66, 44)))
    return layer


def box_layer(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: Pose) -> Layer:
    """A wooden box: its outline, front and top, and two planks."""
    layer = Layer(np.full(len(pose["x"]), BOX))
    colour = light.tint(WOODS[rng.integers(4)])
    foot = np.stack([pose["box"], np.full_like(pose["box"], -0.06), np.zeros_like(pose["box"])], -1)
    size = np.array([BOX_HALF, 0.14, 0.44])

    def quad(*corners: tuple[float, float, float]) -> np.ndarray:
        return np.stack([camera.project(foot + size * corner) for corner in corners], axis=1)

    rim = quad((-1.05, 1.1, -0.02), (1.05, 1.1, -0.02), (1.05, -1.1, 1.03), (-1.05, -1.1, 1.03))
    layer.shapes.append((hull(rim), darker(colour, 50)))
    layer.add(quad((-1, 1, 0), (1, 1, 0), (1, 1, 1), (-1, 1, 1)), colour)
    layer.add(quad((-1, 1, 1), (1, 1, 1), (1, -1, 1), (-1, -1, 1)), darker(colour, 118))
    for low in (0.3, 0.65):
        layer.add(quad((-1, 1, low), (1, 1, low), (1, 1, low + 0.05), (-1, 1, low + 0.05)), darker(colour, 72))
    return layer


def stool_layer(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: Pose) -> Layer:
    """A stool with four legs and a seat, behind the figure."""
    layer, scale = Layer(np.full(len(pose["x"]), STOOL)), camera.scale
    colour, yaw = light.tint(SEATS[rng.integers(4)]), scene.yaws["sit"]
    x = scene.spots[scene.home["stool"]]
    seat = np.array([x + SEAT_BEHIND * np.sin(yaw), SEAT_BEHIND * np.cos(yaw), SEAT_HEIGHT - 0.02])

    def point(across: float, depth: float, up: float) -> np.ndarray:
        return np.repeat(camera.project(seat + np.array([across, depth, up]))[None], len(pose["x"]), axis=0)

    for across, depth in ((-0.11, -0.08), (0.11, -0.08), (-0.12, 0.1), (0.12, 0.1)):
        top, foot = point(0.8 * across, 0.8 * depth, 0), point(across, depth, -SEAT_HEIGHT + 0.03)
        layer.add(capsule(top, foot, 0.02 * scale, 0.016 * scale), darker(colour, 70))
    for low, width, shade in ((-0.02, 0.04, darker(colour, 60)), (0.0, 0.034, colour)):
        layer.add(capsule(point(-0.12, 0, low), point(0.12, 0, low), width * scale, width * scale), shade)
    return layer


def barbell_layer(rng: np.random.Generator, camera: Camera, light: Light, scene: Scene, pose: Pose) -> Layer:
    """A bar with two plates at each end. On the floor it lies in front of the figure."""
    frames, scale, yaw = len(pose["x"]), camera.scale, scene.yaws["barbell"]
    steady = {"x": np.full(frames, scene.spots[scene.home["barbell"]]), "yaw": np.full(frames, yaw)}
    ahead, up = pose["bar"].T
    points = [np.stack([ahead, np.full(frames, left), up], -1) for left in (-0.43, -0.39, 0.39, 0.43)]
    world = to_world(steady, np.stack(points, axis=1))
    layer = Layer(world[..., 1].mean(axis=1) + np.where(up > BAR_REST[1] + 1e-6, 0.0, 0.05))
    flat = camera.project(world)
    layer.add(capsule(flat[:, 0], flat[:, 3], 0.018 * scale, 0.018 * scale), light.tint((96, 98, 106)))
    plate = light.tint(PLATES[rng.integers(4)])
    wide, high = np.array([[0.1 * max(0.3, abs(np.sin(yaw))) * scale, 0.0]]), np.array([[0.0, -0.1 * scale]])
    for i in range(4):
        layer.add(ellipse(flat[:, i], wide * 1.12 + [[0.012 * scale, 0]], high * 1.1), darker(plate, 50))
        layer.add(ellipse(flat[:, i], wide, high), plate if i in (0, 3) else darker(plate, 85))
    return layer


def shadow_layer(camera: Camera, floor: Colour, pose: Pose) -> Layer:
    """A dark ellipse below the figure, on a floor of this colour."""
    layer = Layer(np.full(len(pose["x"]), SHADOW))
    foot = camera.project(np.stack([pose["x"], np.zeros_like(pose["x"]), np.zeros_like(pose["x"])], -1))
    for size, percent in ((0.24 * camera.scale, 88), (0.2 * camera.scale, 78)):
        layer.add(ellipse(foot, np.array([[size, 0.0]]), np.array([[0.0, 0.22 * size]])), darker(floor, percent))
    return layer
