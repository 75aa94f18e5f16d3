"""Plain text -> lanes that are read side by side, a test text, and a manifest. See README.md in this folder."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from pipeline.data.dataset_tools import read_text_file, run_preparer, write_into
from pipeline.data.manifest_rows import Row


def read_files(paths: list[Path]) -> tuple[str, list[str]]:
    """The files as one text, in the given order, each ending in a line end; and lines about what was changed."""
    texts: list[str] = []
    notes: list[str] = []
    for path in paths:
        text = read_text_file(path)
        num_crlf = path.read_bytes().count(b"\r\n") if path.suffix != ".gz" else 0
        if num_crlf:
            notes.append(f"{path.name}: {num_crlf:,} line ends of Windows (CR LF) became LF.")
        texts.append(text if text.endswith("\n") or len(paths) == 1 else text + "\n")
    return "".join(texts), notes


def split_text(text: str, share: float, num_lanes: int) -> tuple[list[str], str]:
    """The lanes, which together are the start of the text, and the last `share` of its characters."""
    if not 0 < share < 1:
        raise ValueError(
            f"--share is {share:g}. It is the share of the text for the test and must be between 0 and 1. Use 0.1."
        )
    if num_lanes < 1:
        raise ValueError(f"--lanes is {num_lanes}. It is the number of lanes and must be at least 1. Use 64.")
    stop = int(len(text) * (1 - share))
    if stop < num_lanes or stop == len(text):
        raise ValueError(
            f"The text has {len(text):,} characters. {num_lanes} lanes and a test share of {share:g} need more. Use "
            "fewer "
            "lanes."
        )
    borders = [stop * lane // num_lanes for lane in range(num_lanes + 1)]
    return [text[start:end] for start, end in itertools.pairwise(borders)], text[stop:]


def make(options: argparse.Namespace) -> str:
    text, notes = read_files(options.file)
    lanes, test = split_text(text, options.share, options.lanes)
    (options.out / "train").mkdir(parents=True, exist_ok=True)
    rows = [Row(f"train/lane{number:04d}.txt", "train") for number in range(len(lanes))]
    rows.append(Row("test.txt", "test"))
    for row, content in zip(rows, [*lanes, test], strict=True):
        (options.out / row.path).write_bytes(content.encode("utf-8"))
    num_new = len(set(test) - set("".join(lanes)))
    notes.append(
        f"{len(text):,} characters, {len(set(text)):,} different. Training: {len(text) - len(test):,} in {len(lanes)} "
        "lanes "
        f"of {len(lanes[0]):,} to {len(lanes[-1]):,}. Test: {len(test):,}, with {num_new:,} characters that are not in "
        "training."
    )
    return "\n".join([*notes, write_into(options.out, rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    files = "UTF-8 text, .gz or plain; several files are joined in order"
    parser.add_argument("--file", type=Path, nargs="+", required=True, help=files)
    share = "share of the characters for the test, at the end of the text (default 0.1)"
    parser.add_argument("--share", type=float, default=0.1, help=share)
    parser.add_argument("--lanes", type=int, default=64, help="contiguous parts of the rest (default 64)")
    parser.add_argument("--out", type=Path, required=True, help="folder for train/*.txt, test.txt and manifest.jsonl")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
