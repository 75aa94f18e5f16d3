"""The list every dataset becomes: one row a video, with what is known about it.

Comes in: a `.jsonl` or `.csv` file. Goes out: a `Manifest`, and back to such a file.
Knows nothing about video files, tensors, how a split is made (split.py) or how a dataset lies on disk (readers.py).
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from pipeline.data.rows import COLUMNS, ManifestError, Mistakes, Row, Span, Split, checked, known, record_of, short

__all__ = ["Manifest", "ManifestError", "Row", "Span", "Split", "read_manifest", "write_manifest"]

MAX_LINE_BYTES = 16 * 2**20  # a file without a newline must not fill the memory


@dataclass(frozen=True)
class Manifest:
    """Rows in the order of their file, and the folder that their paths start from."""

    rows: tuple[Row, ...]
    root: Path

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of whole rows, sorted, each once."""
        return tuple(sorted({row.label for row in self.rows if row.label is not None}))

    @cached_property
    def span_labels(self) -> tuple[str, ...]:
        """Labels of spans, sorted, each once."""
        return tuple(sorted({span.label for row in self.rows for span in row.spans}))

    @property
    def has_groups(self) -> bool:
        """Whether any row names its group."""
        return any(row.group is not None for row in self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the rows as canonical JSON, in their order (training depends on it), without the root."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(json.dumps(record_of(row), separators=(",", ":")).encode() + b"\n")
        return digest.hexdigest()

    def select(self, split: Split) -> Manifest:
        """The rows of one split, in order; none if there are none."""
        return Manifest(tuple(row for row in self.rows if row.split == split), self.root)

    def path_of(self, row: Row) -> Path:
        """Where the row's file lies."""
        return self.root / row.path


def read_manifest(path: str | Path, root: str | Path | None = None) -> Manifest:
    """Read a `.jsonl` or `.csv` manifest; `root` is the folder its paths start from, by default the manifest's own.

    A line of JSONL (a missing key means that nothing is known):

        {"path": "clips/x.mp4", "split": "train", "group": "actor07", "label": "sit_down",
         "spans": [[0.4, 1.6, "sit_down"]], "captions": ["a man sits down"]}

    CSV has the same names in its header; cells of `spans` and `captions` hold the same JSON. Both are UTF-8.
    Raises ManifestError with all mistakes of the file at once. Does not look whether the videos exist.
    """
    path = Path(path)
    read = _reader_of(path)
    if not path.is_file():
        raise ManifestError(f"There is no manifest at {str(path)!r}. Give the path of a .jsonl or .csv file.")
    mistakes = Mistakes(str(path), "line")
    with path.open("rb") as file:
        rows = checked(read(_lines(file, mistakes), mistakes), mistakes)
    mistakes.raise_if_any()
    return Manifest(tuple(rows), path.parent if root is None else Path(root))


def write_manifest(manifest_or_rows: Manifest | Iterable[Row], path: str | Path) -> None:
    """Write rows as `.jsonl` or `.csv`, whole or not at all. `read_manifest` gives the same rows back.

    CSV cells that a spreadsheet would run (= + - @ first) get a ' in front, which reading takes away again.
    Raises ManifestError for rows that could not be read back, OSError where the file cannot be written.
    """
    path = Path(path)
    _reader_of(path)
    given = manifest_or_rows.rows if isinstance(manifest_or_rows, Manifest) else manifest_or_rows
    mistakes = Mistakes(str(path), "row")
    rows = checked(enumerate((record_of(row) for row in given), start=1), mistakes)
    mistakes.raise_if_any()
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            if path.suffix.lower() == ".csv":
                csv.writer(file).writerows(_cells(rows))
            else:
                file.writelines(_json_text(record_of(row)) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _reader_of(path: Path) -> Callable[[Iterator[str], Mistakes], Iterator[tuple[int, dict[str, object]]]]:
    readers = {".csv": _csv_records, ".jsonl": _json_records}
    if path.suffix.lower() not in readers:
        raise ManifestError(
            f"The manifest {path.name!r} ends in {path.suffix!r}. It would end in .jsonl or .csv. Rename or convert it."
        )
    return readers[path.suffix.lower()]


def _lines(file: BinaryIO, mistakes: Mistakes) -> Iterator[str]:
    """Lines as text, ends kept; bytes that are no UTF-8 are a mistake and are read as the replacement character."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            mistakes.add(
                number,
                f"it is longer than {MAX_LINE_BYTES:,} bytes. A row is one short line. Nothing after it was read.",
            )
            return
        raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"the byte {raw[error.start]:#04x} at column {error.start + 1} is no UTF-8"
            mistakes.add(number, f"{where}. A manifest is UTF-8 text. Save it again in that encoding.")
            text = raw.decode("utf-8", errors="replace")
        yield text


def _json_records(lines: Iterator[str], mistakes: Mistakes) -> Iterator[tuple[int, dict[str, object]]]:
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        value, problem = _parse_json(text)
        if problem:
            mistakes.add(
                number, f'the line is no JSON ({problem}). A row is {{"path": "clips/x.mp4", "label": "run"}}.'
            )
        elif not isinstance(value, dict):
            mistakes.add(number, f"the line is {short(value)}. A row is a JSON object. Put it between {{ and }}.")
        else:
            for key in value:
                if key not in COLUMNS:
                    mistakes.add(number, f"unknown key {key!r}. {known(key, COLUMNS)}")
            yield number, value


def _csv_records(lines: Iterator[str], mistakes: Mistakes) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    number = 1
    while True:
        number = reader.line_num + 1  # a quoted cell may hold newlines: the row is named by its first line
        try:
            cells = next(reader, None)
        except csv.Error as error:
            mistakes.add(number, f"the row is no CSV ({error}). Close every quote. Nothing after it was read.")
            return
        if cells is None:
            return
        if header is None:
            header = [cell.strip() for cell in cells]
            if not _header_is_usable(header, number, mistakes):
                return
        elif any(cells):
            if len(cells) != len(header):
                wanted = (
                    f"The header has {len(header)}. Give every column a cell; put quotes round a cell with a comma."
                )
                mistakes.add(number, f"the row has {len(cells)} cells. {wanted}")
                continue
            yield number, _from_cells(dict(zip(header, cells, strict=True)), number, mistakes)


def _header_is_usable(header: list[str], number: int, mistakes: Mistakes) -> bool:
    for name in dict.fromkeys(header):
        if name not in COLUMNS:
            mistakes.add(number, f"unknown column {name!r}. {known(name, COLUMNS)}")
        if header.count(name) > 1:
            mistakes.add(
                number, f"the column {name!r} stands {header.count(name)} times. Once is right. Remove the others."
            )
    if "path" not in header:
        mistakes.add(number, f"no column 'path' in the header ({', '.join(header)}). The first line names the columns.")
    return "path" in header


def _from_cells(cells: dict[str, str], number: int, mistakes: Mistakes) -> dict[str, object]:
    """Empty cells are unknown, a ' before a formula sign goes, lists are parsed."""
    record: dict[str, object] = {}
    for name, cell in cells.items():
        if not cell:
            continue
        if name in ("spans", "captions"):
            value, problem = _parse_json(cell)
            if problem:
                mistakes.add(number, f"{name} is no JSON ({problem}). Write a list, [] if there is none.")
                continue
            record[name] = value
        else:
            record[name] = cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell
    return record


def _cells(rows: list[Row]) -> Iterator[list[str]]:
    """The lines of a CSV: a header of the columns that are used, then the rows."""
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
                what = f"its {name} is {short(cell)}, too long for a CSV cell or not Unicode"
                raise ManifestError(
                    f"Row {number} cannot be written: {what}. Write a .jsonl manifest, which can hold it."
                )
            cells.append(cell)
        yield cells


def _parse_json(text: str) -> tuple[object, str]:
    """The value and "", or None and what is wrong."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        return None, f"{error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a nest of thousands of brackets
        return None, str(error).split(";")[0]


def _json_text(value: object) -> str:
    """Readable JSON; file names that are no Unicode (lone surrogates) are escaped so that they survive."""
    text = json.dumps(value, ensure_ascii=False)
    return text if _is_unicode(text) else json.dumps(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
