"""One articulated figure: its appearance, its joints and its polygons.

In: a random generator for the actor, a pose (see motions.py) and a camera's `project`. Out: layers of polygons, one
polygon per frame. A length of 1 is the height of an average person. Points are (to the right, toward the viewer, up).
This file knows nothing about actions, scenes, sound and files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from camera import Colour, as_colour

COLOURS: dict[str, Colour] = {
    "red": (204, 44, 48),
    "orange": (236, 126, 30),
    "yellow": (240, 204, 56),
    "green": (52, 152, 72),
    "blue": (48, 98, 208),
    "purple": (130, 66, 176),
    "pink": (240, 132, 176),
    "white": (238, 238, 232),
    "black": (44, 44, 52),
    "brown": (128, 82, 50),
}
SKINS: tuple[Colour, ...] = ((250, 214, 184), (234, 186, 148), (202, 150, 108), (152, 104, 70), (104, 70, 50))
HAIRS: tuple[Colour, ...] = ((40, 30, 26), (92, 58, 34), (160, 108, 52), (214, 172, 92), (150, 64, 36), (150, 150, 150))
SIDES = np.array([1.0, -1.0])  # left, right: the left of the body is at +1
SHIFT = 4  # OpenCV gets polygons in units of 2 ** -4 pixel

Points = np.ndarray  # (T, ..., 2) in pixels, or (T, ..., 3) in the world
Pose = dict[str, np.ndarray]  # (T, ...) by name; motions.py lists the names
Project = Callable[[Points], Points]  # points of the world to pixels
Tint = Callable[[Colour], Colour]  # a colour to the same colour in the light of the scene
Polygons = np.ndarray | list[np.ndarray]  # int32, one polygon per frame


@dataclass(frozen=True)
class Body:
    """The proportions, clothes, tempo and voice of an actor. They are the same in all videos of the actor."""

    stature: float
    head: float
    torso: float
    upper_arm: float
    fore_arm: float
    thigh: float
    shin: float
    shoulder: float
    hip: float
    arm_width: float
    leg_width: float
    skin: Colour
    hair: Colour
    has_long_hair: bool
    has_short_sleeves: bool
    has_skirt: bool
    shirt: str
    legs: str  # the colour of the trousers or of the skirt
    hat: str | None
    tempo: float
    voice: float

    @property
    def arm(self) -> float:
        """The length of the whole arm."""
        return self.upper_arm + self.fore_arm

    @property
    def hip_height(self) -> float:
        """The height of the hips above the floor in a standing pose."""
        return 0.985 * (self.thigh + self.shin) + 0.03

    @property
    def shoulder_height(self) -> float:
        """The height of the shoulders above the floor in a standing pose."""
        return self.hip_height + self.torso


def random_body(rng: np.random.Generator) -> Body:
    """A new actor with random proportions, clothes, tempo and voice."""
    stature = rng.uniform(0.9, 1.07)
    shirt, legs, hat = rng.choice(list(COLOURS), size=3, replace=False)
    return Body(
        stature=stature,
        head=rng.uniform(0.082, 0.1),
        torso=stature * rng.uniform(0.27, 0.31),
        upper_arm=stature * rng.uniform(0.155, 0.18),
        fore_arm=stature * rng.uniform(0.15, 0.175),
        thigh=stature * rng.uniform(0.215, 0.24),
        shin=stature * rng.uniform(0.205, 0.23),
        shoulder=rng.uniform(0.09, 0.12),
        hip=rng.uniform(0.05, 0.07),
        arm_width=rng.uniform(0.027, 0.037),
        leg_width=rng.uniform(0.036, 0.05),
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        has_long_hair=bool(rng.random() < 0.35),
        has_short_sleeves=bool(rng.random() < 0.5),
        has_skirt=bool(rng.random() < 0.3),
        shirt=str(shirt),
        legs=str(legs),
        hat=str(hat) if rng.random() < 0.35 else None,
        tempo=rng.uniform(0.88, 1.14),
        voice=rng.uniform(300.0, 900.0),
    )


@dataclass
class Layer:
    """Polygons of all frames that are drawn together.

    `depth` (T,) gives the order within a frame: a layer that is nearer to the viewer is drawn later.
    """

    depth: np.ndarray
    shapes: list[tuple[Polygons, Colour]] = field(default_factory=list)

    def add(self, points: Points, colour: Colour) -> None:
        """Add one convex polygon per frame, (T, N, 2) in pixels."""
        self.shapes.append((to_sixteenths(points), colour))

    def move(self, by: np.ndarray) -> None:
        """Shift all polygons of each frame by sixteenths of a pixel, (T, 2)."""
        for i, (polygons, colour) in enumerate(self.shapes):
            moved = (
                polygons + by[:, None]
                if isinstance(polygons, np.ndarray)
                else [p + b for p, b in zip(polygons, by, strict=True)]
            )
            self.shapes[i] = (moved, colour)

    def paint(self, frame: np.ndarray, t: int) -> None:
        """Draw the polygons of frame number t into the frame."""
        for polygons, colour in self.shapes:
            cv2.fillConvexPoly(frame, polygons[t], colour, cv2.LINE_AA, SHIFT)


def to_sixteenths(points: Points) -> np.ndarray:
    """Pixels as whole sixteenths of a pixel."""
    return np.rint(np.asarray(points) * (1 << SHIFT)).astype(np.int32)


def darker(colour: Colour, percent: int) -> Colour:
    """The colour with each channel at so many percent of its value."""
    return as_colour(int(c) * percent // 100 for c in colour)


def capsule(start: Points, end: Points, start_radius: float, end_radius: float) -> Points:
    """A limb from start (T, 2) to end (T, 2) with round ends, as a polygon (T, 16, 2)."""
    angle = np.arctan2(end[:, 1] - start[:, 1], end[:, 0] - start[:, 0])[:, None]
    sweep = angle + np.linspace(np.pi / 2, 3 * np.pi / 2, 8)[None]
    arc = np.stack([np.cos(sweep), np.sin(sweep)], axis=-1)
    return np.concatenate([start[:, None] + start_radius * arc, end[:, None] - end_radius * arc], axis=1)


def ellipse(centre: Points, right: Points, up: Points, num_points: int = 18) -> Points:
    """An ellipse with half axes right (T, 2) and up (T, 2), as a polygon (T, num_points, 2)."""
    angle = np.linspace(0, 2 * np.pi, num_points, endpoint=False)[None, :, None]
    return centre[:, None] + np.cos(angle) * right[:, None] + np.sin(angle) * up[:, None]


def hull(points: Points) -> list[np.ndarray]:
    """The convex hull of (T, N, 2) pixels for each frame, in sixteenths of a pixel."""
    return [cv2.convexHull(frame) for frame in to_sixteenths(points)]


def bend_joint(root: Points, target: Points, first: float, second: float, pole: Points) -> tuple[Points, Points]:
    """The middle joint and the end of two bones from root toward target (T, 3).

    The middle joint bends in the direction `pole`. The end lies on the line from root to target, as near to the target
    as the bones allow.
    """
    reach = target - root
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / np.maximum(distance, 1e-6)
    distance = np.clip(distance, abs(first - second) + 1e-3, 0.999 * (first + second))
    ahead = (distance**2 + first**2 - second**2) / (2 * distance)
    aside = np.sqrt(np.maximum(first**2 - ahead**2, 0.0))
    pole = pole - along * np.sum(pole * along, axis=-1, keepdims=True)
    pole = pole / np.maximum(np.linalg.norm(pole, axis=-1, keepdims=True), 1e-6)
    return root + along * ahead + pole * aside, root + along * distance


def to_world(pose: Pose, points: Points) -> Points:
    """Points (T, ..., 3) from the axes of the body to the axes of the world.

    The axes of the body are (forward, left, up). Those of the world are (to the right, toward the viewer, up).
    """
    shape = (-1,) + (1,) * (points.ndim - 2)
    sine, cosine, x = np.sin(pose["yaw"]).reshape(shape), np.cos(pose["yaw"]).reshape(shape), pose["x"].reshape(shape)
    forward, left, up = points[..., 0], points[..., 1], points[..., 2]
    return np.stack([x + forward * sine + left * cosine, forward * cosine - left * sine, up], axis=-1)


def bones(body: Body, pose: Pose) -> dict[str, Points]:
    """The position of each joint in the world: (T, 3), or (T, 2, 3) for joints on the left and on the right."""
    frames = len(pose["x"])
    pelvis = np.stack([pose["pelvis"][:, 0], np.zeros(frames), pose["pelvis"][:, 1]], axis=-1)
    lean = np.stack([np.sin(pose["pitch"]), np.zeros(frames), np.cos(pose["pitch"])], axis=-1)
    gaze = pose["pitch"] + pose["nod"]
    crown = np.stack([np.sin(gaze), np.zeros(frames), np.cos(gaze)], axis=-1)
    chest = pelvis + body.torso * lean
    aside = np.stack([np.zeros(2), SIDES, np.zeros(2)], axis=-1)[None]  # (1, 2, 3)
    joints = {"chest": chest, "head": chest + (1.25 * body.head + 0.03) * crown, "crown": chest + 2 * crown}
    joints["neck"] = chest + 0.02 * crown
    joints["hips"] = pelvis[:, None] + body.hip * aside
    joints["waist"] = (pelvis + 0.2 * body.torso * lean)[:, None] + 0.95 * body.hip * aside
    joints["shoulders"] = chest[:, None] - 0.02 * lean[:, None] + body.shoulder * aside
    for name, middle, end in (("hands", "elbows", "hands"), ("feet", "knees", "ankles")):
        is_arm = name == "hands"
        pole = np.array([-0.5, 0.75, -0.35]) if is_arm else np.array([1.0, 0.12, 0.0])
        found = []
        for i, side in enumerate(SIDES):
            root = joints["shoulders" if is_arm else "hips"][:, i]
            lengths = (body.upper_arm, body.fore_arm) if is_arm else (body.thigh, body.shin)
            found.append(bend_joint(root, pose[name][:, i], *lengths, np.broadcast_to(pole * [1, side, 1], root.shape)))
        joints[middle] = np.stack([f[0] for f in found], axis=1)
        joints[end] = np.stack([f[1] for f in found], axis=1)
    joints["toes"] = joints["ankles"] + np.array([0.07, 0.0, -0.012])
    return {name: to_world(pose, points) for name, points in joints.items()}


def figure_layers(body: Body, pose: Pose, project: Project, scale: float, tint: Tint) -> list[Layer]:
    """The figure as layers of polygons. `scale` is in pixels per unit of length."""
    world = bones(body, pose)
    flat = {name: project(points) for name, points in world.items()}
    layers = [
        limb
        for i in range(2)
        for limb in (leg_layer(body, world, flat, i, scale, tint), arm_layer(body, world, flat, i, scale, tint))
    ]
    return [*layers, torso_layer(body, world, flat, scale, tint), head_layer(body, pose, world, flat, scale, tint)]


def leg_layer(body: Body, world: dict[str, Points], flat: dict[str, Points], i: int, scale: float, tint: Tint) -> Layer:
    """The left leg (i = 0) or the right one (i = 1). `world` and `flat` are the joints in the world and in pixels."""
    layer = Layer(0.7 * world["knees"][:, i, 1] + 0.3 * world["hips"][:, i, 1] - 0.09)
    hip, knee, ankle, toe = (flat[name][:, i] for name in ("hips", "knees", "ankles", "toes"))
    width = body.leg_width
    cloth = tint(COLOURS[body.legs])
    shin = tint(body.skin) if body.has_skirt else cloth
    shoe = tint((70, 52, 44) if body.legs != "brown" else (48, 48, 56))
    for edge in (0.009, 0.0):
        percent = 55 if edge else 100
        layer.add(capsule(ankle, toe, (0.03 + edge) * scale, (0.023 + edge) * scale), darker(shoe, percent))
        layer.add(
            capsule(knee, ankle, (0.8 * width + edge) * scale, (0.6 * width + edge) * scale), darker(shin, percent)
        )
        layer.add(
            capsule(hip, knee, (1.1 * width + edge) * scale, (0.82 * width + edge) * scale), darker(cloth, percent)
        )
    return layer


def arm_layer(body: Body, world: dict[str, Points], flat: dict[str, Points], i: int, scale: float, tint: Tint) -> Layer:
    """The left arm (i = 0) or the right one (i = 1)."""
    layer = Layer(0.5 * world["elbows"][:, i, 1] + 0.5 * world["hands"][:, i, 1] + 0.03)
    shoulder, elbow, hand = (flat[name][:, i] for name in ("shoulders", "elbows", "hands"))
    width = body.arm_width
    sleeve, skin = tint(darker(COLOURS[body.shirt], 90)), tint(body.skin)
    fore = skin if body.has_short_sleeves else sleeve
    for edge in (0.009, 0.0):
        percent = 55 if edge else 100
        layer.add(
            capsule(elbow, hand, (0.85 * width + edge) * scale, (0.7 * width + edge) * scale), darker(fore, percent)
        )
        layer.add(capsule(hand, hand + 1e-3, (0.034 + edge) * scale, (0.034 + edge) * scale), darker(skin, percent))
        layer.add(
            capsule(shoulder, elbow, (1.1 * width + edge) * scale, (0.85 * width + edge) * scale),
            darker(sleeve, percent),
        )
    return layer


def torso_layer(body: Body, world: dict[str, Points], flat: dict[str, Points], scale: float, tint: Tint) -> Layer:
    """The hips, with a skirt where the body has one, and the shirt."""
    layer = Layer(0.5 * world["chest"][:, 1] + 0.25 * world["hips"][..., 1].sum(axis=1))
    shirt, cloth = tint(COLOURS[body.shirt]), tint(COLOURS[body.legs])
    hem = flat["hips"] + 0.72 * (flat["knees"] - flat["hips"])
    for joints, colour in (("hips", cloth), ("waist", shirt)):
        for edge in (0.009, 0.0):
            shade = darker(colour, 55 if edge else 100)
            low = pair_of_discs(flat[joints], (0.05 + edge) * scale)
            if joints == "waist":
                points = np.concatenate([low, pair_of_discs(flat["shoulders"], (0.042 + edge) * scale)], axis=1)
            elif body.has_skirt:
                points = np.concatenate([low, pair_of_discs(hem, (0.068 + edge) * scale)], axis=1)
            else:
                points = low
            layer.shapes.append((hull(points), shade))
    return layer


def pair_of_discs(centres: Points, radius: float) -> Points:
    """The outline of two discs and of the area between them: centres (T, 2, 2) to a polygon (T, 16, 2)."""
    return capsule(centres[:, 0], centres[:, 1], radius, radius)


def head_layer(
    body: Body, pose: Pose, world: dict[str, Points], flat: dict[str, Points], scale: float, tint: Tint
) -> Layer:
    """The head with face, hair and hat. The face and the hair follow the direction in which the figure looks."""
    layer = Layer(world["head"][:, 1] + 0.04)
    skin, hair, radius, edge = tint(body.skin), tint(body.hair), body.head * scale, 0.009 * scale
    centre = flat["head"]
    up = flat["crown"] - flat["chest"]
    up = up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-6)
    right = np.stack([-up[:, 1], up[:, 0]], axis=1)
    sine, cosine = np.sin(pose["yaw"])[:, None], np.cos(pose["yaw"])[:, None]
    if body.has_long_hair:
        back = centre - right * sine * 0.4 * radius
        layer.add(capsule(back, back - up * 1.2 * radius, radius, 0.72 * radius), darker(hair, 80))
    layer.add(capsule(flat["neck"], centre, 0.036 * scale, 0.036 * scale), darker(skin, 85))
    layer.add(ellipse(centre, right * (radius + edge), up * (1.05 * radius + edge)), darker(skin, 55))
    layer.add(ellipse(centre, right * radius, up * 1.05 * radius), skin)
    for angle, height, size, colour in (
        (0.42, -0.14, 0.11, (30, 26, 30)),
        (-0.42, -0.14, 0.11, (30, 26, 30)),
        (0.0, -0.38, 0.15, darker(skin, 84)),
    ):
        side, front = np.sin(pose["yaw"] + angle)[:, None], np.cos(pose["yaw"] + angle)[:, None]
        spot = centre + right * side * (0.98 if angle == 0 else 0.8) * radius + up * height * radius
        visible = size * radius * (front > -0.2)
        layer.add(ellipse(spot, right * visible, up * 1.25 * visible, 10), colour)
    turn, half = np.radians(68.0) * sine, np.radians(74 + 26 * sine**2 + 106 * np.maximum(0.0, -cosine))
    angle = (np.linspace(-1, 1, 20)[None] * np.minimum(half, np.pi) - turn)[..., None]
    for grow, shade in ((edge, darker(hair, 55)), (0.0, hair)):
        size = 1.09 * radius + grow
        layer.add(centre[:, None] + size * (np.sin(angle) * right[:, None] + 1.04 * np.cos(angle) * up[:, None]), shade)
    if body.hat:
        add_hat(layer, tint(COLOURS[body.hat]), centre, right, up, radius, edge)
    return layer


def add_hat(
    layer: Layer, colour: Colour, centre: Points, right: Points, up: Points, radius: float, edge: float
) -> None:
    """Add the crown and the brim of a hat to the layer of the head."""
    low, high, brim = centre + up * 0.7 * radius, centre + up * 1.25 * radius, centre + up * 0.58 * radius
    for grow in (edge, 0.0):
        shade = darker(colour, 55 if grow else 100)
        layer.add(capsule(low, high, 0.9 * radius + grow, 0.7 * radius + grow), shade)
    for grow in (edge, 0.0):
        rim = 0.12 * radius + grow
        layer.add(
            capsule(brim - right * 1.4 * radius, brim + right * 1.4 * radius, rim, rim),
            darker(colour, 50 if grow else 88),
        )
