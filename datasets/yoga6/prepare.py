"""yoga6 (clips.csv and small/*.mp4) -> a manifest, class folders, or long videos. See README.md beside this file."""

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

from pipeline.data.manifest import Row, Span
from pipeline.data.prepared import run_preparer, write_into
from pipeline.data.readers import write_and_describe
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.write import write_video

FPS = 15  # of the joined videos
WIDTH, HEIGHT = 428, 240


def read(folder: Path) -> list[Row]:
    """One row a clip: the label is the class, the group is the person."""
    table = folder / "clips.csv"
    if not table.is_file():
        raise ValueError(
            f"There is no clips.csv in {str(folder)!r}. It has the columns file, class, person. Check --folder."
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file, restval=""))
    if not lines or not {"file", "class", "person"} <= set(lines[0]):
        raise ValueError(
            f"{str(table)!r} has no rows with the columns file, class, person. Take the one of the dataset."
        )
    rows = [Row(f"small/{line['file']}", group=f"person{line['person']:0>2}", label=line["class"]) for line in lines]
    missing = [row.path for row in rows if not (folder / row.path).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(rows)} clips are missing, e.g. {missing[0]!r}. All would be in small/."
        )
    return rows


def lay_out(rows: list[Row], folder: Path, out: Path) -> str:
    """Make OUT/<class>/<clip>: hard links, or copies where the file system has no links."""
    for row in rows:
        label, name = Path(row.label or ""), Path(row.path).name
        if label.name != str(label) or not label.name:
            raise ValueError(f"The class {row.label!r} cannot name a folder. It would be one word. Mend clips.csv.")
        target = out / label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            try:
                os.link(folder / row.path, target)
            except OSError:
                shutil.copy2(folder / row.path, target)
    return (
        f"Laid {len(rows)} clips out under {str(out)!r}. Class folders do not know the persons: split by the manifest."
    )


def join(rows: list[Row], folder: Path, out: Path, orders: int) -> list[Row]:
    """All clips of a person end to end as one video OUT/joined/PERSON_K.mp4, in `orders` random orders; spans say which
    pose is held when. Nothing lies between two spans.
    """
    rng = np.random.default_rng(0)
    by_person = defaultdict(list)
    for row in rows:
        by_person[row.group].append(row)
    (out / "joined").mkdir(parents=True, exist_ok=True)
    joined = []
    for person, mine in sorted(by_person.items()):
        frames = {row.path: _frames(folder / row.path) for row in mine}
        for number in range(orders):
            order = [mine[i] for i in rng.permutation(len(mine))]
            ends = np.cumsum([len(frames[row.path]) for row in order]) / FPS
            spans = [
                Span(float(start), float(end), row.label or "")
                for start, end, row in zip([0.0, *ends[:-1]], ends, order, strict=True)
            ]
            name = f"joined/{person}_{number}.mp4"
            write_video(out / name, (frame for row in order for frame in frames[row.path]), fps=FPS)
            joined.append(Row(name, group=person, spans=tuple(spans)))
    return joined


def _frames(path: Path) -> list[np.ndarray]:
    """A clip's frames at FPS, each (HEIGHT, WIDTH, 3)."""
    clips = decode(path, clock=Clock(FPS), transform=None)
    return [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for clip in clips for frame in clip.frames]


def make(options: argparse.Namespace) -> str:
    if options.out is None and options.as_class_folders is None and options.joined is None:
        raise ValueError(
            "Nothing is to be made. --out writes a manifest, --as-class-folders makes folders, --joined long videos. "
            "Give one."
        )
    rows = read(options.folder)
    said = []
    if options.out is not None:
        said.append(write_and_describe(rows, options.folder, options.out))
    if options.as_class_folders is not None:
        said.append(lay_out(rows, options.folder, options.as_class_folders))
    if options.joined is not None:
        long = join(rows, options.folder, options.joined, options.orders)
        said.append(write_into(options.joined, long, "joined.jsonl"))
    return "\n".join(said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder that holds clips.csv and small/")
    parser.add_argument("--out", type=Path, help="the manifest to write, .jsonl or .csv")
    parser.add_argument(
        "--as-class-folders", type=Path, metavar="OUT", help="also lay the clips out as OUT/<class>/<clip>"
    )
    parser.add_argument(
        "--joined",
        type=Path,
        metavar="OUT",
        help="also join each person's clips to long videos OUT/joined/*.mp4 with OUT/joined.jsonl",
    )
    parser.add_argument("--orders", type=int, default=4, help="long videos a person, each in another order (default 4)")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
