"""Descriptions of pictures in two languages -> texts and their translations. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.manifest import Row, Split
from pipeline.data.prepared import folder_parser, run_preparer, text_of_file, write_into

FILES: dict[Split, str] = {"train": "train", "val": "val", "test": "test_2016_flickr"}


def lines_of(folder: Path, name: str) -> list[str]:
    """The lines of NAME, or of NAME.gz where that is what lies there."""
    packed = folder / f"{name}.gz"
    lines = text_of_file(packed if packed.is_file() else folder / name).split("\n")
    return lines[:-1] if not lines[-1] else lines  # what follows the last line's end is no line


def pairs_of(folder: Path, source: str, target: str, split: Split) -> tuple[list[Row], int]:
    """One row a pair, and how many pairs were left out because a side of them is empty."""
    names = [f"{FILES[split]}.{language}" for language in (source, target)]
    sources, targets = (lines_of(folder, name) for name in names)
    if len(sources) != len(targets):
        counts = f"{names[0]} has {len(sources):,} lines and {names[1]} has {len(targets):,}"
        raise ValueError(f"{counts}. Line k of one is the translation of line k of the other. Take both from one copy.")
    rows = []
    for number, pair in enumerate(zip(sources, targets, strict=True)):
        text, translation = (" ".join(side.split()) for side in pair)
        if text and translation:
            rows.append(Row(f"{split}/{number:06d}", split, captions=(translation,), text=text))
    return rows, len(sources) - len(rows)


def make(options: argparse.Namespace) -> str:
    if options.source == options.target:
        raise ValueError(f"--from and --to are both {options.source!r}. A translation has two languages. Change one.")
    rows: list[Row] = []
    said: list[str] = []
    for split in FILES:
        mine, empty = pairs_of(options.folder, options.source, options.target, split)
        rows += mine
        if empty:
            said.append(f"{empty:,} pairs of {split} have an empty side and are left out.")
    return "\n".join([*said, write_into(options.out, rows)])


def main() -> int:
    parser = folder_parser(__doc__, "of train.de.gz, val.de.gz, ... or unpacked", "manifest.jsonl")
    parser.add_argument("--from", dest="source", default="de", help="language of the text (default de)")
    parser.add_argument("--to", dest="target", default="en", help="language of its translation (default en)")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
