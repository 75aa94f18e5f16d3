"""What is wrong with a split, in sentences: leaks from one side to the other, missing classes and files.

Comes in: a manifest with splits. Goes out: findings; nothing is refused here (official splits leak too).
Knows nothing about decoders: frames of a video come from a function passed in.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.manifest import Manifest
from pipeline.data.rows import SPLITS, Row

FrameOf = Callable[[Path], list[np.ndarray]]  # a few gray frames (H, W) of a video, at the same places of every video
Kind = Literal["group", "identical", "near_duplicate", "missing_class", "missing_file", "unreadable", "imbalance"]
SIDES = tuple(combinations(SPLITS, 2))


@dataclass(frozen=True)
class Finding:
    """One thing to know about a split, and the paths of all the rows it concerns (of none for `imbalance`)."""

    kind: Kind
    message: str
    paths: tuple[str, ...] = ()


def check_leaks(
    manifest: Manifest, *, contents: bool = False, frame_of: FrameOf | None = None, max_distance: int = 10
) -> list[Finding]:
    """What a person should know before believing a test score; an empty list if nothing.

    Always: groups on two sides, texts that are the same word for word on two sides, classes that stand in train or test
    only, missing files, very unequal classes.
    `contents`: files that are the same byte for byte on two sides (SHA-256; reads files of equal size).
    `frame_of`: videos on two sides that look alike although their bytes differ. Every frame becomes a dHash of 64 bits;
    a pair is reported when no two of its frames differ in more than `max_distance` bits. This finds copies that were
    encoded or scaled again, not cut ones, and a still camera in one room can look alike too: look at the pairs.
    A file that `frame_of` refuses (ValueError, OSError) is a finding.
    """
    rows = manifest.rows
    files = [row for row in rows if row.text is None]
    missing = [row.path for row in files if not manifest.path_of(row).is_file()]
    findings = _groups_on_both_sides(rows) + _classes_on_one_side(rows) + _same_texts(rows)
    if missing:
        text = f"{len(missing):,} of {len(files):,} files are missing under {str(manifest.root)!r}: {_some(missing)}."
        findings.append(Finding("missing_file", f"{text} Check the root, or remove their rows.", tuple(missing)))
    absent = set(missing)
    present = [row for row in files if row.split is not None and row.path not in absent]
    if contents:
        findings += _identical(present, manifest)
    if frame_of is not None:
        findings += _near_duplicates(present, manifest, frame_of, max_distance)
    return findings + _imbalance(rows)


def difference_hash(frame: np.ndarray) -> int:
    """DHash of one gray frame (H, W), H and W at least 9: in an 8 x 9 grid of means, is a cell darker than the next?

    64 bits in reading order; 0 for a frame without contrast, which is like any other.
    """
    height, width = frame.shape
    if min(height, width) < 9:
        raise ValueError(f"A frame is {width}x{height}. A hash needs 9x9 pixels or more. Pass larger frames.")
    tops, lefts = np.arange(8) * height // 8, np.arange(9) * width // 9
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float64), tops, axis=0), lefts, axis=1)
    areas = np.outer(np.diff([*tops, height]), np.diff([*lefts, width]))
    steps = np.diff(sums / areas, axis=1)  # (8, 8)
    if np.abs(steps).mean() < 1.0:  # less than one gray level: black, white, fades
        return 0
    return int.from_bytes(np.packbits(steps > 0).tobytes(), "big")


def _groups_on_both_sides(rows: Sequence[Row]) -> list[Finding]:
    paths: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.group is not None and row.split is not None:
            paths[row.group][row.split].append(row.path)
    findings = []
    for one, other in SIDES:
        both = sorted(group for group, sides in paths.items() if sides.keys() >= {one, other})
        if both:
            concerned = tuple(path for group in both for side in (one, other) for path in paths[group][side])
            held_out = sum(len(paths[group][other]) for group in both)
            text = f"{len(both):,} of {len(paths):,} groups stand in both {one} and {other} ({held_out:,} {other} rows)"
            findings.append(Finding("group", f"{text}: {_some(both)}. The {other} score is flattered.", concerned))
    return findings


def _same_texts(rows: Sequence[Row]) -> list[Finding]:
    """Texts of test or validation that a model has read in training, whatever the blanks between their words."""
    sides: dict[str, dict[str, list[str]]] = {split: defaultdict(list) for split in SPLITS}
    for row in rows:
        if row.text is not None and row.split is not None:
            sides[row.split][" ".join(row.text.split())].append(row.path)
    findings = []
    for one, other in SIDES:
        paths = tuple(path for text, own in sides[other].items() if text in sides[one] for path in own)
        if paths:
            total = sum(map(len, sides[other].values()))
            text = f"{len(paths):,} of {total:,} {other} texts stand word for word in {one}, too: {_some(paths)}"
            findings.append(Finding("identical", f"{text}. Report the others on their own.", paths))
    return findings


def _classes_on_one_side(rows: Sequence[Row]) -> list[Finding]:
    labels = {split: {row.label for row in rows if row.split == split and row.label is not None} for split in SPLITS}
    findings = []
    for here, there, why in (
        ("train", "test", "No test row can be of them"),
        ("test", "train", "They cannot be learned"),
        ("val", "train", "They cannot be learned"),
    ):
        lonely = sorted(label for label in labels[here] - labels[there] if label is not None)
        if lonely and labels[there]:
            paths = tuple(row.path for row in rows if row.split == here and row.label in set(lonely))
            text = f"{len(lonely):,} classes stand in {here} but not in {there}: {_some(lonely)}. {why}."
            findings.append(Finding("missing_class", text, paths))
    return findings


def _imbalance(rows: Sequence[Row]) -> list[Finding]:
    counts = Counter(row.label for row in rows if row.split in ("train", None) and row.label is not None).most_common()
    if not counts or counts[0][1] < 10 * counts[-1][1]:
        return []
    (most, many), (least, few) = counts[0], counts[-1]
    text = f"The classes are unequal in training: {most!r} has {many:,} rows, {least!r} has {few:,}"
    return [Finding("imbalance", f"{text}. Read the mean over classes, not only the accuracy.")]


def _identical(rows: Sequence[Row], manifest: Manifest) -> list[Finding]:
    by_size: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_size[manifest.path_of(row).stat().st_size].append(row)
    by_content: dict[str, list[Row]] = defaultdict(list)
    for same_size in by_size.values():
        if len({row.split for row in same_size}) > 1:
            for row in same_size:
                with manifest.path_of(row).open("rb") as file:
                    by_content[hashlib.file_digest(file, "sha256").hexdigest()].append(row)
    pairs = [
        (first.path, second.path)
        for same in by_content.values()
        if len({row.split for row in same}) > 1
        for first, second in [_across(same)]
    ]
    paths = tuple(row.path for same in by_content.values() if len({row.split for row in same}) > 1 for row in same)
    return _pairs("identical", "times one and the same file stands on two sides", pairs, paths)


def _across(same: Sequence[Row]) -> tuple[Row, Row]:
    """Two of the rows that have different splits."""
    return same[0], next(row for row in same if row.split != same[0].split)


def _near_duplicates(rows: Sequence[Row], manifest: Manifest, frame_of: FrameOf, max_distance: int) -> list[Finding]:
    hashes: dict[str, list[int]] = {}
    refused = []
    for row in rows:
        try:
            found = [difference_hash(frame) for frame in frame_of(manifest.path_of(row))]
        except (ValueError, OSError):
            found = []
        if not found:
            refused.append(row.path)
        if any(found):  # a video without any contrast is like every other one
            hashes[row.path] = found
    looks = min(map(len, hashes.values()), default=0)
    sides = {split: [row.path for row in rows if row.split == split and row.path in hashes] for split in SPLITS}
    table = {
        split: np.array([hashes[path][:looks] for path in paths], np.uint64).reshape(len(paths), looks)  # (N, looks)
        for split, paths in sides.items()
    }
    pairs = []
    for one, other in SIDES:
        for path, own in zip(sides[other], table[other], strict=True):
            distance = np.bitwise_count(table[one] ^ own).max(axis=1, initial=0)
            pairs += [(sides[one][place], path) for place in np.flatnonzero(distance <= max_distance)]
    paths = tuple(dict.fromkeys(path for pair in pairs for path in pair))
    findings = _pairs("near_duplicate", "pairs of videos on two sides look alike", pairs, paths)
    if refused:
        text = f"{len(refused):,} files gave no frames and were not compared: {_some(refused)}."
        findings.append(Finding("unreadable", text, tuple(refused)))
    return findings


def _pairs(kind: Kind, what: str, pairs: Sequence[tuple[str, str]], paths: tuple[str, ...]) -> list[Finding]:
    if not pairs:
        return []
    shown = "; ".join(f"{one!r} and {other!r}" for one, other in pairs[:5])
    more = f" and {len(pairs) - 5:,} more" if len(pairs) > 5 else ""
    return [Finding(kind, f"{len(pairs):,} {what}: {shown}{more}. Keep them on one side.", paths)]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
