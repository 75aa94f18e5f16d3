"""README.md and docs/: their commands parse, the files that they name exist, and `make show` lists every promise."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.arguments import parser
from pipeline.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "LOG.md"})]
"""The log is history: it names files and settings that are gone."""
COMMANDS = [
    (page.name, command)
    for page in PAGES
    for command in re.findall(r"^    unreel (.*?)(?:\s+[#>].*)?$", page.read_text(encoding="utf-8"), flags=re.M)
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_the_documentation_parses(page: str, command: str) -> None:
    options = parser().parse_args(shlex.split(command))
    assert options.verb == command.split()[0]


def test_the_documentation_shows_every_verb() -> None:
    assert {command.split()[0] for _, command in COMMANDS} == set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_configs_files_and_folders_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"(?<![\w/])(?:configs|datasets|docs|scripts|docker)/[\w./-]*\w", text)
    assert not [name for name in names if not (ROOT / name).exists()]


def test_make_show_lists_every_promise() -> None:
    listed = subprocess.run(
        [sys.executable, str(ROOT / "scripts/show.py")], capture_output=True, text=True, check=True
    ).stdout
    for name in (
        "fresh-clone",
        "yoga6",
        "real-order",
        "ucf101",
        "puppets-order",
        "own-folder",
        "splits",
        "finetune",
        "resume",
        "wandb",
        "folder",
        "core-contract",
        "dropout-cost",
        "probes",
        "crf",
        "timeline",
        "timeline-real",
        "stream",
        "memory",
        "forecast",
        "pose",
        "unknown",
        "writers",
        "captions",
        "one-pass",
        "msvd",
        "transcribe",
        "shakespeare",
        "sentiment",
        "tags",
        "translate",
        "beam",
    ):
        assert re.search(rf"^{name}\b", listed, flags=re.M), name
