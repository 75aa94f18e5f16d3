"""JSON Lines: one object a row, as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.atomic import AtomicFile
from pipeline.writers.table_rows import Heads, escape_surrogates


class JsonlWriter:
    """`close` gives the file its name."""

    def __init__(self, path: Path, heads: Heads) -> None:
        self._output = AtomicFile(path)
        self._file = open(self._output.partial, "w", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Write one line."""
        self._file.write(json.dumps(escape_surrogates(row), ensure_ascii=True) + "\n")

    def close(self) -> Path:
        """Give the file its name. Returns its path."""
        self._file.close()
        return self._output.commit()
