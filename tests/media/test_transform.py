"""The transform gives a square for every resize mode, rotation and pixel aspect."""

import numpy as np
import pytest

from pipeline.media.transform import RESIZE_MODES, Transform


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (97, 131), (30, 500), (1, 1), (64, 64)])
def test_every_resize_mode_gives_the_square(mode, shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 200, np.uint8)
    for rotation in (0, 90, 180, 270):
        for aspect in (0.5, 1.0, 1.5):
            square = Transform(64, mode)(frame, rotation, aspect)
            assert square.shape == (64, 64, 3)
            assert square.dtype == np.uint8
            assert square.flags.c_contiguous
            assert (square == 200).all() or mode == "letterbox"


def test_letterbox_keeps_proportions_and_centres() -> None:
    square = Transform(64)(np.full((50, 100, 3), 200, np.uint8))
    assert not square[:16].any()
    assert not square[48:].any()
    assert (square[16:48] == 200).all()
    assert (Transform(64)(np.full((50, 100, 3), 200, np.uint8), aspect=0.5) == 200).all()


def test_rotation_is_clockwise() -> None:
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[:20, :20] = 255  # top left
    rotated = Transform(40)(frame, rotation=90)
    assert rotated[:20, 20:].all()
    assert not rotated[:, :20].any()


def test_wrong_arguments_are_refused_in_sentences() -> None:
    with pytest.raises(ValueError, match="The size of a frame is 0 pixels"):
        Transform(0)
    with pytest.raises(ValueError, match="The resize mode 'zoom' is not known. It is one of crop, squash, letterbox"):
        Transform(8, "zoom")  # pyright: ignore[reportArgumentType]
