"""Described videos -> two manifests: the videos with their captions, and the captions as texts.

Comes in: captions and the split of each video by its name, a folder of videos where there is one. Goes out: `videos.jsonl`
(only videos that lie there) and `sentences.jsonl` (one text row a caption), and sentences about both. Knows nothing about the
layouts in which captions come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.prepared import write_into
from pipeline.data.readers import SUFFIXES, write_and_describe
from pipeline.data.rows import Row, Split

Captions = Mapping[str, Sequence[str]]


def side_of(name: str) -> Split:
    """Train, val or test (80, 10, 10 in a hundred) by the hash of a name: the same on every machine, whatever else there is."""
    place = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return "test" if place == 9 else "val" if place == 8 else "train"


def sentence_rows(captions: Captions, groups: Mapping[str, str]) -> list[Row]:
    """One text row a caption; all captions of a group (a video, or what several were cut from) go to one side."""
    return [
        Row(f"{video}/{number:03d}", side_of(groups[video]), groups[video], text=caption)
        for video, mine in captions.items()
        for number, caption in enumerate(mine)
    ]


def video_rows(
    folder: Path, captions: Captions, splits: Mapping[str, Split], groups: Mapping[str, str]
) -> tuple[list[Row], str]:
    """One row a video that has a split and lies in `folder`, and what is missing or in no list. Raises ValueError for none."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r} of videos. Check --videos, or leave it out.")
    files = {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    rows = [
        Row(files[video], split, groups.get(video, video), captions=tuple(captions.get(video, ())))
        for video, split in sorted(splits.items())
        if video in files
    ]
    if not rows:
        raise ValueError(
            f"None of the {len(splits):,} videos of the lists lies in {str(folder)!r}. They lie there side by side, like "
            f"{min(splits, default='video0')}.avi. Check --videos, or leave it out."
        )
    missing, others = len(splits) - len(rows), len(files) - len(rows)
    mute = sum(not row.captions for row in rows)
    said = f"Of {len(splits):,} videos {missing:,} are not there; {others:,} others are in no list and left out; {mute:,} have no caption."
    return rows, said


def write_captioned(
    out: Path, videos: Path | None, captions: Captions, splits: Mapping[str, Split], groups: Mapping[str, str]
) -> str:
    """Write both manifests into `out`; those of videos only where their folder is given."""
    said = []
    if videos is None:
        said.append("No folder of videos is given, so that there is no videos.jsonl.")
    else:
        rows, about = video_rows(videos, captions, splits, groups)
        out.mkdir(parents=True, exist_ok=True)
        said += [about, write_and_describe(rows, videos, out / "videos.jsonl")]
    if any(captions.values()):
        said.append(write_into(out, sentence_rows(captions, groups), "sentences.jsonl"))
    return "\n".join(said)
