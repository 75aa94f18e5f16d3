"""Folder jobs that are stopped, killed, run twice or split: nothing is lost, done twice or mixed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call, unreel
from folder_jobs import TIMEOUT, make_job, make_text_job, start, views, wait_for_rows
from streaming import make_checkpoint

from pipeline.checkpoint import save_model
from pipeline.inference.job_folder import LEDGER
from pipeline.inference.ledger import Ledger
from pipeline.media.decode_pool import DecodePool
from pipeline.writers.csv import CsvWriter


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    return make_job(tmp_path)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def attempts(out: Path) -> dict[str, int]:
    """How often each input was answered."""
    with Ledger(out / LEDGER) as ledger:
        return {id.decode(): n for id, n in ledger._read("SELECT id, attempts FROM inputs")}


def test_a_rerun_does_only_what_is_new_changed_or_passing(job, tmp_path, capsys) -> None:
    out = tmp_path / "o"
    job.insert(1, str(tmp_path / "in/gone.npy"))
    assert call(*job, "--out", out) == 1
    assert [row["path"] for row in rows(out)][:2] == ["gone.npy", "in/0.npy"]
    assert call(*job, "--out", out) == 1
    assert "14 inputs: 13 are answered already, 1 to do (1 failed by a reason that may have passed)" in (
        capsys.readouterr().err
    )
    np.save(tmp_path / "in/0.npy", np.zeros((5, 3), np.float32))
    np.save(tmp_path / "in/gone.npy", np.zeros((6, 3), np.float32))
    np.save(tmp_path / "in/new.npy", np.zeros((7, 3), np.float32))
    (tmp_path / "in/3.npy").unlink()
    before = attempts(out)
    assert call(*job, "--out", out) == 1
    done = {name for name, count in attempts(out).items() if count > before.get(name, 0)}
    assert done == {"in/0.npy", "gone.npy", "in/new.npy"}
    looks = {row["path"]: row["looks"] for row in rows(out)}
    assert (looks["in/0.npy"], looks["gone.npy"], looks["in/new.npy"]) == (5, 6, 7) and "in/3.npy" not in looks
    assert call(*job, "--out", tmp_path / "fresh") == 1 and views(out) == views(tmp_path / "fresh")


def test_failed_inputs_are_done_again_when_asked_and_all_with_reprocess(job, tmp_path) -> None:
    out = tmp_path / "o"
    for options, done in ((), 0), (("--retry-failed",), 1), (("--reprocess",), 13):
        if not (out / LEDGER).exists():
            assert call(*job, "--out", out) == 1
        before = attempts(out)
        assert call(*job, "--out", out, *options) == 1
        counts = attempts(out)
        num_done = sum(counts.values()) if "--reprocess" in options else sum(counts.values()) - sum(before.values())
        assert num_done == done and len(counts) == 13


def test_answers_of_another_model_or_with_other_options_are_refused_and_nothing_changes(job, tmp_path, capsys) -> None:
    out = tmp_path / "o"
    assert call(*job, "--out", out) == 1
    before = views(out)
    assert call(*job, "--out", out, "--top", "2") == 2
    assert "made with --top = 5, and now it is 2. Such answers are never mixed." in capsys.readouterr().err
    save_model(tmp_path / "model", make_checkpoint(seed=1))
    assert call(*job, "--out", out) == 2
    assert "holds answers made with model = " in capsys.readouterr().err
    assert call(*job, "--out", out, "--dry-run") == 2 and views(out) == before
    assert call(*job, "--out", out, "--reprocess") == 1 and views(out) != before
    assert call(*job, "--out", tmp_path / "fresh") == 1 and views(out) == views(tmp_path / "fresh")


def test_a_dry_run_writes_nothing_and_opens_no_input(job, tmp_path, capsys) -> None:
    for name in ("in/0.npy", "in/bad.npy"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)  # to open it would never end
    assert call(*job, "--out", tmp_path / "o", "--dry-run") == 0
    assert "13 inputs: 0 are answered already, 13 to do (13 new). Dry run" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_parts_of_a_job_together_give_the_files_of_the_whole(job, tmp_path, capsys) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*job, "--out", whole) == 1
    codes = [call(*job, "--out", parts, "--shard", f"{i}/3") for i in range(2)]
    assert call("merge", parts) == 1 and len(rows(parts)) < 13
    assert "part 2/3 has not begun: run `unreel predict` with --shard 2/3" in capsys.readouterr().err
    assert call("verify", parts) == 1
    codes.append(call(*job, "--out", parts, "--shard", "2/3"))
    assert sorted(codes) == [0, 0, 1], "one part has the bad input"
    assert call("merge", parts) == 1 and views(parts) == views(whole)
    assert call("verify", parts, "--sample", "100%") == 0
    assert sorted(p.name for p in (parts / "shards").iterdir()) == ["0-of-3", "1-of-3", "2-of-3"]
    assert call(*job, "--out", parts) == 2
    assert "holds a job in 3 parts, and this is a job that is not in parts" in capsys.readouterr().err


def test_status_counts_and_names_what_is_missing(job, tmp_path, capsys) -> None:
    out = tmp_path / "o"
    assert call("status", out) == 2 and "holds no ledger" in capsys.readouterr().err
    assert call(*job, "--out", out) == 1
    capsys.readouterr()
    assert call("status", out) == 0
    text = capsys.readouterr().out
    assert "13 of 13 inputs are answered" in text and "12 ok, 0 partial, 1 failed" in text
    assert "1 failed:not_a_series" in text and "nobody works on it" in text and "without a result" not in text


def test_verify_finds_a_damaged_row_a_changed_file_and_another_answer(job, tmp_path, capsys) -> None:
    out = tmp_path / "o"
    assert call(*job, "--out", out) == 1 and call("verify", out, "--sample", "0.5") == 0
    with (out / "predictions.csv").open("a") as file:
        file.write("one more row\n")
    assert call("verify", out) == 1 and "predictions.csv: it does not hold the answers" in capsys.readouterr().out
    assert call("merge", out) == 1 and call("verify", out) == 0
    with Ledger(out / LEDGER) as ledger, ledger._transaction():
        ledger._connection.execute("UPDATE inputs SET answer = replace(answer, '\"looks\": 20', '\"looks\": 21')")
    assert call("verify", out) == 1
    assert "0.npy: its row is damaged: its checksum differs" in capsys.readouterr().out
    assert call("verify", out, "--sample", "100%") == 1
    assert "0.npy: answered again it gets another looks" in capsys.readouterr().out
    assert call(*job, "--out", out, "--reprocess") == 1 and call("verify", out, "--sample", "100%") == 0
    save_model(tmp_path / "model", make_checkpoint(seed=1))
    assert call("verify", out, "--sample", "100%") == 2
    assert "is another model than the one of these answers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call("verify", out, "--sample", "200%")


def test_a_text_is_answered_once_and_again_when_it_changes(tmp_path, capsys) -> None:
    job = make_text_job(tmp_path)
    assert call(*job, "--out", tmp_path / "o") == 0 and call("verify", tmp_path / "o", "--sample", "100%") == 0
    (tmp_path / "a.txt").write_text("one\nanother\nthree\n")
    assert call("verify", tmp_path / "o", "--sample", "100%") == 0
    assert "a.txt:2: not answered again: it has changed since" in capsys.readouterr().err
    assert call(*job, "--out", tmp_path / "o") == 0
    assert attempts(tmp_path / "o") == {"a.txt:1": 1, "a.txt:2": 2, "a.txt:3": 1}


def test_an_error_of_a_writer_costs_the_row_in_that_format(job, tmp_path, monkeypatch, capsys) -> None:
    write = CsvWriter.write

    def broken(self: CsvWriter, row: dict[str, Any]) -> None:
        if row["path"] == "0.npy" and row["status"] == "ok":
            raise RuntimeError("a bug of the writer")
        write(self, row)

    monkeypatch.setattr(CsvWriter, "write", broken)
    assert call(*job, "--out", tmp_path / "o") == 1
    assert "0.npy: csv cannot hold its answer: RuntimeError: a bug of the writer" in capsys.readouterr().err
    assert [row["status"] for row in rows(tmp_path / "o")].count("ok") == 12
    text = (tmp_path / "o/predictions.csv").read_text()
    assert len(text.splitlines()) == 14 and "0.npy,failed:error,0.0,0," in text


# real processes


def test_a_second_job_is_refused_and_touches_nothing_and_a_signal_keeps_what_is_done(job, tmp_path) -> None:
    out = tmp_path / "o"
    first = start([*job, "--out", out], pause=1.5)
    wait_for_rows(first, 3)
    second = unreel(*job, "--out", out, timeout=TIMEOUT)
    assert second.returncode == 5
    assert f"'{out}' is in use by process {first.pid} on {socket.gethostname()}, since 2" in second.stderr
    assert {path.name for path in out.iterdir()} <= {".lock", LEDGER, f"{LEDGER}-journal"}
    status = unreel("status", out, timeout=TIMEOUT)
    assert f"running: process {first.pid}" in status.stdout and "inputs without a result: " in status.stdout
    first.send_signal(signal.SIGTERM)
    _, text = first.communicate(timeout=TIMEOUT)
    assert first.returncode == 143 and "stopped by SIGTERM. " in text and "of 13 inputs are answered." in text
    assert not views(out) and not (out / ".lock").exists()
    with Ledger(out / LEDGER) as ledger:
        assert ledger.counts()["ok"] >= 3
    assert unreel(*job, "--out", out, timeout=TIMEOUT).returncode == 1
    assert set(attempts(out).values()) == {1}, "nothing was done twice"
    assert call(*job, "--out", tmp_path / "whole") == 1 and views(out) == views(tmp_path / "whole")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_job_that_is_killed_at_any_moment_goes_on_to_the_same_files(job, tmp_path, seed) -> None:
    out, draw = tmp_path / "o", random.Random(seed)
    for moment in (0, draw.randint(1, 6)):
        process = start([*job, "--out", out], pause=draw.uniform(0.01, 0.1))
        wait_for_rows(process, moment)
        if moment == 0:
            process.stderr.readline()
        process.kill()
        process.communicate(timeout=TIMEOUT)
    assert unreel(*job, "--out", out, timeout=TIMEOUT).returncode == 1
    assert call(*job, "--out", tmp_path / "whole") == 1 and views(out) == views(tmp_path / "whole")
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "nothing is left over"
    assert call("verify", out) == 0


def can_unshare(*options: str) -> bool:
    """Whether this machine lets us make namespaces."""
    command = shutil.which("unshare")
    return (
        command is not None and not subprocess.run([command, *options], capture_output=True, timeout=TIMEOUT).returncode
    )


@pytest.mark.slow
def test_sigterm_to_the_first_process_of_a_container_ends_it_with_its_work_kept(job, tmp_path) -> None:
    if not can_unshare("-rpf", "--kill-child", "true"):
        pytest.skip("this machine does not allow `unshare -rpf`")
    out = tmp_path / "o"
    process = start([*job, "--out", out], pause=0.3, prefix=("unshare", "-rpf", "--kill-child"))
    wait_for_rows(process, 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)  # it is process 1 of its namespace
    _, text = process.communicate(timeout=TIMEOUT)
    assert "stopped by SIGTERM" in text and process.returncode == 143
    with Ledger(out / LEDGER) as ledger:
        assert ledger.counts()["ok"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("ballast", "name"), [(40_000, LEDGER), (20_000, "predictions.parquet")])
def test_a_full_disk_is_named_and_the_job_goes_on_when_there_is_room(job, tmp_path, ballast, name) -> None:
    if not can_unshare("-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"):
        pytest.skip("this machine does not allow a file system of our own")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
mount -t tmpfs -o size=64k tmpfs {disk} || exit 99
head -c {ballast} /dev/zero > {disk}/ballast
"$@" --out {disk}/o; echo "first $?"
ls -a {disk}/o > {tmp_path}/left
rm {disk}/ballast
"$@" --out {disk}/o; echo "second $?"
mkdir {tmp_path}/kept && cp {disk}/o/predictions.* {tmp_path}/kept
"""
    command = ["unshare", "-rm", "sh", "-c", script, "sh"]
    done = start(job, pause=0.0, prefix=command, stdout=subprocess.PIPE)
    output, text = done.communicate(timeout=2 * TIMEOUT)
    assert output == "first 4\nsecond 1\n", text
    assert (
        f"unreel: No space left on device '{disk}/o/{name}'. Check that the disk has room" in text
        and "Traceback" not in text
    )
    assert call(*job, "--out", tmp_path / "whole") == 1 and views(tmp_path / "kept") == views(tmp_path / "whole")
    left = (tmp_path / "left").read_text().split()
    assert [entry for entry in left if entry.startswith(".")] == [".", ".."], "no part of a file stays"


def test_a_second_model_on_a_warm_store_opens_no_video_and_a_damaged_feature_is_computed_again(
    watcher, film, tmp_path, monkeypatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.ts", "b.ts"):
        shutil.copy(film, tmp_path / "in" / name)
        os.utime(tmp_path / "in" / name, (1e9, 1e9))
    (tmp_path / "in/b.ts").write_bytes(film.read_bytes() + b"\xff" * 188)  # another content
    os.utime(tmp_path / "in/b.ts", (1e9, 1e9))
    shutil.copytree(watcher, tmp_path / "other")
    job = ["predict", tmp_path / "in", "--store", tmp_path / "store", "--format", "jsonl"]
    assert call(*job, "--model", watcher, "--out", tmp_path / "o") == 0
    features = sorted((tmp_path / "store").rglob("*.safetensors"))
    assert len(features) == 2

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a video is opened")

    with monkeypatch.context() as patch:
        patch.setattr(DecodePool, "submit", refused)
        assert call(*job, "--model", tmp_path / "other", "--out", tmp_path / "warm") == 0
        assert views(tmp_path / "warm") == views(tmp_path / "o")
        features[0].write_bytes(features[0].read_bytes()[:-1] + b"\x7f")
        with pytest.raises(AssertionError, match="a video is opened"):
            call(*job, "--model", watcher, "--out", tmp_path / "again")
    assert call(*job, "--model", watcher, "--out", tmp_path / "again") == 0
    assert views(tmp_path / "again") == views(tmp_path / "o")


def test_a_store_of_a_model_without_frames_is_refused(job, tmp_path, capsys) -> None:
    assert call(*job, "--out", tmp_path / "o", "--store", tmp_path / "store") == 2
    assert "--store keeps features of frames, and this model reads series." in capsys.readouterr().err
