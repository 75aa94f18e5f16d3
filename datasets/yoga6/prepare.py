"""yoga6 (clips.csv and small/*.mp4) -> a manifest, or class folders. See README.md beside this file."""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from pathlib import Path

from pipeline.data.manifest import Row
from pipeline.data.readers import write_and_describe


def read(folder: Path) -> list[Row]:
    """One row a clip: the label is the class, the group is the person."""
    table = folder / "clips.csv"
    if not table.is_file():
        raise ValueError(
            f"There is no clips.csv in {str(folder)!r}. It has the columns file, class, person. Check --folder."
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file, restval=""))
    if not lines or not {"file", "class", "person"} <= set(lines[0]):
        raise ValueError(
            f"{str(table)!r} has no rows with the columns file, class, person. Take the one of the dataset."
        )
    rows = [Row(f"small/{line['file']}", group=f"person{line['person']:0>2}", label=line["class"]) for line in lines]
    missing = [row.path for row in rows if not (folder / row.path).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(rows)} clips are missing, e.g. {missing[0]!r}. All would be in small/."
        )
    return rows


def lay_out(rows: list[Row], folder: Path, out: Path) -> str:
    """Make OUT/<class>/<clip>: hard links, or copies where the file system has no links."""
    for row in rows:
        label, name = Path(row.label or ""), Path(row.path).name
        if label.name != str(label) or not label.name:
            raise ValueError(f"The class {row.label!r} cannot name a folder. It would be one word. Mend clips.csv.")
        target = out / label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            try:
                os.link(folder / row.path, target)
            except OSError:
                shutil.copy2(folder / row.path, target)
    return (
        f"Laid {len(rows)} clips out under {str(out)!r}. Class folders do not know the persons: split by the manifest."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder that holds clips.csv and small/")
    parser.add_argument("--out", type=Path, help="the manifest to write, .jsonl or .csv")
    parser.add_argument(
        "--as-class-folders", type=Path, metavar="OUT", help="also lay the clips out as OUT/<class>/<clip>"
    )
    options = parser.parse_args()
    try:
        if options.out is None and options.as_class_folders is None:
            raise ValueError(
                "Nothing is to be made. --out writes a manifest, --as-class-folders makes folders. Give one."
            )
        rows = read(options.folder)
        if options.out is not None:
            print(write_and_describe(rows, options.folder, options.out))
        if options.as_class_folders is not None:
            print(lay_out(rows, options.folder, options.as_class_folders))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
