"""Promise `demo-time`: `make demo` takes no more CPU time than at the last commit of version 0.1.

Both demos run twice, in turn, in one environment, each from a `git archive` of its commit.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import proof_tools

OLD = "6efafba"
ROUNDS = 2
RATIO = 1.10


def demo_time(data: Path, seeds: int) -> tuple[str, bool]:
    """Run both demos in turn and compare the sums of their CPU seconds."""
    work = proof_tools.fresh_folder("demo-time")
    trees = {name: export(commit, work / name) for name, commit in (("old", OLD), ("new", "HEAD"))}
    seconds: dict[str, list[float]] = {name: [] for name in trees}
    for number in range(ROUNDS):
        for name, tree in trees.items():
            seconds[name].append(cpu_seconds(tree))
            print(f"  round {number + 1}, {name}: {seconds[name][-1]:.0f} CPU seconds", flush=True)
    ratio = sum(seconds["new"]) / sum(seconds["old"])
    listed = ", ".join(f"{name} {' and '.join(f'{s:.0f}' for s in times)}" for name, times in seconds.items())
    return f"CPU seconds of the demo, new over old: {ratio:.2f} (bar {RATIO:g}); {listed}", ratio <= RATIO


def export(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", commit], cwd=proof_tools.REPOSITORY, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def cpu_seconds(tree: Path) -> float:
    """The CPU time of one demo with its child processes, from nothing. Raises SystemExit where the demo fails."""
    proof_tools.run_command("rm", "-rf", tree / "runs")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    proof_tools.run_command(sys.executable, "scripts/demo.py", cwd=tree, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
