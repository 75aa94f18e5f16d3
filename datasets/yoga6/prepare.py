"""yoga6 (clips.csv and small/*.mp4) -> a manifest, class folders, or long videos. See README.md in this folder."""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from pipeline.data.dataset_tools import run_preparer, write_into
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.readers import write_and_describe
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.write import write_video

FPS = 15
"""Frames per second of the long videos."""
WIDTH, HEIGHT = 428, 240


def read_rows(folder: Path) -> list[Row]:
    """One row per clip. The label is the class, the group is the person."""
    table_path = folder / "clips.csv"
    if not table_path.is_file():
        raise ValueError(
            f"There is no clips.csv in {str(folder)!r}. It has the columns file, class, person. Correct --folder."
        )
    with table_path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file, restval=""))
    if not table or not {"file", "class", "person"} <= set(table[0]):
        raise ValueError(
            f"{str(table_path)!r} has no rows with the columns file, class, person. Use the table of the dataset."
        )
    rows = [Row(f"small/{line['file']}", group=f"person{line['person']:0>2}", label=line["class"]) for line in table]
    missing = [row.path for row in rows if not (folder / row.path).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(rows)} clips are missing, e.g. {missing[0]!r}. Put all clips into small/."
        )
    return rows


def make_class_folders(rows: list[Row], folder: Path, out: Path) -> str:
    """Make OUT/<class>/<clip>: hard links, or copies where the file system has no hard links."""
    for row in rows:
        label, name = Path(row.label or ""), Path(row.path).name
        if label.name != str(label) or not label.name:
            raise ValueError(f"The class {row.label!r} cannot be the name of a folder. Use one word in clips.csv.")
        target = out / label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            try:
                os.link(folder / row.path, target)
            except OSError:
                shutil.copy2(folder / row.path, target)
    return (
        f"Put {len(rows)} clips into class folders under {str(out)!r}. Class folders do not have the persons; use the "
        "manifest to split by person."
    )


def join_clips(rows: list[Row], folder: Path, out: Path, num_orders: int) -> list[Row]:
    """All clips of a person, one after another, as a video OUT/joined/PERSON_K.mp4, in `num_orders` random orders.

    The spans are the times of the clips. There is no gap between two spans.
    """
    rng = np.random.default_rng(0)
    by_person = defaultdict(list)
    for row in rows:
        by_person[row.group].append(row)
    (out / "joined").mkdir(parents=True, exist_ok=True)
    joined = []
    for person, clips in sorted(by_person.items()):
        frames = {clip.path: read_frames(folder / clip.path) for clip in clips}
        for number in range(num_orders):
            order = [clips[i] for i in rng.permutation(len(clips))]
            ends = np.cumsum([len(frames[clip.path]) for clip in order]) / FPS
            spans = [
                Span(float(start), float(end), clip.label or "")
                for start, end, clip in zip([0.0, *ends[:-1]], ends, order, strict=True)
            ]
            name = f"joined/{person}_{number}.mp4"
            write_video(out / name, (frame for clip in order for frame in frames[clip.path]), fps=FPS)
            joined.append(Row(name, group=person, spans=tuple(spans)))
    return joined


def read_frames(path: Path) -> list[np.ndarray]:
    """The frames of a clip at FPS, each (HEIGHT, WIDTH, 3)."""
    clips = decode(path, clock=Clock(FPS), transform=None)
    return [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for clip in clips for frame in clip.frames]


def make(options: argparse.Namespace) -> str:
    if options.out is None and options.as_class_folders is None and options.joined is None:
        raise ValueError(
            "There is nothing to do. Give --out to write a manifest, --as-class-folders to make class folders, or "
            "--joined to make long videos."
        )
    rows = read_rows(options.folder)
    lines = []
    if options.out is not None:
        lines.append(write_and_describe(rows, options.folder, options.out))
    if options.as_class_folders is not None:
        lines.append(make_class_folders(rows, options.folder, options.as_class_folders))
    if options.joined is not None:
        long_videos = join_clips(rows, options.folder, options.joined, options.orders)
        lines.append(write_into(options.joined, long_videos, "joined.jsonl"))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder with clips.csv and small/")
    parser.add_argument("--out", type=Path, help="the manifest to write, .jsonl or .csv")
    class_folders = "also put the clips into class folders, OUT/<class>/<clip>"
    parser.add_argument("--as-class-folders", type=Path, metavar="OUT", help=class_folders)
    joined = "also join the clips of each person into long videos, OUT/joined/*.mp4, with OUT/joined.jsonl"
    parser.add_argument("--joined", type=Path, metavar="OUT", help=joined)
    parser.add_argument("--orders", type=int, default=4, help="long videos per person, in different orders (default 4)")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
