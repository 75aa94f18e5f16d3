"""Videos that look alike: encoded or scaled again, or of one still camera.

In: rows, and a function that reads some frames of a file. Out: pairs of rows, and findings about them. Each frame
becomes a difference hash of 64 bits. Two videos look alike when none of the pairs of frames that both have differs in
more than `max_distance` bits. Cut videos are not found. Knows nothing of decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.finding import Finding
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row, examples

ReadFrames = Callable[[Path], list[np.ndarray]]
"""A file -> some frames (H, W) in grey, at the same fractions of every file. Raises ValueError or OSError."""
MAX_DISTANCE = 10
"""The most bits in which two frames that look alike differ."""
Pair = tuple[Row, Row]


def difference_hash(frame: np.ndarray) -> int:
    """Difference hash (dHash) of a gray frame (H, W), H and W at least 9.

    The frame becomes an 8 x 9 grid of means. Each of the 64 bits says whether a cell is darker than the next cell in
    its row, in reading order. A frame without contrast has the hash 0. Raises ValueError for a smaller frame.
    """
    height, width = frame.shape
    if min(height, width) < 9:
        raise ValueError(f"A frame is {width}x{height}. A hash needs 9x9 pixels or more. Pass larger frames.")
    tops, lefts = np.arange(8) * height // 8, np.arange(9) * width // 9
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float64), tops, axis=0), lefts, axis=1)
    areas = np.outer(np.diff([*tops, height]), np.diff([*lefts, width]))
    differences = np.diff(sums / areas, axis=1)  # (8, 8)
    if np.abs(differences).mean() < 1.0:  # less than one gray level: a black, white or fading frame
        return 0
    return int.from_bytes(np.packbits(differences > 0).tobytes(), "big")


def near_duplicates(
    rows: Sequence[Row], manifest: Manifest, read_frames: ReadFrames, max_distance: int = MAX_DISTANCE
) -> tuple[list[Pair], list[str]]:
    """The pairs of rows that look alike, the earlier row first, and the paths of rows that gave no frames."""
    hashes, unreadable = _hash_videos(rows, manifest, read_frames)
    compared = [row for row in rows if row.path in hashes]
    most = max(map(len, hashes.values()), default=0)
    table = np.zeros((len(compared), most), np.uint64)
    has_frame = np.zeros((len(compared), most), bool)
    for index, row in enumerate(compared):
        own = hashes[row.path]
        table[index, : len(own)], has_frame[index, : len(own)] = own, True
    pairs = []
    for index, row in enumerate(compared):
        bits = np.bitwise_count(table[index + 1 :] ^ table[index]).astype(int)
        bits[~(has_frame[index + 1 :] & has_frame[index])] = 0
        is_alike = bits.max(1, initial=0) <= max_distance
        pairs += [(row, compared[index + 1 + other]) for other in np.flatnonzero(is_alike)]
    return pairs, unreadable


def near_duplicate_findings(
    rows: Sequence[Row], manifest: Manifest, read_frames: ReadFrames, max_distance: int
) -> list[Finding]:
    """Rows of two splits that look alike, rows without a split that do, and rows that could not be compared."""
    pairs, unreadable = near_duplicates(rows, manifest, read_frames, max_distance)
    across = [(a, b) for a, b in pairs if a.split != b.split and a.split is not None and b.split is not None]
    unsplit = [(a, b) for a, b in pairs if a.split is None or b.split is None]
    findings = _finding_of_pairs("pairs of videos in two splits look alike", across, "Keep them in one split.")
    advice = "Give both the same group, so that a drawn split keeps them together."
    findings += _finding_of_pairs("pairs of videos without a split look alike", unsplit, advice)
    if unreadable:
        text = f"{len(unreadable):,} files gave no frames and were not compared: {examples(unreadable)}."
        findings.append(Finding("unreadable", text, tuple(unreadable)))
    return findings


def _hash_videos(
    rows: Sequence[Row], manifest: Manifest, read_frames: ReadFrames
) -> tuple[Mapping[str, list[int]], list[str]]:
    """The hashes of the frames of each video that has contrast, by path, and the paths that gave no frames."""
    hashes: dict[str, list[int]] = {}
    unreadable = []
    for row in rows:
        try:
            frame_hashes = [difference_hash(frame) for frame in read_frames(manifest.path_of(row))]
        except (ValueError, OSError):
            frame_hashes = []
        if not frame_hashes:
            unreadable.append(row.path)
        if any(frame_hashes):  # videos without contrast are all alike
            hashes[row.path] = frame_hashes
    return hashes, unreadable


def _finding_of_pairs(description: str, pairs: Sequence[Pair], advice: str) -> list[Finding]:
    if not pairs:
        return []
    order = {"train": 0, "val": 1, "test": 2, None: 3}
    ordered = [sorted(pair, key=lambda row: order[row.split]) for pair in pairs]
    ordered.sort(key=lambda pair: order[pair[1].split])
    shown = "; ".join(f"{first.path!r} and {second.path!r}" for first, second in ordered[:5])
    more = f" and {len(pairs) - 5:,} more" if len(pairs) > 5 else ""
    paths = tuple(dict.fromkeys(row.path for pair in ordered for row in pair))
    return [Finding("near_duplicate", f"{len(pairs):,} {description}: {shown}{more}. {advice}", paths)]
