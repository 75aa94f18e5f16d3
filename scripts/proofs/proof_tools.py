"""Functions that the proofs share: empty working folders, commands, trainings in parallel processes, tables.

In: configs of this repository and overrides. Out: finished reports. It is not part of the product.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import toy_data
from proof_size import Size

from pipeline.commands.run_folder import run_folder
from pipeline.commands.train import train
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, dump_config, load_config

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = Size.from_environment()
WORK = SIZE.work


def fresh_folder(name: str) -> Path:
    """An empty folder for one promise."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def run_command(*arguments: str | Path, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would. Raises SystemExit for another exit code than `code` (None: any is allowed)."""
    result = subprocess.run([str(argument) for argument in arguments], text=True, capture_output=True, **options)
    if code is not None and result.returncode != code:
        raise SystemExit(
            f"{' '.join(map(str, arguments))}\nexit code {result.returncode}, not {code}\n"
            f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
    return result


def unreel(*arguments: str | Path, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the unreel command of this environment. A toy adds its settings to a training or an extraction."""
    command = str(arguments[0])
    if SIZE.toy and command in ("train", "extract"):
        source, settings = str(arguments[1]), [str(setting) for setting in arguments[2:]]
        path = Path(source) if source.endswith(".yaml") else None
        config = load_config(path, settings if path else [f"data.path={source}", *settings])
        arguments = (*arguments, *SIZE.settings(config))
    return run_command(sys.executable, "-m", "pipeline.cli", *arguments, code=code, **options)


def is_fresh() -> bool:
    """Whether FRESH=1 asks for all work to be done again, so that no earlier run is used."""
    return os.environ.get("FRESH", "0") not in ("", "0")


def kept_folder(name: str) -> Path:
    """The folder of a promise that keeps what it has from one measurement to the next; empty with FRESH=1."""
    return fresh_folder(name) if is_fresh() else WORK / name


def say_reused(folder: Path) -> None:
    """Print that an earlier run is read and not trained again, and how to train it again."""
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "report.json").stat().st_mtime))
    print(f"  REUSED: {folder} was trained before, it ended {day}; FRESH=1 trains it again", flush=True)


def is_finished(config: Config) -> bool:
    """Whether the folder of a config holds a finished run of this very config, which is then said aloud.

    A run of another config is removed, and with FRESH=1 any run.
    """
    folder = run_folder(config)
    if is_fresh():
        shutil.rmtree(folder, ignore_errors=True)
    path = folder / "config.yaml"
    if path.is_file():
        try:
            run_config = dump_config(load_config(path))  # settings that an older version did not have get defaults
        except ConfigError:
            run_config = ""
        if run_config != dump_config(config):
            shutil.rmtree(folder)
    if not (folder / "report.json").is_file():
        return False
    say_reused(folder)
    return True


def load_proof_config(config: str, settings: Sequence[str] = ()) -> Config:
    """A config of this repository with overrides; in a toy with those of the toy too."""
    path = REPOSITORY / "configs" / config
    return load_config(path, [*settings, *SIZE.settings(load_config(path, settings))])


def train_with_two_processes(config: str, *settings: str) -> None:
    """Train a config with torchrun and two processes. An interrupted run is resumed, a finished one is kept."""
    path = REPOSITORY / "configs" / config
    settings = (*settings, *SIZE.settings(load_config(path, settings)))
    if is_finished(load_config(path, [*settings, "tracking.wandb=off"])):
        return
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_command(*torchrun, "-m", "pipeline.cli", "train", path, *settings, "tracking.wandb=off")


def prepare_dataset(name: str, *arguments: str | Path) -> None:
    """Run the prepare.py of a data set. A toy draws few puppets, of whatever size is asked for."""
    if SIZE.toy and name == "puppets":
        options = dict(zip(arguments[::2], arguments[1::2], strict=True))
        toy_data.draw_puppets(REPOSITORY, str(options["--size"]), Path(options["--out"]))
        return
    run_command(sys.executable, REPOSITORY / "datasets" / name / "prepare.py", *arguments)


def train_all(config: str, settings: Sequence[Sequence[str]], processes: int = 2) -> list[dict[str, Any]]:
    """Train a config with each list of settings, `processes` at a time. Returns the reports.

    A finished run in the same folder is read and not trained again, so a long promise continues after an interruption.
    """
    jobs = [(config, list(overrides)) for overrides in settings]
    if SIZE.toy:  # a process would take longer to start than to train
        return [_train(job) for job in jobs]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_train, jobs))


def _train(job: tuple[str, list[str]]) -> dict[str, Any]:
    config = load_proof_config(job[0], [*job[1], "tracking.wandb=off"])
    if is_finished(config):
        return read_report(run_folder(config))
    return train(config, lambda text: None).report


def report_row(report: dict[str, Any], model: str | None = None, order: str = "forward") -> dict[str, Any]:
    """A row of a report; by default that of its first model, which is the model of the config."""
    name = model or report["rows"][0]["model"]
    return next(row for row in report["rows"] if row["model"] == name and row["order"] == order)


def pooled_accuracy(reports: Sequence[dict[str, Any]], model: str | None = None, order: str = "forward") -> float:
    """The accuracy over the clips of several test splits (folds) together."""
    rows = [report_row(report, model, order) for report in reports]
    return sum(row["accuracy"] * row["count"] for row in rows) / sum(row["count"] for row in rows)


def print_table(title: str, rows: Sequence[tuple[str, Sequence[float]]], note: str) -> None:
    """Print rows of (name, one number for each seed) with their means."""
    print(f"\n{title}")
    width = max(len(name) for name, _ in rows)
    for name, numbers in rows:
        seeds = "  ".join(f"{number:.3f}" for number in numbers)
        print(f"  {name:<{width}}   mean {sum(numbers) / len(numbers):.3f}   seeds {seeds}")
    print(f"  {note}", flush=True)


def training_seconds(rows: Sequence[dict[str, Any]]) -> float:
    """The seconds of a training from the rows of its metrics.jsonl, over all of its legs.

    The clock starts again where a training was resumed, so the last row of each leg counts.
    """
    seconds = [float(row["time/seconds"]) for row in rows if "time/seconds" in row]
    return sum(now for now, later in pairwise([*seconds, 0.0]) if later < now)


def count_failed(reports: Sequence[dict[str, Any]]) -> int:
    """The number of different videos that could not be read, over reports."""
    return len({video for report in reports for video in report["failed"]})


class Stopwatch:
    """The seconds since the object was created."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        return time.monotonic() - self.started


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a run or of an evaluation."""
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines: rows of metrics, predictions."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
