"""The promise same-numbers: a commit whose names changed makes the same numbers as the one before, to the last bit.

The probe runs in an exported copy of each commit, in a process of its own. By hand, for folders that the probe wrote:

    python scripts/proofs/same_numbers.py OLD NEW
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

from same_numbers_compare import Comparison, compare

OLD = "6efafba"
LAST: str | None = "89cde2392ca3e9b7e1640311393aa6a6d1535a6d"
"""The last commit that must make the numbers of OLD. None is HEAD. A hash is written here once numbers change."""
REPOSITORY = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).resolve().with_name("same_numbers_probe.py")
WORK = Path("runs/show/same-numbers")
SHOWN, LONGEST = 20, 400
HOURS = 1


def same_numbers(data: Path, seeds: int) -> tuple[str, bool]:
    """Both commits train every head and cell, and answer by models and metrics, for each seed of the trainings."""
    work = WORK.resolve()
    shutil.rmtree(work, ignore_errors=True)
    trees = {"old": export(OLD, work / "old"), "new": export(LAST or "HEAD", work / "new")}
    said, holds = [], True
    for seed in range(seeds):
        folders = []
        for names, tree in trees.items():
            folders.append(work / f"numbers{seed}" / names)
            if code := probe(tree, names, folders[-1], seed):
                return f"the probe ended with exit code {code} in the {names} tree", False
        found = compare(*folders)
        show(found)
        said.append(f"seed {seed}: {found}")
        holds = holds and found.cases > 0 and not found.differences
    return "; ".join(said), holds and seeds > 0


def export(commit: str, folder: Path) -> Path:
    """The files of a commit in a new folder, without what is not committed."""
    folder.mkdir(parents=True)
    packed = folder.with_suffix(".tar")
    subprocess.run(["git", "archive", "--output", packed, commit], cwd=REPOSITORY, check=True)
    with tarfile.open(packed) as files:
        files.extractall(folder, filter="data")
    packed.unlink()
    known = subprocess.run(
        ["git", "rev-parse", "--short", commit], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    print(f"{folder.name}: {known.stdout.strip()}", flush=True)
    return folder


def probe(tree: Path, names: str, out: Path, seed: int) -> int:
    """Run the probe in one tree, on one thread of the CPU. Returns its exit code."""
    out.parent.mkdir(parents=True, exist_ok=True)
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    here = {"PYTHONPATH": str(tree), "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0"}
    asked = ["--tree", tree, "--names", names, "--out", out, "--seed", str(seed)]
    return subprocess.run(
        [sys.executable, PROBE, *asked], cwd=tree, env={**os.environ, **one, **here}, timeout=HOURS * 3600
    ).returncode


def show(found: Comparison) -> None:
    """Print the first differences, the rules for names of weights that are missing, and the counts."""
    for line in found.differences[:SHOWN]:
        print(f"  {' '.join(line.split())[:LONGEST]}")
    if len(found.differences) > SHOWN:
        print(f"  ... and {len(found.differences) - SHOWN} more")
    counts = Counter(line.partition(": ")[0].partition(" ")[0] for line in found.differences)
    if counts:
        print(f"  differences by case: {', '.join(f'{case} {count}' for case, count in counts.most_common())}")
    for hint in sorted(found.hints):
        print(f"  weights: no rule of STATE_RULES for {hint}")
    print(found, flush=True)


if __name__ == "__main__":
    result = compare(*map(Path, sys.argv[1:3]))
    show(result)
    raise SystemExit(1 if result.differences else 0)
