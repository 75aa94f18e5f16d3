"""Parquet for data frames: typed columns, and lists as lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic import AtomicFile
from pipeline.writers.table_rows import Heads, escape_surrogates, flatten

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
_GROUP_SIZE = 1000  # rows in a row group, which are in memory together


class ParquetWriter:
    """The columns and types depend on the heads alone. Rows are written in groups of 1000."""

    def __init__(self, path: Path, heads: Heads) -> None:
        self.heads, self._output = heads, AtomicFile(path)
        unknown = sorted({field for fields in heads.values() for field in fields if field not in _TYPES})
        assert not unknown, f"_TYPES of {__name__} has no type for the columns {', '.join(unknown)}"
        answers = [(f"{head}_{field}", _TYPES[field]) for head, fields in heads.items() for field in fields]
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
        self._file = pq.ParquetWriter(self._output.partial, self._schema)
        self._rows: list[pa.Table] = []

    def write(self, row: dict[str, Any]) -> None:
        """Add one row; a full group is written. A row that does not fit the columns raises, and the others stay."""
        self._rows.append(pa.Table.from_pylist([escape_surrogates(flatten(row, self.heads))], schema=self._schema))
        if len(self._rows) == _GROUP_SIZE:
            self._write_group()

    def close(self) -> Path:
        """Write the last group and give the file its name. Returns its path."""
        self._write_group()
        self._file.close()
        return self._output.commit()

    def _write_group(self) -> None:
        if self._rows:
            self._file.write_table(pa.concat_tables(self._rows).combine_chunks())
            self._rows = []
