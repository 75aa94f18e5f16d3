"""Pose sequences around tennis shots -> poses/NAME.npy and a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np

from pipeline.data.dataset_tools import folder_parser, run_preparer, write_into
from pipeline.data.manifest_rows import Row

WIDTH = 26


def write_poses(folder: Path, out: Path) -> list[Row]:
    """Write one float32 array (30, 26) per shot, x relative to the middle of the image.

    The label is the stroke, the group is the match.
    """
    archive = folder / "tennis_pose.npz"
    if not archive.is_file():
        raise ValueError(f"There is no tennis_pose.npz in {str(folder)!r}. It is the dataset. Correct --folder.")
    try:
        with np.load(archive, allow_pickle=False) as arrays:
            poses, labels, matches = arrays["features"], arrays["label"], arrays["match"]
            label_names, match_names = arrays["label_names"].tolist(), arrays["match_names"].tolist()
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        problem = f"{archive.name!r} is not the archive of the dataset ({error})"
        raise ValueError(f"{problem}. It has features, label, match and their names. Download it again.") from error
    if poses.ndim != 3 or poses.shape[2] != WIDTH:
        raise ValueError(
            f"{archive.name!r} holds features of shape {poses.shape}. The shape must be (shots, steps, {WIDTH}): y "
            "and x "
            "of 13 points. Download it again."
        )
    poses = poses.astype(np.float32)
    poses[:, :, 1::2] -= 0.5  # x relative to the middle of the image, so mirroring changes its sign
    (out / "poses").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (pose, label, match) in enumerate(zip(poses, labels, matches, strict=True)):
        path = f"poses/{match_names[match]}_{number:04d}_{label_names[label]}.npy"
        np.save(out / path, pose)
        rows.append(Row(path, group=match_names[match], label=label_names[label]))
    return rows


def make(options: argparse.Namespace) -> str:
    rows = write_poses(options.folder, options.out)
    return write_into(options.out, rows)


def main() -> int:
    return run_preparer(folder_parser(__doc__, "tennis_pose.npz", "poses/*.npy and manifest.jsonl"), make)


if __name__ == "__main__":
    sys.exit(main())
