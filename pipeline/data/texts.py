"""Texts as a sense.

In: rows that hold a text, or that name a text file. Out: token ids and, where the model reads characters, the character
ids of each token. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import END, START, Tokenizer


class StoredText:
    """Rows as tokens, one per step. add_bos_eos: add a start token before and an end token after each row.

    The tokens of all rows stay in memory: a corpus of millions of words is some tens of megabytes.
    """

    sense = "tokens"
    reads_pixels = False

    def __init__(self, root: Path, tokenizer: Tokenizer, *, add_bos_eos: bool = False) -> None:
        self.root, self.tokenizer, self.add_bos_eos = root, tokenizer, add_bos_eos
        self._cache: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_cache": {}}  # a copy reads for itself

    def length(self, row: Row) -> int:
        """The number of tokens of the row. Raises ValueError where the row has no text."""
        return len(self._tokens(row))

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """Tokens start .. stop - 1, and their times (T,): a token counts as a second."""
        ids = self._tokens(row)[start:stop]
        return torch.from_numpy(ids), np.arange(start, start + len(ids), dtype=np.float64)

    def _tokens(self, row: Row) -> np.ndarray:
        if row.path not in self._cache:
            self._cache[row.path] = encode_text(text_of(row, self.root), self.tokenizer, self.add_bos_eos)
        return self._cache[row.path]


def encode_text(text: str, tokenizer: Tokenizer, add_bos_eos: bool) -> np.ndarray:
    """The tokens of a text, int64: ids (T,), or (T, 1 + C) with character ids where the tokenizer has an alphabet.

    add_bos_eos: add a start token before them and an end token after them.
    """
    ids = np.array(tokenizer.encode(text), dtype=np.int64)
    if tokenizer.alphabet:
        ids = np.concatenate([ids[:, None], tokenizer.character_ids(text)], axis=1)
    if not add_bos_eos:
        return ids
    bos, eos = (np.full((1, *ids.shape[1:]), token) for token in (START, END))
    for special in (bos, eos):
        special[..., 1:] = 0  # they have no characters
    return np.concatenate([bos, ids, eos])


def text_of(row: Row, root: Path) -> str:
    """The text of the row, or that of its file. Raises ValueError for a file that is not UTF-8 text."""
    if row.text is not None:
        return row.text
    try:
        return (root / row.path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"'{row.path}' has no text in the manifest and is not a UTF-8 text file ({error}). Add a text to the row, "
            "or "
            "correct the file."
        ) from None
