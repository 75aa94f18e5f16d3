"""Every table gives the same rows back to a reader that knows nothing of ours, and an unfinished file has no final name."""

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

from pipeline.inference.batch import as_row, headline
from pipeline.inference.predictor import Answer
from pipeline.models.prediction import Classification, Timeline
from pipeline.writers import TIMED, WRITERS, open_writer

HEADS = {"action": ("label", "score", "top"), "mood": ("label", "score", "top"), "timeline": ("spans",)}
ODD_NAMES = [
    "plain.mp4", "with,comma.mp4", 'with"quote.mp4', "two\nlines.mp4", "car\rriage.mp4", "crlf\r\n.mp4", "tab\t.mp4", "ümlaut 视频 🎥.mp4",
    "=1+1.mp4", "+1.mp4", "-rf.mp4", "@SUM(A1).mp4", "\tx.mp4", "\rx.mp4", "'=quoted.mp4", "''quoted.mp4", "'.mp4", " lead.mp4", "nul\\0.mp4",
    "%03d.mp4", "line\u2028sep.mp4", "esc\x1b[31m.mp4", os.fsdecode(b"bytes\xff\xfe.mp4"), "",
]  # fmt: skip


def row(name: str, **answer: Any) -> dict[str, Any]:
    predictions = {
        "action": Classification((("=sum", 0.7), ("wave, \n", 0.2), ("x", 0.1))),
        "mood": Classification((("good", 1.0),)),
        "timeline": Timeline(((0.25, 1.5, "=wave, \n", 0.75), (2.0, 3.0, "x", 0.5))),
    }
    return as_row(name, Answer("ok", 1.25, 5, predictions, **answer), 2)


ROWS = [
    *(row(name) for name in ODD_NAMES),
    row("w.mp4", warnings=("short_video: It is short.", "=cmd: a, b\n", os.fsdecode(b"x\xff"))),
    as_row("bad.mp4", Answer("failed:not_a_video", error="'-x' holds\nno video; \"quote\"."), 2),
    as_row("partial.mp4", Answer("partial", 2.0, 8, {"action": Classification((("x", 1.0),))}), 2),
]


def clean(value: Any) -> Any:
    """What every format must hold: the row, with the bytes of odd names as escapes."""
    if isinstance(value, str):
        return "".join(c if not 0xD800 <= ord(c) < 0xE000 else f"\\u{ord(c):04x}" for c in value)
    if isinstance(value, dict):
        return {k: clean(v) for k, v in value.items()}
    return [clean(v) for v in value] if isinstance(value, list) else value


def flat(given: dict[str, Any]) -> dict[str, Any]:
    """As a table sees it, written down here once more."""
    found = {name: given[name] for name in ("path", "status", "seconds", "looks")}
    for head in HEADS:
        for part in HEADS[head]:
            found[f"{head}_{part}"] = given[head][part] if head in given else None
    return {**found, "warnings": given["warnings"], "error": given["error"]}


def read_json(path: Path) -> list[dict[str, Any]]:
    return [flat(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def read_csv(path: Path) -> list[dict[str, Any]]:
    found = []
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
            found.append(values)
    return found


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
    for one in rows:
        writer.write(one)
    return writer.close()


def test_every_table_has_a_reader_here():
    assert set(READERS) == set(WRITERS) - set(TIMED)  # those of times: test_timed_writers.py


@each_format
def test_an_independent_reader_gets_the_same_rows_back(kind, tmp_path):
    path = write(kind, tmp_path, ROWS)
    assert path == tmp_path / f"predictions.{kind}" and list(tmp_path.iterdir()) == [path]
    found = READERS[kind](path)
    assert found == [flat(clean(one)) for one in ROWS]
    assert [list(one) for one in found] == [list(flat(one)) for one in ROWS]  # the same columns in the same order


@each_format
def test_no_rows_and_many_rows(kind, tmp_path):
    (tmp_path / "none").mkdir()
    assert READERS[kind](write(kind, tmp_path / "none", [])) == []
    many = [row(f"{n}.mp4") for n in range(2500)]  # more than a row group
    assert [r["path"] for r in READERS[kind](write(kind, tmp_path, many))] == [r["path"] for r in many]


@each_format
def test_an_unfinished_file_is_not_under_its_final_name(kind, tmp_path):
    final = tmp_path / f"predictions.{kind}"
    final.write_text("of the run before")
    writer = open_writer(kind, tmp_path, HEADS)
    for one in ROWS:
        writer.write(one)
        assert final.read_text() == "of the run before"
    writer.close()
    assert len(READERS[kind](final)) == len(ROWS) and list(tmp_path.iterdir()) == [final]


def test_lines_are_on_the_disk_as_soon_as_they_are_written(tmp_path):
    for kind in ("jsonl", "csv"):
        writer = open_writer(kind, tmp_path, HEADS)
        writer.write(ROWS[0])
        assert "plain.mp4" in (tmp_path / f"predictions.{kind}.partial").read_text()
        writer.close()


def test_no_cell_of_the_csv_is_a_formula(tmp_path):
    with write("csv", tmp_path, ROWS).open(encoding="utf-8", newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    assert sum(cell.startswith("'") for cell in cells) > 20  # there were some to guard


def test_strict_readers_take_the_files(tmp_path):
    lines = write("jsonl", tmp_path, ROWS).read_bytes()
    assert lines.isascii()
    assert pa.json.read_json(tmp_path / "predictions.jsonl")["path"].to_pylist() == [clean(r["path"]) for r in ROWS]
    schema = pq.read_schema(write("parquet", tmp_path, ROWS))
    assert schema.field("seconds").type == pa.float64() and schema.field("warnings").type == pa.list_(pa.string())
    assert pq.read_schema(write("parquet", tmp_path, [])) == schema  # whatever the rows hold


def test_the_headline_of_a_row_is_one_safe_line():
    assert headline(ROWS[0]) == "=sum 0.70, good 1.00, 0.2 s =wave, \\n, 2.0 s x"
    many = Timeline(tuple((float(i), i + 1.0, "x", 1.0) for i in range(9)))
    assert headline(as_row("a", Answer("ok", 1, 1, {"h": many}), 2)) == "0.0 s x, 1.0 s x, 2.0 s x, and 6 more"
    assert headline(as_row("a", Answer("ok", 1, 1, {"h": Timeline(())}), 2)) == "nothing"
    assert headline(as_row("a", Answer("failed:not_a_video"), 2)) == "failed:not_a_video"
    nasty = as_row("a", Answer("partial", 1, 1, {"h": Classification((("\x1b[31m\n", 1.0),))}), 2)
    assert headline(nasty) == "\\x1b[31m\\n 1.00 (partial)"
