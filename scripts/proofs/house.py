"""Show the shape of the repository, and that it keeps the rules of the house.

`house` prints the folders, the sizes, the modules that many others import, and the purpose of each module. Then it
prints each place that breaks a rule of RULES. It reads files only, and takes some seconds.

The files are those that git tracks, and new ones that it does not ignore. A file that is deleted does not count.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import find_retired
from repository_files import Repository

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 400
FUNCTION_LINES = 60
LINE_LENGTH = 120
TOP_FILES = 8
MIRRORS = ("pipeline/commands/", "pipeline/config/")
"""Folders whose modules may have the name of what they call or build."""


class Function(NamedTuple):
    """A function with its place and its length in lines."""

    place: str
    name: str
    lines: int


def functions(repository: Repository, names: list[str]) -> list[Function]:
    """All functions and methods of these files."""
    found = []
    for name in names:
        for node in ast.walk(repository.tree(name) or ast.Module([], [])):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                found.append(Function(f"{name}:{node.lineno}", node.name, length))
    return found


def without_tests(repository: Repository) -> list[str]:
    """The Python files outside tests/."""
    return [name for name in repository.python if not name.startswith("tests/")]


# rules: each returns a sentence for each place that breaks it


def unreadable(repository: Repository) -> list[str]:
    """Python files with a syntax error."""
    return [f"{name}: has a syntax error" for name in repository.python if repository.tree(name) is None]


def long_files(repository: Repository) -> list[str]:
    """Python files with too many lines."""
    counts = {name: len(repository.lines(name)) for name in repository.python}
    return [f"{name}: {count} lines, at most {FILE_LINES}" for name, count in counts.items() if count > FILE_LINES]


def long_functions(repository: Repository) -> list[str]:
    """Functions with too many lines, outside tests/."""
    found = functions(repository, without_tests(repository))
    return [
        f"{f.place}: {f.name} has {f.lines} lines, at most {FUNCTION_LINES}" for f in found if f.lines > FUNCTION_LINES
    ]


def long_lines(repository: Repository) -> list[str]:
    """Lines with too many characters, in Python, TOML and YAML."""
    return [
        f"{name}:{number}: {len(line)} characters, at most {LINE_LENGTH}"
        for name in repository.with_suffix(".py", ".toml", ".yaml", ".yml")
        for number, line in enumerate(repository.lines(name), 1)
        if len(line) > LINE_LENGTH
    ]


def unformatted(repository: Repository) -> list[str]:
    """Comments that switch the formatter off."""
    return [
        f"{name}:{line}: the formatter is switched off"
        for name in repository.python
        for line, comment in repository.comments(name)
        if re.search(r"fmt:\s*(skip|off)", comment)
    ]


def crowded_top(repository: Repository) -> list[str]:
    """Too many files at the top of pipeline/."""
    found = top_files(repository)
    listed = ", ".join(Path(name).name for name in found)
    return [f"pipeline/: {len(found)} files, at most {TOP_FILES}: {listed}"] if len(found) > TOP_FILES else []


def equal_names(repository: Repository) -> list[str]:
    """Modules with the same name in two folders of pipeline/. The folders of MIRRORS may repeat names of others."""
    places: dict[str, list[str]] = {}
    for name in repository.package:
        if not name.startswith(MIRRORS) and not name.endswith("__init__.py"):
            places.setdefault(Path(name).name, []).append(name)
    return [f"{', '.join(found)}: modules of one name" for found in places.values() if len(found) > 1]


def undocumented(repository: Repository) -> list[str]:
    """Public modules, classes, functions and methods of pipeline/ without a docstring."""
    found = []
    for name in repository.package:
        tree = repository.tree(name)
        if tree is None or (Path(name).stem.startswith("_") and not name.endswith("__init__.py")):
            continue
        if not ast.get_docstring(tree):
            found.append(f"{name}:1: the module has no docstring")
        found += [f"{name}:{line}: {what} has no docstring" for line, what in undocumented_in(tree.body, "")]
    return found


def undocumented_in(body: list[ast.stmt], owner: str) -> Iterator[tuple[int, str]]:
    """Lines and names of the public definitions in a body, and in the classes there, that have no docstring."""
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            branches = [*node.body, *node.orelse]
            yield from undocumented_in(branches, owner)
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.lineno, f"{owner}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented_in(node.body, f"{owner}{node.name}.")


RULES: dict[str, Callable[[Repository], list[str]]] = {
    "files that Python cannot read": unreadable,
    "files that are too long": long_files,
    "functions that are too long": long_functions,
    "lines that are too long": long_lines,
    "formatter switched off": unformatted,
    "too many files at the top of pipeline/": crowded_top,
    "modules of one name": equal_names,
    "missing docstrings": undocumented,
    "retired names": find_retired.problems,
}


def check(root: Path) -> dict[str, list[str]]:
    """By rule, a sentence for each place that breaks it."""
    repository = Repository(root)
    return {rule: find(repository) for rule, find in RULES.items()}


# the shape


def top_files(repository: Repository) -> list[str]:
    """The Python files at the top of pipeline/."""
    return [name for name in repository.package if name.count("/") == 1]


def folder_of(name: str) -> str:
    """The folder that a file counts for: below pipeline/ its own folder, elsewhere the folder at the top."""
    parts = name.split("/")[:-1]
    return "/".join(parts[:2] if parts[:1] == ["pipeline"] else parts[:1]) or "."


def folder_table(repository: Repository) -> list[str]:
    """The number of files and lines of each folder."""
    files, lines = Counter[str](), Counter[str]()
    for name in repository.files:
        files[folder_of(name)] += 1
        lines[folder_of(name)] += len(repository.lines(name))
    rows = [f"{folder:<24}{files[folder]:>6}{lines[folder]:>9,}" for folder in sorted(files)]
    return [f"{'folder':<24}{'files':>6}{'lines':>9}", *rows]


def size_table(repository: Repository) -> list[str]:
    """The median and the largest file and function."""
    files = {name: len(repository.lines(name)) for name in repository.python}
    found = functions(repository, without_tests(repository))
    if not files or not found:
        return ["no Python code"]
    largest, longest = max(files, key=lambda name: files[name]), max(found, key=lambda one: one.lines)
    return [
        f"Python files: median {median(files.values()):g} lines, largest {files[largest]} ({largest})",
        f"functions outside tests: median {median(f.lines for f in found):g} lines, "
        f"largest {longest.lines} ({longest.name}, {longest.place})",
    ]


def module_of(name: str) -> str:
    """The dotted name of a file."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(tree: ast.Module, package: str, modules: set[str]) -> set[str]:
    """The modules among `modules` that a file of `package` imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= inner & modules or {base}
    return found & modules


def fan_in(repository: Repository) -> Counter[str]:
    """By module of pipeline/, how many other modules of pipeline/ import it."""
    modules = {module_of(name): name for name in repository.package}
    count = Counter[str]()
    for module, name in modules.items():
        package = module if name.endswith("__init__.py") else module.rpartition(".")[0]
        count.update(imported(repository.tree(name) or ast.Module([], []), package, set(modules)) - {module})
    return count


def purposes(repository: Repository) -> list[str]:
    """By module of pipeline/, the first sentence of its docstring."""
    found = []
    for name in repository.package:
        tree = repository.tree(name)
        docstring = ast.get_docstring(tree) if tree else None
        said = " ".join((docstring or "").split())
        sentence = re.match(r".*?[.!?](?=\s|$)|.*", said)
        found.append(f"{name:<48} {sentence[0] if sentence and said else '-'}")
    return found


def shape(root: Path) -> str:
    """The shape of the repository as a text."""
    repository = Repository(root)
    top = ", ".join(Path(name).name for name in top_files(repository))
    imports = [f"{count:>4}  {module}" for module, count in fan_in(repository).most_common(10)]
    parts = [
        folder_table(repository),
        size_table(repository),
        ["imported by so many modules of pipeline/:", *imports],
        [f"at the top of pipeline/: {top}"],
        ["purposes:", *purposes(repository)],
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def house(data: Path, seeds: int) -> tuple[str, bool]:
    """Print the shape and each broken rule. Returns the figure, and whether no rule is broken. It uses no data."""
    print(shape(ROOT))
    broken = check(ROOT)
    for rule, places in broken.items():
        print(f"\n{rule}: {len(places)}" if places else f"\n{rule}: none")
        for place in places:
            print(f"  {place}")
    counts = [f"{len(places)} {rule}" for rule, places in broken.items() if places]
    total = sum(map(len, broken.values()))
    files = len(Repository(ROOT).files)
    said = f" ({', '.join(counts)})" if counts else ""
    return f"{total:,} places in {files} files break a rule of the house{said}", not total
