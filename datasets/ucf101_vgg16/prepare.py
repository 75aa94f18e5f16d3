"""Stored VGG16 features of 14 UCF101 classes -> features/NAME.npy and a manifest. See README.md beside this file."""

from __future__ import annotations

import argparse
import csv
import sys
import zipfile
from pathlib import Path

import numpy as np

from pipeline.data.manifest import Row
from pipeline.data.prepared import folder_parser, run_preparer, write_into


def unpack(folder: Path, out: Path) -> list[Row]:
    """Write one float16 array (25, 256) a clip; the table's last rows belong to the archive's, checked one by one."""
    archive, table = next(iter(sorted(folder.glob("*.npz"))), None), folder / "clips.csv"
    if archive is None or not table.is_file():
        raise ValueError(f"No .npz and clips.csv lie in {str(folder)!r}. They are the dataset. Check --folder.")
    try:
        with np.load(archive, allow_pickle=False) as arrays:
            features, groups, is_test = (arrays[name] for name in ("features", "group", "split1_is_test"))
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        what = f"{archive.name!r} is not the dataset's archive ({error})"
        raise ValueError(f"{what}. It would hold features, group and split1_is_test. Fetch it again.") from error
    with table.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file, restval=""))[-len(features) :]
    if len(lines) != len(features) or not {"video", "class_name", "group", "split1"} <= set(lines[0]):
        raise ValueError(
            "clips.csv has too few rows or columns. It has video, class_name, group, split1. Fetch it again."
        )
    rows = []
    for line, group, test in zip(lines, groups, is_test, strict=True):
        split = "test" if test else "train"
        if line["group"] != str(group) or line["split1"] != split:
            raise ValueError(f"clips.csv and the archive disagree at {line['video']!r}. Take both from one copy.")
        label = line["class_name"]
        rows.append(Row(f"features/{Path(line['video']).stem}.npy", split, f"{label}_g{group:02d}", label))
    (out / "features").mkdir(parents=True, exist_ok=True)
    for row, array in zip(rows, features, strict=True):
        np.save(out / "features" / Path(row.path).name, array.astype(np.float16))
    return rows


def make(options: argparse.Namespace) -> str:
    rows = unpack(options.folder, options.out)
    return write_into(options.out, rows)


def main() -> int:
    return run_preparer(
        folder_parser(__doc__, "that holds clips.csv and the .npz", "features/*.npy and manifest.jsonl"), make
    )


if __name__ == "__main__":
    sys.exit(main())
