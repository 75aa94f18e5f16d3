"""Positive and negative sentences of film reviews -> a manifest of texts. See README.md in this folder."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pipeline.data.dataset_tools import folder_parser, run_preparer, write_into
from pipeline.data.manifest_rows import Row

LABELS = ("pos", "neg")


def read_sentences(path: Path) -> tuple[list[str], int]:
    """The sentences that are not empty, and how many lines are not UTF-8.

    The files mix two encodings. Lines that are not UTF-8 are read as Windows-1252. A byte that is valid in neither
    becomes the replacement character.
    """
    if not path.is_file():
        raise ValueError(
            f"There is no {path.name} in {str(path.parent)!r}. It is half of the dataset. Correct --folder."
        )
    sentences, num_not_utf8 = [], 0
    for line in path.read_bytes().split(b"\n"):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text, num_not_utf8 = line.decode("cp1252", errors="replace"), num_not_utf8 + 1
        if words := text.replace("\0", " ").split():
            sentences.append(" ".join(words))
    return sentences, num_not_utf8


def read_rows(folder: Path) -> tuple[list[Row], str]:
    """One row per sentence. Its group is its words in lower case, so equal sentences are never in two splits."""
    rows: list[Row] = []
    group_numbers: dict[str, int] = {}
    total_not_utf8 = 0
    for label in LABELS:
        sentences, num_not_utf8 = read_sentences(folder / f"rt-polarity.{label}")
        if not sentences:
            raise ValueError(f"rt-polarity.{label} has no sentence. It has one per line. Download it again.")
        total_not_utf8 += num_not_utf8
        for number, text in enumerate(sentences):
            words = re.sub(r"\W+", " ", text.lower()).strip() or text
            group = group_numbers.setdefault(words, len(group_numbers))
            rows.append(Row(f"{label}/{number:05d}", group=f"text{group:05d}", label=label, text=text))
    num_repeated = len(rows) - len(group_numbers)
    summary = f"{num_repeated:,} sentences repeat another and share its group. {total_not_utf8:,} lines are not UTF-8."
    return rows, summary


def make(options: argparse.Namespace) -> str:
    rows, summary = read_rows(options.folder)
    return "\n".join([summary, write_into(options.out, rows)])


def main() -> int:
    return run_preparer(folder_parser(__doc__, "rt-polarity.pos and rt-polarity.neg", "manifest.jsonl"), make)


if __name__ == "__main__":
    sys.exit(main())
