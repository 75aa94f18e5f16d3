"""Texts with named entities (IOB2 tags, one word per line) -> texts with spans. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.dataset_tools import one_token, read_text_file, run_preparer, write_into
from pipeline.data.manifest_rows import Row, Span, Split
from pipeline.metrics.sequence import spans

FILES: dict[Split, str] = {"train": "wnut17train.conll", "val": "emerging.dev.conll", "test": "emerging.test.annotated"}


def read_sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Words and tags of each sentence. A line starts with the word and ends with the tag; other cells are ignored."""
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*read_text_file(path).replace("\ufeff", "").split("\n"), ""], start=1):
        if line.strip():
            cells = line.strip().split("\t") if "\t" in line.strip() else line.split()
            word, tag = one_token(cells[0]), cells[-1].strip()
            if len(cells) < 2 or not word or not (tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:])):
                problem = f"{path.name} line {number} is {line!r}"
                raise ValueError(f"{problem}. It must be a word and O, or a word and B- or I- with a type. Correct it.")
            words.append(word)
            tags.append(tag)
        elif words:
            yield words, tags
            words, tags = [], []


def count_invalid(tags: list[str]) -> int:
    """How many I- tags do not continue an entity of their type."""
    return sum(tag[:2] == "I-" and previous[2:] != tag[2:] for previous, tag in zip(["O", *tags], tags, strict=False))


def make(options: argparse.Namespace) -> str:
    rows: list[Row] = []
    lines: list[str] = []
    for split in FILES:
        path: Path | None = getattr(options, split) or (options.folder / FILES[split] if options.folder else None)
        if path is None:
            raise ValueError(f"There is no file for {split}. Give --{split} FILE, or a --folder that has it.")
        num_invalid = count = 0
        for count, (words, tags) in enumerate(read_sentences(path), start=1):
            num_invalid += count_invalid(tags)
            entities = tuple(Span(start, stop, kind) for kind, start, stop in spans(tags, strict=False))
            rows.append(Row(f"{split}/{count - 1:06d}", split, spans=entities, text=" ".join(words)))
        if not count:
            raise ValueError(f"{path.name} has no sentence. It has a word and its tag per line. Download it again.")
        if num_invalid:
            lines.append(
                f"{path.name}: {num_invalid:,} I- tags do not continue an entity of their type; each starts one (as in "
                "conlleval)."
            )
    return "\n".join([*lines, write_into(options.out, rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help=f"folder with {', '.join(FILES.values())}")
    for split, name in FILES.items():
        parser.add_argument(f"--{split}", type=Path, help=f"the {split} file, instead of {name} in --folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for manifest.jsonl")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
