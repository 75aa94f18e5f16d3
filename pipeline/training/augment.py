"""Changes to pixels, drawn once a clip: every frame of it is changed alike.

In: pixels uint8 (T, H, W, 3) and a generator. Out: the same shape. Knows nothing of where clips come from.
"""

from __future__ import annotations

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
