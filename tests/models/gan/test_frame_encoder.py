"""The frame encoder and the reconstruction distance: padding and other frames do not count, and numbers by hand."""

from __future__ import annotations

import pytest
import torch
from toy_frames import frames_head, frames_model

from pipeline.models.gan.frame_encoder import MOTION_WEIGHT, reconstruction_distance
from pipeline.padded import Padded, stack


def test_the_encoder_does_not_see_padding_and_encodes_each_frame_by_itself() -> None:
    encoder = frames_head(frames_model().eval()).frame_encoder
    with torch.no_grad():
        short = torch.rand(1, 3, 3, 16, 16)
        alone = encoder(Padded(short, torch.tensor([3])))
        beside_longer = encoder(stack([short[0], torch.rand(5, 3, 16, 16)]))
    assert torch.allclose(alone.content[0], beside_longer.content[0], atol=1e-5)
    assert torch.allclose(alone.poses[0], beside_longer.poses[0, :3], atol=1e-5)
    assert torch.allclose(alone.kl_divergence[0], beside_longer.kl_divergence[0], rtol=1e-4)


def test_the_reconstruction_distance_by_hand() -> None:
    real, decoded = torch.rand(1, 2, 3, 2, 2) * 2 - 1, torch.rand(1, 2, 3, 2, 2) * 2 - 1
    error, total, squared = decoded - real, 0.0, 0.0
    for k in range(2):
        for i in range(2):
            for j in range(2):
                motion = sum(abs(float(real[0, k, c, i, j] - real[0, :, c, i, j].mean())) for c in range(3)) / 3
                weight = 1 + MOTION_WEIGHT * motion
                for c in range(3):
                    change = abs(float(error[0, k, c, i, j] - error[0, 1 - k, c, i, j]))
                    total += weight * (abs(float(error[0, k, c, i, j])) + change)
                    squared += weight * (float(error[0, k, c, i, j]) ** 2 + change**2)
    assert reconstruction_distance(decoded, real) == pytest.approx(total / 24, rel=1e-5)
    assert reconstruction_distance(decoded, real, 2.0) == pytest.approx((total + 2 * squared) / 24, rel=1e-5)
