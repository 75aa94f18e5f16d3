"""What the promises' scripts share: a fresh working folder, runs in parallel processes, tables.

In: overrides for configs of this repository. Out: finished reports. Not part of the product.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pipeline.config import Config, dump_config, load_config
from pipeline.run import run_folder, train
from pipeline.section import ConfigError

REPOSITORY = Path(__file__).resolve().parents[1]
WORK = Path("runs/show")


def fresh(name: str) -> Path:
    """An empty folder for one promise."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def command(*arguments: str | Path, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command of the repository as a user would; `code` is the exit code it must have (None: any)."""
    result = subprocess.run([str(a) for a in arguments], text=True, capture_output=True, **options)
    if code is not None and result.returncode != code:
        raise SystemExit(
            f"{' '.join(map(str, arguments))}\nexit code {result.returncode}, not {code}\n"
            f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
        )
    return result


def unreel(*arguments: str | Path, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """The unreel command of this environment."""
    return command(sys.executable, "-m", "pipeline.cli", *arguments, code=code, **options)


def is_done(config: Config) -> bool:
    """Whether a run of just this config lies in its folder, finished. One of another config is removed: it would prove another thing."""
    folder = run_folder(config)
    kept = folder / "config.yaml"
    if kept.is_file():
        try:
            known = dump_config(load_config(kept))  # what an older version left out has its default
        except ConfigError:
            known = ""
        if known != dump_config(config):
            shutil.rmtree(folder)
    return (folder / "report.json").is_file()


def train_on_two(config: str, *settings: str) -> None:
    """Train a config by two processes, as `torchrun` does on two cores, or go on with that; nothing where it is done."""
    if is_done(load_config(REPOSITORY / "configs" / config, [*settings, "tracking.wandb=off"])):
        return
    command(
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipeline.cli",
        "train", REPOSITORY / "configs" / config, *settings, "tracking.wandb=off",
    )  # fmt: skip


def prepare_dataset(name: str, *arguments: str | Path) -> None:
    """Run a dataset's prepare.py."""
    command(sys.executable, REPOSITORY / "datasets" / name / "prepare.py", *arguments)


def train_all(config: str, settings: Sequence[Sequence[str]], processes: int = 2) -> list[dict[str, Any]]:
    """The reports of one config trained with each list of settings, so many at a time. A finished run in the same folder
    is read, not trained again: that is how a long promise goes on after an interruption.
    """
    jobs = [(config, list(s)) for s in settings]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_train, jobs))


def _train(job: tuple[str, list[str]]) -> dict[str, Any]:
    config = load_config(REPOSITORY / "configs" / job[0], [*job[1], "tracking.wandb=off"])
    if is_done(config):
        return report(run_folder(config))
    return train(config, lambda text: None).report


def pick(report: dict[str, Any], model: str | None = None, order: str = "forward") -> dict[str, Any]:
    """A row of a report; the first model is the one that was asked for."""
    wanted = model or report["rows"][0]["model"]
    return next(r for r in report["rows"] if r["model"] == wanted and r["order"] == order)


def pooled(reports: Sequence[dict[str, Any]], model: str | None = None, order: str = "forward") -> float:
    """Accuracy over the clips of several test parts (folds) together."""
    rows = [pick(r, model, order) for r in reports]
    return sum(r["accuracy"] * r["count"] for r in rows) / sum(r["count"] for r in rows)


def show_table(title: str, rows: Sequence[tuple[str, Sequence[float]]], note: str) -> None:
    """Rows of (name, one figure a seed), with their mean."""
    print(f"\n{title}")
    wide = max(len(name) for name, _ in rows)
    for name, figures in rows:
        each = "  ".join(f"{f:.3f}" for f in figures)
        print(f"  {name:<{wide}}   mean {sum(figures) / len(figures):.3f}   seeds {each}")
    print(f"  {note}", flush=True)


def failed_count(reports: Sequence[dict[str, Any]]) -> int:
    """Different videos that could not be read, over reports."""
    return len({video for r in reports for video in r["failed"]})


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return time.monotonic() - self.started


def report(folder: Path) -> dict[str, Any]:
    """The report of a run, or of an evaluation."""
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines: rows of metrics, predictions."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
