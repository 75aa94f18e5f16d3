"""Strips of frames of four actions -> lossless videos and a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.data.dataset_tools import folder_parser, run_preparer, write_into
from pipeline.data.manifest_rows import Row

RATE = 25
"""Frames per second, as recorded."""


def read_strip(path: Path) -> np.ndarray:
    """The frames (T, 64, 64, 3), RGB, that are side by side in one image (64, 64 * T)."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or image.shape[0] != 64 or image.shape[1] % 64:
        problem = "not an image" if image is None else f"an image of shape {image.shape}"
        raise ValueError(f"{str(path)!r} is {problem}. It must hold frames of 64x64. Use the strips of the dataset.")
    return image[:, :, ::-1].reshape(64, -1, 64, 3).transpose(1, 0, 2, 3)


def write_video(frames: np.ndarray, path: Path) -> None:
    """FFV1 in Matroska: no pixel changes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE, width=64, height=64, pix_fmt="bgr0")
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


def write_videos(folder: Path, out: Path) -> list[Row]:
    """Write one video per strip. The label is the action, the group is the person."""
    table_path = folder / "clips.csv"
    if not table_path.is_file():
        raise ValueError(f"There is no clips.csv in {str(folder)!r}. It has file, action, person. Correct --folder.")
    with table_path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file, restval=""))
    if not table or not {"file", "action", "person"} <= set(table[0]):
        raise ValueError(f"{str(table_path)!r} has no rows with the columns file, action, person. Download it again.")
    (out / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for line in table:
        path = f"videos/{Path(line['file']).stem}.mkv"
        write_video(read_strip(folder / "strips" / line["file"]), out / path)
        rows.append(Row(path, group=f"person{line['person']}", label=line["action"]))
    return rows


def make(options: argparse.Namespace) -> str:
    rows = write_videos(options.folder, options.out)
    return write_into(options.out, rows)


def main() -> int:
    return run_preparer(folder_parser(__doc__, "clips.csv and strips/", "videos/*.mkv and manifest.jsonl"), make)


if __name__ == "__main__":
    sys.exit(main())
