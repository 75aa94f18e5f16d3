"""One file a video: subtitles and annotations.

In: rows, one at a time. Out: a folder with a file for every row that has an answer, at the video's own relative path. Each
file is whole as soon as it has its name. Knows nothing of what stands in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.whole import write_whole
from pipeline.writers.cues import Cue, cues, timed
from pipeline.writers.flat import Heads
from pipeline.writers.names import Names, as_file, safe

Render = Callable[[str, Sequence[Cue], Sequence[str]], str]
"""(a video's path, its cues, the heads with times) -> the text of its file."""


class PerVideoWriter:
    """`folder/<name><suffix>`, and nothing for a failed row: not even what an earlier run has left under that name."""

    def __init__(self, folder: Path, heads: Heads, *, suffix: str, render: Render) -> None:
        self.folder, self.suffix, self._render = folder, suffix, render
        self._heads, self._names = timed(heads), Names(as_file)
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, row: dict[str, Any]) -> None:
        """One file, under its name when it is whole."""
        name = self._names.of(self._place(row["path"]))
        path = self.folder / (name + self.suffix)
        if row["status"].startswith("failed"):
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self._render(row["path"], cues(row, self._heads), self._heads))

    def close(self) -> Path:
        """The folder."""
        return self.folder

    def _place(self, path: str) -> str:
        return safe(path, reserved=(self.suffix, ".partial"))
