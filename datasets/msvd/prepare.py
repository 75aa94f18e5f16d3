"""MSVD: short videos with about 40 captions each -> two manifests. See README.md in this folder."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pipeline.data.captioned_videos import write_captioned
from pipeline.data.dataset_tools import folder_parser, read_json_file, read_text_file, run_preparer
from pipeline.data.manifest_rows import Split

JSON, TEST_LIST = "msvd_train_captions.json", "testing_id.txt"
TEXT, ORDER = "AllVideoDescriptions.txt", "youtube_mapping.txt"
SPLIT_SIZES: tuple[tuple[Split, int], ...] = (("train", 1200), ("val", 100), ("test", 670))
CLIP_NAME = re.compile(r"(.+)_\d+_\d+")
"""YouTube's name of a video, and the start and end of the clip in seconds."""

Captions = dict[str, list[str]]


def read_json(folder: Path) -> tuple[Captions, dict[str, Split]]:
    """Captions of the training videos, and splits. The videos of testing_id.txt are the test and have no captions."""
    entries = read_json_file(folder / JSON)
    captions: Captions = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        name, texts = (entry.get("id"), entry.get("caption")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            problem = f"{JSON!r} has the entry {str(entry)[:60]!r}"
            expected = '{"id": "x_1_9.avi", "caption": ["...", ...]}'
            raise ValueError(f"{problem}. It must be a list of {expected}. Download it again.")
        captions.setdefault(clip_name(name), []).extend(" ".join(text.split()) for text in texts if text.strip())
    splits: dict[str, Split] = dict.fromkeys(captions, "train")
    if (folder / TEST_LIST).is_file():
        lines = read_text_file(folder / TEST_LIST).split("\n")
        test_names = [clip_name(line.strip()) for line in lines if line.strip()]
        shared = sorted(set(test_names) & set(captions))
        if shared:
            raise ValueError(
                f"{len(shared):,} videos are in {JSON} and in {TEST_LIST}, e.g. {shared[0]!r}. Remove them from one."
            )
        splits.update(dict.fromkeys(test_names, "test"))
    return captions, splits


def read_text(folder: Path) -> tuple[Captions, dict[str, Split], str]:
    """Captions of all videos, their splits, and a line about what is left out.

    The first 1,200 clips are train, the next 100 val, the last 670 test, in the order of youtube_mapping.txt or,
    without it, of the captions.
    """
    captions: Captions = {}
    num_other_lines = 0
    for line in read_text_file(folder / TEXT).split("\n"):
        name, _, text = line.strip().partition(" ")
        if CLIP_NAME.fullmatch(name) and text.strip():
            captions.setdefault(name, []).append(" ".join(text.split()))
        else:
            num_other_lines += bool(line.strip())
    total = sum(size for _, size in SPLIT_SIZES)
    if len(captions) != total:
        problem = f"{TEXT} has captions of {len(captions):,} videos"
        raise ValueError(f"{problem}. The usual split is 1,200, 100 and 670 of {total:,}, in order. Download it again.")
    ordered_splits: list[Split] = [split for split, size in SPLIT_SIZES for _ in range(size)]
    order = read_order(folder / ORDER, captions) if (folder / ORDER).is_file() else list(captions)
    splits: dict[str, Split] = dict(zip(order, ordered_splits, strict=True))
    return (
        captions,
        splits,
        f"{num_other_lines:,} lines of {TEXT} are not captions (ID_START_END text) and are left out.",
    )


def read_order(path: Path, captions: Captions) -> list[str]:
    """The clips sorted by their number in lines like `mv89psg6zh4_33_46 vid1`."""
    numbers = {}
    for line in read_text_file(path).split("\n"):
        name, _, number = line.strip().partition(" ")
        if number.strip().removeprefix("vid").isdecimal():
            numbers[name] = int(number.strip().removeprefix("vid"))
    if numbers.keys() != captions.keys():
        problem = (
            f"{path.name!r} has numbers of {len(numbers):,} clips, but not those of the {len(captions):,} of {TEXT}"
        )
        raise ValueError(f"{problem}. Its lines are ID_START_END vid1. Use both from one copy, or remove it.")
    return sorted(numbers, key=numbers.__getitem__)


def clip_name(file_name: str) -> str:
    return file_name.removesuffix(".avi")


def make(options: argparse.Namespace) -> str:
    lines = []
    if (options.folder / TEXT).is_file():
        captions, splits, note = read_text(options.folder)
        lines.append(note)
    elif (options.folder / JSON).is_file():
        captions, splits = read_json(options.folder)
    else:
        raise ValueError(
            f"Neither {JSON} nor {TEXT} is in {str(options.folder)!r}. One of them has the captions. Correct --folder."
        )
    groups = {clip: match[1] if (match := CLIP_NAME.fullmatch(clip)) else clip for clip in splits}
    num_videos = len(set(groups.values()))
    lines.append(f"{len(splits):,} clips of {num_videos:,} videos. The group of a clip is its video.")
    return "\n".join([*lines, write_captioned(options.out, options.videos, captions, splits, groups)])


def main() -> int:
    parser = folder_parser(__doc__, f"{JSON} (and {TEST_LIST}) or {TEXT}", "videos.jsonl and sentences.jsonl")
    parser.add_argument("--videos", type=Path, help="folder of the clips ID_START_END.avi, if there are some")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
