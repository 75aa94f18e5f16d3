"""Nothing in the README is untrue: its commands parse, its files exist, its promises are listed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    unreel (.*?)(?:\s+#.*)?$", README, flags=re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_parses(command: str) -> None:
    options = parser().parse_args(shlex.split(command))
    assert options.verb == command.split()[0]


def test_there_are_commands_and_every_verb_is_shown() -> None:
    shown = {command.split()[0] for command in COMMANDS}
    assert {"train", "predict", "evaluate", "extract", "check", "watch", "generate"} <= shown


def test_named_configs_files_and_folders_exist() -> None:
    named = re.findall(r"(?:configs|datasets|docs|scripts|docker)/[\w./-]*\w", README)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert named and not missing


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
