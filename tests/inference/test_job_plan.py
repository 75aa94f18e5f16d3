"""What a folder job does again: what is new, changed, unfinished, or failed by a reason that may have passed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pipeline.inference.job_plan import PASSING, Shard, Stored, content_of, plan, stat_of
from pipeline.media.search import InputFile


def stored(file: InputFile, status: str | None) -> dict[str, Stored]:
    """What the ledger knows after this answer."""
    return {file.name: Stored(*stat_of(file), content_of(file), status)}


@pytest.fixture
def file(tmp_path: Path) -> InputFile:
    (tmp_path / "a.mp4").write_bytes(b"a video")
    return InputFile(tmp_path / "a.mp4", "a.mp4")


@pytest.mark.parametrize(
    ("status", "reason", "with_retry"),
    [
        ("ok", None, None),
        ("partial", None, None),
        (None, "unfinished", "unfinished"),
        ("failed:corrupt", None, "failed"),
        ("failed:error", None, "failed"),
        ("timeout", None, "failed"),
        ("crashed:SIGSEGV", None, "failed"),
        *((status, "passing", "passing") for status in sorted(PASSING)),
    ],
)
def test_what_was_answered_is_done_again_by_its_status(file, status, reason, with_retry) -> None:
    assert [one.reason for one in plan([file], stored(file, status))] == [reason]
    assert [one.reason for one in plan([file], stored(file, status), retry_failed=True)] == [with_retry]


def test_what_is_new_or_has_another_size_or_time_is_done(file) -> None:
    assert [one.reason for one in plan([file], {})] == ["new"]
    before = stored(file, "ok")
    file.path.write_bytes(b"another video")
    assert [one.reason for one in plan([file], before)] == ["changed"]
    before = stored(file, "ok")
    os.utime(file.path, ns=(1, 1))
    assert [one.reason for one in plan([file], before)] == ["changed"]
    assert [one.reason for one in plan([file], stored(file, "ok"))] == [None]


def test_a_text_that_reads_otherwise_is_done(file) -> None:
    text = InputFile(Path("a.txt/1"), "a.txt:1", text="a good film")
    other = InputFile(Path("a.txt/1"), "a.txt:1", text="a bad film")
    assert [one.reason for one in plan([text], stored(text, "ok"))] == [None]
    assert [one.reason for one in plan([other], stored(text, "ok"))] == ["changed"]


def test_an_input_with_a_problem_is_looked_at_again(file) -> None:
    gone = InputFile(file.path, "a.mp4", "missing: There is no file.")
    assert [one.reason for one in plan([gone], stored(gone, "failed:missing"))] == ["passing"]
    assert [one.reason for one in plan([file], stored(gone, "failed:link_outside"))] == ["changed"]


def test_a_file_belongs_to_one_shard_whatever_else_is_in_the_folder() -> None:
    names = [f"{n}.mp4" for n in range(200)] + ["sub/\udcff.mp4"]
    files = [InputFile(Path(name), name) for name in names]
    parts = [[one.file.name for one in plan(files, {}, shard=Shard(i, 3))] for i in range(3)]
    assert sorted(name for part in parts for name in part) == sorted(names) and min(map(len, parts)) > 40
    alone = [[one.file.name for one in plan(files[7:8], {}, shard=Shard(i, 3))] for i in range(3)]
    assert [bool(part) for part in alone] == [names[7] in part for part in parts]
    digest = int(hashlib.sha256(b"7.mp4").hexdigest(), 16)
    assert Shard(digest % 3, 3).has("7.mp4") and not Shard((digest + 1) % 3, 3).has("7.mp4")


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "1/0", "a/b", "1/2/3", "0.5/2"])
def test_a_shard_that_is_none_is_refused(text) -> None:
    with pytest.raises(ValueError, match="i from 0 to n - 1"):
        Shard.parse(text)
