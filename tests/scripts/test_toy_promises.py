"""Every promise runs from its first line to its last on toy data, in a process of its own.

The bars decide nothing here: a promise that ends in an error is broken, and no one would see it for days.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import show
from proof_size import WITHOUT_TOY

SECONDS = 600
EXCUSED = {one.name for one in WITHOUT_TOY}
TOYS = [promise.name for promise in show.PROMISES if promise.name not in EXCUSED]


def run_show(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in an empty folder."""
    root = str(Path(show.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    command = [sys.executable, show.__file__, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_a_promise_runs_to_its_end_on_toy_data(name: str, tmp_path: Path) -> None:
    result = run_show(tmp_path, name, "--toy")
    assert result.returncode == 0, result.stdout[-1500:] + result.stderr[-4000:]
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith(f"[{name}] ") and last.endswith(": TOY")
    assert not list(tmp_path.glob("runs/toy/*")), "nothing is left"


def test_promises_without_a_toy_are_promises_and_say_why(tmp_path: Path) -> None:
    assert {one.name for one in WITHOUT_TOY} <= {promise.name for promise in show.PROMISES}
    assert len({one.name for one in WITHOUT_TOY}) == len(WITHOUT_TOY) and all(one.reason for one in WITHOUT_TOY)
    result = run_show(tmp_path, WITHOUT_TOY[0].name, "--toy")
    assert result.returncode == 2 and f"has no toy size: {WITHOUT_TOY[0].reason}. Leave TOY out." in result.stderr
