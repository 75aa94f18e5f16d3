"""The unreel command, in a process of its own or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import REPOSITORY

from pipeline.cli import main


def unreel(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as from a shell."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, **options)


def call(*arguments: str | Path) -> int:
    return main([str(a) for a in arguments])
