"""Sentences of film reviews, good or bad -> a manifest of texts. See README.md beside this file."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pipeline.data.manifest import Row
from pipeline.data.prepared import folder_parser, run_preparer, write_into

LABELS = ("pos", "neg")


def lines_of(path: Path) -> tuple[list[str], int]:
    """Sentences that are not empty, and how many of them are no UTF-8: those are read as Windows-1252.

    The files mix both. A byte that neither knows becomes the replacement character.
    """
    if not path.is_file():
        raise ValueError(f"There is no {path.name} in {str(path.parent)!r}. It is half of the dataset. Check --folder.")
    texts, others = [], 0
    for raw in path.read_bytes().split(b"\n"):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text, others = raw.decode("cp1252", errors="replace"), others + 1
        if words := text.replace("\0", " ").split():
            texts.append(" ".join(words))
    return texts, others


def read(folder: Path) -> tuple[list[Row], str]:
    """One row a sentence; the group is its words in lower case, so that equal ones stand on one side."""
    rows: list[Row] = []
    number_of: dict[str, int] = {}
    others = 0
    for label in LABELS:
        texts, strange = lines_of(folder / f"rt-polarity.{label}")
        if not texts:
            raise ValueError(f"rt-polarity.{label} has no sentence. It has one a line. Fetch it again.")
        others += strange
        for number, text in enumerate(texts):
            group = number_of.setdefault(re.sub(r"\W+", " ", text.lower()).strip() or text, len(number_of))
            rows.append(Row(f"{label}/{number:05d}", group=f"text{group:05d}", label=label, text=text))
    repeated = len(rows) - len(number_of)
    said = f"{repeated:,} sentences stand there already and share a group; {others:,} lines were no UTF-8."
    return rows, said


def make(options: argparse.Namespace) -> str:
    rows, said = read(options.folder)
    return "\n".join([said, write_into(options.out, rows)])


def main() -> int:
    return run_preparer(folder_parser(__doc__, "of rt-polarity.pos and rt-polarity.neg", "manifest.jsonl"), make)


if __name__ == "__main__":
    sys.exit(main())
