"""MSVD: short videos and about forty descriptions of each -> two manifests. See README.md beside this file."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pipeline.data.captioned import write_captioned
from pipeline.data.manifest import Split
from pipeline.data.prepared import folder_parser, json_of_file, run_preparer, text_of_file

JSON, TEST_LIST = "msvd_train_captions.json", "testing_id.txt"
TEXT, ORDER = "AllVideoDescriptions.txt", "youtube_mapping.txt"
PARTS: tuple[tuple[Split, int], ...] = (("train", 1200), ("val", 100), ("test", 670))
CLIP = re.compile(r"(.+)_\d+_\d+")  # YouTube's name of a video, and the seconds that were cut out of it

Captions = dict[str, list[str]]


def read_json(folder: Path) -> tuple[Captions, dict[str, Split]]:
    """Captions of the training videos; the videos of testing_id.txt, where it is there, are for the test and have none."""
    entries = json_of_file(folder / JSON)
    captions: Captions = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        name, mine = (entry.get("id"), entry.get("caption")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(mine, list) or not all(isinstance(text, str) for text in mine):
            what = f"{JSON!r} holds {str(entry)[:60]!r}"
            raise ValueError(
                f'{what}. It would be a list of {{"id": "x_1_9.avi", "caption": ["...", ...]}}. Fetch it again.'
            )
        captions.setdefault(_stem(name), []).extend(" ".join(text.split()) for text in mine if text.strip())
    splits: dict[str, Split] = dict.fromkeys(captions, "train")
    if (folder / TEST_LIST).is_file():
        names = [_stem(line.strip()) for line in text_of_file(folder / TEST_LIST).split("\n") if line.strip()]
        both = sorted(set(names) & set(captions))
        if both:
            raise ValueError(
                f"{len(both):,} videos stand in {JSON} and in {TEST_LIST}, e.g. {both[0]!r}. Remove them from one."
            )
        splits.update(dict.fromkeys(names, "test"))
    return captions, splits


def read_text(folder: Path) -> tuple[Captions, dict[str, Split], str]:
    """Captions of all videos, split 1,200, 100 and 670 in the order of youtube_mapping.txt or, without it, of the file; and what
    is left out.
    """
    captions: Captions = {}
    others = 0
    for line in text_of_file(folder / TEXT).split("\n"):
        name, _, text = line.strip().partition(" ")
        if CLIP.fullmatch(name) and text.strip():
            captions.setdefault(name, []).append(" ".join(text.split()))
        else:
            others += bool(line.strip())
    total = sum(count for _, count in PARTS)
    if len(captions) != total:
        what = f"{TEXT} describes {len(captions):,} videos"
        raise ValueError(f"{what}. The usual split counts 1,200, 100 and 670 of {total:,}, in order. Fetch it again.")
    sides: list[Split] = [split for split, count in PARTS for _ in range(count)]
    order = _mapped(folder / ORDER, captions) if (folder / ORDER).is_file() else list(captions)
    said = f"{others:,} lines of {TEXT} are no description (ID_START_END and words) and are left out."
    splits: dict[str, Split] = dict(zip(order, sides, strict=True))
    return captions, splits, said


def _mapped(path: Path, captions: Captions) -> list[str]:
    """The clips by their number in lines like `mv89psg6zh4_33_46 vid1`."""
    numbers = {}
    for line in text_of_file(path).split("\n"):
        name, _, number = line.strip().partition(" ")
        if number.strip().removeprefix("vid").isdecimal():
            numbers[name] = int(number.strip().removeprefix("vid"))
    if numbers.keys() != captions.keys():
        what = f"{path.name!r} numbers {len(numbers):,} clips, and not the {len(captions):,} of {TEXT}"
        raise ValueError(f"{what}. Its lines are ID_START_END vid1. Take both from one copy, or remove it.")
    return sorted(numbers, key=numbers.__getitem__)


def _stem(name: str) -> str:
    return name.removesuffix(".avi")


def make(options: argparse.Namespace) -> str:
    said = []
    if (options.folder / TEXT).is_file():
        captions, splits, about = read_text(options.folder)
        said.append(about)
    elif (options.folder / JSON).is_file():
        captions, splits = read_json(options.folder)
    else:
        raise ValueError(
            f"Neither {JSON} nor {TEXT} lies in {str(options.folder)!r}. One has the captions. Check --folder."
        )
    groups = {video: match[1] if (match := CLIP.fullmatch(video)) else video for video in splits}
    said.append(
        f"{len(splits):,} clips of {len(set(groups.values())):,} videos; a clip's group is the video it was cut from."
    )
    return "\n".join([*said, write_captioned(options.out, options.videos, captions, splits, groups)])


def main() -> int:
    parser = folder_parser(__doc__, f"of {JSON} (and {TEST_LIST}) or {TEXT}", "videos.jsonl and sentences.jsonl")
    parser.add_argument("--videos", type=Path, help="folder of the videos ID_START_END.avi, if there are some")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
