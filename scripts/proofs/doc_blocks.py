"""The code blocks of the README and of docs/, run as a reader would run them.

In: Markdown files. Out: their blocks, and what goes wrong when they run. A block of `text` behind a block of Python is
its printed output. The words must be equal. A number may differ by 0.05 or 5 %, because processors round differently.
A block that begins with ```python needs=DATA (or docker, gpu) is left out and counted.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(r"^```(\S*)[ ]*(.*)$")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
TOLERANCE = 0.05
"""Of a number in an output: absolute, and as a share of it."""


class Block(NamedTuple):
    """A fenced block of a page.

    file, line: where it begins. language: such as python or text. needs: what it needs besides the repository, or an
    empty text. text: its lines. output: the `text` block right behind it, or None.
    """

    file: str
    line: int
    language: str
    needs: str
    text: str
    output: str | None = None


def documents(root: Path) -> list[Path]:
    """The README and every page of docs/ that has code for readers."""
    pages = [page for page in (root / "docs").glob("*.md") if page.name not in ("LOG.md", "results.md")]
    return [root / "README.md", *sorted(pages)]


def blocks_of(path: Path, root: Path) -> list[Block]:
    """The fenced blocks of one file, each with the output block behind it."""
    blocks: list[Block] = []
    opened: tuple[int, str, str, list[str]] | None = None
    gap: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None and fence:
            needs = fence[2].removeprefix("needs=") if fence[2].startswith("needs=") else ""
            opened = number, fence[1], needs, []
        elif opened is not None and line.strip() == "```":
            start, language, needs, lines = opened
            text, opened = "\n".join(lines) + "\n", None
            follows = bool(blocks) and blocks[-1].output is None and not "".join(gap).strip()
            if language == "text" and follows and blocks[-1].language == "python":
                blocks[-1] = blocks[-1]._replace(output=text)
            else:
                blocks.append(Block(str(path.relative_to(root)), start, language, needs, text))
            gap = []
        elif opened is not None:
            opened[3].append(line)
        else:
            gap.append(line)
    return blocks


def run_python(blocks: list[Block], folder: Path) -> Iterator[str]:
    """Run the Python blocks of one file in one namespace, in `folder`; yields a sentence for every block that fails."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with working_in(folder):
        for block in blocks:
            if block.language != "python" or block.needs:
                continue
            printed = io.StringIO()
            try:
                with contextlib.redirect_stdout(printed):
                    exec(compile(block.text, f"{block.file}:{block.line}", "exec"), namespace)
            except Exception:
                yield f"{block.file}:{block.line} raised\n{traceback.format_exc(limit=-3)}"
                continue
            if block.output is not None and not is_alike(block.output, printed.getvalue()):
                yield f"{block.file}:{block.line} printed\n{printed.getvalue()}and the page says\n{block.output}"
            if block.output is None and printed.getvalue().strip():
                yield f"{block.file}:{block.line} printed\n{printed.getvalue()}and the page shows no output"


def is_alike(expected: str, actual: str) -> bool:
    """Whether two outputs have the same words, and numbers that differ by no more than rounding."""
    if NUMBER.sub("#", expected).split() != NUMBER.sub("#", actual).split():
        return False
    pairs = zip(NUMBER.findall(expected), NUMBER.findall(actual), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE * max(1.0, abs(float(a))) for a, b in pairs)


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make `folder` the working folder, and go back."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
