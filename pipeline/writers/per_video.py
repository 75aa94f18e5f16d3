"""One file a video: subtitles and annotations.

In: rows, one at a time. Out: a folder with one file for each row that has an answer, at the relative path of its video.
Each file is written atomically. Knows nothing of the content of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomic
from pipeline.media.clip import ANSWERED
from pipeline.writers.cues import Cue, cues, heads_with_spans
from pipeline.writers.output_names import UniqueNames, file_system_key, safe_path
from pipeline.writers.table_rows import Heads

Render = Callable[[str, Sequence[Cue], Sequence[str]], str]
"""(path of a video, its cues, the heads with spans) -> the text of its file."""


class PerVideoWriter:
    """`folder/<name><suffix>`. A failed row has no file, and the file of an earlier run under its name is deleted."""

    def __init__(self, folder: Path, heads: Heads, *, suffix: str, render: Render) -> None:
        self.folder, self.suffix, self._render = folder, suffix, render
        self._heads, self._names = heads_with_spans(heads), UniqueNames(file_system_key)
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, row: dict[str, Any]) -> None:
        """Write the file of one row."""
        name = self._names.assign(safe_path(row["path"], reserved=(self.suffix, ".partial")))
        path = self.folder / (name + self.suffix)
        if row["status"] not in ANSWERED:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, self._render(row["path"], cues(row, self._heads), self._heads))

    def close(self) -> Path:
        """The folder."""
        return self.folder
