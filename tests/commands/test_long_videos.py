"""A job that is killed in the middle of a long video goes on from there, to the same answers."""

from __future__ import annotations

import signal
import time
from fractions import Fraction
from pathlib import Path

import pytest
from commands import call
from folder_jobs import TIMEOUT, start, views
from made_videos import make_video


@pytest.mark.slow
def test_a_job_that_is_killed_in_a_long_video_goes_on_from_there(watcher, tmp_path: Path) -> None:
    video = make_video(tmp_path / "long.ts", 2400, rate=Fraction(4))
    job = ["predict", str(video), "--model", str(watcher), "--format", "jsonl"]
    assert call(*job, "--out", tmp_path / "whole") == 0
    assert not (tmp_path / "whole/unfinished").exists()
    out = tmp_path / "killed"
    process, deadline = start([*job, "--out", str(out)]), time.monotonic() + TIMEOUT
    while not list(out.glob("unfinished/*.part")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(TIMEOUT)
    assert not (out / "predictions.jsonl").exists() and list(out.glob("unfinished/*.part"))
    assert call(*job, "--out", out) == 0
    assert views(out) == views(tmp_path / "whole")
    assert not (out / "unfinished").exists()
