"""The command `unreel`, in a new process or in the process of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import REPOSITORY

from pipeline.cli import main


def unreel(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a new process, as a shell does."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, **options)


def call(*arguments: str | Path) -> int:
    """Run the command in this process: its exit code."""
    return main([str(a) for a in arguments])
