"""The files of a repository, with the syntax tree, the strings and the comments of each Python file.

In: the root folder. Out: paths relative to the root, and passages of text with their lines. Not part of the product.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

IGNORED = {"__pycache__", "build", "data", "node_modules", "runs", "venv"}
"""Folders at the root that are left out where git does not list the files. Hidden folders are left out as well."""


class Passage(NamedTuple):
    """A text of a file, with its first line. kind: string, docstring, comment, or line of a file that is no Python."""

    line: int
    text: str
    kind: str


class Repository:
    """The files under a root folder. Each file is read and parsed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._texts: dict[str, str] = {}
        self._trees: dict[str, ast.Module | None] = {}

    @cached_property
    def files(self) -> list[str]:
        """All text files, as relative paths with slashes: those that git tracks or would add, without deleted ones."""
        command = ["git", "-C", str(self.root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True)
        names = listed.stdout.split("\0") if listed.returncode == 0 else self._walked()
        return sorted({name for name in names if name and self._is_text(name)})

    def _walked(self) -> list[str]:
        found = [path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file()]
        return [
            path.as_posix()
            for path in found
            if path.parts[0] not in IGNORED and not any(part.startswith(".") for part in path.parts[:-1])
            if "__pycache__" not in path.parts
        ]

    def _is_text(self, name: str) -> bool:
        path = self.root / name
        if not path.is_file():
            return False
        try:
            self._texts[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def with_suffix(self, *suffixes: str) -> list[str]:
        """The files whose name ends in one of these suffixes."""
        return [name for name in self.files if name.endswith(suffixes)]

    @property
    def python(self) -> list[str]:
        """The Python files."""
        return self.with_suffix(".py")

    @property
    def package(self) -> list[str]:
        """The Python files under pipeline/."""
        return [name for name in self.python if name.startswith("pipeline/")]

    def text(self, name: str) -> str:
        """The content of a file."""
        assert name in self.files, "only listed files are read"
        return self._texts[name]

    def lines(self, name: str) -> list[str]:
        """The lines of a file."""
        return self.text(name).removesuffix("\n").split("\n")

    def tree(self, name: str) -> ast.Module | None:
        """The syntax tree of a Python file, or None where the file has a syntax error."""
        if name not in self._trees:
            try:
                self._trees[name] = ast.parse(self.text(name))
            except SyntaxError:
                self._trees[name] = None
        return self._trees[name]

    def is_package(self, module: str) -> bool:
        """Whether a dotted name is a folder with an __init__.py."""
        return f"{module.replace('.', '/')}/__init__.py" in self.files

    def passages(self, name: str) -> list[Passage]:
        """The strings and comments of a Python file, or all lines of another file."""
        if not name.endswith(".py"):
            return [Passage(number, line, "line") for number, line in enumerate(self.lines(name), 1)]
        tree = self.tree(name)
        return [*(strings(tree) if tree else ()), *(Passage(*one, "comment") for one in self.comments(name))]

    def comments(self, name: str) -> list[tuple[int, str]]:
        """The comments of a Python file with their lines; none where the file has a syntax error."""
        try:
            tokens = list(tokenize.generate_tokens(io.StringIO(self.text(name)).readline))
        except (tokenize.TokenError, SyntaxError):
            return []
        return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def strings(tree: ast.Module) -> Iterator[Passage]:
    """All strings. In an f-string each value is written as {}."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield Passage(node.lineno, rendered(node), "string")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield Passage(node.lineno, node.value, "docstring" if id(node) in docstrings else "string")


def rendered(node: ast.JoinedStr) -> str:
    """An f-string with {} for each value."""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def code_spans(passage: Passage) -> list[str]:
    """The texts between single or double backticks."""
    return [span.strip() for _, span in re.findall(r"(`+)([^`]+?)\1", passage.text)]
