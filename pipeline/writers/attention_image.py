"""The attention weights of a sentence -> an image.

In: frames of a video, the tokens of a sentence, the attention weights of each token over the looks. Out: an image with
the frames on top and one row a token below. Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

MAX_COLUMNS = 32  # frames side by side; with more looks than that, several share a column and their weights are summed
CELL_SIZE, ROW_HEIGHT, MARGIN_WIDTH = 48, 18, 120  # pixels: the side of a frame, a row, the space for the tokens


def group_looks(num_looks: int) -> list[np.ndarray]:
    """The indices of the looks of each column. The middle one of a group is the frame to draw."""
    return np.array_split(np.arange(num_looks), min(MAX_COLUMNS, num_looks))


def draw_attention(frames: np.ndarray, tokens: Sequence[str], weights: Sequence[Sequence[float]]) -> np.ndarray:
    """The image, uint8 RGB (H, W, 3).

    frames: (N, S, S, 3) uint8 RGB, one for each column. weights: one row a token, one weight a look. A brighter cell is
    a larger weight; the largest of each row is white.
    """
    table = np.asarray(weights, dtype=np.float64)  # (tokens, looks)
    groups = group_looks(table.shape[1])
    assert len(frames) == len(groups) and len(tokens) == len(table), "a frame for each column, a row for each token"
    brightness = np.stack([table[:, group].sum(1) for group in groups], axis=1)
    brightness = brightness / np.maximum(brightness.max(axis=1, keepdims=True), 1e-12)
    size = (CELL_SIZE + ROW_HEIGHT * len(tokens), MARGIN_WIDTH + CELL_SIZE * len(groups), 3)
    image = np.full(size, 24, dtype=np.uint8)
    for column, frame in enumerate(frames):
        left = MARGIN_WIDTH + CELL_SIZE * column
        image[:CELL_SIZE, left : left + CELL_SIZE] = cv2.resize(
            frame, (CELL_SIZE, CELL_SIZE), interpolation=cv2.INTER_AREA
        )
        for row, value in enumerate(brightness[:, column]):
            top = CELL_SIZE + ROW_HEIGHT * row
            image[top + 1 : top + ROW_HEIGHT - 1, left + 1 : left + CELL_SIZE - 1] = round(255 * float(value))
    for row, token in enumerate(tokens):
        ascii_token = token.replace("\u2581", "_").encode("ascii", "replace").decode()[:14]  # OpenCV draws ASCII only
        position = (4, CELL_SIZE + ROW_HEIGHT * row + 13)
        cv2.putText(image, ascii_token, position, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return image
