"""Image descriptions in two languages -> texts and their translations. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.dataset_tools import folder_parser, read_text_file, run_preparer, write_into
from pipeline.data.manifest_rows import Row, Split

FILES: dict[Split, str] = {"train": "train", "val": "val", "test": "test_2016_flickr"}


def read_lines(folder: Path, name: str) -> list[str]:
    """The lines of NAME.gz if it exists, else of NAME."""
    compressed = folder / f"{name}.gz"
    lines = read_text_file(compressed if compressed.is_file() else folder / name).split("\n")
    return lines[:-1] if not lines[-1] else lines  # no line follows the last line end


def read_pairs(folder: Path, source: str, target: str, split: Split) -> tuple[list[Row], int]:
    """One row per pair of sentences, and the number of pairs that are left out because one sentence is empty."""
    names = [f"{FILES[split]}.{language}" for language in (source, target)]
    sources, targets = (read_lines(folder, name) for name in names)
    if len(sources) != len(targets):
        counts = f"{names[0]} has {len(sources):,} lines and {names[1]} has {len(targets):,}"
        raise ValueError(f"{counts}. Line k of one is the translation of line k of the other. Use both from one copy.")
    rows = []
    for number, pair in enumerate(zip(sources, targets, strict=True)):
        text, translation = (" ".join(sentence.split()) for sentence in pair)
        if text and translation:
            rows.append(Row(f"{split}/{number:06d}", split, captions=(translation,), text=text))
    return rows, len(sources) - len(rows)


def make(options: argparse.Namespace) -> str:
    if options.source == options.target:
        raise ValueError(f"--from and --to are both {options.source!r}. A translation needs two languages. Change one.")
    rows: list[Row] = []
    lines: list[str] = []
    for split in FILES:
        pairs, num_empty = read_pairs(options.folder, options.source, options.target, split)
        rows += pairs
        if num_empty:
            lines.append(f"{num_empty:,} pairs of {split} have an empty sentence and are left out.")
    return "\n".join([*lines, write_into(options.out, rows)])


def main() -> int:
    parser = folder_parser(__doc__, "train.de.gz, val.de.gz, ..., compressed or not", "manifest.jsonl")
    parser.add_argument("--from", dest="source", default="de", help="language of the text (default de)")
    parser.add_argument("--to", dest="target", default="en", help="language of its translation (default en)")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
