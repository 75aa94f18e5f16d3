"""What several test files need: a small made data set, and a model trained on it. Made once, also under xdist."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = ["encoder.size=64", "encoder.runtime=torch", "encoder.project=32", "core.hidden=32", "tracking.wandb=off"]
"""Settings that make a run quick; it learns little."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id_or_none) -> Path:
    """A folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if worker_id_or_none else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def worker_id_or_none() -> str | None:
    return os.environ.get("PYTEST_XDIST_WORKER")


@pytest.fixture(scope="session", autouse=True)
def _quiet(shared) -> None:
    """One thread (two of them wait for each other on a busy machine), and no file outside the tests' own folder."""
    import torch

    torch.set_num_threads(1)
    os.environ["UNREEL_CACHE"] = str(shared / "cache")


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`make` fills the folder in the first process that comes; the others wait and find it."""
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def puppets(shared) -> Path:
    """puppets tiny: clips.jsonl, long.jsonl, clips/, long/."""

    def make(folder: Path) -> None:
        prepare = REPOSITORY / "datasets" / "puppets" / "prepare.py"
        done = subprocess.run(
            [sys.executable, str(prepare), "--size", "tiny", "--out", str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    return once(shared / "puppets_tiny", make)


@pytest.fixture(scope="session")
def config_file(shared, puppets) -> Path:
    """A config over puppets tiny that trains in seconds, features in a store of its own."""
    path = shared / "tiny.yaml"
    text = "\n".join([
        "data:", f"  path: {puppets / 'clips.jsonl'}", f"  features: {shared / 'features'}", "encoder:", "  size: 64",
        "  runtime: torch", "  project: 32", "core:", "  hidden: 32", "training:", "  epochs: 2", "evaluation:", "  baselines: false",
        "tracking:", "  wandb: off", "",
    ])  # fmt: skip
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def tiny_run(shared, config_file) -> Path:
    """A finished run on puppets tiny, made by the command. Read it, never write into it."""

    def make(folder: Path) -> None:
        from pipeline.cli import main

        assert main(["train", str(config_file), f"run={folder}"]) == 0

    return once(shared / "tiny_run", make)


@pytest.fixture(scope="session")
def watcher(tmp_path_factory) -> Path:
    """A model folder that looks at pictures of 32 pixels, with random weights."""
    from streaming import made

    from pipeline.checkpoint import save_model

    folder = tmp_path_factory.mktemp("watcher")
    look = {"kind": "frames", "size": 32, "runtime": "torch", "weights": "none", "project": 8, "grid": 1}
    save_model(folder, made(encoder=look))
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory) -> Path:
    """Six seconds, 25 looks."""
    from made_videos import make_video

    return make_video(tmp_path_factory.mktemp("film") / "film.ts", 90, rate=Fraction(15))
