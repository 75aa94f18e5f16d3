"""What every `datasets/<name>/prepare.py` needs: its command, and the plain files that datasets come in.

Comes in: a parser with its options and the function that makes the manifests; paths of texts and tables. Goes out: the
command's exit code; texts, lines of tables and what JSON holds. Knows nothing about any one dataset, nor about videos (readers.py).
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.readers import write_and_describe
from pipeline.data.rows import Row


def folder_parser(about: str | None, holds: str, makes: str) -> ArgumentParser:
    """The options of a dataset that is a folder and becomes one: --folder and --out, with what they hold."""
    parser = ArgumentParser(description=about)
    parser.add_argument("--folder", type=Path, required=True, help=f"folder {holds}")
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {makes}")
    return parser


def run_preparer(parser: ArgumentParser, make: Callable[[Namespace], str]) -> int:
    """Make the manifests and print what `make` says of them: 0, or 2 with a sentence on the error stream."""
    options = parser.parse_args()
    try:
        print(make(options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def write_into(out: Path, rows: Sequence[Row], name: str = "manifest.jsonl") -> str:
    """Write `OUT/name`, whose paths start from `out` (made where it is not there); the sentences about it."""
    out.mkdir(parents=True, exist_ok=True)
    return write_and_describe(rows, out, out / name)


def text_of_file(path: Path) -> str:
    """A whole UTF-8 file, .gz or plain, with LF as line end and without byte order mark. Raises ValueError."""
    if not path.is_file():
        raise ValueError(
            f"There is no {path.name!r} in {str(path.parent)!r}. It belongs to the dataset. Check the path."
        )
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name!r} is no whole gzip file ({error}). Fetch it again.") from error
    except UnicodeDecodeError as error:
        what = f"{path.name!r} is no UTF-8 text (the byte {error.object[error.start]:#04x} at {error.start:,})"
        raise ValueError(f"{what}. Texts are read as UTF-8. Convert it, for example with iconv.") from error
    return text.replace("\r\n", "\n")


def table_of_file(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """The lines of a CSV that has at least `columns` and one line; missing cells are empty. Raises ValueError."""
    text = text_of_file(path)
    lines = list(csv.DictReader(text.splitlines(keepends=True), restval=""))
    if not lines or not set(columns) <= set(lines[0]):
        raise ValueError(
            f"{path.name!r} has no lines with the columns {', '.join(columns)}. Take the table of the dataset."
        )
    return lines


def json_of_file(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError."""
    try:
        return json.loads(text_of_file(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name!r} is no JSON ({error}). Fetch it again.") from error


def one_token(form: str) -> str:
    """A word without blanks inside, since blanks part the tokens of a text: "New York" -> "New_York"."""
    return "_".join(form.split())
