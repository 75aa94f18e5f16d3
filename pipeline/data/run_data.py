"""The data of one run: rows with their splits, and the source that reads a row.

In: what the preparation of a run found. Out: the rows of each split. Knows nothing of configs, models or training.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.data.dataset import RowSource
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class RunData:
    """Usable rows with splits, and how to read them.

    failed: the videos that cannot be read, path -> (status, sentence). input_size: the width of a series.
    unknown_classes: classes that are held out of training to test open-set recognition. tokenizer: that of texts.
    """

    manifest: Manifest
    source: RowSource
    failed: dict[str, tuple[str, str]]
    input_size: int | None = None
    unknown_classes: tuple[str, ...] = ()
    tokenizer: Tokenizer | None = None

    def rows(self, split: str) -> list[Row]:
        """The rows of one split, without those of the unknown classes."""
        return [row for row in self.manifest.rows if row.split == split and row.label not in self.unknown_classes]

    def unknown_rows(self) -> list[Row]:
        """The test rows of the unknown classes."""
        return [row for row in self.manifest.rows if row.split == "test" and row.label in self.unknown_classes]
