"""CSV for spreadsheets: lists as JSON, and no cell that a spreadsheet runs as a formula."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from pipeline.atomic import AtomicFile
from pipeline.writers.table_rows import Heads, columns, escape_surrogates, flatten

_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # with apostrophes before it, so that removing one apostrophe restores any text


class CsvWriter:
    """UTF-8 with a header. A text that begins with = + - @, a tab or a carriage return gets a leading apostrophe.

    `close` gives the file its name.
    """

    def __init__(self, path: Path, heads: Heads) -> None:
        self.heads, self._output = heads, AtomicFile(path)
        self._file = open(self._output.partial, "w", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._file, columns(heads))
        self._csv.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        """Write one line."""
        self._csv.writerow({name: _cell(v) for name, v in escape_surrogates(flatten(row, self.heads)).items()})

    def close(self) -> Path:
        """Give the file its name. Returns its path."""
        self._file.close()
        return self._output.commit()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and _FORMULA.match(value):
        return "'" + value
    return value
