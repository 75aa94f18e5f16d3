"""Names of videos -> names of what is written about them: unique in a run and, as files, safe.

In: a row's path, a relative posix path with any bytes. Out: the same without its suffix where that is free: `a/x.mp4` is
`a/x`. A later video that would take a taken name (`a/x.avi`) keeps its suffix, and gets a number where that is taken, too.
Knows nothing of formats.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable

from pipeline.writers.flat import printable

_UNSAFE = re.compile(r'[<>:"\\|?*%]|^[-~. ]|[. ]$')  # what shells, players and other systems take for something else
_JOINERS = "\u200c\u200d"  # invisible, but part of words and emoji
_LONGEST = 180  # bytes; file systems allow 255, and a suffix, a number and .partial come after it


class Names:
    """The names given so far. key: what two names may not share."""

    def __init__(self, key: Callable[[str], str] = str) -> None:
        self._key, self._taken = key, set[str]()

    def of(self, path: str) -> str:
        """A name that no other video of the run has."""
        stem, suffix = os.path.splitext(path)
        number = 1
        name = stem
        while self._key(name) in self._taken:
            name = stem + suffix + (f".{number}" if number > 1 else "")
            number += 1
        self._taken.add(self._key(name))
        return name


def safe(path: str, reserved: tuple[str, ...] = ()) -> str:
    """A relative path that stays below its folder and that any system can store: no root, no `..`, no control characters,
    no bytes that are not UTF-8, no part longer than 180 bytes. reserved: endings that folders must not have.
    """
    parts = [_part(part) for part in path.split("/") if part not in ("", ".", "..")] or ["_"]
    folders = [f"{part}_" if part.casefold().endswith(reserved) else part for part in parts[:-1]]
    return "/".join([*folders, parts[-1]])


def _part(text: str) -> str:
    """One part of a path."""
    shown = "".join(c if c.isprintable() or c in _JOINERS else "_" for c in printable(text))
    cut = shown.encode()[:_LONGEST].decode(errors="ignore")
    return _UNSAFE.sub("_", cut)


def as_file(name: str) -> str:
    """Equal where some file system takes two names for one."""
    return unicodedata.normalize("NFC", name).casefold()
