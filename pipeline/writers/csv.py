"""CSV for spreadsheets: lists as JSON, and no cell that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

from pipeline.writers.flat import Heads, columns, flatten, printable

_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # apostrophes before it count: taking one away gives every text back


class CsvWriter:
    """UTF-8 with a header; text that begins with = + - @ gets a leading apostrophe."""

    def __init__(self, path: Path, heads: Heads) -> None:
        self.path, self._partial, self.heads = path, path.with_name(path.name + ".partial"), heads
        self._file = open(self._partial, "w", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._file, columns(heads))
        self._rows.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        """One line."""
        self._rows.writerow({name: _cell(value) for name, value in printable(flatten(row, self.heads)).items()})
        self._file.flush()

    def close(self) -> Path:
        """The file under its name."""
        self._file.close()
        os.replace(self._partial, self.path)
        return self.path


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and _FORMULA.match(value):
        return "'" + value
    return value
