"""Videos with captions -> two manifests: the videos with their captions, and the captions as texts.

In: captions and the split of each video by its name, and a folder of videos where there is one. Out: `videos.jsonl`
(only videos that exist), `sentences.jsonl` (one text row per caption), and lines that describe both. Knows nothing of
the file formats that captions come in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.data.class_folders import ROW_SUFFIXES
from pipeline.data.dataset_tools import write_into
from pipeline.data.manifest_rows import Row, Split
from pipeline.data.readers import write_and_describe

Captions = Mapping[str, Sequence[str]]
"""Captions by the name of their video."""


def hash_split(name: str) -> Split:
    """The split of a name by its hash: 80 % train, 10 % val, 10 % test. It depends on nothing but the name."""
    remainder = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return "test" if remainder == 9 else "val" if remainder == 8 else "train"


def sentence_rows(captions: Captions, groups: Mapping[str, str]) -> list[Row]:
    """One text row per caption. All captions of a group (a video, or the source of clips) have the same split."""
    return [
        Row(f"{video}/{number:03d}", hash_split(groups[video]), groups[video], text=caption)
        for video, sentences in captions.items()
        for number, caption in enumerate(sentences)
    ]


def video_rows(
    folder: Path, captions: Captions, splits: Mapping[str, Split], groups: Mapping[str, str]
) -> tuple[list[Row], str]:
    """One row per video that has a split and exists in `folder`, and a sentence about the other videos.

    Raises ValueError where there is no such video.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r} of videos. Correct --videos, or leave it out.")
    files = {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in ROW_SUFFIXES}
    rows = [
        Row(files[video], split, groups.get(video, video), captions=tuple(captions.get(video, ())))
        for video, split in sorted(splits.items())
        if video in files
    ]
    if not rows:
        raise ValueError(
            f"None of the {len(splits):,} videos of the lists is in {str(folder)!r}. The folder must hold them "
            "directly, "
            f"such as {min(splits, default='video0')}.avi. Correct --videos, or leave it out."
        )
    missing, unlisted = len(splits) - len(rows), len(files) - len(rows)
    without_captions = sum(not row.captions for row in rows)
    summary = (
        f"Of {len(splits):,} videos {missing:,} are missing. {unlisted:,} other videos are in no list and are left "
        "out. "
        f"{without_captions:,} videos have no caption."
    )
    return rows, summary


def write_captioned(
    out: Path, videos: Path | None, captions: Captions, splits: Mapping[str, Split], groups: Mapping[str, str]
) -> str:
    """Write both manifests into `out` and describe them. The manifest of videos needs the folder `videos`."""
    lines = []
    if videos is None:
        lines.append("No folder of videos is given, so there is no videos.jsonl.")
    else:
        rows, summary = video_rows(videos, captions, splits, groups)
        out.mkdir(parents=True, exist_ok=True)
        lines += [summary, write_and_describe(rows, videos, out / "videos.jsonl")]
    if any(captions.values()):
        lines.append(write_into(out, sentence_rows(captions, groups), "sentences.jsonl"))
    return "\n".join(lines)
