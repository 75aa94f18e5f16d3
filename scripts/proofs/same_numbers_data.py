"""The made data of the promise same-numbers: sequences, clips and texts that a seed decides.

In: an empty folder, and the function of the tree under test that writes a video. Out: a manifest for each kind of
data. All rows have a label, spans and captions, so that every head can learn from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("down", "left", "up")
SPLITS = (("train", 20), ("val", 12), ("test", 12))
"""20 rows for training are 5 batches of 4, so 4 epochs are 20 steps. 12 rows for validation suffice for calibration."""
SERIES_RATE = 10.0
FRAMES_RATE = 8.0
WIDTH = 5
NAMES = ("Ann", "Bob", "Cid", "Dora")
PLACES = ("Bonn", "Rome", "Oslo")
VERBS = ("greets", "meets", "sees")


def make_data(folder: Path, write_video: Callable[..., Any]) -> None:
    """Write series/, clips/, texts/ and tags/, each with its manifest.jsonl, and vectors.txt for some words."""
    random = np.random.default_rng(1)
    vectors = {word: random.normal(size=8).round(4).tolist() for word in (*NAMES, *VERBS, "in", "unheard")}
    lines = [f"{word} {' '.join(map(str, vector))}\n" for word, vector in vectors.items()]
    (folder / "vectors.txt").write_text("".join(lines), encoding="utf-8")
    for name, rows in (
        ("series", _series(folder / "series")),
        ("clips", _clips(folder / "clips", write_video)),
        ("texts", _texts(is_tagged=False)),
        ("tags", _texts(is_tagged=True)),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / "manifest.jsonl").write_text(text, encoding="utf-8")


def _rows(name: str) -> Iterator[tuple[dict[str, Any], np.random.Generator]]:
    """Rows with a path, a split and a group, each with its own generator of random numbers."""
    splits = [split for split, count in SPLITS for _ in range(count)]
    for number, split in enumerate(splits):
        row = {"path": f"{number:03d}{name}", "split": split, "group": f"g{number // 2:02d}"}
        yield row, np.random.default_rng([number, len(name)])


def _described(row: dict[str, Any], label: int, steps: int, rate: float) -> dict[str, Any]:
    """The row with its label, two spans and two captions: first the label's action, then the one behind it."""
    first, second = LABELS[label], LABELS[(label + 1) % len(LABELS)]
    cuts = [round(share * steps) / rate for share in (0.1, 0.5, 0.6, 0.95)]
    spans = [[cuts[0], cuts[1], first], [cuts[2], cuts[3], second]]
    captions = [f"{first} then {second}", f"It goes {first}, and {second} follows."]
    return {**row, "label": first, "spans": spans, "captions": captions}


def _series(folder: Path) -> Iterable[dict[str, Any]]:
    """Sequences (T, 5) of float32, written as .npy: a noisy wave and a bump in the channel of what happens."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, random in _rows(".npy"):
        steps, label = int(random.integers(14, 25)), int(random.integers(len(LABELS)))
        values = random.normal(0.0, 0.3, (steps, WIDTH))
        values += np.sin(np.arange(steps)[:, None] / (2.0 + np.arange(WIDTH)))
        values[round(0.1 * steps) : round(0.5 * steps), label] += 1.5
        values[round(0.6 * steps) : round(0.95 * steps), (label + 1) % len(LABELS)] += 1.5
        np.save(folder / row["path"], values.astype(np.float32))
        yield _described(row, label, steps, SERIES_RATE)


def _clips(folder: Path, write_video: Callable[..., Any]) -> Iterable[dict[str, Any]]:
    """Clips of 32 x 24 pixels in which a square moves one way and then another."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, random in _rows(".mp4"):
        steps, label = int(random.integers(10, 15)), int(random.integers(len(LABELS)))
        colour, ground = random.integers(128, 256, 3), random.integers(0, 64, 3)
        write_video(folder / row["path"], _frames(steps, label, colour, ground), fps=FRAMES_RATE)
        yield _described(row, label, steps, FRAMES_RATE)


def _frames(steps: int, label: int, colour: np.ndarray, ground: np.ndarray) -> Iterator[np.ndarray]:
    """Frames uint8 (24, 32, 3)."""
    top, left = 8, 12
    for step in range(steps):
        action = LABELS[label if step < steps // 2 else (label + 1) % len(LABELS)]
        top += {"down": 1, "up": -1}.get(action, 0)
        left -= action == "left"
        frame = np.tile(ground.astype(np.uint8), (24, 32, 1))
        frame[max(0, top) : top + 8, max(0, left) : left + 8] = colour
        yield frame


def _texts(is_tagged: bool) -> Iterable[dict[str, Any]]:
    """Texts of a few words. Spans are the entities, or by is_tagged one a word."""
    for row, random in _rows("tag" if is_tagged else "text"):
        who, other = random.choice(NAMES, 2, replace=False).tolist()
        verb, place = str(random.choice(VERBS)), str(random.choice(PLACES))
        words = [who, verb, other, "in", place, *(["today"] if random.integers(2) else []), "."]
        tags = {who: "PER", other: "PER", place: "LOC"}
        if is_tagged:
            kinds = ("N", "V", "N", "P", "N", *(["A"] if len(words) == 7 else []), "X")
            spans = [[at, at + 1, kind] for at, kind in enumerate(kinds)]
        else:
            spans = [[at, at + 1, tags[word]] for at, word in enumerate(words) if word in tags]
        captions = [f"{other} {verb} {who}", f"there is {who}, and there is {place}"]
        yield {**row, "text": " ".join(words), "label": verb, "spans": spans, "captions": captions}
