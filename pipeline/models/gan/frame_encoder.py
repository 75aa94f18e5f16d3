"""The encoder of frames: the content of a clip, and the pose of each of its frames; and the loss of their
reconstruction.

In: clips (B, T, 3, S, S) in [-1, 1]. Out: codes, sampled from the Gaussians that the encoder predicts. Knows nothing of
generators.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.models.gan.gaussian import sample_posterior
from pipeline.models.gan.pooling import masked_mean
from pipeline.padded import Padded, full_precision

INITIAL_LOG_VARIANCE = -4.0
"""Log variance of the codes at the start: first they hold what they can, later what is worth its KL divergence."""

MOTION_WEIGHT = 24.0
"""Weight of moving pixels in the reconstruction distance, for each unit by which they move."""


class EncodedFrames(NamedTuple):
    """The codes of clips.

    content (B, C): of the clip. poses (B, T, M): of each frame. kl_divergence (B,): of the codes' Gaussians from the
    standard normal, summed over the clip, in nats.
    """

    content: Tensor
    poses: Tensor
    kl_divergence: Tensor


class FrameEncoder(nn.Module):
    """A variational autoencoder's encoder (Kingma & Welling 2014, arXiv 1312.6114) that splits a clip into content and
    poses.

    It encodes every frame by itself, and the content from the mean over the frames. The content costs its KL divergence
    once a clip and the pose at every frame, so what does not move becomes content.

    Args:
        image_encoder: (N, 3, S, S) -> (N, width). content_size: C. pose_size: M. uses_first_frame: the content comes
        from the first frame alone.
    """

    def __init__(
        self,
        *,
        image_encoder: nn.Module,
        width: int,
        content_size: int,
        pose_size: int,
        uses_first_frame: bool = False,
    ) -> None:
        super().__init__()
        self.uses_first_frame = uses_first_frame
        self.image_encoder = image_encoder
        self.content, self.pose = nn.Linear(width, 2 * content_size), nn.Linear(width, 2 * pose_size)
        for layer in (self.content, self.pose):
            half = layer.out_features // 2
            with torch.no_grad():
                layer.weight[half:] *= 0.1
                layer.bias[half:] = INITIAL_LOG_VARIANCE

    def forward(self, x: Padded, is_sampled: bool | None = None) -> EncodedFrames:
        """Clips x (B, T, 3, S, S) -> codes; those of the padding have no meaning.

        is_sampled: false returns the means of the Gaussians; by default codes are sampled in training only.
        """
        is_sampled = self.training if is_sampled is None else is_sampled
        encoded = self.image_encoder(x.data.flatten(0, 1)).unflatten(0, x.data.shape[:2])
        mask = x.mask
        pooled = encoded[:, 0] if self.uses_first_frame else masked_mean(encoded, mask)
        content, content_kl = sample_posterior(self.content(pooled), is_sampled)
        poses, pose_kl = sample_posterior(self.pose(encoded), is_sampled)
        return EncodedFrames(content, poses, content_kl + (full_precision(pose_kl) * mask).sum(1))


def random_steps(lengths: Tensor, count: int, with_first: bool = False) -> Tensor:
    """Random steps of each row, (B, count), on the device of the lengths (B,). with_first: the first of them is step
    0.
    """
    steps = (torch.rand(len(lengths), count, device=lengths.device) * lengths[:, None].clamp(min=1)).long()
    if with_first:
        steps[:, 0] = 0
    return steps


def gather_steps(x: Tensor, steps: Tensor) -> Tensor:
    """(B, T, ...), (B, count) -> (B, count, ...)."""
    return x[torch.arange(len(x), device=x.device)[:, None], steps]


def reconstruction_distance(decoded: Tensor, real: Tensor, squared_weight: float = 0.0) -> Tensor:
    """How far decoded frames (B, K, 3, S, S) are from real frames of the same clips: a scalar.

    It is the mean absolute error of the pixels, plus that of the difference between two frames of the clip. The weight
    of a pixel is 1 plus `MOTION_WEIGHT` times its distance from the mean of the clip's real frames. squared_weight:
    weight of the squared errors beside the absolute ones. While the place of an arm is uncertain, the absolute error is
    least without an arm, the squared one with a faint arm.
    """
    weight = 1.0 + MOTION_WEIGHT * (real - real.mean(1, keepdim=True)).abs().mean(2, keepdim=True)
    error = decoded - real
    change = error - error.roll(1, dims=1)
    distance = error.abs() + change.abs()
    if squared_weight:
        distance = distance + squared_weight * (error.square() + change.square())
    return (weight * distance).mean()
