"""The files that people read, written from all rows of a job at once.

In: rows in order, formats, the columns of the answers. Out: one file or folder for each format; each file is replaced
in one step. Equal rows give equal bytes. Knows nothing of where the rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import naming, remove_partial_files
from pipeline.writers import WRITERS, Format, Writer, open_writer
from pipeline.writers.table_rows import Heads


def write_views(
    rows: Iterable[dict[str, Any]], out: Path, formats: Sequence[Format], columns: Heads, log: Callable[[str], None]
) -> tuple[list[Path], int]:
    """Write all formats in one pass over the rows. Returns the files, and in how many rows a writer failed.

    A writer that fails on a row costs that row: this format has it as failed:error, and `log` takes a sentence. The
    caller holds the lock of `out`; what a killed process left there is removed. Raises OSError that names the file.
    """
    names: dict[Format, Path] = {kind: out / WRITERS[kind][0] for kind in formats}
    _remove_partial_files(out, names.values())
    try:
        return _write_all(rows, out, names, columns, log)
    except BaseException:
        _remove_partial_files(out, names.values())  # such as where the disk is full
        raise


def _remove_partial_files(out: Path, paths: Iterable[Path]) -> None:
    remove_partial_files(out)
    for path in paths:
        if path.is_dir():
            remove_partial_files(path, is_deep=True)


def _write_all(
    rows: Iterable[dict[str, Any]], out: Path, names: Mapping[Format, Path], columns: Heads, log: Callable[[str], None]
) -> tuple[list[Path], int]:
    writers: dict[Format, Writer] = {kind: open_writer(kind, out, columns) for kind in names}
    num_failed = 0
    for row in rows:
        for kind, writer in writers.items():
            with naming(names[kind]):
                sentence = _write(writer, row)
            if sentence:
                num_failed += 1
                log(f"{row['path']}: {kind} cannot hold its answer: {sentence}")
    files = []
    for kind, writer in writers.items():
        with naming(names[kind]):
            files.append(writer.close())
    return files, num_failed


def _write(writer: Writer, row: dict[str, Any]) -> str:
    """Write a row; where the writer fails, a failed row instead. Returns what went wrong, or nothing."""
    try:
        writer.write(row)
        return ""
    except OSError:
        raise  # the disk, not the row
    except Exception as error:  # one row must not stop the job; this row says what happened
        sentence = f"{type(error).__name__}: {error}"
    writer.write(failed_row(row, sentence))
    return sentence


def failed_row(row: dict[str, Any], sentence: str) -> dict[str, Any]:
    """The row of an input whose answer could not be written."""
    return {
        "path": row["path"],
        "status": "failed:error",
        "seconds": 0.0,
        "looks": 0,
        "warnings": [],
        "error": sentence,
    }
