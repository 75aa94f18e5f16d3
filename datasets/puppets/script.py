"""What happens in a video: a scene's settings, the actions in order, and the pose and the sound at every moment.

In: a body, a random generator, and for a clip its action. Out: a Script: spans in seconds, poses at the frames' times, sound.
Everything here but turns is the same in distribution when time runs backwards: holds and gaps are drawn alike before and after an action,
the easing's skew is as often early as late, and the chain of actions is a reversible random walk.
Knows nothing about pixels or files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from figures import Body
from motions import ACTIONS, BOX_GAP, PAIRS, pose_at, smooth

FPS = 15
SOUND_RATE = 16000
EVERYTHING = ("stool", "barbell", "box", "window")


@dataclass(frozen=True)
class Scene:
    """What stays the same during one video. A spot is one of two places to stand: 0 left, 1 right."""

    props: frozenset[str]
    spots: tuple[float, float]  # x of the left and of the right one
    box_side: int  # +1: the box stands to the right of whoever pushes it
    home: dict[str, int]  # the spot where a prop is used
    yaws: dict[str, float]  # how the figure is turned during each pair of actions, radians
    amount: float  # how far movements go, 0 to 1


class State(NamedTuple):
    """Between two actions: where the figure, the box and the curtain are, and the pair of actions whose end pose is held."""

    spot: int = 0
    box: int = 0
    curtain: int = 0
    posture: str | None = None


class Action(NamedTuple):
    label: str
    before: State
    after: State


@dataclass(frozen=True)
class Script:
    spans: list[tuple[float, float, str]]
    pose: dict[str, np.ndarray]  # (T, ...) at the times of the frames
    sound: np.ndarray  # int16 (N,)


def random_scene(rng: np.random.Generator, props: frozenset[str], travel: tuple[float, float]) -> Scene:
    """`travel`: the least and the greatest distance between the spots."""
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
    """Every action that is possible now."""
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
    """How likely an action is among the choices: the same for both of a pair, so that the walk is reversible.

    It evens out the seven pairs: one that is possible in few states, or only with a prop, is chosen the more often there.
    """
    name = ACTIONS[action.label]
    box, curtain = 1 + ("box" in scene.props), 1 + ("window" in scene.props)
    states = {"arms": 2 * box * curtain, "bend": 2 * box * curtain, "box": curtain, "curtains": box}.get(
        name, box * curtain
    )
    return (1.5 if PAIRS[name].needs else 1.0) / states


def random_actions(rng: np.random.Generator, scene: Scene, num_actions: int, num_before: int = 40) -> list[Action]:
    """A reversible random walk, long after its start: a chain of actions is as likely as the same chain backwards."""
    state, walked = State(spot=int(rng.integers(2))), []
    for _ in range(num_before + num_actions):
        options = choices(scene, state)
        weights = np.array([weight(scene, option) for option in options])
        action = options[rng.choice(len(options), p=weights / weights.sum())]
        walked.append(action)
        state = action.after
    return walked[-num_actions:]


def all_actions(scene: Scene) -> list[Action]:
    """Every action from every state, those that end a posture last."""
    free = [State(spot, box, curtain) for spot in (0, 1) for box in (0, 1) for curtain in (0, 1)]
    first = [action for state in free for action in choices(scene, state)]
    return first + [action for other in first if other.after.posture for action in choices(scene, other.after)]


def one_action(rng: np.random.Generator, scene: Scene, label: str, spot: int | None) -> Action:
    """The given action from a random state that allows it, at the given spot or at any."""
    options = [a for a in all_actions(scene) if a.label == label and spot in (None, a.before.spot)]
    return options[rng.integers(len(options))]


def one_before(rng: np.random.Generator, scene: Scene, action: Action) -> Action:
    """An action that ends where the given one begins."""
    options = [a for a in all_actions(scene) if a.after == action.before]
    return options[rng.integers(len(options))]


def place_of(scene: Scene, state: State) -> dict[str, float]:
    box = scene.spots[state.box] + scene.box_side * BOX_GAP
    return {"x": scene.spots[state.spot], "curtain": float(state.curtain), "box": box}


def act(body: Body, scene: Scene, action: Action, progress: np.ndarray) -> dict[str, np.ndarray]:
    """The pose when an action is done by `progress` (T,), 0 to 1."""
    name = ACTIONS[action.label]
    u = progress if action.label == PAIRS[name].forward else 1.0 - progress
    return pose_at(body, scene, name, place_of(scene, action.before), u)


def blend(start: dict, end: dict, share: np.ndarray) -> dict[str, np.ndarray]:
    """From the last pose of start to the first of end."""
    return {
        k: start[k][-1:] + (end[k][:1] - start[k][-1:]) * share.reshape((-1,) + (1,) * (start[k].ndim - 1))
        for k in start
    }


def play(body: Body, scene: Scene, actions: list[Action], rng: np.random.Generator) -> Script:
    """Put the actions on the clock: hold, action, gap, action, ..., hold."""
    seconds = lambda low, high: round(rng.uniform(low, high), 3)  # noqa: E731
    pace = rng.uniform(0.85, 1.15) / body.tempo
    lengths = [seconds(*(np.array(PAIRS[ACTIONS[a.label]].seconds) * pace)) for a in actions]
    rests = [seconds(0.3, 1.2), *(seconds(0.7, 1.2) for _ in actions[1:]), seconds(0.3, 1.2)]
    skews = rng.uniform(-0.3, 0.3, size=len(actions))
    num_frames = int(round((sum(lengths) + sum(rests)) * FPS))
    times = (np.arange(num_frames) + 0.5) / FPS  # the middle of the time that a frame is shown
    spans, clock = [], rests[0]
    for action, length, rest in zip(actions, lengths, rests[1:], strict=True):
        spans.append((round(clock, 3), round(clock + length, 3), action.label))
        clock += length + rest
    pose: dict[str, np.ndarray] = {}
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


def sway(pose: dict[str, np.ndarray], times: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Nobody stands quite still: slow waves of random phase, the same forwards and backwards."""
    wave = lambda size: size * np.sin(2 * np.pi * (rng.uniform(0.2, 0.7) * times + rng.uniform()))  # noqa: E731
    moved = dict(pose)
    moved["pitch"] = pose["pitch"] + wave(0.02)
    moved["nod"] = pose["nod"] + wave(0.06)
    moved["yaw"] = pose["yaw"] + wave(0.05)
    moved["hands"] = pose["hands"] + np.stack([np.stack([wave(0.006), wave(0.006), wave(0.006)], -1)] * 2, axis=1)
    return moved


def random_sound(spans: list, num_frames: int, body: Body, pace: float, rng: np.random.Generator) -> np.ndarray:
    """Soft noise, and a beat during the actions that have one. Both actions of a pair sound alike."""
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
    """What an action needs, and now and then another thing."""
    needed = PAIRS[ACTIONS[label]].needs
    idle = rng.choice(EVERYTHING) if rng.random() < 0.25 else None
    return frozenset({needed, str(idle) if idle else None} - {None})


def random_script(body: Body, rng: np.random.Generator, label: str | None) -> tuple[Scene, Script]:
    """A clip of one action; or, without a label, a longer video of three to six."""
    if label is None:
        scene = random_scene(rng, frozenset(rng.choice(EVERYTHING, size=2, replace=False).tolist()), (0.5, 0.62))
        return scene, play(body, scene, random_actions(rng, scene, int(rng.integers(3, 7))), rng)
    needed = PAIRS[ACTIONS[label]].needs
    scene = random_scene(rng, random_props(rng, label), (0.55, 0.8))
    spot = None
    if ACTIONS[label] not in ("walk", "box"):  # these stay where they are, about the middle of the picture
        spot = scene.home.get(needed or "", int(rng.integers(2)))
        centre = rng.uniform(-0.13, 0.13)
        scene = replace(scene, spots=(centre - 0.5 * spot, centre + 0.5 - 0.5 * spot))
    return scene, play(body, scene, [one_action(rng, scene, label, spot)], rng)


def random_turn(body: Body, rng: np.random.Generator, label: str) -> tuple[Scene, Script, list[str]]:
    """A clip of one action that begins where another one has just ended, and all actions that could have followed there."""
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
