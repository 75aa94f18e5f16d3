"""MSR-VTT: videos with 20 captions each (JSON) or one (CSV lists) -> two manifests. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.captioned_videos import write_captioned
from pipeline.data.dataset_tools import folder_parser, read_json_file, read_table_file, run_preparer
from pipeline.data.manifest_rows import Split

SPLITS: dict[str, Split] = {"train": "train", "validate": "val", "test": "test"}
TEST_LIST = "MSRVTT_JSFUSION_test.csv"
FOLDS = "MSRVTT_val_fold_{}.csv"


@dataclass
class VideoTable:
    """Captions, official split and group by the name of the video."""

    captions: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def add(self, video: str, caption: str) -> None:
        if caption.strip():
            self.captions.setdefault(video, []).append(" ".join(caption.split()))


def read_json(paths: Iterable[Path]) -> VideoTable:
    """All files together. The group is the video on YouTube where its address is known, else the clip."""
    table = VideoTable()
    for path in paths:
        content = read_json_file(path)
        try:
            videos = [(v["video_id"], v["split"], v.get("url", "")) for v in content["videos"]]
            sentences = [(s["video_id"], s["caption"]) for s in content["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            problem = f"{path.name!r} is not the JSON of the dataset ({type(error).__name__}: {error})"
            raise ValueError(
                f"{problem}. It has videos (video_id, split) and sentences (video_id, caption). Download it again."
            ) from error
        for video, split, url in videos:
            if split not in SPLITS:
                raise ValueError(
                    f"{path.name!r} has the split {split!r} for {video!r}. It must be one of {', '.join(SPLITS)}. "
                    "Correct it."
                )
            table.splits[video] = SPLITS[split]
            table.groups[video] = url.rpartition("v=")[2] or video
        unlisted = sorted({video for video, _ in sentences} - table.splits.keys())
        if unlisted:
            problem = f"{len(unlisted):,} videos have sentences in {path.name!r} but no entry, e.g. {unlisted[0]!r}"
            raise ValueError(f"{problem}. Every video has its split. Download the file again.")
        for video, caption in sentences:
            table.add(video, caption)
    return table


def read_lists(folder: Path, table: VideoTable, train: str, fold: int | None) -> dict[str, Split]:
    """The splits of the CSV lists: the training list `train` (9k or 7k), the 1,000 videos of the test list, and for
    validation the videos of a fold (1 to 4) or none.

    Where no JSON file gave captions, each video gets its one sentence in the test list or in a fold.
    """
    test_lines = read_table_file(folder / TEST_LIST, ("video_id", "sentence"))
    train_videos = {line["video_id"] for line in read_table_file(folder / f"MSRVTT_train.{train}.csv", ("video_id",))}
    fold_paths = {k: folder / FOLDS.format(k) for k in range(1, 5)}
    folds = {
        k: read_table_file(path, ("video_id", "sentence"))
        for k, path in fold_paths.items()
        if path.is_file() or k == fold
    }
    splits: dict[str, Split] = dict.fromkeys(train_videos, "train")
    for line in folds[fold] if fold is not None else ():
        if line["video_id"] in train_videos:
            splits[line["video_id"]] = "val"
    shared = sorted(train_videos & {line["video_id"] for line in test_lines})
    if shared:
        raise ValueError(
            f"{len(shared):,} videos are in the lists of train {train} and test, e.g. {shared[0]!r}. Correct one list."
        )
    splits.update(dict.fromkeys([line["video_id"] for line in test_lines], "test"))
    if not table.captions:
        for line in [*test_lines, *(line for lines in folds.values() for line in lines)]:
            if line["video_id"] in splits:
                table.add(line["video_id"], line["sentence"])
    return splits


def make(options: argparse.Namespace) -> str:
    folder: Path = options.folder
    files = sorted({*folder.glob("*videodatainfo*.json"), *folder.glob("MSRVTT_data.json")})
    table = read_json(files)
    split_name = options.split or ("official" if files else "9k")
    if split_name == "official":
        if not files:
            raise ValueError(
                f"There is no *videodatainfo*.json in {str(folder)!r}. It has the official split. Use --split 9k."
            )
        if options.fold is not None:
            raise ValueError(
                "--fold is a part of the CSV lists, but the official split has its own validation. Use --split 9k."
            )
        splits = table.splits
    else:
        splits = read_lists(folder, table, split_name, options.fold)
    captions = {video: texts for video, texts in table.captions.items() if video in splits}
    groups = {video: table.groups.get(video, video) for video in splits}
    num_captions = sum(map(len, captions.values()))
    summary = f"Split {split_name}: {num_captions:,} captions of {len(captions):,} of {len(splits):,} videos."
    return "\n".join([summary, write_captioned(options.out, options.videos, captions, splits, groups)])


def main() -> int:
    parser = folder_parser(__doc__, "the JSON files, the CSV lists, or both", "videos.jsonl and sentences.jsonl")
    parser.add_argument("--videos", type=Path, help="folder of the videos videoK.mp4, if there are some")
    parser.add_argument("--split", choices=("official", "9k", "7k"), help="default: official with JSON, else 9k")
    fold = "the fold of 9k or 7k for validation (default none)"
    parser.add_argument("--fold", type=int, choices=(1, 2, 3, 4), help=fold)
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
