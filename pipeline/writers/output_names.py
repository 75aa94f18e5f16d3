"""Names of videos -> names of their output files: unique in a run, and safe for the file system.

In: the path of a row, a relative posix path with any bytes. Out: the path without its suffix where that name is free:
`a/x.mp4` gives `a/x`. A later video with the same name (`a/x.avi`) keeps its suffix, and gets a number where that name
is taken too. Knows nothing of formats.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable

from pipeline.writers.table_rows import escape_surrogates

_UNSAFE = re.compile(r'[<>:"\\|?*%]|^[-~. ]|[. ]$')  # with a special meaning for shells, players or other systems
_JOINERS = "\u200c\u200d"  # invisible, but part of words and emoji
_MAX_BYTES = 180  # file systems allow 255, and the suffix, a number and the name of a temporary file come after it


class UniqueNames:
    """The names assigned so far. key: two names with the same key count as equal."""

    def __init__(self, key: Callable[[str], str] = str) -> None:
        self._key, self._taken = key, set[str]()

    def assign(self, path: str) -> str:
        """A name for a video that no other video of the run has."""
        stem, suffix = os.path.splitext(path)
        number = 1
        name = stem
        while self._key(name) in self._taken:
            name = stem + suffix + (f".{number}" if number > 1 else "")
            number += 1
        self._taken.add(self._key(name))
        return name


def safe_path(path: str, reserved: tuple[str, ...] = ()) -> str:
    """A relative path that stays below its folder and that any system can store.

    It has no root, no `..`, no control characters, no bytes that are not UTF-8, and no part longer than 180 bytes.
    reserved: suffixes that its folders must not have.
    """
    parts = [_safe_part(part) for part in path.split("/") if part not in ("", ".", "..")] or ["_"]
    folders = [f"{part}_" if part.casefold().endswith(reserved) else part for part in parts[:-1]]
    return "/".join([*folders, parts[-1]])


def _safe_part(text: str) -> str:
    """One part of a path."""
    printable = "".join(c if c.isprintable() or c in _JOINERS else "_" for c in escape_surrogates(text))
    shortened = printable.encode()[:_MAX_BYTES].decode(errors="ignore")
    return _UNSAFE.sub("_", shortened)


def file_system_key(name: str) -> str:
    """The same for two names that some file system takes for one: they differ in case or in Unicode normalisation."""
    return unicodedata.normalize("NFC", name).casefold()
