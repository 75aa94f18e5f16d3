"""A row as a table sees it: one column a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Heads = Mapping[str, Sequence[str]]
"""Head -> the parts of its answers: label, score, top, unknown, distance; spans."""


def columns(heads: Heads) -> list[str]:
    """The columns in order, whatever the rows hold."""
    return [
        "path",
        "status",
        "seconds",
        "looks",
        *(f"{h}_{part}" for h, parts in heads.items() for part in parts),
        "warnings",
        "error",
    ]


def flatten(row: dict[str, Any], heads: Heads) -> dict[str, Any]:
    """{"action": {"label", "score", "top"}} -> action_label, action_score, action_top; None where there is no answer."""
    flat = {name: row[name] for name in ("path", "status", "seconds", "looks", "warnings", "error")}
    for head, parts in heads.items():
        answer = row.get(head) or {}
        flat |= {f"{head}_{part}": answer.get(part) for part in parts}
    return {name: flat[name] for name in columns(heads)}


def printable(value: Any) -> Any:
    """The same where every text is Unicode: bytes of a file name that are no UTF-8 become escapes, such as \\udcff."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: printable(inner) for key, inner in value.items()}
    return [printable(inner) for inner in value] if isinstance(value, list) else value
