"""A generator of frames: noise and a class become codes, and a decoder turns the codes into frames.

In: codes and classes. Out: the content of a clip, the poses of its frames, and the frames (B, T, 3, S, S). Knows
nothing of critics, losses or files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.gan.codes import LatentCodes
from pipeline.models.gan.frame_decoder import FrameDecoder
from pipeline.models.gan.generator import Generator
from pipeline.models.recurrent.core import State


class FrameGenerator(nn.Module):
    """Generates in two steps: content and motion become codes, a few numbers for each frame; a decoder turns these into
    frames.

    So a critic of codes sees whole clips for the cost of a few images.

    Args:
        pose_generator: generates the poses (B, T, M) of the frames. frame_decoder: (content, poses) -> frames.
        content_size: C, of the frame decoder. hidden: width of the network that turns the drawn content into that of
        the frame decoder.
    """

    def __init__(
        self, *, pose_generator: Generator, frame_decoder: FrameDecoder, content_size: int, hidden: int
    ) -> None:
        super().__init__()
        self.pose_generator, self.frame_decoder = pose_generator, frame_decoder
        embedding = pose_generator.condition.weight.shape[1]
        self.content_net = nn.Sequential(
            nn.Linear(pose_generator.content_size + embedding, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, content_size),
        )

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> LatentCodes:
        """Standard normal codes, see `Generator.draw`."""
        return self.pose_generator.draw(count, steps, random)

    def generate_codes(
        self, codes: LatentCodes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, Tensor, State]:
        """Content (B, C), poses (B, T - skip, M) and the state to continue from. Arguments as `Generator.forward`."""
        condition = self.pose_generator.condition(labels)
        content = self.content_net(torch.cat([codes.content, condition], dim=1))
        poses, after = self.pose_generator(codes, labels, state, skip)
        return content, poses, after

    def decode(
        self, content: Tensor, poses: Tensor, first_frame: Tensor | None = None, is_hidden: Tensor | None = None
    ) -> Tensor:
        """(B, C), (B, T, M) -> frames (B, T, 3, S, S) in [-1, 1]. It uses no first frame."""
        return self.frame_decoder(content, poses)

    def forward(
        self, codes: LatentCodes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, State]:
        """Frames (B, T - skip, 3, S, S) in [-1, 1], and the state to continue from. Arguments as of
        `Generator.forward`.
        """
        content, poses, after = self.generate_codes(codes, labels, state, skip)
        return self.decode(content, poses), after
