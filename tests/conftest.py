"""Fixtures of several test files: a small drawn data set, and a model trained on it. Made once, also under xdist."""

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
"""Settings of a quick run, which learns little."""

NUMERIC = (
    *("heads/", "models/", "metrics/", "encoders/", "inference/test_stream.py"),
    *("training/test_adversarial.py", "training/test_fit.py", "training/test_optimizer.py", "training/test_tbptt.py"),
)
"""Where the tests lie whose result depends on how a processor rounds. A new test there is numeric by existing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of NUMERIC."""
    for item in items:
        if os.path.relpath(item.path, REPOSITORY / "tests").startswith(NUMERIC):
            item.add_marker(pytest.mark.numeric)


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id_or_none) -> Path:
    """A folder that all processes of this test session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if worker_id_or_none else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def worker_id_or_none() -> str | None:
    return os.environ.get("PYTEST_XDIST_WORKER")


@pytest.fixture(scope="session", autouse=True)
def _quiet(shared) -> None:
    """One thread (two wait for each other on a busy machine), and no file outside the folder of the tests."""
    import torch

    torch.set_num_threads(1)
    os.environ["UNREEL_CACHE"] = str(shared / "cache")


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, filled by `make` in the first process that needs it; the others wait for it."""
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def puppets(shared) -> Path:
    """The data set puppets in size tiny: clips.jsonl, long.jsonl, clips/, long/."""

    def make(folder: Path) -> None:
        prepare = REPOSITORY / "datasets" / "puppets" / "prepare.py"
        done = subprocess.run(
            [sys.executable, str(prepare), "--size", "tiny", "--out", str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    return once(shared / "puppets_tiny", make)


@pytest.fixture(scope="session")
def config_file(shared, puppets) -> Path:
    """A config of puppets tiny that trains in seconds and has its own feature store."""
    path = shared / "tiny.yaml"
    path.write_text(
        f"data: {{path: {puppets / 'clips.jsonl'}, feature_store: {shared / 'features'}}}\n"
        "encoder: {size: 64, runtime: torch, project: 32}\n"
        "core: {hidden: 32}\n"
        "training: {epochs: 2}\n"
        "evaluation: {baselines: false}\n"
        "tracking: {wandb: off}\n"
    )
    return path


@pytest.fixture(scope="session")
def tiny_run(shared, config_file) -> Path:
    """A finished run on puppets tiny, by the command. Tests read it and never write into it."""

    def make(folder: Path) -> None:
        from pipeline.cli import main

        assert main(["train", str(config_file), f"run={folder}"]) == 0

    return once(shared / "tiny_run", make)


@pytest.fixture(scope="session")
def watcher(tmp_path_factory) -> Path:
    """A folder with a model of frames of 32 x 32 pixels, with random weights."""
    from streaming import make_checkpoint

    from pipeline.checkpoint import save_model

    folder = tmp_path_factory.mktemp("watcher")
    encoder = {"kind": "frames", "size": 32, "runtime": "torch", "weights": "none", "project": 8, "grid": 1}
    save_model(folder, make_checkpoint(encoder=encoder))
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory) -> Path:
    """A video of six seconds: 90 frames, 25 looks."""
    from made_videos import make_video

    return make_video(tmp_path_factory.mktemp("film") / "film.ts", 90, rate=Fraction(15))
