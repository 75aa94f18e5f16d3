"""Files with the same content under several names.

In: rows of a manifest. Out: the sets of rows whose files are equal, and findings about them. Only files of one size
are read, and of those first the ends. Knows nothing of what the files hold.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

from pipeline.data.feature_store import content_hash
from pipeline.data.finding import Finding
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row

ENDS_BYTES = 65536
NUM_SHOWN = 5
Copies = tuple[Row, ...]
"""Rows whose files have the same content: two or more, by path."""


def equal_files(manifest: Manifest, rows: Iterable[Row] | None = None) -> list[Copies]:
    """The sets of rows with equal files, by the path of their first row. Missing and empty files are left out.

    rows: those to compare; by default all of the manifest. Rows that are texts have no file.
    """
    compared = [row for row in (manifest.rows if rows is None else rows) if row.text is None]
    by_size: dict[int, list[Row]] = defaultdict(list)
    for row in compared:
        path = manifest.path_of(row)
        if path.is_file():
            by_size[path.stat().st_size].append(row)
    copies = []
    for size, same_size in by_size.items():
        if size and len(same_size) > 1:
            for same_ends in _by_key(same_size, [_digest_ends(manifest.path_of(row), size) for row in same_size]):
                digests = [_digest(manifest.path_of(row)) for row in same_ends]
                copies += _by_key(same_ends, digests)
    return sorted((tuple(sorted(rows, key=lambda row: row.path)) for rows in copies), key=lambda rows: rows[0].path)


def _by_key(rows: Sequence[Row], keys: Sequence[Hashable]) -> list[list[Row]]:
    """The rows that share a key with another row. The key None belongs to a file that cannot be read."""
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row, key in zip(rows, keys, strict=True):
        groups[key].append(row)
    return [group for key, group in groups.items() if len(group) > 1 and key is not None]


def _digest_ends(path: Path, size: int) -> bytes | None:
    """SHA-256 of the first and the last bytes, or None for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(ENDS_BYTES)
            file.seek(max(0, size - ENDS_BYTES))
            return hashlib.sha256(head + file.read(ENDS_BYTES)).digest()
    except OSError:
        return None


def _digest(path: Path) -> str | None:
    try:
        stat = os.stat(path)
        return content_hash(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError:
        return None


def copies_findings(copies: Sequence[Copies]) -> list[Finding]:
    """Files under several names: those with different labels first, those in two splits next, then all others."""
    across_classes = [rows for rows in copies if len({_taught(row) for row in rows}) > 1]
    across_splits = [rows for rows in copies if len({row.split for row in rows if row.split is not None}) > 1]
    others = [rows for rows in copies if rows not in across_classes and rows not in across_splits]
    kinds = (
        (across_classes, "WITH DIFFERENT LABELS", "A label is wrong, or the video has both. Keep one row of each."),
        (across_splits, "in two splits", "The test score is too optimistic. Keep them in one split."),
        (others, "with one label", "They count several times, and a drawn split keeps them together."),
    )
    return [
        Finding(
            "identical",
            f"{len(found):,} of {len(copies):,} groups of equal files under several names, {where}: {_shown(found)}. "
            f"{advice}",
            tuple(row.path for rows in found for row in rows),
        )
        for found, where, advice in kinds
        if found
    ]


def _taught(row: Row) -> tuple[object, ...]:
    """What a row teaches."""
    return (row.label, row.spans)


def _shown(copies: Sequence[Copies]) -> str:
    sets = []
    for rows in copies[:NUM_SHOWN]:
        sets.append(" = ".join(f"{row.path!r}" + (f" ({row.label})" if row.label else "") for row in rows[:NUM_SHOWN]))
    more = f" and {len(copies) - NUM_SHOWN:,} more" if len(copies) > NUM_SHOWN else ""
    return "; ".join(sets) + more
