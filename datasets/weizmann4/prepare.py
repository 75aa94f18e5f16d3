"""Frame strips of four actions -> lossless videos and a manifest. See README.md beside this file."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.data.manifest import Row
from pipeline.data.prepared import folder_parser, run_preparer, write_into

RATE = 25  # frames a second, as recorded


def frames_of(strip: Path) -> np.ndarray:
    """The frames (T, 64, 64, 3), RGB, that lie side by side in one picture (64, 64 * T)."""
    picture = cv2.imread(str(strip), cv2.IMREAD_COLOR)
    if picture is None or picture.shape[0] != 64 or picture.shape[1] % 64:
        size = "no picture" if picture is None else f"a picture of shape {picture.shape}"
        raise ValueError(f"{str(strip)!r} is {size}. It would hold frames of 64x64. Take the set's own strips.")
    return picture[:, :, ::-1].reshape(64, -1, 64, 3).transpose(1, 0, 2, 3)


def write_video(frames: np.ndarray, path: Path) -> None:
    """FFV1 in Matroska: every pixel stays as it is."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE, width=64, height=64, pix_fmt="bgr0")
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def unpack(folder: Path, out: Path) -> list[Row]:
    """Write one video a strip; the label is the action, the group is the person."""
    table = folder / "clips.csv"
    if not table.is_file():
        raise ValueError(f"There is no clips.csv in {str(folder)!r}. It has file, action, person. Check --folder.")
    with table.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file, restval=""))
    if not lines or not {"file", "action", "person"} <= set(lines[0]):
        raise ValueError(f"{str(table)!r} has no rows with the columns file, action, person. Fetch it again.")
    (out / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for line in lines:
        path = f"videos/{Path(line['file']).stem}.mkv"
        write_video(frames_of(folder / "strips" / line["file"]), out / path)
        rows.append(Row(path, group=f"person{line['person']}", label=line["action"]))
    return rows


def make(options: argparse.Namespace) -> str:
    rows = unpack(options.folder, options.out)
    return write_into(options.out, rows)


def main() -> int:
    return run_preparer(
        folder_parser(__doc__, "that holds clips.csv and strips/", "videos/*.mkv and manifest.jsonl"), make
    )


if __name__ == "__main__":
    sys.exit(main())
