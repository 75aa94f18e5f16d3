"""A row of results -> a flat row of a table: one column for each value.

In: rows, and the fields of each head's answers. Out: flat rows, and text that is valid Unicode. Knows nothing of
formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Heads = Mapping[str, Sequence[str]]
"""Head -> the fields of its answers, such as label, score, top, unknown, distance, or spans."""


def columns(heads: Heads) -> list[str]:
    """The names of the columns in order, the same for all rows."""
    fields = [f"{head}_{field}" for head, fields in heads.items() for field in fields]
    return ["path", "status", "seconds", "looks", *fields, "warnings", "error"]


def flatten(row: dict[str, Any], heads: Heads) -> dict[str, Any]:
    """{"action": {"label", "score", "top"}} -> action_label, action_score, action_top; None without an answer."""
    flat = {name: row[name] for name in ("path", "status", "seconds", "looks", "warnings", "error")}
    for head, fields in heads.items():
        answer = row.get(head) or {}
        flat |= {f"{head}_{field}": answer.get(field) for field in fields}
    return {name: flat[name] for name in columns(heads)}


def escape_surrogates(value: Any) -> Any:
    r"""The same value with valid Unicode text: bytes of a file name that are not UTF-8 become escapes (\\udcff)."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: escape_surrogates(inner) for key, inner in value.items()}
    return [escape_surrogates(inner) for inner in value] if isinstance(value, list) else value
