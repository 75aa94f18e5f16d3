"""Texts as a sense.

In: rows that hold a text, or name a file of it. Out: ids of tokens, and the characters of each where a model spells. Knows nothing
of models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.manifest import Row
from pipeline.data.words import END, START, Words


class StoredText:
    """Rows as tokens, one a step. ends: a start token before and an end token behind each row.

    What was cut once is kept: a corpus of millions of words is some tens of megabytes.
    """

    sense = "tokens"
    reads_pixels = False

    def __init__(self, root: Path, words: Words, *, ends: bool = False) -> None:
        self.root, self.words, self.ends = root, words, ends
        self._kept: dict[str, np.ndarray] = {}

    def length(self, row: Row) -> int:
        """Tokens of the row."""
        return len(self._all(row))

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """Tokens start .. stop - 1, and their places: a token is a second."""
        ids = self._all(row)[start:stop]
        return torch.from_numpy(ids), np.arange(start, start + len(ids), dtype=np.float64)

    def _all(self, row: Row) -> np.ndarray:
        if row.path not in self._kept:
            self._kept[row.path] = cut(text_of(row, self.root), self.words, self.ends)
        return self._kept[row.path]


def cut(text: str, words: Words, ends: bool) -> np.ndarray:
    """A text's tokens: (T,) ids or, where the words are spelled, (T, 1 + characters), int64. ends: the start before and the
    end behind them.
    """
    ids = np.array(words.encode(text), dtype=np.int64)
    if words.alphabet:
        ids = np.concatenate([ids[:, None], words.spell(text)], axis=1)
    if not ends:
        return ids
    around = [np.full((1, *ids.shape[1:]), mark) for mark in (START, END)]
    for one in around:
        one[..., 1:] = 0  # a mark has no characters
    return np.concatenate([around[0], ids, around[1]])


def text_of(row: Row, root: Path) -> str:
    """The row's text, or that of its file. Raises ValueError for a file that is no text."""
    if row.text is not None:
        return row.text
    try:
        return (root / row.path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"'{row.path}' has no text of its own and is no file of UTF-8 text ({error}). Give its row a text, or mend the file."
        ) from None
