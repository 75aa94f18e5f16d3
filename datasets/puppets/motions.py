"""The actions: seven pairs, each one curve of poses p(u).

The first action of a pair goes through the curve from u = 0 to u = 1, the second action from u = 1 to u = 0.

In: a body, a scene and u (T,). Out: a pose, a dict of arrays whose first axis is T:
    x (T,)                     the position of the figure, to the right
    yaw, pitch, nod (T,)       in radians: the turn away from the viewer, the lean of the torso, the lean of the head
    pelvis (T, 2)              forward, up
    hands, feet (T, 2, 3)      left and right; forward, left, up from the ground below x
    curtain (T,)               0 is closed, 1 is open
    box (T,)                   the position of the box, to the right
    bar (T, 2)                 the barbell: forward, up
This file knows nothing about time. A pose depends on u only, so it does not contain the direction of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from figures import SIDES, Body, Pose
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from script import Scene

BOX_HALF = 0.2
BOX_GAP = 0.34 + BOX_HALF  # from the figure that pushes to the middle of the box
BAR_REST = np.array([0.17, 0.1])
SEAT_HEIGHT = 0.25
SEAT_BEHIND = -0.2


@dataclass(frozen=True)
class Pair:
    """Two actions with the same poses in opposite order.

    `beat` says whether the sound has a beat during the action. `yaw` is the range of the turn away from the viewer, in
    degrees. `seconds` is the range of the duration. `needs` is the object that the action needs.
    """

    forward: str
    backward: str
    curve: Callable[[Body, Scene, Pose, np.ndarray], Pose]
    beat: bool
    yaw: tuple[float, float]
    seconds: tuple[float, float]
    needs: str | None = None


def lerp(start: ArrayLike, end: ArrayLike, weight: ArrayLike) -> np.ndarray:
    """Linear interpolation from start to end by weight (T,), for numbers and for arrays."""
    first, last = np.asarray(start, float), np.asarray(end, float)
    share = np.asarray(weight, float)
    shape = share.shape + (1,) * max(first.ndim, last.ndim)
    return first + (last - first) * share.reshape(shape)


def smooth(u: np.ndarray) -> np.ndarray:
    """The smoothstep function: 0 for u <= 0, 1 for u >= 1.

    smooth(1 - u) = 1 - smooth(u), so it is the same forward and backward in time.
    """
    u = np.clip(u, 0.0, 1.0)
    return u * u * (3 - 2 * u)


def both(forward: float, left: float, up: float) -> np.ndarray:
    """A position for the left hand or foot, and its mirror image for the right one: (2, 3)."""
    return np.stack([np.full(2, forward), left * SIDES, np.full(2, up)], axis=-1)


def standing(body: Body, place: dict[str, float], yaw: float, frames: int) -> Pose:
    """The neutral pose with hanging arms. `place` holds the present x, curtain and box."""
    hands = both(0.03, body.shoulder + 0.06, body.shoulder_height - 0.97 * body.arm)
    zeros = np.zeros(frames)
    return {
        "x": zeros + place["x"],
        "yaw": zeros + yaw,
        "pitch": zeros + 0.02,
        "nod": zeros.copy(),
        "pelvis": lerp([0.0, body.hip_height], [0.0, body.hip_height], zeros),
        "hands": lerp(hands, hands, zeros),
        "feet": lerp(both(0.0, 0.075, 0.035), both(0.0, 0.075, 0.035), zeros),
        "curtain": zeros + place["curtain"],
        "box": zeros + place["box"],
        "bar": lerp(BAR_REST, BAR_REST, zeros),
    }


def sit(body: Body, scene: Scene, pose: Pose, u: np.ndarray) -> Pose:
    """From standing to sitting on the stool."""
    down = smooth(u)
    pose["pelvis"] = lerp([0.0, body.hip_height], [SEAT_BEHIND, SEAT_HEIGHT + 0.06], down)
    pose["pitch"] = 0.02 + (0.55 + 0.15 * scene.amount) * np.sin(np.pi * u) + 0.03 * down
    pose["hands"] = lerp(pose["hands"][0], both(0.06, body.hip + 0.03, SEAT_HEIGHT + 0.13), down)
    pose["feet"] = lerp(pose["feet"][0], both(0.04, 0.08, 0.035), down)
    return pose


def raise_arms(body: Body, scene: Scene, pose: Pose, u: np.ndarray) -> Pose:
    """Both arms from hanging to raised."""
    angle = lerp(np.radians(14.0), np.radians(160.0 + 16.0 * scene.amount), u)
    length = 0.97 * body.arm
    ahead, aside, up = (
        0.03 + 0.2 * length * np.sin(angle),
        body.shoulder + length * np.sin(angle),
        body.shoulder_height - length * np.cos(angle),
    )
    pose["hands"] = np.stack([both(*place) for place in zip(ahead, aside, up, strict=True)])
    return pose


def stride(body: Body, pose: Pose, start: float, end: float) -> None:
    """Add the steps of a walk along x to the feet and the pelvis.

    They depend on the position of the figure and not on its direction.
    """
    steps = max(2, round(abs(end - start) / 0.19))
    along = (pose["x"] - start) / (end - start) if end > start else (pose["x"] - end) / (start - end)
    phase = np.pi * steps * along
    size = smooth(np.minimum(along, 1 - along) / 0.2)
    sine, cosine = np.sin(pose["yaw"]), np.cos(pose["yaw"])
    for i, side in enumerate(SIDES):
        across = 0.115 * size * side * np.cos(phase)
        pose["feet"][:, i, 0] += across * sine
        pose["feet"][:, i, 1] += across * cosine
        pose["feet"][:, i, 2] += 0.07 * size * np.maximum(0.0, -side * np.sin(phase))
    pose["pelvis"][:, 1] -= 0.012 * size * (1 + np.cos(2 * phase))


def walk(body: Body, scene: Scene, pose: Pose, u: np.ndarray) -> Pose:
    """A walk from the left spot to the right spot."""
    left, right = scene.spots
    pose["x"] = lerp(left, right, u)
    stride(body, pose, left, right)
    swing = smooth(np.minimum(u, 1 - u) / 0.2) * np.cos(np.pi * max(2, round((right - left) / 0.19)) * u)
    pose["hands"][:, :, 0] -= 0.12 * swing[:, None] * SIDES
    pose["hands"][:, :, 2] += 0.03 * np.abs(swing[:, None])
    return pose


def push(body: Body, scene: Scene, pose: Pose, u: np.ndarray) -> Pose:
    """A walk from one spot to the other with the box in front of the figure."""
    near, far = scene.spots if scene.box_side > 0 else scene.spots[::-1]
    pose["x"] = lerp(near, far, u)
    pose["box"] = pose["x"] + scene.box_side * BOX_GAP
    pose["pitch"] += 0.34 + 0.1 * scene.amount
    pose["nod"] -= 0.25
    pose["pelvis"] += np.array([-0.04, -0.03])
    pose["hands"] = lerp(both(0.36, 0.08, 0.47), both(0.36, 0.08, 0.47), u)
    stride(body, pose, near, far)
    return pose


def lift(body: Body, scene: Scene, pose: Pose, u: np.ndarray) -> Pose:
    """The barbell from the floor to above the head."""
    legs, arms = smooth(u / 0.62), smooth((u - 0.32) / 0.68)
    pose["pelvis"] = lerp([-0.14, 0.27], [0.0, body.hip_height], legs)
    pose["pitch"] = lerp(0.85, 0.0, legs)
    pose["nod"] = lerp(-0.6, 0.0, legs)
    hanging = body.shoulder_height - 0.9 * body.arm
    pose["bar"] = lerp(BAR_REST, [0.13, hanging], legs) + lerp([0.0, 0.0], [-0.09, 1.84 * body.arm], arms)
    grip = body.shoulder + 0.06
    pose["hands"] = np.stack([both(ahead, grip, up) for ahead, up in pose["bar"]])
    pose["feet"] = lerp(both(0.0, 0.1, 0.035), both(0.0, 0.1, 0.035), u)
    return pose


def open_curtains(body: Body, scene: Scene, pose: Pose, u: np.ndarray) -> Pose:
    """The curtains from closed to open, with both hands on them."""
    pose["curtain"] = u.copy()
    high, wide = body.shoulder_height + 0.86 * body.arm, body.shoulder_height + 0.42 * body.arm
    pose["hands"] = lerp(both(0.12, 0.04, high), both(0.1, body.shoulder + 0.86 * body.arm, wide), u)
    return pose


def bend(body: Body, scene: Scene, pose: Pose, u: np.ndarray) -> Pose:
    """From standing to bent down, with the hands near the floor."""
    depth = 1.65 + 0.25 * scene.amount
    pose["pitch"] = lerp(0.02, depth, u)
    pose["nod"] = lerp(0.0, 0.2, u)
    pose["pelvis"] = lerp([0.0, body.hip_height], [-0.1, body.hip_height - 0.02], u)
    ahead = body.torso * np.sin(pose["pitch"]) + pose["pelvis"][:, 0]
    up = body.torso * np.cos(pose["pitch"]) + pose["pelvis"][:, 1] - 0.96 * body.arm
    pose["hands"] = np.stack(
        [both(a + 0.03, body.shoulder + 0.03, max(z, 0.05)) for a, z in zip(ahead, up, strict=True)]
    )
    return pose


PAIRS = {
    "sit": Pair("sit_down", "stand_up", sit, False, (30, 75), (1.0, 1.6), "stool"),
    "arms": Pair("raise_arms", "lower_arms", raise_arms, True, (0, 35), (0.9, 1.5)),
    "walk": Pair("walk_right", "walk_left", walk, True, (0, 70), (1.2, 1.8)),
    "curtains": Pair("open_curtains", "close_curtains", open_curtains, False, (155, 180), (1.0, 1.6), "window"),
    "box": Pair("push_box", "pull_box", push, False, (66, 80), (1.2, 1.8), "box"),
    "barbell": Pair("lift_barbell", "put_down_barbell", lift, True, (0, 25), (1.2, 1.8), "barbell"),
    "bend": Pair("bend_down", "straighten_up", bend, False, (45, 80), (0.9, 1.5)),
}
ACTIONS = {label: name for name, pair in PAIRS.items() for label in (pair.forward, pair.backward)}


def pose_at(body: Body, scene: Scene, name: str, place: dict[str, float], u: np.ndarray) -> Pose:
    """The pose on the curve of the named pair at u (T,)."""
    return PAIRS[name].curve(body, scene, standing(body, place, scene.yaws[name], len(u)), u)
