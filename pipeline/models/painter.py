"""From codes to frames.

In: what a clip shows (B, C), how each of its frames differs (B, T, H) and, for who goes on from one, a frame. Out: frames. Knows nothing of
how codes are found or moved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrameMaker(nn.Module):
    """Content and movement -> frames (B, T, 3, S, S) in [-1, 1].

    What stands still is painted once, from the content alone; what moves is painted at every step, with a mask that lays it
    over the rest (the two streams of Vondrick et al. 2016, arXiv 1609.02612). size: S, a power of two times 4.
    """

    def __init__(self, *, content_size: int, motion_size: int, size: int, channels: int = 32) -> None:
        super().__init__()
        doublings = _doublings(size)
        self.still = _painter(content_size, 3, doublings, channels)
        self.moving = _painter(content_size + motion_size, 4, doublings, channels)

    def forward(self, content: Tensor, motion: Tensor) -> Tensor:
        """(B, C), (B, T, H) -> (B, T, 3, S, S)."""
        behind = torch.tanh(self.still(content))[:, None]
        both = torch.cat([content[:, None].expand(-1, motion.shape[1], -1), motion], dim=2)
        painted = self.moving(both.flatten(0, 1)).unflatten(0, both.shape[:2])
        mask = torch.sigmoid(painted[:, :, 3:])
        return mask * torch.tanh(painted[:, :, :3]) + (1.0 - mask) * behind


class Onward(nn.Module):
    """Content, movement and a given frame -> frames (B, T, 3, S, S) in [-1, 1] that go on from it.

    A mask lays what is painted over the given frame. What it is painted of is looked up there by attention (Vaswani et al. 2017, arXiv
    1706.03762): places of the new frame, 2 x 2 pixels, ask places of the given one, 4 x 4, so that who walks takes the clothes along.

    Args:
        size: S, a power of two times 4, 8 or more. channels: of the last layer but one. width: numbers that are seen of a place.
    """

    def __init__(self, *, content_size: int, motion_size: int, size: int, channels: int = 32, width: int = 32) -> None:
        super().__init__()
        self.draft = _painter(content_size + motion_size, 4, _doublings(size), channels)[:-1]
        self.here = nn.Sequential(nn.Conv2d(12, width, 3, padding=1), nn.GroupNorm(4, width), nn.LeakyReLU(0.2))
        self.there = nn.Conv2d(width, channels + width, 4, 2, 1)
        self.ask = nn.Linear(channels, channels)
        self.where_here = nn.Parameter(torch.randn((size // 2) ** 2, channels))
        self.where_there = nn.Parameter(torch.randn((size // 4) ** 2, channels))
        self.join, self.join_here = (
            nn.Linear(channels + width, 2 * channels),
            nn.Linear(width, 2 * channels, bias=False),
        )
        self.paint = nn.Sequential(
            nn.GroupNorm(4, 2 * channels), nn.LeakyReLU(0.2), nn.ConvTranspose2d(2 * channels, 4, 4, 2, 1)
        )

    def forward(self, content: Tensor, motion: Tensor, given: Tensor, withheld: Tensor | None = None) -> Tensor:
        """(B, C), (B, T, H), (B, 3, S, S) -> (B, T, 3, S, S). withheld (B,): rows that see nothing of the frame, and are painted of codes alone."""
        count, steps = motion.shape[:2]
        if withheld is not None:
            given = given.masked_fill(withheld[:, None, None, None], 0.0)
        both = torch.cat([content[:, None].expand(-1, steps, -1), motion], dim=2)
        drafts = self.draft(both.flatten(0, 1))
        side = drafts.shape[-1]
        here = self.here(F.pixel_unshuffle(given, 2))
        places = drafts.flatten(2).mT.unflatten(0, (count, steps))  # (B, T, S / 2 x S / 2, C)
        known = self.join(torch.cat([places, self._found(places, here)], dim=3))
        known = known + self.join_here(here.flatten(2).mT)[:, None]
        painted = self.paint(known.flatten(0, 1).mT.unflatten(2, (side, side))).float().unflatten(0, (count, steps))
        mask = torch.sigmoid(painted[:, :, 3:])
        if withheld is not None:
            mask = torch.where(withheld[:, None, None, None, None], 1.0, mask)
        return mask * torch.tanh(painted[:, :, :3]) + (1.0 - mask) * given[:, None]

    def _found(self, places: Tensor, here: Tensor) -> Tensor:
        """What places of the drafts (B, T, P, C) find in what is seen of the given frame (B, W, S / 2, S / 2): (B, T, P, W)."""
        keys, values = self.there(here).flatten(2).mT.split([places.shape[3], here.shape[1]], dim=2)
        # all steps of a clip ask the one frame; written out, which on a CPU is faster than torch's own attention for one head
        asked = (self.ask(places) + self.where_here).flatten(1, 2)
        share = torch.softmax(asked @ (keys + self.where_there).mT * asked.shape[2] ** -0.5, dim=2)
        return (share @ values).unflatten(1, places.shape[1:3])


def _doublings(size: int) -> int:
    doublings = (size // 4).bit_length() - 1
    assert size == 4 << doublings, "sizes are 4 times a power of two"
    return doublings


def _painter(size: int, out: int, doublings: int, channels: int) -> nn.Sequential:
    """A vector -> (out, S, S): 4 x 4, doubled until it is large enough; fewer channels the larger it is."""
    widths = [channels * (1 << max(0, doublings - 1 - i)) for i in range(doublings)]
    layers: list[nn.Module] = [
        nn.Linear(size, widths[0] * 16),
        nn.Unflatten(1, (widths[0], 4, 4)),
        nn.GroupNorm(4, widths[0]),
        nn.LeakyReLU(0.2),
    ]
    for i in range(doublings - 1):
        layers += [
            nn.ConvTranspose2d(widths[i], widths[i + 1], 4, 2, 1),
            nn.GroupNorm(4, widths[i + 1]),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], out, 4, 2, 1))
