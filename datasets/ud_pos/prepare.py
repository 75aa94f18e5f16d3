"""A treebank of Universal Dependencies (CoNLL-U) -> texts with parts of speech. See README.md in this folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.dataset_tools import one_token, read_text_file, run_preparer, write_into
from pipeline.data.manifest_rows import Row, Span, Split

UPOS = {
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ"),
    *("SYM", "VERB", "X"),
}
"""The universal parts of speech, version 2: universaldependencies.org/u/pos."""
NAMES: dict[Split, str] = {"train": "train", "val": "dev", "test": "test"}


def read_sentences(path: Path, split: Split) -> list[Row]:
    """One row per sentence: the words joined by spaces, a span per word. The group is the document, if the file names
    it.

    Ranges (1-2, one written word that is two syntactic words) and empty nodes (1.1, a word that is not written) are not
    tokens.
    """
    rows: list[Row] = []
    document = None
    words: list[str] = []
    tags: list[str] = []
    lines = read_text_file(path).split("\n")
    for number, line in enumerate([*lines, ""], start=1):
        if line.startswith("# newdoc id"):
            document = line.partition("=")[2].strip() or None
        elif line.startswith("# newdoc"):
            document = None
        elif line.strip() and not line.startswith("#"):
            cells = line.split("\t")
            if len(cells) != 10:
                problem = f"{path.name} line {number} has {len(cells)} columns"
                raise ValueError(f"{problem}. A word of CoNLL-U has 10, separated by tabs. Use the file as published.")
            if "-" in cells[0] or "." in cells[0]:
                continue
            if cells[3] not in UPOS:
                problem = f"{path.name} line {number} has the part of speech {cells[3]!r}"
                raise ValueError(f"{problem}. Use an annotated treebank of version 2. It has {' '.join(sorted(UPOS))}.")
            words.append(one_token(cells[1]) or "_")
            tags.append(cells[3])
        elif not line.strip() and words:
            spans = tuple(Span(index, index + 1, tag) for index, tag in enumerate(tags))
            rows.append(Row(f"{split}/{len(rows):06d}", split, document, spans=spans, text=" ".join(words)))
            words, tags = [], []
    if not rows:
        raise ValueError(f"{path.name} has no sentence. CoNLL-U has one word per line. Use the file as published.")
    return rows


def find_files(folder: Path) -> dict[Split, Path]:
    """The files of the treebank in a folder. A treebank must have at least one of them."""
    files: dict[Split, Path] = {}
    for split, name in NAMES.items():
        matches = sorted(folder.glob(f"*-ud-{name}.conllu"))
        if len(matches) > 1:
            listed = ", ".join(path.name for path in matches)
            raise ValueError(
                f"{str(folder)!r} has several treebanks ({listed}). Name the files with --train, --dev, --test."
            )
        if matches:
            files[split] = matches[0]
    if not files:
        raise ValueError(
            f"{str(folder)!r} has no *-ud-train.conllu, -dev or -test. They are the treebank. Correct --folder."
        )
    return files


def make(options: argparse.Namespace) -> str:
    by_option: dict[Split, Path | None] = {"train": options.train, "val": options.dev, "test": options.test}
    files: dict[Split, Path] = {split: path for split, path in by_option.items() if path is not None}
    if bool(files) == (options.folder is not None):
        raise ValueError("Name the files of the treebank either with --folder or with --train, --dev and --test.")
    files = files or find_files(options.folder)
    rows = [row for split, path in files.items() for row in read_sentences(path, split)]
    return write_into(options.out, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    folder = "folder with *-ud-train.conllu, *-ud-dev.conllu, *-ud-test.conllu"
    parser.add_argument("--folder", type=Path, help=folder)
    for name in NAMES.values():
        parser.add_argument(f"--{name}", type=Path, help=f"the {name} file, instead of --folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for manifest.jsonl")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
