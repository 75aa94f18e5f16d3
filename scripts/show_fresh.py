"""The promise of the README's two commands: a fresh clone, no environment, make demo and make test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import proof


def fresh_clone(data: Path, seeds: int) -> tuple[str, bool]:
    """Clone, make demo, make test, in an environment that holds nothing of this one's."""
    watch = proof.Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "unreel"
        proof.command("git", "clone", "-q", proof.REPOSITORY, clone)
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("VIRTUAL_ENV", "PYTHON", "UNREEL", "MAKE", "MFLAGS"))
        }
        here = str(proof.REPOSITORY / ".venv")
        kept["PATH"] = os.pathsep.join(p for p in kept["PATH"].split(os.pathsep) if not p.startswith(here))
        kept["UNREEL_CACHE"] = str(Path(folder) / "cache")
        install = subprocess.run(["make", ".venv/ready"], cwd=clone, env=kept).returncode
        installed = watch.seconds
        demo = subprocess.run(["make", "demo"], cwd=clone, env=kept).returncode
        demo_seconds = watch.seconds - installed
        rows = json.loads((clone / "runs/demo/run/report.json").read_text())["rows"] if demo == 0 else []
        has_means = {"mean-pool linear", "mean-pool MLP"} <= {r["model"] for r in rows}
        tests = subprocess.run(["make", "test"], cwd=clone, env=kept).returncode
        test_seconds = watch.seconds - installed - demo_seconds
        shutil.rmtree(clone / ".venv", ignore_errors=True)
    holds = install == demo == tests == 0 and has_means and demo_seconds < 360 and test_seconds < 600
    return (
        f"installed in {installed:.0f} s, make demo exit {demo} in {demo_seconds:.0f} s (bar 360), make test exit {tests} in "
        f"{test_seconds:.0f} s (bar 600), mean-pool rows {'beside' if has_means else 'MISSING'}"
    ), holds
