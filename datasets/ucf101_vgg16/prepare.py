"""Stored VGG16 features of 14 UCF101 classes -> features/NAME.npy and a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import csv
import sys
import zipfile
from pathlib import Path

import numpy as np

from pipeline.data.dataset_tools import folder_parser, run_preparer, write_into
from pipeline.data.manifest_rows import Row


def write_features(folder: Path, out: Path) -> list[Row]:
    """Write one float16 array (25, 256) per clip.

    The last rows of the table are those of the archive. Each is compared with the archive.
    """
    archive, table_path = next(iter(sorted(folder.glob("*.npz"))), None), folder / "clips.csv"
    if archive is None or not table_path.is_file():
        raise ValueError(f"There is no .npz and clips.csv in {str(folder)!r}. They are the dataset. Correct --folder.")
    try:
        with np.load(archive, allow_pickle=False) as arrays:
            features, groups, is_test = (arrays[name] for name in ("features", "group", "split1_is_test"))
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        problem = f"{archive.name!r} is not the archive of the dataset ({error})"
        raise ValueError(f"{problem}. It has features, group and split1_is_test. Download it again.") from error
    with table_path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file, restval=""))[-len(features) :]
    if len(table) != len(features) or not {"video", "class_name", "group", "split1"} <= set(table[0]):
        raise ValueError(
            "clips.csv has too few rows or columns. It has video, class_name, group, split1. Download it again."
        )
    rows = []
    for line, group, test in zip(table, groups, is_test, strict=True):
        split = "test" if test else "train"
        if line["group"] != str(group) or line["split1"] != split:
            raise ValueError(f"clips.csv and the archive differ at {line['video']!r}. Use both from one copy.")
        label = line["class_name"]
        rows.append(Row(f"features/{Path(line['video']).stem}.npy", split, f"{label}_g{group:02d}", label))
    (out / "features").mkdir(parents=True, exist_ok=True)
    for row, array in zip(rows, features, strict=True):
        np.save(out / "features" / Path(row.path).name, array.astype(np.float16))
    return rows


def make(options: argparse.Namespace) -> str:
    rows = write_features(options.folder, options.out)
    return write_into(options.out, rows)


def main() -> int:
    return run_preparer(folder_parser(__doc__, "clips.csv and the .npz", "features/*.npy and manifest.jsonl"), make)


if __name__ == "__main__":
    sys.exit(main())
