"""Trainings as a user starts them, stopped by signals, and what they left.

In: a manifest of made series and settings. Out: `Run`s, read from their folders. Not part of the product.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import proof
import torch

Rows = list[dict[str, Any]]
ONE = (sys.executable, "-m", "pipeline.cli")
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipeline.cli")
COMMON = (
    "encoder.kind=series",
    "clock.rate=10",
    "core.hidden=32",
    "core.recurrent_dropout=0.1",
    "data.validation=0.2",
    "evaluation.baselines=false",
    "training.batch_size=8",
    "training.epochs=60",
    "training.patience=4",
    "training.lr=3e-3",
    "training.log_every=1",
    "training.save_every=7",
)
EPOCH = 15  # steps: 120 rows in batches of 8


class Run:
    """What a run left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stops = folder, list[int]()

    def rows(self, part: str | None = None) -> Rows:
        """The rows of metrics.jsonl so far; a half-written line is not one."""
        path = self.folder / "metrics.jsonl"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [row for row in found if part in (None, row["part"])]

    @property
    def state(self) -> dict[str, Any]:
        """resume.pt."""
        return torch.load(self.folder / "resume.pt", weights_only=True)

    @property
    def progress(self) -> dict[str, Any]:
        """Where the training stands, from resume.pt."""
        return self.state["progress"]


class Training:
    """Trainings that are alike but for their folder."""

    def __init__(self, work: Path, manifest: Path, settings: Sequence[str], start: Sequence[str] = ONE) -> None:
        self.work, self.start, self.settings = work, start, [str(manifest), *COMMON, *settings]

    def command(self, folder: Path) -> list[str]:
        """What a user would type."""
        return [*self.start, "train", *self.settings, f"run={folder}"]

    def finish(self, name: str) -> Run:
        """Train to the end."""
        proof.command(*self.command(self.work / name), env=environment_here())
        return Run(self.work / name)

    def broken(self, name: str, stops: Sequence[tuple[signal.Signals, int]], *, to_group: bool = False) -> Run:
        """Stop it by each signal as soon as its step is in metrics.jsonl, go on, and finish.

        SIGKILL goes to its child processes as well; another signal goes to it alone, or to the group as from a terminal.
        """
        run = Run(self.work / name)
        for number, step in stops:
            process = subprocess.Popen(
                self.command(run.folder),
                env=environment_here(),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=to_group,
            )
            while process.poll() is None and (not (rows := run.rows("train")) or rows[-1]["step"] < step):
                time.sleep(0.002)
            if to_group:
                os.killpg(process.pid, number)
            for one in [] if to_group else [process.pid, *(_children(process.pid) if number == signal.SIGKILL else [])]:
                os.kill(one, number)
            said, _ = process.communicate(timeout=120)
            wanted = -number if number == signal.SIGKILL else 128 + number
            if number != signal.SIGKILL and self.start is TWO:
                wanted = 1  # torchrun's own
            if process.returncode != wanted:
                raise SystemExit(f"{number.name} gave exit code {process.returncode}, not {wanted}\n{said[-3000:]}")
            run.stops.append(run.rows("train")[-1]["step"])
            self._say(run, name, number)
        self.finish(name)
        return run

    def _say(self, run: Run, name: str, number: signal.Signals) -> None:
        last, has_state = run.stops[-1], (run.folder / "resume.pt").is_file()
        goes_on = f"step {run.progress['step']}" if has_state else "the beginning (no state yet)"
        print(
            f"  {name}: {number.name} after step {last} (epoch {last // EPOCH + 1}, batch {last % EPOCH} of {EPOCH}); goes on from {goes_on}",
            flush=True,
        )


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    result = subprocess.run(["ps", "-eo", "pid=,ppid="], text=True, capture_output=True, check=True)
    return [int(line.split()[0]) for line in result.stdout.splitlines() if int(line.split()[1]) == pid]


def environment_here() -> dict[str, str]:
    """So that `python -m pipeline.cli` is this repository's, on the CPU."""
    return {**os.environ, "PYTHONPATH": str(proof.REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
