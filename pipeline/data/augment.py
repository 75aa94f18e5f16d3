"""Data augmentation: random changes of training samples, drawn once per clip or series and equal for all of its steps.

In: pixels uint8 (T, H, W, 3) or a series float32 (T, D), and a random generator, the only source of randomness. Out:
the same shape. Knows nothing of where samples come from, nor of what channels mean: the settings say which channels a
mirror swaps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class ClipAugment:
    """Random crop (resized to the full size), horizontal flip and colour jitter.

    Args:
        crop: smallest side of the crop as a share of the full side; 1 switches it off.
        flip: flip half of the clips.
        colour: strength of the jitter of brightness, contrast and saturation, in [0, 1]; 0 switches it off.
    """

    def __init__(self, *, crop: float, flip: bool, colour: float) -> None:
        self.crop, self.flip, self.colour = crop, flip, colour

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """The changed clip. The number of draws from `rng` is the same whatever is switched on."""
        from torchvision.transforms.v2 import functional as F  # slow to import, and few runs change pixels

        crop_draw, top, left, flip_draw, *jitter_draws = rng.random(7).tolist()
        x = pixels.permute(0, 3, 1, 2)  # (T, 3, H, W)
        height, width = x.shape[2:]
        side = 1.0 - (1.0 - self.crop) * crop_draw
        h, w = round(height * side), round(width * side)
        if (h, w) != (height, width):
            y0, x0 = round(top * (height - h)), round(left * (width - w))
            x = F.resized_crop(x, y0, x0, h, w, [height, width], antialias=True)
        if self.flip and flip_draw < 0.5:
            x = F.horizontal_flip(x)
        if self.colour:
            brightness, contrast, saturation = (1.0 + self.colour * (2 * draw - 1) for draw in jitter_draws)
            x = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(x, brightness), contrast), saturation)
        return x.permute(0, 2, 3, 1).contiguous().to(torch.uint8)


class SeriesMirror:
    """Mirrors half of the series.

    A mirrored body is a body: left joints become right joints, and distances to the right become distances to the left.
    Where the class does not depend on the hand (a forehand is a forehand for either hand), the series of a right-handed
    player then also teach how left-handed players move.

    Args:
        width: D, the number of channels.
        swap: pairs of channels that change places in a mirror.
        negate: channels that change their sign in a mirror.

    Raises ValueError for a channel that the series does not have.
    """

    def __init__(self, *, width: int, swap: Sequence[tuple[int, int]] = (), negate: Sequence[int] = ()) -> None:
        largest = max([*negate, *(channel for pair in swap for channel in pair)], default=0)
        if largest >= width:
            raise ValueError(
                f"training.augment.mirror names channel {largest}, but the series has {width} channels, counted from "
                "0. "
                f"Name channels up to {width - 1}."
            )
        source = list(range(width))
        for first, second in swap:
            source[first], source[second] = second, first
        self.source = torch.tensor(source)
        self.sign = torch.ones(width)
        self.sign[list(negate)] = -1.0

    def mirror(self, series: Tensor) -> Tensor:
        """The mirrored series (T, D). Mirrored twice, a series is itself again."""
        return series[:, self.source] * self.sign

    def __call__(self, series: Tensor, rng: np.random.Generator) -> Tensor:
        """The series or its mirror image, decided by one draw from `rng`."""
        return self.mirror(series) if rng.random() < 0.5 else series
