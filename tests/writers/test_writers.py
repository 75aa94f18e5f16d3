"""Independent readers read the same rows from every table, and an unfinished file does not have the final name."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from pipeline.atomic import remove_partial_files
from pipeline.inference.answer import Answer
from pipeline.models.prediction import Classification, Timeline
from pipeline.writers import SPAN_FORMATS, WRITERS, open_writer

HEADS = {"action": ("label", "score", "top"), "mood": ("label", "score", "top"), "timeline": ("spans",)}
ODD_NAMES = [
    "plain.mp4",
    "with,comma.mp4",
    'with"quote.mp4',
    "two\nlines.mp4",
    "car\rriage.mp4",
    "crlf\r\n.mp4",
    "tab\t.mp4",
    "ümlaut 视频 🎥.mp4",
    "=1+1.mp4",
    "+1.mp4",
    "-rf.mp4",
    "@SUM(A1).mp4",
    "\tx.mp4",
    "\rx.mp4",
    "'=quoted.mp4",
    "''quoted.mp4",
    "'.mp4",
    " lead.mp4",
    "nul\\0.mp4",
    "%03d.mp4",
    "line\u2028sep.mp4",
    "esc\x1b[31m.mp4",
    os.fsdecode(b"bytes\xff\xfe.mp4"),
    "",
]


def make_row(name: str, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    predictions = {
        "action": Classification((("=sum", 0.7), ("wave, \n", 0.2), ("x", 0.1))),
        "mood": Classification((("good", 1.0),)),
        "timeline": Timeline(((0.25, 1.5, "=wave, \n", 0.75), (2.0, 3.0, "x", 0.5))),
    }
    return Answer("ok", 1.25, 5, predictions, warnings, path=name).to_dict(2)


ROWS = [
    *(make_row(name) for name in ODD_NAMES),
    make_row("w.mp4", warnings=("short_video: It is short.", "=cmd: a, b\n", os.fsdecode(b"x\xff"))),
    Answer("failed:not_a_video", error="'-x' has\nno video; \"quote\".", path="bad.mp4").to_dict(2),
    Answer("partial", 2.0, 8, {"action": Classification((("x", 1.0),))}, path="partial.mp4").to_dict(2),
]


def escaped(value: Any) -> Any:
    """What every format must contain: the row, with the bytes of odd names as escapes."""
    if isinstance(value, str):
        return "".join(c if not 0xD800 <= ord(c) < 0xE000 else f"\\u{ord(c):04x}" for c in value)
    if isinstance(value, dict):
        return {k: escaped(v) for k, v in value.items()}
    return [escaped(v) for v in value] if isinstance(value, list) else value


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a table, by a second implementation."""
    columns = {name: row[name] for name in ("path", "status", "seconds", "looks")}
    for head in HEADS:
        for field in HEADS[head]:
            columns[f"{head}_{field}"] = row[head][field] if head in row else None
    return {**columns, "warnings": row["warnings"], "error": row["error"]}


def read_json(path: Path) -> list[dict[str, Any]]:
    return [flat(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def read_csv(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, strict=True):
            values: dict[str, Any] = {name: re.sub(r"^'('*[=+\-@\t\r])", r"\1", cell) for name, cell in line.items()}
            for name, cell in values.items():
                if name.endswith(("_top", "_spans")) or name == "warnings":
                    values[name] = json.loads(cell) if cell else None
                elif name == "looks" or name.endswith("_score") or name == "seconds":
                    values[name] = (int if name == "looks" else float)(cell) if cell else None
                elif name.endswith("_label"):
                    values[name] = (cell and values[name]) or None
            rows.append(values)
    return rows


def read_parquet(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "jsonl": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
}
each_format = pytest.mark.parametrize("kind", list(READERS))


def write(kind: Any, folder: Path, rows: list[dict[str, Any]]) -> Path:
    writer = open_writer(kind, folder, HEADS)
    for row in rows:
        writer.write(row)
    return writer.close()


def test_every_table_has_a_reader_here():
    assert set(READERS) == set(WRITERS) - set(SPAN_FORMATS)  # these are in test_span_writers.py


@each_format
def test_an_independent_reader_reads_the_same_rows(kind, tmp_path):
    path = write(kind, tmp_path, ROWS)
    assert path == tmp_path / f"predictions.{kind}" and list(tmp_path.iterdir()) == [path]
    rows = READERS[kind](path)
    assert rows == [flat(escaped(row)) for row in ROWS]
    assert [list(row) for row in rows] == [list(flat(row)) for row in ROWS]  # the same columns in the same order


@each_format
def test_no_rows_and_many_rows(kind, tmp_path):
    (tmp_path / "none").mkdir()
    assert READERS[kind](write(kind, tmp_path / "none", [])) == []
    many = [make_row(f"{n}.mp4") for n in range(2500)]  # more than a row group
    assert [r["path"] for r in READERS[kind](write(kind, tmp_path, many))] == [r["path"] for r in many]


@each_format
def test_an_unfinished_file_does_not_have_the_final_name(kind, tmp_path):
    final = tmp_path / f"predictions.{kind}"
    final.write_text("of the run before")
    writer = open_writer(kind, tmp_path, HEADS)
    for row in ROWS:
        writer.write(row)
        assert final.read_text() == "of the run before"
    writer.close()
    assert len(READERS[kind](final)) == len(ROWS) and list(tmp_path.iterdir()) == [final]


@each_format
def test_two_jobs_with_one_output_folder_do_not_mix_their_rows(kind, tmp_path):
    first, second = open_writer(kind, tmp_path, HEADS), open_writer(kind, tmp_path, HEADS)
    first.write(make_row("first.mp4"))
    second.write(make_row("second.mp4"))
    assert [row["path"] for row in READERS[kind](first.close())] == ["first.mp4"]
    assert [row["path"] for row in READERS[kind](second.close())] == ["second.mp4"]
    assert list(tmp_path.iterdir()) == [tmp_path / f"predictions.{kind}"]


def test_a_partial_file_of_a_job_that_died_does_not_disturb_the_next_job_and_is_removed(tmp_path):
    dead = open_writer("jsonl", tmp_path, HEADS)
    dead.write(make_row("dead.mp4"))
    (tmp_path / ".hidden.jsonl").write_text("of the user")
    assert len(list(tmp_path.iterdir())) == 2
    remove_partial_files(tmp_path)
    path = write("jsonl", tmp_path, [make_row("alive.mp4")])
    assert [row["path"] for row in read_json(path)] == ["alive.mp4"]
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".hidden.jsonl", path]


def test_no_cell_of_the_csv_is_a_formula(tmp_path):
    with write("csv", tmp_path, ROWS).open(encoding="utf-8", newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    assert sum(cell.startswith("'") for cell in cells) > 20  # some were guarded


def test_strict_readers_accept_the_files(tmp_path):
    lines = write("jsonl", tmp_path, ROWS).read_bytes()
    assert lines.isascii()
    assert pa.json.read_json(tmp_path / "predictions.jsonl")["path"].to_pylist() == [escaped(r["path"]) for r in ROWS]
    schema = pq.read_schema(write("parquet", tmp_path, ROWS))
    assert schema.field("seconds").type == pa.float64() and schema.field("warnings").type == pa.list_(pa.string())
    assert pq.read_schema(write("parquet", tmp_path, [])) == schema  # whatever the rows hold
