"""Changes to training samples, drawn once a clip or a series: every step of it is changed alike.

In: pixels uint8 (T, H, W, 3) or a series float32 (T, D), and a generator that decides all that is random. Out: the same
shape. Knows nothing of where they come from, nor of what the channels mean: a mirror is told which change places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class ClipAugment:
    """Random crop (resized back), mirror and colour.

    crop: smallest side as a share (1: off). flip: mirror half of the clips. colour: strength in [0, 1].
    """

    def __init__(self, *, crop: float, flip: bool, colour: float) -> None:
        self.crop, self.flip, self.colour = crop, flip, colour

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """All that is random comes from `rng`, always the same number of draws."""
        from torchvision.transforms.v2 import functional as F  # slow to import, and few runs change pixels

        side, top, left, mirror, *amounts = rng.random(7).tolist()
        x = pixels.permute(0, 3, 1, 2)  # (T, 3, H, W)
        height, width = x.shape[2:]
        share = 1.0 - (1.0 - self.crop) * side
        h, w = round(height * share), round(width * share)
        if (h, w) != (height, width):
            x = F.resized_crop(
                x, round(top * (height - h)), round(left * (width - w)), h, w, [height, width], antialias=True
            )
        if self.flip and mirror < 0.5:
            x = F.horizontal_flip(x)
        if self.colour:
            bright, contrast, saturation = (1.0 + self.colour * (2 * a - 1) for a in amounts)
            x = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(x, bright), contrast), saturation)
        return x.permute(0, 2, 3, 1).contiguous().to(torch.uint8)


class SeriesMirror:
    """Half of the series in a mirror.

    A mirrored body is a body: left joints become right ones, and what counts to the right counts to the left. Where the
    answer does not depend on the hand (a forehand is one for either), a right-hander's series then teach left-handers too.

    Args:
        width: D. swap: pairs of channels that change places in a mirror. negate: channels that change sign in it.

    Raises ValueError for a channel that the series has not.
    """

    def __init__(self, *, width: int, swap: Sequence[tuple[int, int]] = (), negate: Sequence[int] = ()) -> None:
        largest = max([*negate, *(channel for pair in swap for channel in pair)], default=0)
        if largest >= width:
            raise ValueError(
                f"training.augment.mirror names channel {largest}, and the series has {width} of them, counted from 0. "
                f"Name channels up to {width - 1}."
            )
        source = list(range(width))
        for one, other in swap:
            source[one], source[other] = other, one
        self.source = torch.tensor(source)
        self.sign = torch.ones(width)
        self.sign[list(negate)] = -1.0

    def mirror(self, series: Tensor) -> Tensor:
        """The series (T, D) in a mirror; twice is the series again."""
        return series[:, self.source] * self.sign

    def __call__(self, series: Tensor, rng: np.random.Generator) -> Tensor:
        """One draw from `rng` decides."""
        return self.mirror(series) if rng.random() < 0.5 else series
