"""The manifest, the format of every dataset here: one row per video, with what is known about it.

In: a `.jsonl`, `.csv` or `.tsv` file. Out: a `Manifest`, and such a file again. Knows nothing of video files, tensors,
how a split is made (split.py) or how the files of a dataset are arranged (readers.py).
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from pipeline.atomic import open_atomic
from pipeline.data.manifest_rows import (
    COLUMNS,
    ELSEWHERE,
    ManifestError,
    Mistakes,
    Row,
    Split,
    meant_name,
    parse_rows,
    record_of,
    shortened,
    valid_names,
)
from pipeline.media.text_file import MARKS

DELIMITERS = (",", ";", "\t")
MAX_LINE_BYTES = 16 * 2**20
"""The longest line that is read. Without a limit, a file without a newline would fill the memory."""


@dataclass(frozen=True)
class Manifest:
    """Rows in the order of their file, and the folder that their paths are relative to."""

    rows: tuple[Row, ...]
    root: Path

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The sorted set of the labels of rows."""
        return tuple(sorted({row.label for row in self.rows if row.label is not None}))

    @cached_property
    def span_labels(self) -> tuple[str, ...]:
        """The sorted set of the labels of spans."""
        return tuple(sorted({span.label for row in self.rows for span in row.spans}))

    @property
    def has_groups(self) -> bool:
        """Whether any row has a group."""
        return any(row.group is not None for row in self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the rows as canonical JSON, without the root. The order counts, because training depends on it."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(json.dumps(record_of(row), separators=(",", ":")).encode() + b"\n")
        return digest.hexdigest()

    def select(self, split: Split) -> Manifest:
        """The rows of one split, in order; a manifest without rows where there are none."""
        return Manifest(tuple(row for row in self.rows if row.split == split), self.root)

    def path_of(self, row: Row) -> Path:
        """The path of the row's file."""
        return self.root / row.path


def read_manifest(path: str | Path, root: str | Path | None = None) -> Manifest:
    """Read a `.jsonl`, `.csv` or `.tsv` manifest. Paths are absolute, or relative to `root`: by default its folder.

    A line of JSONL (a missing key means unknown):

        {"path": "clips/x.mp4", "split": "train", "group": "actor07", "label": "sit_down",
         "spans": [[0.4, 1.6, "sit_down"]], "captions": ["a man sits down"]}

    The header of a table has the same names. Its cells of `spans` and `captions` hold the same JSON. The header shows
    whether commas, semicolons or tabs separate the cells. Files are UTF-8, or UTF-16 with its mark. Does not check that
    the videos exist. Raises ManifestError with all mistakes of the file at once.
    """
    path = Path(path)
    read_records = _reader_of(path)
    if not path.is_file():
        raise ManifestError(f"There is no manifest at {str(path)!r}. Give the path of a .jsonl or .csv file.")
    mistakes = Mistakes(str(path), "line")
    with path.open("rb") as file:
        rows = parse_rows(read_records(_lines(file, mistakes), mistakes), mistakes)
    mistakes.raise_if_any()
    return Manifest(tuple(rows), path.parent if root is None else Path(root))


def write_manifest(manifest_or_rows: Manifest | Iterable[Row], path: str | Path) -> None:
    """Write rows as `.jsonl`, `.csv` or `.tsv`, by an atomic write. `read_manifest` gives the same rows back.

    A CSV cell that a spreadsheet would run as a formula (it starts with = + - @) gets a ' in front, which
    `read_manifest` removes. Raises ManifestError for rows that could not be read back, OSError where the file cannot be
    written.
    """
    path = Path(path)
    _reader_of(path)
    unchecked = manifest_or_rows.rows if isinstance(manifest_or_rows, Manifest) else manifest_or_rows
    mistakes = Mistakes(str(path), "row")
    rows = parse_rows(enumerate((record_of(row) for row in unchecked), start=1), mistakes)
    mistakes.raise_if_any()
    with open_atomic(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        if path.suffix.lower() in (".csv", ".tsv"):
            csv.writer(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",").writerows(_cells(rows))
        else:
            file.writelines(_json_text(record_of(row)) + "\n" for row in rows)


def _reader_of(path: Path) -> Callable[[Iterator[str], Mistakes], Iterator[tuple[int, dict[str, object]]]]:
    """The function that reads the records of this format. Raises ManifestError for another suffix."""
    readers = {".csv": _csv_records, ".tsv": _csv_records, ".jsonl": _json_records}
    if path.suffix.lower() not in readers:
        raise ManifestError(
            f"The manifest {path.name!r} ends in {path.suffix!r}. It must end in .jsonl or .csv. Rename or convert it: "
            "a spreadsheet is saved as CSV, and JSON is written as one object a line."
        )
    return readers[path.suffix.lower()]


def _lines(file: BinaryIO, mistakes: Mistakes) -> Iterator[str]:
    """Lines with their line ends. Bytes that are not UTF-8 are a mistake; they become replacement characters.

    UTF-16 and UTF-32 are read where the file begins with their mark, as spreadsheets write it.
    """
    head = file.read(4)
    file.seek(0)
    encoding = next((name for mark, name in MARKS if head.startswith(mark)), "utf-8")
    if not encoding.startswith("utf-8"):
        yield from _wide_lines(file, encoding, mistakes)
        return
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            message = f"it is longer than {MAX_LINE_BYTES:,} bytes. A row is one short line. Nothing after it was read."
            mistakes.add(number, message)
            return
        if b"\0" in raw and number == 1:
            mistakes.add(number, "it has NUL characters, as UTF-16 without its mark has. Save it again as UTF-8.")
            return
        raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"the byte {raw[error.start]:#04x} at column {error.start + 1}"
            mistakes.add(number, f"{byte} is not UTF-8. A manifest is UTF-8 text. Save it again in that encoding.")
            text = raw.decode("utf-8", errors="replace")
        yield text


def _wide_lines(file: BinaryIO, encoding: str, mistakes: Mistakes) -> Iterator[str]:
    """The lines of a file in UTF-16 or UTF-32."""
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        while line := text.readline(MAX_LINE_BYTES):
            yield line
    except UnicodeError as error:
        mistakes.add(None, f"it begins as {encoding.upper()} and does not go on so ({error}). Save it again as UTF-8.")
    finally:
        text.detach()  # the caller closes the file


def _json_records(lines: Iterator[str], mistakes: Mistakes) -> Iterator[tuple[int, dict[str, object]]]:
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        value, problem = _parse_json(text)
        if problem:
            example = '{"path": "clips/x.mp4", "label": "run"}'
            mistakes.add(number, f"the line is not JSON ({problem}). Write a row like {example}.")
        elif not isinstance(value, dict):
            mistakes.add(number, f"the line is {shortened(value)}. A row is a JSON object. Put it between {{ and }}.")
        else:
            for key in value:
                if key not in COLUMNS:
                    mistakes.add(number, f"unknown key {key!r}. {valid_names(key, COLUMNS)}")
            yield number, value


def _csv_records(lines: Iterator[str], mistakes: Mistakes) -> Iterator[tuple[int, dict[str, object]]]:
    first = next(lines, "")
    names = {mark: [cell.strip(' "\r\n') for cell in first.split(mark)] for mark in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda mark: sum(name.lower() in {*COLUMNS, *ELSEWHERE} for name in names[mark]))
    reader = csv.reader(chain([first] if first else [], lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 1
    while True:
        number = reader.line_num + 1  # of the first line of the row: a quoted cell may hold newlines
        try:
            cells = next(reader, None)
        except csv.Error as error:
            mistakes.add(number, f"the row is not CSV ({error}). Close every quote. Nothing after it was read.")
            return
        if cells is None:
            return
        if header is None:
            header = [cell.strip() for cell in cells]
            if not _header_is_usable(header, number, mistakes):
                return
        elif any(cells):
            if len(cells) != len(header):
                mark = {",": "a comma", ";": "a semicolon", "\t": "a tab"}[delimiter]
                advice = f"Give every column a cell. Put quotes around a cell with {mark}."
                mistakes.add(number, f"the row has {len(cells)} cells, but the header has {len(header)}. {advice}")
                continue
            yield number, _from_cells(dict(zip(header, cells, strict=True)), number, mistakes)


def _header_is_usable(header: list[str], number: int, mistakes: Mistakes) -> bool:
    """Whether rows can be read under this header."""
    for name in dict.fromkeys(header):
        if name not in COLUMNS:
            mistakes.add(number, f"unknown column {name!r}. {valid_names(name, COLUMNS)}")
        if header.count(name) > 1:
            mistakes.add(number, f"the column {name!r} occurs {header.count(name)} times. Keep one, remove the others.")
    if "path" not in header:
        meant = [name if name in COLUMNS else meant_name(name, COLUMNS) or name for name in header]
        advice = f" Write {','.join(meant)}." if "path" in meant else " Write for example path,label."
        mistakes.add(
            number, f"the header ({', '.join(header)}) has no column 'path'. The first line names the columns.{advice}"
        )
    return "path" in header


def _from_cells(cells: dict[str, str], number: int, mistakes: Mistakes) -> dict[str, object]:
    """Cells -> a record. Empty cells are unknown. A ' before the sign of a formula is removed. Lists are parsed."""
    record: dict[str, object] = {}
    for name, cell in cells.items():
        if not cell:
            continue
        if name in ("spans", "captions"):
            value, problem = _parse_json(cell)
            if problem:
                mistakes.add(number, f"{name} is not JSON ({problem}). Write a list, or [] for none.")
                continue
            record[name] = value
        else:
            record[name] = cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell
    return record


def _cells(rows: list[Row]) -> Iterator[list[str]]:
    """The lines of a CSV: a header with the columns that have values, then the rows. Raises ManifestError."""
    records = [record_of(row) for row in rows]
    used = {key for record in records for key in record}
    columns = [name for name in COLUMNS if name in used]
    yield columns
    for number, record in enumerate(records, start=1):
        cells = []
        for name in columns:
            value = record.get(name, "")
            cell = value if isinstance(value, str) else _json_text(value)
            cell = "'" + cell if re.match(r"'*[=+\-@\t\r]", cell) else cell
            if len(cell) > csv.field_size_limit() or not _is_unicode(cell):
                problem = f"its {name} is {shortened(cell)}, which is too long for a CSV cell or not Unicode"
                raise ManifestError(f"Row {number} cannot be written: {problem}. Write a .jsonl manifest instead.")
            cells.append(cell)
        yield cells


def _parse_json(text: str) -> tuple[object, str]:
    """The value and "", or None and the error."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        return None, f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # thousands of digits in a number, thousands of nested brackets
        return None, str(error).split(";")[0]


def _json_text(value: object) -> str:
    """Readable JSON. A file name that is not Unicode (it has lone surrogates) is escaped, so it can be read back."""
    text = json.dumps(value, ensure_ascii=False)
    return text if _is_unicode(text) else json.dumps(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
