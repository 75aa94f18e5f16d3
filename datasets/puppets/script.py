"""The content of a video: the settings of the scene, the actions in order, and the pose and the sound over time.

In: a body, a random generator, and for a clip its action. Out: a Script: spans in seconds, the pose at the time of each
frame, and the sound.
Except for turns, the distribution is the same when time is reversed: the pauses before and after an action have one
distribution, the skew of the easing is symmetric, and the sequence of actions is a reversible random walk.
This file knows nothing about pixels and files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from figures import Body, Pose
from motions import ACTIONS, BOX_GAP, PAIRS, pose_at, smooth

FPS = 15
SOUND_RATE = 16000
OBJECTS = ("stool", "barbell", "box", "window")


@dataclass(frozen=True)
class Scene:
    """The settings that are constant during one video.

    A spot is one of the two positions at which the figure stands: 0 is left, 1 is right.
    """

    props: frozenset[str]
    spots: tuple[float, float]  # x of the left and of the right spot
    box_side: int  # +1: the box is to the right of the figure that pushes it
    home: dict[str, int]  # the spot at which an object is used
    yaws: dict[str, float]  # the turn of the figure during each pair of actions, in radians
    amount: float  # the size of the movements, 0 to 1


class State(NamedTuple):
    """The situation between two actions: the positions of the figure, the box and the curtain, and the posture.

    The posture is the pair of actions whose last pose the figure holds, or None for standing.
    """

    spot: int = 0
    box: int = 0
    curtain: int = 0
    posture: str | None = None


class Action(NamedTuple):
    """One action, with the situation before it and after it."""

    label: str
    before: State
    after: State


@dataclass(frozen=True)
class Script:
    """The spans of the actions in seconds, the poses and the sound of a video."""

    spans: list[tuple[float, float, str]]
    pose: Pose  # (T, ...) at the times of the frames
    sound: np.ndarray  # int16 (N,)


def random_scene(rng: np.random.Generator, props: frozenset[str], travel: tuple[float, float]) -> Scene:
    """A scene with these objects. `travel` is the range of the distance between the spots."""
    half = rng.uniform(*travel) / 2
    centre = rng.uniform(-1, 1) * max(0.0, 0.4 - half) * 0.5
    side = int(rng.choice([-1, 1]))
    yaws = {name: np.radians(rng.uniform(*pair.yaw)) * rng.choice([-1, 1]) for name, pair in PAIRS.items()}
    yaws["box"] = abs(yaws["box"]) * side
    stool = int(rng.integers(2))
    home = {"stool": stool, "barbell": 1 - stool, "window": int(rng.integers(2))}
    if "box" in props:
        centre -= side * BOX_GAP * 0.45
    return Scene(props, (centre - half, centre + half), side, home, yaws, rng.uniform())


def choices(scene: Scene, state: State) -> list[Action]:
    """All actions that are possible in this situation."""
    if state.posture:
        return [Action(PAIRS[state.posture].backward, state, state._replace(posture=None))]
    found = [Action(PAIRS[name].forward, state, state._replace(posture=name)) for name in ("arms", "bend")]
    for name, prop in (("sit", "stool"), ("barbell", "barbell")):
        if prop in scene.props and scene.home[prop] == state.spot:
            found.append(Action(PAIRS[name].forward, state, state._replace(posture=name)))
    found.append(Action("walk_left" if state.spot else "walk_right", state, state._replace(spot=1 - state.spot)))
    if "window" in scene.props and scene.home["window"] == state.spot:
        found.append(
            Action(
                "close_curtains" if state.curtain else "open_curtains", state, state._replace(curtain=1 - state.curtain)
            )
        )
    if "box" in scene.props and state.box == state.spot:
        is_push = (scene.box_side > 0) == (state.spot == 0)
        after = state._replace(spot=1 - state.spot, box=1 - state.box)
        found.append(Action("push_box" if is_push else "pull_box", state, after))
    return found


def weight(scene: Scene, action: Action) -> float:
    """The weight of an action among the possible ones.

    It is the same for both actions of a pair, so the random walk is reversible. It makes the seven pairs about equally
    frequent: a pair that is possible in few states, or only with an object, has a greater weight there.
    """
    name = ACTIONS[action.label]
    box, curtain = 1 + ("box" in scene.props), 1 + ("window" in scene.props)
    states = {"arms": 2 * box * curtain, "bend": 2 * box * curtain, "box": curtain, "curtains": box}.get(
        name, box * curtain
    )
    return (1.5 if PAIRS[name].needs else 1.0) / states


def random_actions(rng: np.random.Generator, scene: Scene, num_actions: int, num_before: int = 40) -> list[Action]:
    """A reversible random walk after many steps: a sequence of actions is as likely as the reversed sequence."""
    state = State(spot=int(rng.integers(2)))
    walked: list[Action] = []
    for _ in range(num_before + num_actions):
        options = choices(scene, state)
        weights = np.array([weight(scene, option) for option in options])
        action = options[rng.choice(len(options), p=weights / weights.sum())]
        walked.append(action)
        state = action.after
    return walked[-num_actions:]


def all_actions(scene: Scene) -> list[Action]:
    """All actions from all states. The actions that end a posture come last."""
    free = [State(spot, box, curtain) for spot in (0, 1) for box in (0, 1) for curtain in (0, 1)]
    first = [action for state in free for action in choices(scene, state)]
    return first + [action for other in first if other.after.posture for action in choices(scene, other.after)]


def one_action(rng: np.random.Generator, scene: Scene, label: str, spot: int | None) -> Action:
    """The given action from a random state in which it is possible, at the given spot or at any spot."""
    options = [a for a in all_actions(scene) if a.label == label and spot in (None, a.before.spot)]
    return options[rng.integers(len(options))]


def one_before(rng: np.random.Generator, scene: Scene, action: Action) -> Action:
    """A random action that ends in the state in which the given action begins."""
    options = [a for a in all_actions(scene) if a.after == action.before]
    return options[rng.integers(len(options))]


def place_of(scene: Scene, state: State) -> dict[str, float]:
    """The positions of the figure, the curtain and the box in a state."""
    box = scene.spots[state.box] + scene.box_side * BOX_GAP
    return {"x": scene.spots[state.spot], "curtain": float(state.curtain), "box": box}


def act(body: Body, scene: Scene, action: Action, progress: np.ndarray) -> Pose:
    """The pose at `progress` (T,) of an action, 0 to 1."""
    name = ACTIONS[action.label]
    u = progress if action.label == PAIRS[name].forward else 1.0 - progress
    return pose_at(body, scene, name, place_of(scene, action.before), u)


def blend(start: Pose, end: Pose, share: np.ndarray) -> Pose:
    """The interpolation from the last pose of start to the first pose of end, by share (T,)."""
    return {
        k: start[k][-1:] + (end[k][:1] - start[k][-1:]) * share.reshape((-1,) + (1,) * (start[k].ndim - 1))
        for k in start
    }


def play(body: Body, scene: Scene, actions: list[Action], rng: np.random.Generator) -> Script:
    """The actions on a time line: pause, action, gap, action, ..., pause."""

    def seconds(low: float, high: float) -> float:
        return round(rng.uniform(low, high), 3)

    pace = rng.uniform(0.85, 1.15) / body.tempo
    lengths = [seconds(*(np.array(PAIRS[ACTIONS[a.label]].seconds) * pace)) for a in actions]
    rests = [seconds(0.3, 1.2), *(seconds(0.7, 1.2) for _ in actions[1:]), seconds(0.3, 1.2)]
    skews = rng.uniform(-0.3, 0.3, size=len(actions))
    num_frames = round((sum(lengths) + sum(rests)) * FPS)
    times = (np.arange(num_frames) + 0.5) / FPS  # the middle of the time for which a frame is shown
    spans: list[tuple[float, float, str]] = []
    clock = rests[0]
    for action, length, rest in zip(actions, lengths, rests[1:], strict=True):
        spans.append((round(clock, 3), round(clock + length, 3), action.label))
        clock += length + rest
    pose: Pose = {}
    for i, (action, (start, end, _)) in enumerate(zip(actions, spans, strict=True)):
        share = np.clip((times - start) / (end - start), 0.0, 1.0)
        now = act(body, scene, action, smooth(share + skews[i] * share * (1 - share)))
        if not pose:
            pose = now
        since = (times >= spans[i - 1][1]) if i else np.ones(num_frames, bool)
        if i:
            gone = (times - spans[i - 1][1]) / (start - spans[i - 1][1])
            between = blend(
                act(body, scene, actions[i - 1], np.ones(1)),
                act(body, scene, action, np.zeros(1)),
                smooth((gone - 0.1) / 0.8),
            )
            gap = since & (times < start)
            now = {k: np.where(gap.reshape((-1,) + (1,) * (now[k].ndim - 1)), between[k], now[k]) for k in now}
        pose = {k: np.where(since.reshape((-1,) + (1,) * (now[k].ndim - 1)), now[k], pose[k]) for k in now}
    return Script(spans, sway(pose, times, rng), random_sound(spans, num_frames, body, pace, rng))


def sway(pose: Pose, times: np.ndarray, rng: np.random.Generator) -> Pose:
    """The pose with small slow waves of random phase. Their distribution is the same when time is reversed."""

    def wave(size: float) -> np.ndarray:
        return size * np.sin(2 * np.pi * (rng.uniform(0.2, 0.7) * times + rng.uniform()))

    moved = dict(pose)
    moved["pitch"] = pose["pitch"] + wave(0.02)
    moved["nod"] = pose["nod"] + wave(0.06)
    moved["yaw"] = pose["yaw"] + wave(0.05)
    moved["hands"] = pose["hands"] + np.stack([np.stack([wave(0.006), wave(0.006), wave(0.006)], -1)] * 2, axis=1)
    return moved


def random_sound(
    spans: list[tuple[float, float, str]], num_frames: int, body: Body, pace: float, rng: np.random.Generator
) -> np.ndarray:
    """Quiet noise, and a beat during the actions that have one. Both actions of a pair sound the same."""
    num_samples = num_frames * SOUND_RATE // FPS
    loud = int(rng.integers(20, 120))
    sound = rng.integers(-loud, loud + 1, size=num_samples).astype(np.int32)
    period, voice = 0.26 * pace * rng.uniform(0.85, 1.15), body.voice * rng.uniform(0.94, 1.06)
    since = np.arange(int(0.12 * SOUND_RATE)) / SOUND_RATE
    note = np.rint(9000 * np.sin(2 * np.pi * voice * since) * np.sin(np.pi * since / 0.12) ** 2).astype(np.int32)
    for start, end, label in spans:
        if not PAIRS[ACTIONS[label]].beat:
            continue
        for beat in np.arange(start + rng.uniform(0.0, 0.5) * period, end - 0.12, period):
            first = int(beat * SOUND_RATE)
            sound[first : first + len(note)] += note[: max(0, num_samples - first)]
    return np.clip(sound, -32768, 32767).astype(np.int16)


def random_props(rng: np.random.Generator, label: str) -> frozenset[str]:
    """The object that an action needs, and in a quarter of the scenes one that is drawn at random."""
    needed = PAIRS[ACTIONS[label]].needs
    idle = rng.choice(OBJECTS) if rng.random() < 0.25 else None
    return frozenset(name for name in (needed, None if idle is None else str(idle)) if name)


def random_script(body: Body, rng: np.random.Generator, label: str | None) -> tuple[Scene, Script]:
    """A clip of one action, or without a label a longer video of three to six actions."""
    if label is None:
        scene = random_scene(rng, frozenset(rng.choice(OBJECTS, size=2, replace=False).tolist()), (0.5, 0.62))
        return scene, play(body, scene, random_actions(rng, scene, int(rng.integers(3, 7))), rng)
    needed = PAIRS[ACTIONS[label]].needs
    scene = random_scene(rng, random_props(rng, label), (0.55, 0.8))
    spot = None
    if ACTIONS[label] not in ("walk", "box"):  # these stay at one spot, near the middle of the frame
        spot = scene.home.get(needed or "", int(rng.integers(2)))
        centre = rng.uniform(-0.13, 0.13)
        scene = replace(scene, spots=(centre - 0.5 * spot, centre + 0.5 - 0.5 * spot))
    return scene, play(body, scene, [one_action(rng, scene, label, spot)], rng)


def random_turn(body: Body, rng: np.random.Generator, label: str) -> tuple[Scene, Script, list[str]]:
    """A clip of one action that begins where another action has just ended.

    It comes with the labels of all actions that are possible at its beginning.
    """
    scene = random_scene(rng, random_props(rng, label), (0.5, 0.62))
    action = one_action(rng, scene, label, None)
    script = play(body, scene, [one_before(rng, scene, action), action], rng)
    start = int(np.ceil(script.spans[0][1] * FPS))
    (begin, end, _), seconds = script.spans[1], start / FPS
    turn = Script(
        [(round(begin - seconds, 3), round(end - seconds, 3), label)],
        {name: values[start:] for name, values in script.pose.items()},
        script.sound[start * SOUND_RATE // FPS :],
    )
    return scene, turn, [option.label for option in choices(scene, action.before)]
