"""The ledgers of earlier versions: each lies in tests/support/ledger_<version> as SQL, with the files written from it.

A new version adds its own and keeps these: jobs of people must go on after an update.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from commands import call

from pipeline.inference.job_folder import LEDGER
from pipeline.inference.job_plan import Stored, plan
from pipeline.inference.ledger import VERSION, Job, Ledger, check_same_job
from pipeline.media.search import InputFile

FOLDERS = sorted((Path(__file__).parents[1] / "support").glob("ledger_*"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a version; its ledger lies in tmp_path."""
    connection = sqlite3.connect(tmp_path / LEDGER)
    connection.executescript((request.param / "ledger.sql").read_text(encoding="utf-8"))
    connection.close()
    return request.param


def test_every_version_has_its_ledger_here() -> None:
    assert [folder.name for folder in FOLDERS] == [f"ledger_{version}" for version in range(1, VERSION + 1)]


def test_the_files_of_an_old_ledger_are_written_as_before(saved: Path, tmp_path: Path, capsys) -> None:
    assert call("merge", tmp_path) == 1  # of six inputs two failed, and one is not answered
    for name in ("predictions.jsonl", "predictions.csv"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()
    assert "6 inputs: 2 ok, 1 partial, 2 failed, 1 not answered yet" in capsys.readouterr().err
    assert call("verify", tmp_path) == 1 and capsys.readouterr().out == "left.mp4: it has no result yet\n"
    assert call("status", tmp_path) == 0
    text = capsys.readouterr().out
    assert "5 of 6 inputs are answered, by /runs/x/model" in text and "1 timeout" in text and "left.mp4" in text


def test_a_job_goes_on_with_an_old_ledger(saved: Path, tmp_path: Path) -> None:
    job = Job(
        {"model": "0123456789abcdef", "device": "cpu", "looks": 1},
        {"top": 2, "attention": False},
        {"action": ("label", "score", "top")},
        ("jsonl",),
        "/runs/x/model",
    )
    with Ledger(tmp_path / LEDGER, is_new=True) as ledger:
        check_same_job(ledger, job)
        stored = ledger.stored()
        assert stored["b.mp4"] == Stored(1000, 1795000000000000000, None, "ok")
        assert os.fsdecode(b"a/\xff.mp4") in stored
        files = [InputFile(Path("/videos/left.mp4"), "left.mp4")]
        planned = plan(files, stored)
        assert [one.reason for one in planned] == ["unfinished"]
        ledger.write_plan(planned)
        row = {"path": "left.mp4", "status": "ok"}
        ledger.record(files[0], row, seconds=1.0, size=1, mtime_ns=1, content=None)
    with Ledger(tmp_path / LEDGER) as ledger:
        (one,) = ledger.recorded()
        assert one.row == row and one.is_intact and json.loads(one.answer or "") == row
