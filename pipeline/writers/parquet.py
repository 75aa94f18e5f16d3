"""Parquet for data frames: typed columns, lists as lists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.writers.flat import Heads, flatten, printable

_SPAN = [("start", pa.float64()), ("end", pa.float64()), ("label", pa.string()), ("score", pa.float64())]
_TOP = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
_VALUES = pa.list_(pa.list_(pa.float64()))
_AHEAD = [("seconds", pa.float64()), ("label", pa.string()), ("score", pa.float64()), ("top", _TOP)]
_TYPES = {
    "label": pa.string(),
    "score": pa.float64(),
    "top": _TOP,
    "unknown": pa.bool_(),
    "distance": pa.float64(),
    "times": pa.list_(pa.float64()),
    "values": _VALUES,
    "quantiles": pa.list_(pa.struct([("level", pa.float64()), ("values", _VALUES)])),
    "ahead": pa.list_(pa.struct(_AHEAD)),
    "spans": pa.list_(pa.struct(_SPAN)),
    "sentence": pa.string(),
    "log_probability": pa.float64(),
    "tokens": pa.int64(),
    "perplexity": pa.float64(),
}
_CHUNK = 1000  # rows a row group: bounds memory


class ParquetWriter:
    """The same columns and types whatever the rows hold."""

    def __init__(self, path: Path, heads: Heads) -> None:
        self.path, self._partial, self.heads = path, path.with_name(path.name + ".partial"), heads
        answers = [(f"{head}_{part}", _TYPES[part]) for head, parts in heads.items() for part in parts]
        self._schema = pa.schema(
            [
                ("path", pa.string()),
                ("status", pa.string()),
                ("seconds", pa.float64()),
                ("looks", pa.int64()),
                *answers,
                ("warnings", pa.list_(pa.string())),
                ("error", pa.string()),
            ]
        )
        self._file = pq.ParquetWriter(self._partial, self._schema)
        self._waiting: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        """One row; rows reach the disk in groups."""
        self._waiting.append(printable(flatten(row, self.heads)))
        if len(self._waiting) == _CHUNK:
            self._write_group()

    def close(self) -> Path:
        """The file under its name."""
        self._write_group()
        self._file.close()
        os.replace(self._partial, self.path)
        return self.path

    def _write_group(self) -> None:
        if self._waiting:
            self._file.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []
