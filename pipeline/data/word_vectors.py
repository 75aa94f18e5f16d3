"""Pretrained word vectors.

In: a file, and a tokenizer. Out: a vector for each token that the file knows. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.tokenizer import SPECIAL, Tokenizer


def read_vectors(path: str | Path, tokenizer: Tokenizer, size: int) -> dict[int, Tensor]:
    """Token id -> vector (size,), for the tokens that the file knows, as written or in lower case.

    A text file has a word and its numbers per line, as those of GloVe (Pennington et al. 2014). An .npz file has one
    array (N, D) and `words`, or a file words.txt beside it with one word per line. Raises ValueError for another width,
    or for a file of another format.
    """
    path = Path(path)
    try:
        words, vectors = _read_npz(path) if path.suffix == ".npz" else _read_text(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"'{path}' has no word vectors ({error}). Give a text file with a word and its numbers per line, or an "
            ".npz file."
        ) from None
    if vectors.ndim != 2 or len(words) != len(vectors) or vectors.shape[1] != size:
        raise ValueError(
            f"'{path}' has {len(words)} words and vectors of shape {vectors.shape}, but encoder.embedding is {size}. "
            "Set "
            f"encoder.embedding to {vectors.shape[-1]}."
        )
    index_of = {word: index for index, word in enumerate(words)}
    token_vectors = {}
    for token, name in enumerate(tokenizer.names):
        index = index_of.get(name, index_of.get(name.lower()))
        if index is not None and token >= len(SPECIAL):
            token_vectors[token] = torch.from_numpy(vectors[index].astype(np.float32))
    return token_vectors


def _read_text(path: Path) -> tuple[list[str], np.ndarray]:
    words, rows = [], []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            word, *numbers = line.rstrip().split(" ")
            if len(numbers) > 1:  # the first line of word2vec has only the number of words and their width
                words.append(word)
                rows.append(np.array(numbers, dtype=np.float32))
    return words, np.stack(rows)


def _read_npz(path: Path) -> tuple[list[str], np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    word_array = arrays.pop("words", None)
    words = (
        word_array.tolist()
        if word_array is not None
        else (path.parent / "words.txt").read_text(encoding="utf-8").splitlines()
    )
    (vectors,) = [array for array in arrays.values() if array.ndim == 2]
    return [str(word) for word in words], vectors
