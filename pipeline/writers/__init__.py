"""Rows -> files, one small class a format. Each takes rows one at a time and finishes whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.writers.csv import CsvWriter
from pipeline.writers.jsonl import JsonlWriter
from pipeline.writers.parquet import ParquetWriter

Format = Literal["jsonl", "csv", "parquet"]


class Writer(Protocol):
    """What the folder job needs of a format."""

    def write(self, row: dict[str, Any]) -> None:
        """Take one row."""
        ...

    def close(self) -> Path:
        """Finish the file and tell where it lies."""
        ...


WRITERS = {"jsonl": JsonlWriter, "csv": CsvWriter, "parquet": ParquetWriter}


def open_writer(kind: Format, folder: Path, heads: Mapping[str, Sequence[str]]) -> Writer:
    """A writer of predictions.<kind> in a folder, for rows with these heads; by head the parts of its answers."""
    return WRITERS[kind](folder / f"predictions.{kind}", heads)
