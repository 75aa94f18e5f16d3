"""Trainings by the command line that are stopped by signals and resumed.

In: a manifest of synthetic series, and settings. Out: `Run`s, which read what the trainings wrote into their folders.
It is not part of the product.
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

import proof_tools
import torch

Rows = list[dict[str, Any]]
ONE_PROCESS = (sys.executable, "-m", "pipeline.cli")
TWO_PROCESSES = (
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("-m", "pipeline.cli"),
)
MAX_EPOCHS = proof_tools.SIZE.pick(60, 5)
COMMON = (
    "encoder.kind=series",
    "clock.rate=10",
    "core.hidden=32",
    "core.recurrent_dropout=0.1",
    "data.validation_share=0.2",
    "evaluation.baselines=false",
    *proof_tools.SIZE.pick([], ["evaluation.cross_calibrate=false", "evaluation.order_controls=false"]),
    "training.batch_size=8",
    f"training.epochs={MAX_EPOCHS}",
    "training.patience=4",
    "training.lr=3e-3",
    "training.log_every=1",
    "training.save_every=7",
    "training.keep_state=true",
)
EPOCH_STEPS = 15  # 120 rows in batches of 8


class Run:
    """The folder of a run. stops: the last logged step at each signal."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stops = folder, list[int]()

    def rows(self, split: str | None = None) -> Rows:
        """The rows of metrics.jsonl so far, of all splits or of one. A half-written line is left out."""
        path = self.folder / "metrics.jsonl"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [row for row in rows if split in (None, row["split"])]

    @property
    def state(self) -> dict[str, Any]:
        """The content of resume.pt."""
        return torch.load(self.folder / "resume.pt", weights_only=True)

    @property
    def progress(self) -> dict[str, Any]:
        """The progress of the training, from resume.pt."""
        return self.state["progress"]


class Training:
    """Trainings with the same settings in different folders. launcher: the command before `train`."""

    def __init__(
        self, work: Path, manifest: Path, settings: Sequence[str], launcher: Sequence[str] = ONE_PROCESS
    ) -> None:
        self.work, self.launcher, self.settings = work, launcher, [str(manifest), *COMMON, *settings]

    def command(self, folder: Path) -> list[str]:
        """The command line of a training."""
        return [*self.launcher, "train", *self.settings, f"run={folder}"]

    def train(self, name: str) -> Run:
        """Train, or resume, to the end."""
        proof_tools.run_command(*self.command(self.work / name), env=cpu_environment())
        return Run(self.work / name)

    def train_interrupted(
        self, name: str, stops: Sequence[tuple[signal.Signals, int]], *, to_group: bool = False
    ) -> Run:
        """Train, stop at each (signal, step) as soon as the step is in metrics.jsonl, resume, and train to the end.

        SIGKILL goes to the process and its children. Another signal goes to the process alone; with to_group it goes to
        the whole process group, as Ctrl-C in a terminal does.
        """
        run = Run(self.work / name)
        for number, step in stops:
            process = subprocess.Popen(
                self.command(run.folder),
                env=cpu_environment(),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=to_group,
            )
            while process.poll() is None and (not (rows := run.rows("train")) or rows[-1]["step"] < step):
                time.sleep(0.002)
            if to_group:
                os.killpg(process.pid, number)
            else:
                children = _children(process.pid) if number == signal.SIGKILL else []
                for pid in (process.pid, *children):
                    os.kill(pid, number)
            output, _ = process.communicate(timeout=120)
            expected = self._exit_code(number)
            if process.returncode != expected:
                raise SystemExit(f"{number.name} gave exit code {process.returncode}, not {expected}\n{output[-3000:]}")
            run.stops.append(run.rows("train")[-1]["step"])
            self._print_stop(run, name, number)
        self.train(name)
        return run

    def _exit_code(self, number: signal.Signals) -> int:
        if number == signal.SIGKILL:
            return -number
        return 1 if self.launcher is TWO_PROCESSES else 128 + number  # torchrun has its own exit code

    def _print_stop(self, run: Run, name: str, number: signal.Signals) -> None:
        last, has_state = run.stops[-1], (run.folder / "resume.pt").is_file()
        start = f"step {run.progress['step']}" if has_state else "the beginning (no state yet)"
        print(
            f"  {name}: {number.name} after step {last} (epoch {last // EPOCH_STEPS + 1}, batch {last % EPOCH_STEPS} "
            f"of {EPOCH_STEPS}); resumes from {start}",
            flush=True,
        )


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    result = subprocess.run(["ps", "-eo", "pid=,ppid="], text=True, capture_output=True, check=True)
    return [int(line.split()[0]) for line in result.stdout.splitlines() if int(line.split()[1]) == pid]


def cpu_environment() -> dict[str, str]:
    """Environment variables with which `python -m pipeline.cli` is that of this repository, and runs on the CPU."""
    paths = {"PYTHONPATH": str(proof_tools.REPOSITORY)}
    return {**os.environ, **paths, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
