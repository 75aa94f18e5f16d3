"""Promise `first-hour`: what a person meets in the first hour.

First part: 42 plausible mistakes. Each ends with an exit code that is not 0, a sentence that names the value and says
what to do, no traceback, and with every file as it was. Second part (`first_hour_path`): a folder of one's own ->
`unknown` for a foreign video -> a verdict.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import proof_tools
from first_hour_mistakes import MISTAKES, SMALL, Mistake, make_workplace
from first_hour_path import TIMEOUT, first_hour_path


def first_hour(data: Path, seeds: int) -> tuple[str, bool]:
    """Make every mistake of the table in a folder with videos and a finished run; then go the way without one."""
    work = proof_tools.fresh_folder("first-hour").resolve()
    right = count_right_mistakes(work / "mistakes")
    path, holds = first_hour_path(data, work / "own")
    figure = f"{right} of {len(MISTAKES)} mistakes give their exit code and sentence, and lose nothing; {path}"
    return figure, holds and right == len(MISTAKES) >= 40


def count_right_mistakes(folder: Path) -> int:
    """How many mistakes of the table end as they must; prints a line for each."""
    make_workplace(folder)
    settings = [*SMALL.split(), "run=runs/done"]
    proof_tools.unreel("train", "small.yaml", *settings, cwd=folder, env=environment(folder))
    right = 0
    for name, mistake in MISTAKES.items():
        problems, sentence = problems_of(mistake, folder)
        right += not problems
        print(f"  {name:<30} unreel {mistake.command}\n{'':<33}exit {mistake.code}: {sentence[:200]}", flush=True)
        for problem in problems:
            print(f"{'':<33}WRONG: {problem}", flush=True)
    return right


def problems_of(mistake: Mistake, folder: Path) -> tuple[list[str], str]:
    """What is wrong with the end of a command, and the line of its output that has the words."""
    shutil.rmtree(folder / "o", ignore_errors=True)  # the answers of an earlier command, which this one may replace
    before = digests(folder)
    done = run(mistake, folder)
    printed = done.stderr + done.stdout
    lines = [line.strip() for line in printed.splitlines() if mistake.words in line]
    problems = []
    if done.returncode != mistake.code:
        problems.append(f"exit code {done.returncode}, not {mistake.code}")
    if not lines:
        problems.append(f"no line has {mistake.words!r}: {printed[-800:]}")
    if "Traceback" in printed:
        problems.append("a traceback")
    after = digests(folder)
    lost = [path for path, digest in before.items() if after.get(path) != digest]
    if lost:
        problems.append(f"lost or changed: {', '.join(lost)}")
    new = [path for path in after if path not in before and not path.startswith("o/")]
    if new:
        problems.append(f"left behind: {', '.join(new)}")
    return problems, lines[0] if lines else ""


def run(mistake: Mistake, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type the command."""
    command = [sys.executable, "-m", "pipeline.cli", *shlex.split(mistake.command)]
    if mistake.stdin is None:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )
    with subprocess.Popen(["cat", mistake.stdin], cwd=folder, stdout=subprocess.PIPE) as pipe:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            stdin=pipe.stdout,
            timeout=TIMEOUT,
        )


def environment(folder: Path) -> dict[str, str]:
    """The environment of a command; its cache lies beside the folder."""
    cache = folder.parent / "cache"
    return {**os.environ, "PYTHONPATH": str(proof_tools.REPOSITORY), "UNREEL_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def digests(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder, and a mark for every folder."""
    paths = sorted(folder.rglob("*"))
    return {
        str(path.relative_to(folder)) + ("/" if path.is_dir() else ""): ""
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }
