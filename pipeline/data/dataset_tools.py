"""What every `datasets/<name>/prepare.py` needs: the command, and readers of the plain files that datasets consist of.

In: a parser with its options, the function that makes the manifests, and paths of texts and tables. Out: the exit code
of the command, texts, rows of tables, JSON values. Knows nothing of any one dataset, nor of videos (readers.py).
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

from pipeline.data.manifest_rows import Row
from pipeline.data.readers import write_and_describe


def folder_parser(description: str | None, input_files: str, output_files: str) -> ArgumentParser:
    """A parser with --folder and --out, for a dataset that is read from one folder and written into another."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path, required=True, help=f"folder with {input_files}")
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {output_files}")
    return parser


def run_preparer(parser: ArgumentParser, make: Callable[[Namespace], str]) -> int:
    """Run `make` with the options and print the description that it returns.

    Returns the exit code: 0, or 2 with a message on the error stream after a ValueError or an OSError.
    """
    options = parser.parse_args()
    try:
        print(make(options))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def write_into(out: Path, rows: Sequence[Row], name: str = "manifest.jsonl") -> str:
    """Write the manifest `out`/`name`, with paths relative to `out`, and describe it. The folder is made if needed."""
    out.mkdir(parents=True, exist_ok=True)
    return write_and_describe(rows, out, out / name)


def read_text_file(path: Path) -> str:
    """A whole UTF-8 file, gzip or plain, without a byte order mark; line ends become LF. Raises ValueError."""
    if not path.is_file():
        raise ValueError(
            f"There is no {path.name!r} in {str(path.parent)!r}. It is part of the dataset. Correct the path."
        )
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name!r} is not a complete gzip file ({error}). Download it again.") from error
    except UnicodeDecodeError as error:
        problem = f"{path.name!r} is not UTF-8 text (the byte {error.object[error.start]:#04x} at {error.start:,})"
        raise ValueError(f"{problem}. Texts must be UTF-8. Convert it, for example with iconv.") from error
    return text.replace("\r\n", "\n")


def read_table_file(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """The rows of a CSV that has at least `columns` and one row. Missing cells are empty. Raises ValueError."""
    text = read_text_file(path)
    table = list(csv.DictReader(text.splitlines(keepends=True), restval=""))
    if not table or not set(columns) <= set(table[0]):
        raise ValueError(
            f"{path.name!r} has no rows with the columns {', '.join(columns)}. Use the table of the dataset."
        )
    return table


def read_json_file(path: Path) -> Any:
    """The value of a JSON file. Raises ValueError."""
    try:
        return json.loads(read_text_file(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name!r} is not JSON ({error}). Download it again.") from error


def one_token(word: str) -> str:
    """A word with "_" for white space inside, because spaces separate tokens: "New York" -> "New_York"."""
    return "_".join(word.split())
