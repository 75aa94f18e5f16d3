"""The files that a reader of the README would bring: videos in class folders, clips, a picture, reviews.

In: a folder with a drawn set of puppets. Out: a folder with `videos/`, `clips/`, `clip.mp4`, `long.mp4`, `first.png`
and `reviews.txt`. All of it is copied or cut from the puppets, so nothing has to be downloaded.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

CLASSES = ("lift_barbell", "open_curtains", "push_box", "walk_left")
REVIEWS = ("a warm and funny film about two brothers .", "the plot is thin and the jokes are old .")


def make_reader_files(puppets: Path, folder: Path, *, most: int | None = None) -> None:
    """Fill `folder` from the puppets in `puppets`. most: videos of each class, None for all of them."""
    rows = [json.loads(line) for line in (puppets / "clips.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["label"] in CLASSES]
    copy_classes([row for row in rows if row["split"] != "test"], puppets, folder / "videos", most)
    unseen = first_of_each([row for row in rows if row["split"] == "test"])
    clips = folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    for label, row in unseen.items():
        shutil.copy(puppets / row["path"], clips / f"{label}.mp4")
    content = (clips / "walk_left.mp4").read_bytes()
    (clips / "cut_upload.mp4").write_bytes(content[: len(content) // 3])
    (clips / "not_a_video.mp4").write_text("this is an error page\n", encoding="utf-8")
    shutil.copy(clips / "walk_left.mp4", folder / "clip.mp4")
    long = [json.loads(line) for line in (puppets / "long.jsonl").read_text(encoding="utf-8").splitlines()]
    shutil.copy(puppets / next(row["path"] for row in long if row["split"] == "test"), folder / "long.mp4")
    write_first_frame(folder / "clip.mp4", folder / "first.png")
    (folder / "reviews.txt").write_text("\n".join(REVIEWS) + "\n", encoding="utf-8")


def copy_classes(rows: list[dict[str, Any]], puppets: Path, folder: Path, most: int | None) -> None:
    """Copy videos into one folder for each class."""
    counts: dict[str, int] = {}
    for row in rows:
        label = row["label"]
        counts[label] = counts.get(label, 0) + 1
        if most is not None and counts[label] > most:
            continue
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(puppets / row["path"], folder / label)


def first_of_each(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The first row of each label, by label."""
    return {row["label"]: row for row in reversed(rows)}


def write_first_frame(video: Path, picture: Path) -> None:
    """Write the first frame of a video as a picture."""
    import cv2

    from pipeline.media.clock import Clock
    from pipeline.media.decode import decode

    clip = next(iter(decode(video, clock=Clock(4), transform=None, window=1)))
    cv2.imwrite(str(picture), clip.frames[0][:, :, ::-1])
