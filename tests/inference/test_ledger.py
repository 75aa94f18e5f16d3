"""The ledger: what was recorded is there again, also after a crash, and what was never recorded is not."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.inference.job_folder import LEDGER, all_recorded, check_shards, check_whole, job_of, open_ledgers
from pipeline.inference.job_plan import Shard, plan
from pipeline.inference.ledger import VERSION, Job, Ledger, LedgerError, check_same_job
from pipeline.media.search import InputFile

JOB = Job({"model": "m1", "mean": [0.1, 1 / 3]}, {"top": 5}, {"action": ("label", "score")}, ("jsonl",), "/model")
NAMES = ["b.mp4", "a.mp4", os.fsdecode(b"sub/\xff\n.mp4"), "ümlaut.mp4"]
FILES = [InputFile(Path("clips") / name, name) for name in NAMES]


def begin(path: Path, files: list[InputFile] = FILES, job: Job = JOB) -> Ledger:
    """A ledger whose inputs are planned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(path, is_new=True)
    ledger.begin(job, started=1.0, is_fresh=False)
    ledger.write_plan(plan(files, ledger.stored()))
    return ledger


def record(ledger: Ledger, file: InputFile, status: str = "ok") -> None:
    row = {"path": file.name, "status": status, "action": {"label": "x", "score": 1 / 3}}
    ledger.record(file, row, seconds=0.5, size=7, mtime_ns=1, content="c")


def test_what_is_recorded_is_there_again_in_the_order_of_the_inputs(tmp_path: Path) -> None:
    with begin(tmp_path / LEDGER) as ledger:
        assert ledger.counts() == {None: 4} and ledger.unanswered(2) == NAMES[:2]
        for file in reversed(FILES):
            record(ledger, file)
    with Ledger(tmp_path / LEDGER) as ledger:
        recorded = list(ledger.recorded())
        assert [one.id for one in recorded] == NAMES and all(one.is_intact for one in recorded)
        assert recorded[2].row == {"path": NAMES[2], "status": "ok", "action": {"label": "x", "score": 1 / 3}}
        assert ledger.counts() == {"ok": 4} and ledger.started() == 1.0 and ledger.damage() == []
        assert ledger.stored()["b.mp4"].size == 7
        held = ledger.job()
    assert held is not None and held.fingerprint == JOB.fingerprint


def test_rows_are_on_the_disk_while_the_job_goes_on(tmp_path: Path) -> None:
    with begin(tmp_path / LEDGER) as ledger:
        record(ledger, FILES[0])
        with Ledger(tmp_path / LEDGER) as reader:
            while reader.counts() != {"ok": 1, None: 3}:
                pass
        record(ledger, FILES[1])
        assert [one.id for one in ledger.recorded() if one.status] == NAMES[:2]


def test_more_rows_than_a_page_come_in_order(tmp_path: Path) -> None:
    files = [InputFile(Path(f"{n}.mp4"), f"{n}.mp4") for n in range(2500)]
    with begin(tmp_path / LEDGER, files) as ledger:
        for file in files:
            record(ledger, file)
        assert [one.id for one in ledger.recorded()] == [file.name for file in files]


def test_a_new_plan_keeps_answers_drops_those_of_changed_inputs_and_hides_those_of_others(tmp_path: Path) -> None:
    with begin(tmp_path / LEDGER) as ledger:
        for file in FILES:
            record(ledger, file, "ok" if file is not FILES[1] else "failed:corrupt")
    with Ledger(tmp_path / LEDGER) as ledger:
        planned = plan(FILES[:3], ledger.stored())
        planned = [replace(planned[0], reason=None), replace(planned[1], reason="failed"), planned[2]]
        ledger.write_plan(planned)  # the third has another size than was recorded: changed
        assert [(one.id, one.status) for one in ledger.recorded()] == [
            ("b.mp4", "ok"),
            ("a.mp4", None),
            (NAMES[2], None),
        ]
        assert ledger.num_others() == 1
        ledger.begin(JOB, started=2.0, is_fresh=True)
        assert ledger.counts() == {} and ledger.num_others() == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": {"model": "m2", "mean": [0.1, 1 / 3]}}, "made with model = m1, and now it is m2"),
        ({"fingerprint": {"model": "m1", "mean": [0.1, 0.3]}}, "made with mean = "),
        ({"fingerprint": {"model": "m1"}}, "and now it is None"),
        ({"options": {"top": 3}}, "made with --top = 5, and now it is 3"),
    ],
)
def test_answers_of_another_job_are_not_mixed(tmp_path: Path, change, words) -> None:
    with begin(tmp_path / LEDGER) as ledger:
        check_same_job(ledger, replace(JOB, model="/elsewhere", formats=("csv",)))
        with pytest.raises(LedgerError, match=words):
            check_same_job(ledger, replace(JOB, **change))


def test_a_damaged_row_is_found(tmp_path: Path) -> None:
    with begin(tmp_path / LEDGER) as ledger:
        for file in FILES:
            record(ledger, file)
    connection = sqlite3.connect(tmp_path / LEDGER)
    with connection:
        connection.execute("UPDATE inputs SET answer = replace(answer, 'x', 'y') WHERE id = ?", (b"a.mp4",))
    connection.close()
    with Ledger(tmp_path / LEDGER) as ledger:
        assert [one.id for one in ledger.recorded() if not one.is_intact] == ["a.mp4"]


def test_a_file_that_is_no_ledger_a_newer_one_and_none_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"holds no ledger \(ledger.sqlite\)"):
        Ledger(tmp_path / LEDGER)
    (tmp_path / LEDGER).write_text("some other file, long enough to be a page " * 100)
    with pytest.raises(LedgerError, match="ledger.sqlite' is damaged: file is not a database"):
        Ledger(tmp_path / LEDGER)
    (tmp_path / LEDGER).unlink()
    begin(tmp_path / LEDGER).close()
    connection = sqlite3.connect(tmp_path / LEDGER)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(LedgerError, match=f"has version {VERSION + 1}, and this unreel writes version {VERSION}"):
        Ledger(tmp_path / LEDGER)


def test_an_error_of_the_writing_thread_is_raised_where_rows_are_recorded(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "the store")

    ledger = begin(tmp_path / LEDGER)
    ledger._before_commit = full
    record(ledger, FILES[0])
    with pytest.raises(OSError, match="No space left on device: 'the store'"):
        ledger.close()
    with Ledger(tmp_path / LEDGER) as ledger:
        assert ledger.counts() == {None: 4}


# jobs in parts


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    for i in range(2):
        folder = tmp_path / "shards" / f"{i}-of-2"
        with begin(folder / LEDGER, []) as ledger:
            ledger.write_plan(plan(FILES, {}, shard=Shard(i, 2)))
            for one in plan(FILES, {}, shard=Shard(i, 2)):
                record(ledger, one.file)
        with open_ledgers(tmp_path) as ledgers:
            assert job_of(ledgers) == JOB or job_of(ledgers).model == JOB.model
            faults = check_whole(ledgers, tmp_path)
            assert bool(faults) == (i == 0) and all("part 1/2 has not begun" in fault for fault in faults)
    with open_ledgers(tmp_path) as ledgers:
        assert [one.id for one in all_recorded(ledgers)] == NAMES


def test_jobs_in_other_parts_are_not_mixed(tmp_path: Path) -> None:
    check_shards(tmp_path, Shard(0, 2))
    begin(tmp_path / "shards/0-of-2" / LEDGER).close()
    check_shards(tmp_path, Shard(1, 2))
    for shard in (Shard(0, 3), None):
        with pytest.raises(LedgerError, match="holds a job in 2 parts"):
            check_shards(tmp_path, shard)
    begin(tmp_path / "other" / LEDGER).close()
    check_shards(tmp_path / "other", None)
    with pytest.raises(LedgerError, match="holds a job that is not in parts, and this is part 0/2"):
        check_shards(tmp_path / "other", Shard(0, 2))


def test_an_input_in_a_part_where_it_does_not_belong_is_found(tmp_path: Path) -> None:
    for i in range(2):
        begin(tmp_path / "shards" / f"{i}-of-2" / LEDGER).close()  # all inputs in both parts
    with open_ledgers(tmp_path) as ledgers:
        assert len(check_whole(ledgers, tmp_path)) == len(FILES)
