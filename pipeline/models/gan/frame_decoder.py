"""Decoders from codes to frames.

In: the content of a clip (B, C), the pose of each of its frames (B, T, M) and, for a decoder that continues a frame,
that frame. Out: frames. Knows nothing of how codes are encoded or generated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.gan.codes import concat_codes


class FrameDecoder(nn.Module):
    """Contents and poses -> frames (B, T, 3, S, S) in [-1, 1].

    The background is decoded once, from the content alone. The foreground is decoded at every step, with a mask that
    blends it over the background (the two streams of Vondrick et al. 2016, arXiv 1609.02612).

    Args:
        content_size: C. pose_size: M. size: S, a power of two times 4. channels: of the last layer but one.
    """

    def __init__(self, *, content_size: int, pose_size: int, size: int, channels: int = 32) -> None:
        super().__init__()
        doublings = _doublings(size)
        self.background = _upsampling_network(content_size, 3, doublings, channels)
        self.foreground = _upsampling_network(content_size + pose_size, 4, doublings, channels)

    def forward(self, content: Tensor, poses: Tensor) -> Tensor:
        """(B, C), (B, T, M) -> (B, T, 3, S, S)."""
        background = torch.tanh(self.background(content))[:, None]
        codes = concat_codes(content, poses)
        decoded = self.foreground(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        mask = torch.sigmoid(decoded[:, :, 3:])
        return mask * torch.tanh(decoded[:, :, :3]) + (1.0 - mask) * background


class FirstFrameDecoder(nn.Module):
    """Contents, poses and a given first frame -> frames (B, T, 3, S, S) in [-1, 1] that continue it.

    A mask blends what is decoded over the first frame. What is decoded comes from the first frame by attention (Vaswani
    et al. 2017, arXiv 1706.03762): places of the new frame (2 x 2 pixels) are the queries, and places of the first
    frame (4 x 4 pixels) are keys and values. So a person who walks keeps their clothes.

    Args:
        content_size: C. pose_size: M. size: S, a power of two times 4, 8 or more. channels: of the last layer but one.
        width: W, of the values.
    """

    def __init__(self, *, content_size: int, pose_size: int, size: int, channels: int = 32, width: int = 32) -> None:
        super().__init__()
        self.draft = _upsampling_network(content_size + pose_size, 4, _doublings(size), channels)[:-1]
        self.local = nn.Sequential(nn.Conv2d(12, width, 3, padding=1), nn.GroupNorm(4, width), nn.LeakyReLU(0.2))
        self.key_value = nn.Conv2d(width, channels + width, 4, 2, 1)
        self.query = nn.Linear(channels, channels)
        self.query_position = nn.Parameter(torch.randn((size // 2) ** 2, channels))
        self.key_position = nn.Parameter(torch.randn((size // 4) ** 2, channels))
        self.join = nn.Linear(channels + width, 2 * channels)
        self.join_local = nn.Linear(width, 2 * channels, bias=False)
        self.output = nn.Sequential(
            nn.GroupNorm(4, 2 * channels), nn.LeakyReLU(0.2), nn.ConvTranspose2d(2 * channels, 4, 4, 2, 1)
        )

    def forward(self, content: Tensor, poses: Tensor, first_frame: Tensor, is_hidden: Tensor | None = None) -> Tensor:
        """(B, C), (B, T, M), (B, 3, S, S) -> (B, T, 3, S, S).

        is_hidden (B,): bool; rows whose first frame is hidden from the decoder, so that it decodes their codes alone.
        """
        count, steps = poses.shape[:2]
        if is_hidden is not None:
            first_frame = first_frame.masked_fill(is_hidden[:, None, None, None], 0.0)
        drafts = self.draft(concat_codes(content, poses).flatten(0, 1))
        side = drafts.shape[-1]
        local = self.local(F.pixel_unshuffle(first_frame, 2))
        places = drafts.flatten(2).mT.unflatten(0, (count, steps))  # (B, T, S / 2 x S / 2, channels)
        joined = self.join(torch.cat([places, self._attend(places, local)], dim=3))
        joined = joined + self.join_local(local.flatten(2).mT)[:, None]
        decoded = self.output(joined.flatten(0, 1).mT.unflatten(2, (side, side))).float().unflatten(0, (count, steps))
        mask = torch.sigmoid(decoded[:, :, 3:])
        if is_hidden is not None:
            mask = torch.where(is_hidden[:, None, None, None, None], 1.0, mask)
        return mask * torch.tanh(decoded[:, :, :3]) + (1.0 - mask) * first_frame[:, None]

    def _attend(self, places: Tensor, local: Tensor) -> Tensor:
        """What places of the drafts (B, T, P, channels) find in the first frame's features (B, W, S / 2, S / 2): (B, T,
        P, W).
        """
        keys, values = self.key_value(local).flatten(2).mT.split([places.shape[3], local.shape[1]], dim=2)
        # all steps of a clip attend to the one frame; on a CPU this is faster than torch's own attention with one head
        queries = (self.query(places) + self.query_position).flatten(1, 2)
        weights = torch.softmax(queries @ (keys + self.key_position).mT * queries.shape[2] ** -0.5, dim=2)
        return (weights @ values).unflatten(1, places.shape[1:3])


def _doublings(size: int) -> int:
    """How often 4 x 4 must be doubled."""
    doublings = (size // 4).bit_length() - 1
    assert size == 4 << doublings, "sizes are 4 times a power of two"
    return doublings


def _upsampling_network(code_size: int, output_channels: int, doublings: int, channels: int) -> nn.Sequential:
    """Codes (N, code_size) -> (N, output_channels, S, S): 4 x 4, doubled `doublings` times, with fewer channels at
    every doubling.
    """
    widths = [channels * (1 << max(0, doublings - 1 - i)) for i in range(doublings)]
    layers: list[nn.Module] = [
        nn.Linear(code_size, widths[0] * 16),
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
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], output_channels, 4, 2, 1))
