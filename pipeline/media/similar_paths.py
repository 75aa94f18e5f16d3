"""A path that does not exist -> the existing path that was probably meant.

In: a path. Out: a sentence for a message. It looks at names only, and opens no file.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

MAX_NAMES = 10_000
"""How many names of a folder are compared."""


def did_you_mean_path(path: str | Path) -> str:
    """The sentence " Did you mean 'videos'?" for the most similar path that exists, or "" where none is similar.

    Each part of the path is corrected, from the left: vidoes/jmup becomes videos/jump.
    """
    found, parts = Path(Path(path).anchor), Path(path).parts
    for part in parts[1:] if found.parts else parts:
        exact = found / part
        if not os.path.lexists(exact):
            stems = {name.removesuffix(Path(part).suffix): name for name in _names_in(found)}
            matches = difflib.get_close_matches(Path(part).stem, stems, n=1, cutoff=0.67)
            if not matches:
                return ""
            exact = found / stems[matches[0]]
        found = exact
    return f" Did you mean '{found}'?"


def _names_in(folder: Path) -> list[str]:
    """The names in a folder without the hidden ones; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry, _ in zip(entries, range(MAX_NAMES), strict=False) if entry.name[0] != "."]
    except OSError:
        return []
