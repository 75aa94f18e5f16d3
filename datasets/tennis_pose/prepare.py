"""Pose sequences around tennis shots -> poses/NAME.npy and a manifest. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np

from pipeline.data.manifest import Row
from pipeline.data.prepared import folder_parser, run_preparer, write_into

WIDTH = 26


def unpack(folder: Path, out: Path) -> list[Row]:
    """Write one float32 array (30, 26) a shot, x counted from the middle of the picture; the label is the stroke, the group is the match."""
    archive = folder / "tennis_pose.npz"
    if not archive.is_file():
        raise ValueError(f"There is no tennis_pose.npz in {str(folder)!r}. It is the dataset. Check --folder.")
    try:
        with np.load(archive, allow_pickle=False) as arrays:
            poses, labels, matches = arrays["features"], arrays["label"], arrays["match"]
            label_names, match_names = arrays["label_names"].tolist(), arrays["match_names"].tolist()
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        what = f"{archive.name!r} is not the dataset's archive ({error})"
        raise ValueError(f"{what}. It would hold features, label, match and their names. Fetch it again.") from error
    if poses.ndim != 3 or poses.shape[2] != WIDTH:
        raise ValueError(
            f"{archive.name!r} holds features of shape {poses.shape}. They would be (shots, steps, {WIDTH}): y and x of "
            "13 points. Fetch it again."
        )
    poses = poses.astype(np.float32)
    poses[:, :, 1::2] -= 0.5  # x from the middle of the picture, so that a mirror is a change of sign
    (out / "poses").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (pose, label, match) in enumerate(zip(poses, labels, matches, strict=True)):
        path = f"poses/{match_names[match]}_{number:04d}_{label_names[label]}.npy"
        np.save(out / path, pose)
        rows.append(Row(path, group=match_names[match], label=label_names[label]))
    return rows


def make(options: argparse.Namespace) -> str:
    rows = unpack(options.folder, options.out)
    return write_into(options.out, rows)


def main() -> int:
    return run_preparer(folder_parser(__doc__, "that holds tennis_pose.npz", "poses/*.npy and manifest.jsonl"), make)


if __name__ == "__main__":
    sys.exit(main())
