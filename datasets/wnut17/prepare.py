"""Texts with named entities (IOB2 tags, a word a line) -> texts with spans. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.manifest import Row, Span, Split
from pipeline.data.prepared import one_token, run_preparer, text_of_file, write_into
from pipeline.metrics.sequence import spans

FILES: dict[Split, str] = {"train": "wnut17train.conll", "val": "emerging.dev.conll", "test": "emerging.test.annotated"}


def read(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Words and tags of each sentence. A line holds a word first and its tag last; what lies between is left out."""
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text_of_file(path).replace("\ufeff", "").split("\n"), ""], start=1):
        if line.strip():
            cells = line.strip().split("\t") if "\t" in line.strip() else line.split()
            word, tag = one_token(cells[0]), cells[-1].strip()
            if len(cells) < 2 or not word or not (tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:])):
                what = f"{path.name} line {number} is {line!r}"
                raise ValueError(f"{what}. It would be a word and O, or B- or I- with a type. Mend the line.")
            words.append(word)
            tags.append(tag)
        elif words:
            yield words, tags
            words, tags = [], []


def broken(tags: list[str]) -> int:
    """How many I- continue no entity of their type."""
    return sum(tag[:2] == "I-" and before[2:] != tag[2:] for before, tag in zip(["O", *tags], tags, strict=False))


def make(options: argparse.Namespace) -> str:
    rows: list[Row] = []
    said: list[str] = []
    for split in FILES:
        path: Path | None = getattr(options, split) or (options.folder / FILES[split] if options.folder else None)
        if path is None:
            raise ValueError(
                f"No file of {split} is given. It is --{split} FILE, or lies in --folder. Give one of them."
            )
        illegal = count = 0
        for count, (words, tags) in enumerate(read(path), start=1):
            illegal += broken(tags)
            found = tuple(Span(start, stop, kind) for kind, start, stop in spans(tags, strict=False))
            rows.append(Row(f"{split}/{count - 1:06d}", split, spans=found, text=" ".join(words)))
        if not count:
            raise ValueError(f"{path.name} has no sentence. It has a word and its tag a line. Fetch it again.")
        if illegal:
            said.append(
                f"{path.name}: {illegal:,} I- tags continue nothing of their type; each begins an entity (as conlleval)."
            )
    return "\n".join([*said, write_into(options.out, rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help=f"folder of {', '.join(FILES.values())}")
    for split, name in FILES.items():
        parser.add_argument(f"--{split}", type=Path, help=f"the file of {split}, in place of {name}")
    parser.add_argument("--out", type=Path, required=True, help="folder for manifest.jsonl")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
