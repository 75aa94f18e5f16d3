"""Plain text -> lanes that are read side by side, a test part, and a manifest. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.data.manifest import Row
from pipeline.data.prepared import run_preparer, text_of_file, write_into


def join(paths: list[Path]) -> tuple[str, list[str]]:
    """The files as one text, in the order given, a line end after each; sentences about what was changed."""
    texts: list[str] = []
    said: list[str] = []
    for path in paths:
        text = text_of_file(path)
        returns = path.read_bytes().count(b"\r\n") if path.suffix != ".gz" else 0
        if returns:
            said.append(f"{path.name}: {returns:,} line ends of Windows (CR LF) became LF.")
        texts.append(text if text.endswith("\n") or len(paths) == 1 else text + "\n")
    return "".join(texts), said


def cut(text: str, share: float, lanes: int) -> tuple[list[str], str]:
    """Training lanes, which joined are the text's beginning, and the last `share` of it, counted in characters."""
    if not 0 < share < 1:
        raise ValueError(f"--share is {share:g}. It is the part of the text that tests, between 0 and 1. Use 0.1.")
    if lanes < 1:
        raise ValueError(f"--lanes is {lanes}. It is how many parts are read side by side, 1 or more. Use 64.")
    stop = int(len(text) * (1 - share))
    if stop < lanes or stop == len(text):
        raise ValueError(
            f"The text has {len(text):,} characters. {lanes} lanes and a test part of {share:g} need more. Use fewer lanes."
        )
    borders = [stop * lane // lanes for lane in range(lanes + 1)]
    return [text[a:b] for a, b in zip(borders[:-1], borders[1:], strict=True)], text[stop:]


def make(options: argparse.Namespace) -> str:
    text, said = join(options.file)
    lanes, test = cut(text, options.share, options.lanes)
    (options.out / "train").mkdir(parents=True, exist_ok=True)
    rows = [Row(f"train/lane{number:04d}.txt", "train") for number in range(len(lanes))]
    rows.append(Row("test.txt", "test"))
    for row, part in zip(rows, [*lanes, test], strict=True):
        (options.out / row.path).write_bytes(part.encode("utf-8"))
    said.append(
        f"{len(text):,} characters, {len(set(text)):,} different: {len(text) - len(test):,} train in {len(lanes)} lanes of "
        f"{len(lanes[0]):,} to {len(lanes[-1]):,}, {len(test):,} test ({len(set(test) - set(''.join(lanes))):,} kinds only there)."
    )
    return "\n".join([*said, write_into(options.out, rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--file", type=Path, nargs="+", required=True, help="UTF-8 text, .gz or plain; several are joined in order"
    )
    parser.add_argument(
        "--share", type=float, default=0.1, help="the last part, in characters, is the test (default 0.1)"
    )
    parser.add_argument("--lanes", type=int, default=64, help="contiguous parts of the rest (default 64)")
    parser.add_argument("--out", type=Path, required=True, help="folder for train/*.txt, test.txt and manifest.jsonl")
    return run_preparer(parser, make)


if __name__ == "__main__":
    sys.exit(main())
