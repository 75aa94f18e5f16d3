"""MSR-VTT: videos and twenty descriptions of each (JSON), or one (CSV lists) -> two manifests. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.captioned import write_captioned
from pipeline.data.manifest import Split
from pipeline.data.prepared import folder_parser, json_of_file, run_preparer, table_of_file

SPLITS: dict[str, Split] = {"train": "train", "validate": "val", "test": "test"}
TEST_LIST = "MSRVTT_JSFUSION_test.csv"
FOLDS = "MSRVTT_val_fold_{}.csv"


@dataclass
class Found:
    """Captions, official split and group by name of the video."""

    captions: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def add(self, video: str, caption: str) -> None:
        if caption.strip():
            self.captions.setdefault(video, []).append(" ".join(caption.split()))


def read_json(paths: Iterable[Path]) -> Found:
    """All files together; the group is the video on YouTube, where its address is known."""
    found = Found()
    for path in paths:
        whole = json_of_file(path)
        try:
            videos = [(v["video_id"], v["split"], v.get("url", "")) for v in whole["videos"]]
            sentences = [(s["video_id"], s["caption"]) for s in whole["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            what = f"{path.name!r} is not the dataset's JSON ({type(error).__name__}: {error})"
            raise ValueError(
                f"{what}. It has videos (video_id, split) and sentences (video_id, caption). Fetch it again."
            ) from error
        for video, split, url in videos:
            if split not in SPLITS:
                raise ValueError(
                    f"{path.name!r} puts {video!r} into {split!r}. It would be {', '.join(SPLITS)}. Mend it."
                )
            found.splits[video] = SPLITS[split]
            found.groups[video] = url.rpartition("v=")[2] or video
        strange = sorted({video for video, _ in sentences} - found.splits.keys())
        if strange:
            what = f"{len(strange):,} videos have sentences in {path.name!r} but no entry, e.g. {strange[0]!r}"
            raise ValueError(f"{what}. Every video has its split. Fetch the file again.")
        for video, caption in sentences:
            found.add(video, caption)
    return found


def read_tables(folder: Path, found: Found, train: str, fold: int | None) -> dict[str, Split]:
    """The split of the CSV lists: `train` (9k or 7k), fold 1 to 4 of it for validation or none, and 1,000 for the test.

    Where no JSON gave captions, the one sentence that the test list and the folds have of a video is its caption.
    """
    tested = table_of_file(folder / TEST_LIST, ("video_id", "sentence"))
    named = {line["video_id"] for line in table_of_file(folder / f"MSRVTT_train.{train}.csv", ("video_id",))}
    tables = {k: folder / FOLDS.format(k) for k in range(1, 5)}
    folds = {
        k: table_of_file(path, ("video_id", "sentence")) for k, path in tables.items() if path.is_file() or k == fold
    }
    splits: dict[str, Split] = dict.fromkeys(named, "train")
    for line in folds[fold] if fold is not None else ():
        if line["video_id"] in named:
            splits[line["video_id"]] = "val"
    both = sorted(named & {line["video_id"] for line in tested})
    if both:
        raise ValueError(
            f"{len(both):,} videos stand in the lists of train {train} and test, e.g. {both[0]!r}. Mend one list."
        )
    splits.update(dict.fromkeys([line["video_id"] for line in tested], "test"))
    if not found.captions:
        for line in [*tested, *(line for lines in folds.values() for line in lines)]:
            if line["video_id"] in splits:
                found.add(line["video_id"], line["sentence"])
    return splits


def make(options: argparse.Namespace) -> str:
    folder: Path = options.folder
    files = sorted({*folder.glob("*videodatainfo*.json"), *folder.glob("MSRVTT_data.json")})
    found = read_json(files)
    chosen = options.split or ("official" if files else "9k")
    if chosen == "official":
        if not files:
            raise ValueError(
                f"No *videodatainfo*.json lies in {str(folder)!r}. It has the official split. Use --split 9k."
            )
        if options.fold is not None:
            raise ValueError(
                "--fold is a part of the CSV lists, and the official split has its own validation. Use --split 9k."
            )
        splits = found.splits
    else:
        splits = read_tables(folder, found, chosen, options.fold)
    captions = {video: mine for video, mine in found.captions.items() if video in splits}
    groups = {video: found.groups.get(video, video) for video in splits}
    said = (
        f"Split {chosen}: {sum(map(len, captions.values())):,} captions of {len(captions):,} of {len(splits):,} videos."
    )
    return "\n".join([said, write_captioned(options.out, options.videos, captions, splits, groups)])


def main() -> int:
    parser = folder_parser(__doc__, "of the JSON files, the CSV lists, or both", "videos.jsonl and sentences.jsonl")
    parser.add_argument("--videos", type=Path, help="folder of the videos videoK.mp4, if there are some")
    parser.add_argument("--split", choices=("official", "9k", "7k"), help="default: official with JSON, else 9k")
    parser.add_argument(
        "--fold", type=int, choices=(1, 2, 3, 4), help="the fold of 9k or 7k that validates (default none)"
    )
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
