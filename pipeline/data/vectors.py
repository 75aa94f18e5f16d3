"""Vectors of words that somebody else has learned.

In: a file and the words of a model. Out: a vector for each word that the file knows. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.words import Words


def read_vectors(path: str | Path, words: Words, size: int) -> dict[int, Tensor]:
    """Token -> its vector (size,), of the tokens that the file knows, as written or in lower case.

    A text file has a word and its numbers a line, as those of GloVe (Pennington et al. 2014); an .npz file has `words` (or a
    file words.txt beside it, one a line) and one array (N, D). Raises ValueError for another width or a file that is neither.
    """
    path = Path(path)
    try:
        names, values = _from_npz(path) if path.suffix == ".npz" else _from_text(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"'{path}' holds no vectors ({error}). A text file with a word and its numbers a line is needed, or an .npz of them."
        ) from None
    if values.ndim != 2 or len(names) != len(values) or values.shape[1] != size:
        raise ValueError(
            f"'{path}' has {len(names)} words and vectors of shape {values.shape}, and encoder.embedding is {size}. Set "
            f"encoder.embedding to {values.shape[-1]}."
        )
    place = {name: i for i, name in enumerate(names)}
    found = {}
    for token, name in enumerate(words.names):
        at = place.get(name, place.get(name.lower()))
        if at is not None and token > 3:
            found[token] = torch.from_numpy(values[at].astype(np.float32))
    return found


def _from_text(path: Path) -> tuple[list[str], np.ndarray]:
    names, rows = [], []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            name, *numbers = line.rstrip().split(" ")
            if len(numbers) > 1:  # word2vec's first line says how many there are
                names.append(name)
                rows.append(np.array(numbers, dtype=np.float32))
    return names, np.stack(rows)


def _from_npz(path: Path) -> tuple[list[str], np.ndarray]:
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    names = arrays.pop("words", None)
    listed = (
        names.tolist() if names is not None else (path.parent / "words.txt").read_text(encoding="utf-8").splitlines()
    )
    (values,) = [a for a in arrays.values() if a.ndim == 2]
    return [str(name) for name in listed], values
