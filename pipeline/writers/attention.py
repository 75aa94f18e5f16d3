"""What each word of a sentence looked at: a picture.

In: frames of a video, the tokens of a sentence, how much of each frame each token looked at. Out: a picture, the frames on top and a
row a token under them. Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

COLUMNS = 32  # frames side by side; more looks are joined, their weights added
CELL, ROW, MARGIN = 48, 18, 120  # pixels: a frame's side, a token's height, the place for the tokens


def columns(looks: int) -> list[np.ndarray]:
    """The looks that share a column of the picture, by column; the one in the middle is shown."""
    return np.array_split(np.arange(looks), min(COLUMNS, looks))


def attention_picture(frames: np.ndarray, tokens: Sequence[str], weights: Sequence[Sequence[float]]) -> np.ndarray:
    """frames: (N, H, W, 3) uint8 RGB, square, one a column; weights: one row a token, a share of each look. Returns RGB, uint8.

    The brighter a cell, the more the token looked there; the brightest of each row is white.
    """
    table = np.asarray(weights, dtype=np.float64)
    parts = columns(table.shape[1])
    assert len(frames) == len(parts) and len(tokens) == len(table), "a frame for each column, a row for each token"
    shown = np.stack([table[:, part].sum(1) for part in parts], axis=1)
    shown = shown / np.maximum(shown.max(axis=1, keepdims=True), 1e-12)
    picture = np.full((CELL + ROW * len(tokens), MARGIN + CELL * len(parts), 3), 24, dtype=np.uint8)
    for column, frame in enumerate(frames):
        left = MARGIN + CELL * column
        picture[:CELL, left : left + CELL] = cv2.resize(frame, (CELL, CELL), interpolation=cv2.INTER_AREA)
        for row, share in enumerate(shown[:, column]):
            top = CELL + ROW * row
            picture[top + 1 : top + ROW - 1, left + 1 : left + CELL - 1] = round(255 * float(share))
    for row, token in enumerate(tokens):
        plain = token.replace("\u2581", "_").encode("ascii", "replace").decode()[:14]  # OpenCV's letters know no others
        at = (4, CELL + ROW * row + 13)
        cv2.putText(picture, plain, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return picture
