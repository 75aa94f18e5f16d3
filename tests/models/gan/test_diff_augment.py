"""Differentiable augmentation: the same for every frame of a clip, different between clips, and with a gradient."""

from __future__ import annotations

import torch

from pipeline.models.gan.diff_augment import diff_augment


def test_the_augmentation_is_the_same_for_every_frame_and_differs_between_clips() -> None:
    torch.manual_seed(0)
    clips = torch.rand(1, 1, 3, 16, 16).expand(2, 5, 3, 16, 16) * 2 - 1
    augmented = diff_augment(clips, 1.0)
    assert augmented.shape == clips.shape and torch.equal(augmented[:, :1].expand_as(augmented), augmented)
    assert not torch.allclose(augmented[0], augmented[1]) and not torch.allclose(augmented, clips)
    assert diff_augment(clips, 0.0) is clips


def test_the_gradient_passes_through_the_augmentation() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4, requires_grad=True)
    diff_augment(x, 1.0).sum().backward()
    assert x.grad is not None and (x.grad.abs() > 0).all()
