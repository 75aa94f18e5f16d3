"""JSON lines: one object a row, as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline.writers.flat import Heads, printable


class JsonlWriter:
    """Rows stand in <name>.partial as soon as they are written; `close` gives the file its name."""

    def __init__(self, path: Path, heads: Heads) -> None:
        self.path, self._partial = path, path.with_name(path.name + ".partial")
        self._file = open(self._partial, "w", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """One line, on its way to the disk at once."""
        self._file.write(json.dumps(printable(row), ensure_ascii=True) + "\n")
        self._file.flush()

    def close(self) -> Path:
        """The file under its name."""
        self._file.close()
        os.replace(self._partial, self.path)
        return self.path
