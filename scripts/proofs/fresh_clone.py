"""The promise fresh-clone: a fresh clone without an environment, make demo and make test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import proof_tools

DEMO_SECONDS, TEST_SECONDS = 360, 600


def fresh_clone(data: Path, seeds: int) -> tuple[str, bool]:
    """Clone the repository, then make demo and make test, without the environment variables of this environment."""
    watch = proof_tools.Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "unreel"
        proof_tools.run_command("git", "clone", "-q", proof_tools.REPOSITORY, clone)
        environment = clean_environment(Path(folder) / "cache")
        install = subprocess.run(["make", ".venv/ready"], cwd=clone, env=environment).returncode
        install_seconds = watch.seconds
        demo = subprocess.run(["make", "demo"], cwd=clone, env=environment).returncode
        demo_seconds = watch.seconds - install_seconds
        rows = proof_tools.read_report(clone / "runs/demo/run")["rows"] if demo == 0 else []
        has_baselines = {"mean-pool linear", "mean-pool MLP"} <= {row["model"] for row in rows}
        tests = subprocess.run(["make", "test"], cwd=clone, env=environment).returncode
        test_seconds = watch.seconds - install_seconds - demo_seconds
        shutil.rmtree(clone / ".venv", ignore_errors=True)
    is_fast = demo_seconds < DEMO_SECONDS and test_seconds < TEST_SECONDS
    return (
        f"installed in {install_seconds:.0f} s, make demo exit {demo} in {demo_seconds:.0f} s (bar {DEMO_SECONDS}), "
        f"make test exit {tests} in {test_seconds:.0f} s (bar {TEST_SECONDS}), rows of mean pooling "
        f"{'in the report' if has_baselines else 'MISSING'}"
    ), install == demo == tests == 0 and has_baselines and is_fast


def clean_environment(cache: Path) -> dict[str, str]:
    """The environment variables without those of this virtual environment, and with an empty cache of unreel."""
    prefixes = ("VIRTUAL_ENV", "PYTHON", "UNREEL", "MAKE", "MFLAGS")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    venv = str(proof_tools.REPOSITORY / ".venv")
    paths = [path for path in variables["PATH"].split(os.pathsep) if not path.startswith(venv)]
    return {**variables, "PATH": os.pathsep.join(paths), "UNREEL_CACHE": str(cache)}
