"""Folder jobs in real processes: models, inputs, and a job that is slow enough to be stopped in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conftest import REPOSITORY
from streaming import make_checkpoint, make_series

from pipeline.checkpoint import Checkpoint, save_model
from pipeline.config.architecture import TOKENS, Architecture
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import Vocabulary

SLOW = """
import sys, time
from pipeline import cli
whole = cli._RowPrinter.__call__
def slow(self, row, done, total):
    whole(self, row, done, total)
    time.sleep(float(sys.argv[1]))
cli._RowPrinter.__call__ = slow
sys.exit(cli.main(sys.argv[2:]))
"""
"""`unreel` with a pause after each row, in seconds."""
TIMEOUT = 120


def make_job(folder: Path, count: int = 12) -> list[str]:
    """A model and inputs in a folder, of which one is bad; the arguments of `unreel predict` without --out."""
    save_model(folder / "model", make_checkpoint())
    (folder / "in/sub").mkdir(parents=True)
    for n in range(count):
        values, _ = make_series(20 + n, seed=n)
        np.save(folder / ("in/sub" if n % 3 else "in") / f"{n}.npy", values)
    (folder / "in/bad.npy").write_text("no array")
    formats = ("--format", "jsonl", "csv", "parquet")
    return ["predict", str(folder / "in"), "--model", str(folder / "model"), *formats]


def make_text_job(folder: Path) -> list[str]:
    """A model of texts and three texts; the arguments of `unreel predict` without --out."""
    tokenizer = Tokenizer.train(["one two three", "another"])
    architecture = Architecture.model_validate(
        {"encoder": {"kind": "tokens", "embedding": 4}, "core": {"hidden": 4}, "heads": {"mood": {}}}
    )
    names = {TOKENS: tokenizer, "mood": Vocabulary(("good", "bad"))}
    save_model(folder / "model", Checkpoint(architecture.build(names).eval(), architecture, names, None, {}))
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    return ["predict", str(folder / "a.txt"), "--model", str(folder / "model"), "--format", "jsonl"]


def start(arguments: Sequence[str | Path], pause: float = 0.1, prefix: Sequence[str] = (), **options: Any) -> Any:
    """Start a job that rests after each row. The caller waits for it."""
    command = [*prefix, sys.executable, "-c", SLOW, str(pause), *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, **options)


def wait_for_rows(process: Any, count: int) -> str:
    """Read what a job prints until it has answered for so many inputs. Returns it."""
    text = ""
    while text.count(" videos/s ") < count:
        line = process.stderr.readline()
        assert line, f"the job has ended: {text}"
        text += line
    return text


def views(out: Path) -> dict[str, bytes]:
    """The files that people read, by name, with their bytes."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.name.startswith("predictions")}
