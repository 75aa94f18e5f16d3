"""Find names of the previous version: settings, keys of rows and files, classes and modules.

In: a repository and the tables of pipeline/config/retired.py. Out: one sentence for each place. It is not part of the
product.

Settings are found where settings stand: in YAML under configs/, in YAML within strings and Markdown, in dicts with the
name of a section or the kind of a head, in overrides (`key=value`), and as dotted names in any text. A setting whose
name has an underscore is found as a word in prose too. Other words without a section are not looked for.
Keys are found as strings that equal the key. A key of ROW_KEYS is an English word, so it counts as the key of a dict
only. A key of SKIPPED is not looked for, because answers have a column of that name.
Names are found in code as identifiers and imports, in any text as paths and dotted names of modules, and between
backticks. Outside pipeline/, a name that the file defines or takes from another package is allowed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import yaml
from repository_files import Passage, Repository, code_spans

from pipeline.config.retired import KEYS, NAMES, SETTINGS, SINCE, renamed, renamed_value

EXEMPT = (
    "pipeline/config/retired.py",
    "CHANGELOG.md",
    "docs/LOG.md",
    "scripts/proofs/same_numbers*.py",
    "tests/config/test_retired.py",
    "tests/scripts/test_house.py",
)
SECTIONS = ("clock", "core", "data", "encoder", "evaluation", "heads", "training", "tracking")
KINDS = {
    **dict.fromkeys(("frames", "series", "tokens"), "encoder"),
    **dict.fromkeys(("anticipate", "caption", "classify", "forecast", "generate", "language"), "heads.*"),
    **dict.fromkeys(("segment", "transcribe"), "heads.*"),
}
ROW_KEYS = {"part", "watched", "interval", "early"}
SKIPPED = {"unknown"}
SUFFIXES = ("remake", "surprise", "likelihood", "penalty", "judged")
"""The ends of the names of loss terms, which the heads build as f"{name}_remake"."""

DOTTED = re.compile(rf"(?<![\w./-])({'|'.join(SECTIONS)})((?:\.[\w*{{}}<>]+)+)(?:=(?!=)([\w-]*))?(?!\w*\()")
UNDERSCORED = {old.split(".")[-1] for old in SETTINGS if "_" in old.split(".")[-1]}
MODULE = re.compile(r"(?<!\w)(?<!\w\.)(?:pipeline|scripts)(?:[./]\w+)+")


def problems(repository: Repository) -> list[str]:
    """A sentence for each retired setting, key and name."""
    found = []
    for name in repository.files:
        if any(fnmatch(name, pattern) for pattern in EXEMPT):
            continue
        passages = repository.passages(name)
        tree = repository.tree(name) if name.endswith(".py") else None
        said = list(settings(name, repository.text(name), passages, tree))
        dotted = {(line, old.split(".")[-1]) for line, old, _ in said if "." in old}
        said = [one for one in said if one[:2] not in dotted]  # the same setting with its section
        said += keys(name, passages, tree)
        said += names(repository, name, passages, tree)
        found += [f"{name}:{line}: {old} is called {new} since {SINCE}" for line, old, new in dict.fromkeys(said)]
    return found


Found = Iterator[tuple[int, str, str]]
"""Line, old name, new name."""


def settings(name: str, text: str, passages: list[Passage], tree: ast.Module | None) -> Found:
    """The retired settings of a file."""
    if name.startswith("configs/"):
        yield from _yaml(text, 1)
    if name.endswith(".md"):
        for block in re.finditer(r"(?ms)^```\w*\n(.*?)^```", text):
            yield from _yaml(block[1], text.count("\n", 0, block.start()) + 2)
    for passage in passages:
        yield from _dotted(passage)
        if passage.kind == "string":
            yield from _yaml(passage.text, passage.line, is_config=False)
        yield from _underscored(name, passage)
    if tree is not None:
        yield from _dicts(tree)


def _dotted(passage: Passage) -> Found:
    for match in DOTTED.finditer(passage.text):
        parts = [match[1], *match[2].strip(".").split(".")]
        line = passage.line + (passage.text.count("\n", 0, match.start()) if passage.kind != "string" else 0)
        new_value = renamed_value(".".join(parts[:-1]), parts[-1], match[3])
        if new_value:
            yield line, f"{'.'.join(parts)}={match[3]}", new_value
        for end in range(2, len(parts) + 1):
            new = renamed(".".join(parts[: end - 1]), parts[end - 1])
            if new and (end == len(parts) or _is_section(parts[end - 1])):
                yield line, ".".join(parts[:end]), new


def _is_section(word: str) -> bool:
    return any(word in old.split(".")[:-1] for old in SETTINGS)


def _underscored(name: str, passage: Passage) -> Found:
    """Settings such as memory_steps, in prose. Docstrings name arguments of functions, so they are left out."""
    text = passage.text
    if name.endswith((".yaml", ".yml")):
        text = text.partition("#")[2]
    elif passage.kind != "string" and not name.endswith(".md"):
        return
    if " " in text:
        for word in re.findall(r"(?<![\w.])[a-z]+(?:_[a-z]+)+\b(?!\()", text):
            if word in UNDERSCORED:
                news = [new.split(".")[-1] for old, new in SETTINGS.items() if old.split(".")[-1] == word]
                yield passage.line, word, " or ".join(dict.fromkeys(news))


def _yaml(text: str, first: int, is_config: bool = True) -> Found:
    """Settings of a YAML text, or of an override whose value is a mapping."""
    override = re.fullmatch(r"([a-z]+(?:\.[\w{}]+)*)=(\{.*\})\s*", text, re.DOTALL)
    body = override[2] if override else text
    if not (override or is_config or re.search(rf"(?m)^\{{?({'|'.join(SECTIONS)}):", text)):
        return
    try:
        node = yaml.compose(body)
    except yaml.YAMLError:
        return
    place = override[1] if override else ""
    if isinstance(node, yaml.MappingNode) and (not place or place.split(".")[0] in SECTIONS):
        line = first if is_config else None
        yield from _mapping(node, _with_kind(place, _kind(node)), first, line is not None)


def _kind(node: yaml.Node) -> str:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((str(value.value) for key, value in pairs if key.value == "kind"), "")


def _mapping(node: yaml.MappingNode, place: str, first: int, has_lines: bool) -> Found:
    for key, value in node.value:
        line = first + key.start_mark.line if has_lines else first
        word = str(key.value)
        yield from _setting(line, place, word, value.value if isinstance(value, yaml.ScalarNode) else None)
        if isinstance(value, yaml.MappingNode):
            inner = _with_kind(f"{place}.{word}" if place else word, _kind(value))
            yield from _mapping(value, inner, first, has_lines)


def _setting(line: int, place: str, word: str, value: object) -> Found:
    bare = re.sub(r"\(\w*\)", "", place)
    for old, new in ((word, renamed(place, word)), (f"{word}={value}", renamed_value(place, word, value))):
        if new:
            yield line, f"{bare}.{old}", new


def _with_kind(place: str, kind: str) -> str:
    """The place with the kind of the encoder or the head. The defaults are frames and classify."""
    if place == "encoder":
        return f"encoder({kind or 'frames'})"
    return f"{place}({kind or 'classify'})" if re.fullmatch(r"heads\.[^.]+", place) else place


def _dicts(tree: ast.AST) -> Found:
    """Settings of dicts in code: those with the name of a section, or with the kind of an encoder or a head."""
    for node in ast.iter_child_nodes(tree):
        place = _place(node) if isinstance(node, ast.Dict) else None
        if place is None:
            yield from _dicts(node)
        elif isinstance(node, ast.Dict):
            yield from _dict(node, place)


def _place(node: ast.Dict) -> str | None:
    """The section that a dict is: "" for a whole config, None for a dict without settings."""
    values = _items(node)
    kind = values.get("kind")
    if isinstance(kind, ast.Constant) and kind.value in KINDS:
        return f"{KINDS[kind.value]}({kind.value})"
    return "" if any(name in SECTIONS and isinstance(value, ast.Dict) for name, value in values.items()) else None


def _items(node: ast.Dict) -> dict[Any, ast.expr]:
    return {
        key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)
    }


def _dict(node: ast.Dict, place: str) -> Found:
    for word, value in _items(node).items():
        yield from _setting(value.lineno, place, str(word), value.value if isinstance(value, ast.Constant) else None)
        if isinstance(value, ast.Dict):
            kind = _items(value).get("kind")
            inner = f"{place}.{word}" if place else str(word)
            yield from _dict(value, _with_kind(inner, str(kind.value) if isinstance(kind, ast.Constant) else ""))


def keys(name: str, passages: list[Passage], tree: ast.Module | None) -> Found:
    """The retired keys of a file."""
    plain = {key for key in KEYS if "*" not in key} - ROW_KEYS - SKIPPED
    for passage in passages:
        if passage.kind == "string":
            yield from _key(passage.line, passage.text, plain)
        if name.endswith(".md"):
            for span in code_spans(passage):
                yield from _key(passage.line, span, plain)
            for word in re.findall(r'"(\w+)"\s*:', passage.text):
                yield from _key(passage.line, word, ROW_KEYS)
    for node in ast.walk(tree) if tree else ():
        for key in _row_keys(node):
            yield from _key(getattr(node, "lineno", 1), key, ROW_KEYS)


def _key(line: int, text: str, plain: set[str]) -> Found:
    """The text itself, or as a pattern such as saturated/*. A loss term may stand without loss/."""
    if text in plain:
        yield line, f'"{text}"', KEYS[text]
    elif re.fullmatch(rf"(\w+|\{{\}})_({'|'.join(SUFFIXES)})", text) and not _is_other_key(text):
        yield line, f'"{text}"', KEYS[f"loss/*_{text.rsplit('_', 1)[1]}"]
    else:
        for pattern in (key for key in KEYS if "*" in key):
            if fnmatch(text, pattern) and " " not in text and not _is_new(text):
                yield line, f'"{text}"', KEYS[pattern]


def _is_other_key(text: str) -> bool:
    """Whether a text that ends like a loss term is something else, such as log_likelihood or a new name."""
    return _is_new(text) or (not text.startswith("{}") and text.rsplit("_", 1)[1] in ("likelihood", "penalty"))


def _is_new(text: str) -> bool:
    return text.endswith("_gradient_penalty")


def _row_keys(node: ast.AST) -> list[str]:
    """The strings that a node uses as keys of a dict."""
    found: list[ast.expr | None] = []
    if isinstance(node, ast.Dict):
        found = list(node.keys)
    elif isinstance(node, ast.Subscript):
        found = [node.slice]
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        found = [node.left] if not isinstance(node.comparators[0], (ast.Tuple, ast.Set, ast.List)) else []
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
        found = list(node.args[:1])
    return [key.value for key in found if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def names(repository: Repository, name: str, passages: list[Passage], tree: ast.Module | None) -> Found:
    """The retired modules, classes, functions and attributes of a file."""
    module = name.removesuffix(".py").replace("/", ".")
    if name.endswith(".py") and module in NAMES:
        yield 1, name, NAMES[module]
    for passage in passages:
        for match in MODULE.finditer(passage.text):
            yield from _module(repository, passage.line, match[0])
        if passage.kind in ("docstring", "comment") or name.endswith(".md"):
            for span in code_spans(passage):
                word = re.match(r"\w*", span)
                if word and word[0] in NAMES:
                    yield passage.line, f"`{word[0]}`", NAMES[word[0]]
    if tree is not None:
        yield from _imports(repository, name, tree)
        yield from _identifiers(name, module, tree)


def _module(repository: Repository, line: int, text: str) -> Found:
    """A dotted name or a path. Where a package has the name now, only the path of a file is the old module."""
    is_file = text.endswith(".py")
    parts = text.removesuffix(".py").replace("/", ".").split(".")
    for end in [len(parts)] if is_file else range(2, len(parts) + 1):
        dotted = ".".join(parts[:end])
        if dotted in NAMES and (is_file or not repository.is_package(dotted)):
            new = NAMES[dotted]
            yield line, text if is_file else dotted, _path(new) if is_file and " " not in new else new
            return


def _path(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _imports(repository: Repository, name: str, tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            yield from _module(repository, node.lineno, module)
            script = f"scripts.{module.split('.')[0]}"  # the proofs import each other by plain names
            is_moved_only = NAMES.get(script, "").endswith(f".{module.split('.')[0]}")
            if script in NAMES and not is_moved_only and name.startswith(("scripts/", "tests/")):
                yield node.lineno, module.split(".")[0], NAMES[script]


def _identifiers(name: str, module: str, tree: ast.Module) -> Found:
    allowed = _from_elsewhere(tree)
    if not name.startswith("pipeline/"):
        allowed |= _defined(tree)
    for node in ast.walk(tree):
        for word in _words(node, allowed):
            new = NAMES.get(word) or NAMES.get(f"{module}.{word}")
            if new and word not in allowed:
                yield getattr(node, "lineno", 1), word, new


def _words(node: ast.AST, allowed: set[str]) -> list[str]:
    """The identifiers of a node. An attribute of another package is left out."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.name]
    if isinstance(node, (ast.arg, ast.keyword)):
        return [node.arg or ""]
    if isinstance(node, ast.ImportFrom):
        return [word for alias in node.names for word in (alias.name, alias.asname or "")]
    if isinstance(node, ast.Attribute):
        base = node.value
        while isinstance(base, (ast.Attribute, ast.Call, ast.Subscript)):
            base = base.func if isinstance(base, ast.Call) else base.value
        return [] if isinstance(base, ast.Name) and base.id in allowed else [node.attr]
    return []


def _from_elsewhere(tree: ast.Module) -> set[str]:
    """The names that a file imports from other packages."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] != "pipeline":
            found |= {word for alias in node.names for word in (alias.name, alias.asname) if word}
    return found - {"pipeline"}


def _defined(tree: ast.Module) -> set[str]:
    """The classes and variables that a file defines."""
    classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return classes | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
