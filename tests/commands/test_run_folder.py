"""The folder of a run: its name, its lock, and that nothing is lost in it or left over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import call
from conftest import REPOSITORY
from toy_training import make_series

from pipeline.atomic import LOCK_FILE, FolderLocked
from pipeline.commands.config import training_config
from pipeline.commands.run_folder import claim_folder, run_folder
from pipeline.commands.train import train
from pipeline.config.run import Config, load_config
from pipeline.training.distributed import DistributedContext

CPU = DistributedContext(torch.device("cpu"))
SMALL = [
    "encoder.kind=series",
    "clock.rate=10",
    "core.hidden=8",
    "training.epochs=2",
    "training.device=cpu",
    "tracking.wandb=off",
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_series(tmp_path / "series", 50)
    (tmp_path / "series/second.jsonl").write_bytes((tmp_path / "series/manifest.jsonl").read_bytes())
    (tmp_path / "small.yaml").write_text("data: {path: series/manifest.jsonl}\nencoder: {kind: series}\n")
    monkeypatch.chdir(tmp_path)


def no_log(text: str) -> None:
    """Drop the line."""


def config(*overrides: str) -> Config:
    return load_config("small.yaml", [*SMALL, *overrides])


NAMES = {
    ("small.yaml",): "runs/series-small",
    ("small.yaml", "training.seed=3"): "runs/series-small-seed3",
    ("small.yaml", "data.split=folds", "data.fold=2"): "runs/series-small-fold2",
    ("small.yaml", "core.cell=lstm", "training.seed=1"): "runs/series-small-lstm-seed1",
    ("small.yaml", "run=elsewhere"): "elsewhere",
    ("series/manifest.jsonl",): "runs/series",
    ("series/manifest.jsonl", "training.seed=3"): "runs/series-seed3",
    ("series/second.jsonl",): "runs/series-second",
    ("small.yaml", "data.path=series/second.jsonl"): "runs/series-second-small",
    ("series/manifest.jsonl", "run=elsewhere", "training.seed=3"): "elsewhere",
}


@pytest.mark.parametrize("command", NAMES)
def test_a_run_without_a_name_is_named_after_data_config_cell_fold_and_seed(command: tuple[str, ...]) -> None:
    source, *overrides = command
    assert training_config(source, overrides, no_log).run == NAMES[command]


def test_a_name_in_the_config_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "named.yaml"
    path.write_text("data: {path: series/manifest.jsonl}\nencoder: {kind: series}\nrun: runs/mine\n")
    assert training_config(str(path), [], no_log).run == "runs/mine"


def test_a_second_training_is_refused_and_the_owner_is_named() -> None:
    with claim_folder(config("run=runs/x"), CPU, fresh=False):
        with pytest.raises(FolderLocked, match=f"process {os.getpid()} on {socket.gethostname()}, since 2"):
            train(config("run=runs/x"), no_log)
        assert Path("runs/x", LOCK_FILE).is_file(), "the refused training must not remove the lock"
    assert not Path("runs").exists(), "nothing was written, so nothing stays"
    train(config("run=runs/x"), no_log)
    assert not Path("runs/x", LOCK_FILE).exists()


def test_the_lock_of_another_process_gives_exit_code_5_and_ends_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None and owner.stdout.readline() == "locked\n"
    assert call("train", "small.yaml", "run=runs/x", *SMALL) == 5
    message = capsys.readouterr().err
    assert f"'runs/x' is in use by process {owner.pid} on {socket.gethostname()}" in message
    owner.kill()  # as kill -9: the file stays, and the lock does not
    owner.wait()
    owner.stdout.close()
    assert Path("runs/x", LOCK_FILE).is_file()
    assert call("train", "small.yaml", "run=runs/x", *SMALL) == 0


OWNER = """
import time, torch
from pipeline.commands.run_folder import claim_folder
from pipeline.config.run import load_config
from pipeline.training.distributed import DistributedContext
with claim_folder(load_config("small.yaml", ["run=runs/x"]), DistributedContext(torch.device("cpu")), fresh=False):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("data.path=gone.jsonl", "'gone.jsonl' does not exist"),
        ("data.split=random", "A random split"),
        ("training.init_from=gone", "'gone' is no model"),
    ],
)
def test_a_failed_start_leaves_nothing_behind(mistake: str, sentence: str) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(ValueError, match=sentence):
        train(config("run=runs/deep/x", mistake), no_log)
    assert sorted(Path().rglob("*")) == before


def test_a_training_that_fails_before_its_first_row_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("a full disk")

    before = sorted(Path().rglob("*"))
    monkeypatch.setattr("pipeline.commands.train.fit", fails)
    with pytest.raises(RuntimeError, match="a full disk"):
        train(config("run=runs/deep/x"), no_log)
    assert sorted(Path().rglob("*")) == before


def test_starting_over_with_a_mistake_keeps_the_finished_run() -> None:
    finished = train(config("run=runs/x"), no_log)
    files = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="does not exist"):
        train(config("run=runs/x", "data.path=gone.jsonl"), no_log, fresh=True)
    assert {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()} == files
    train(config("run=runs/x", "training.epochs=1"), no_log, fresh=True)
    assert load_config(finished.folder / "config.yaml").training.epochs == 1


def test_a_finished_run_keeps_no_state_unless_it_is_asked_for() -> None:
    small = train(config("run=runs/small"), no_log)
    assert (small.folder / "baselines").is_dir() and not list(small.folder.rglob("resume.pt"))
    kept = train(config("run=runs/kept", "training.keep_state=true"), no_log)
    assert len(list(kept.folder.rglob("resume.pt"))) == 3  # of the model and of two baselines


def test_a_run_that_is_a_file_is_refused() -> None:
    Path("afile").write_text("precious")
    with pytest.raises(ValueError, match="run = 'afile' is a file"):
        train(config("run=afile"), no_log)
    assert Path("afile").read_text() == "precious"


def test_the_folder_of_a_config_without_a_name_is_that_of_its_data_and_cell() -> None:
    assert run_folder(config()) == Path("runs/series-gru")
