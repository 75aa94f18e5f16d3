"""Promise `readme`: the README has at most 200 lines, and every command in it runs in a fresh clone, as written."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import proof_tools
from reader_files import make_reader_files

MOST_LINES = 200
MOST_MINUTES = 60.0
COMMAND = re.compile(r"^    (make|unreel|python|source|pip|torchrun) \S.*$")
NEEDS = re.compile(r"DATA=|docker|cuda|--gpus")


def readme(data: Path, seeds: int) -> tuple[str, bool]:
    """Clone the last commit, make the reader's files, run the commands one after another."""
    work, watch = proof_tools.fresh_folder("readme"), proof_tools.Stopwatch()
    clone = work / "clone"
    proof_tools.run_command("git", "clone", "-q", proof_tools.REPOSITORY, clone)
    text = (clone / "README.md").read_text(encoding="utf-8")
    count, commands = len(text.splitlines()), commands_of(text)
    failed: list[str] = []
    for number, command in enumerate(commands):
        if number == 2:  # after `make demo` and `make test`, which make the environment
            make_files(clone)
        started = watch.seconds
        code = run(command, clone)
        print(f"  {command[:90]:<90} exit {code}   {watch.seconds - started:.0f} s", flush=True)
        if not is_right(command, code):
            failed.append(command)
    undated = undated_figures(text, clone / "docs/results.md")
    for line in undated:
        print(f"  a result without its promise or date: {line[:110]}")
    minutes = watch.seconds / 60
    figure = (
        f"{count} lines (bar {MOST_LINES}); {len(commands) - len(failed)} of {len(commands)} commands run in "
        f"{minutes:.0f} minutes (bar {MOST_MINUTES:g}); {len(undated)} results without promise and date"
    )
    holds = count <= MOST_LINES and not failed and minutes < MOST_MINUTES and not undated and len(commands) > 4
    return figure, holds


def commands_of(text: str) -> list[str]:
    """The commands of the indented blocks, in order, without their comments; none may need data, docker or a GPU."""
    lines = [line.split("  #")[0].strip() for line in text.splitlines() if COMMAND.match(line)]
    assert not [line for line in lines if NEEDS.search(line)], "such a command belongs into docs/"
    return lines


def make_files(clone: Path) -> None:
    """Draw puppets, and make of them the files that a reader brings."""
    puppets = clone / "runs/reader/puppets"
    proof_tools.prepare_dataset("puppets", "--size", "small", "--out", puppets)
    make_reader_files(puppets, clone)


def run(command: str, clone: Path) -> int:
    """Run one command in a shell of the clone, with its environment active. Returns the exit code."""
    active = "source .venv/bin/activate 2>/dev/null; " if (clone / ".venv").is_dir() else ""
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")
    done = subprocess.run(
        ["bash", "-c", active + command],
        cwd=clone,
        env={key: value for key, value in os.environ.items() if key not in hidden},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    if not is_right(command, done.returncode):
        print((done.stdout[-1500:] + done.stderr[-3000:]).strip(), flush=True)
    return done.returncode


def is_right(command: str, code: int) -> bool:
    """Exit code 0; 1 of `unreel predict` on a folder that holds broken files, as the README says."""
    return code == 0 or (code == 1 and command.startswith("unreel predict clips/"))


def undated_figures(readme: str, results: Path) -> list[str]:
    """The rows of results tables that name neither their promise nor a date, in the README and in docs/results.md."""
    section = readme.split("## Results", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and re.search(r"\d\.\d", line)]
    return [line for line in rows if not re.search(r"`[a-z0-9-]+`, \d{4}-\d\d-\d\d", line)] + undated_sections(results)


def undated_sections(path: Path) -> list[str]:
    """The tables of docs/results.md before which, or in which, no promise and no date stands."""
    missing: list[str] = []
    for section in re.split(r"(?m)^## ", path.read_text(encoding="utf-8"))[1:]:
        title = section.splitlines()[0]
        has_figures = re.search(r"(?m)^\| .*\d\.\d", section)
        if has_figures and not (re.search(r"`[a-z0-9-]+`", section) and re.search(r"\d{4}-\d\d-\d\d", section)):
            missing.append(f"docs/results.md, {title}")
    return missing
