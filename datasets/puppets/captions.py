"""English captions of a video, and the actions that a caption names.

In: a body and the actions in order. Out: captions that name the appearance of the figure and its actions.
`parse` recovers the actions from a caption: each phrase belongs to one action and contains no phrase of another one.
This file knows nothing about pixels, seconds and files.
"""

from __future__ import annotations

import re

import numpy as np
from figures import Body

PHRASES = {
    "sit_down": ("sits down", "sits down on the stool", "takes a seat", "takes a seat on the stool"),
    "stand_up": ("stands up", "gets up from the stool", "rises from the stool", "stands up from the stool"),
    "raise_arms": ("raises both arms", "lifts both arms", "puts both hands up", "stretches both arms up high"),
    "lower_arms": ("lowers both arms", "takes both arms down", "puts both hands down", "lets both arms sink"),
    "walk_right": ("walks to the right", "walks right", "goes to the right", "moves over to the right"),
    "walk_left": ("walks to the left", "walks left", "goes to the left", "moves over to the left"),
    "open_curtains": (
        "opens the curtains",
        "opens the curtains of the window",
        "pulls the curtains apart",
        "draws the curtains open",
    ),
    "close_curtains": (
        "closes the curtains",
        "closes the curtains of the window",
        "pulls the curtains together",
        "draws the curtains shut",
    ),
    "push_box": (
        "pushes the box",
        "pushes the box forward",
        "shoves the box away",
        "pushes the box across the floor",
    ),
    "pull_box": ("pulls the box", "pulls the box backward", "drags the box along", "pulls the box across the floor"),
    "lift_barbell": (
        "lifts the barbell",
        "lifts the barbell overhead",
        "lifts the weights",
        "picks up the barbell and holds it high",
    ),
    "put_down_barbell": (
        "puts down the barbell",
        "puts the barbell down",
        "lowers the barbell to the floor",
        "sets the weights down",
    ),
    "bend_down": ("bends down", "bends over", "bends down to the floor", "bends over to touch the floor"),
    "straighten_up": ("straightens up", "straightens up again", "comes up from a deep bow", "gets upright again"),
}
MEANING = {phrase: label for label, phrases in PHRASES.items() for phrase in phrases}
FINDER = re.compile(r"\b(" + "|".join(sorted(map(re.escape, MEANING), key=len, reverse=True)) + r")\b")
LAST = (", and finally ", " and finally ", ", and at last ")
NEXT = (", then ", ", and then ", ", and after that ")


def parse(caption: str) -> list[str]:
    """The actions that a caption names, in order."""
    return [MEANING[phrase] for phrase in FINDER.findall(caption.lower())]


def random_captions(rng: np.random.Generator, body: Body, labels: list[str], num_captions: int = 5) -> list[str]:
    """Different captions that all name these actions in this order."""
    found: list[str] = []
    while len(found) < num_captions:
        caption = f"{random_subject(rng, body)} {random_predicate(rng, labels)}."
        caption = caption[0].upper() + caption[1:]
        if caption not in found:
            found.append(caption)
    return found


def random_subject(rng: np.random.Generator, body: Body) -> str:
    """The subject of a caption. It names true properties of the figure, or none."""
    noun = str(rng.choice(["figure", "person", "puppet"]))
    if body.stature > 1.02 and rng.random() < 0.5:
        noun = f"tall {noun}"
    elif body.stature < 0.95 and rng.random() < 0.5:
        noun = f"short {noun}"
    garment = f"{an(body.legs)} skirt" if body.has_skirt else f"{body.legs} trousers"
    looks = [
        "",
        f" in {an(body.shirt)} shirt",
        f" in {an(body.shirt)} shirt",
        f" in {an(body.shirt)} shirt and {garment}",
        f" in {garment}",
    ]
    if body.hat:
        looks += [f" with {an(body.hat)} hat", " with a hat", f" in {an(body.shirt)} shirt and {an(body.hat)} hat"]
    return f"{rng.choice(['a', 'the'])} {noun}{rng.choice(looks)}"


def an(word: str) -> str:
    """The word with its indefinite article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def random_predicate(rng: np.random.Generator, labels: list[str]) -> str:
    """The predicate of a caption, such as "sits down, then raises both arms, and finally lowers both arms"."""
    words = [str(rng.choice(PHRASES[label])) for label in labels]
    if len(words) == 1:
        return words[0]
    told = ("first " if rng.random() < 0.3 else "") + words[0]
    for word in words[1:-1]:
        told += str(rng.choice(NEXT)) + word
    return told + str(rng.choice(LAST if len(words) > 2 else (" and then ", ", then "))) + words[-1]
