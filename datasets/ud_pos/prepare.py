"""A treebank of Universal Dependencies (CoNLL-U) -> texts whose words have their part of speech. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.manifest import Row, Span, Split
from pipeline.data.prepared import one_token, run_preparer, text_of_file, write_into

UPOS = frozenset((
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM",
    "VERB", "X",
))  # fmt: skip  # universaldependencies.org/u/pos, version 2
NAMES: dict[Split, str] = {"train": "train", "val": "dev", "test": "test"}


def read(path: Path, split: Split) -> list[Row]:
    """One row a sentence: the forms with a blank between, a span a word, the document as group where the file names it.

    Ranges (1-2, a word written as one that is two) and empty nodes (1.1, a word that is not written) are no tokens.
    """
    rows: list[Row] = []
    document = None
    forms: list[str] = []
    tags: list[str] = []
    lines = text_of_file(path).split("\n")
    for number, line in enumerate([*lines, ""], start=1):
        if line.startswith("# newdoc id"):
            document = line.partition("=")[2].strip() or None
        elif line.startswith("# newdoc"):
            document = None
        elif line.strip() and not line.startswith("#"):
            cells = line.split("\t")
            if len(cells) != 10:
                what = f"{path.name} line {number} has {len(cells)} columns"
                raise ValueError(f"{what}. A word of CoNLL-U has 10, parted by tabs. Take the file as published.")
            if "-" in cells[0] or "." in cells[0]:
                continue
            if cells[3] not in UPOS:
                what = f"{path.name} line {number} has the part of speech {cells[3]!r}"
                raise ValueError(f"{what}. Known are {' '.join(sorted(UPOS))}. Take an annotated treebank, version 2.")
            forms.append(one_token(cells[1]) or "_")
            tags.append(cells[3])
        elif not line.strip() and forms:
            spans = tuple(Span(place, place + 1, tag) for place, tag in enumerate(tags))
            rows.append(Row(f"{split}/{len(rows):06d}", split, document, spans=spans, text=" ".join(forms)))
            forms, tags = [], []
    if not rows:
        raise ValueError(f"{path.name} has no sentence. It is CoNLL-U, a word a line. Take the file as published.")
    return rows


def find(folder: Path) -> dict[Split, Path]:
    """The treebank's files in a folder; a treebank may lack one, but not all."""
    files: dict[Split, Path] = {}
    for split, name in NAMES.items():
        found = sorted(folder.glob(f"*-ud-{name}.conllu"))
        if len(found) > 1:
            listed = ", ".join(path.name for path in found)
            raise ValueError(
                f"{str(folder)!r} holds several treebanks ({listed}). Name its files by --train, --dev, --test."
            )
        if found:
            files[split] = found[0]
    if not files:
        raise ValueError(
            f"{str(folder)!r} holds no *-ud-train.conllu, -dev or -test. They are the treebank. Check --folder."
        )
    return files


def make(options: argparse.Namespace) -> str:
    given: dict[Split, Path | None] = {"train": options.train, "val": options.dev, "test": options.test}
    files: dict[Split, Path] = {split: path for split, path in given.items() if path is not None}
    if bool(files) == (options.folder is not None):
        raise ValueError(
            "Give either --folder or --train, --dev and --test. Exactly one way names the treebank's files."
        )
    files = files or find(options.folder)
    rows = [row for split, path in files.items() for row in read(path, split)]
    return write_into(options.out, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, help="folder that holds *-ud-train.conllu, *-ud-dev.conllu, *-ud-test.conllu"
    )
    for name in NAMES.values():
        parser.add_argument(f"--{name}", type=Path, help=f"the {name} file, in place of --folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for manifest.jsonl")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
