"""Augmentation: one draw a clip, the same change for every frame, all of it from the given generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.training.augment import ClipAugment

ALL = ClipAugment(crop=0.6, flip=True, colour=0.5)


def clip(steps: int = 5, size: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (steps, 3, 6, 6), generator=generator).float()
    return (
        torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").permute(0, 2, 3, 1).to(torch.uint8)
    )


def changed(augment: ClipAugment, pixels: torch.Tensor, seed: int) -> torch.Tensor:
    return augment(pixels, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_every_frame_of_a_clip_is_changed_alike(seed):
    pixels = clip()
    together = changed(ALL, pixels, seed)
    assert together.dtype == torch.uint8 and together.shape == pixels.shape
    for t in range(len(pixels)):
        assert torch.equal(changed(ALL, pixels[t : t + 1], seed)[0], together[t])
    still = changed(ALL, pixels[:1].expand(4, -1, -1, -1), seed)
    assert torch.equal(still, still[:1].expand_as(still))


def test_the_generator_alone_decides():
    pixels = clip()
    torch.manual_seed(1)
    one = [changed(ALL, pixels, seed) for seed in range(8)]
    torch.manual_seed(2)
    other = [changed(ALL, pixels, seed) for seed in range(8)]
    assert all(map(torch.equal, one, other))
    assert len({x.numpy().tobytes() for x in one}) == 8


def test_the_same_number_of_draws_whatever_is_on():
    ends = set()
    for augment in (ALL, ClipAugment(crop=1.0, flip=False, colour=0.0), ClipAugment(crop=1.0, flip=True, colour=0.0)):
        rng = np.random.default_rng(3)
        augment(clip(), rng)
        ends.add(float(rng.random()))
    assert len(ends) == 1


def test_off_is_off():
    pixels = clip()
    for seed in range(5):
        assert torch.equal(changed(ClipAugment(crop=1.0, flip=False, colour=0.0), pixels, seed), pixels)


def test_flip_mirrors_half_of_the_clips_and_changes_nothing_else():
    pixels, flip = clip(2), ClipAugment(crop=1.0, flip=True, colour=0.0)
    mirrored = 0
    for seed in range(200):
        found = changed(flip, pixels, seed)
        assert torch.equal(found, pixels) or torch.equal(found, pixels.flip(2))
        mirrored += torch.equal(found, pixels.flip(2))
    assert 70 < mirrored < 130


def test_a_crop_is_a_part_of_the_picture_in_its_place():
    """Pixels that carry their own place: after a crop they still rise to the right and down, over no more than they did."""
    place = torch.arange(48, dtype=torch.float32) * 5
    pixels = torch.stack([place[None, :].expand(48, 48), place[:, None].expand(48, 48), torch.zeros(48, 48)], dim=-1)[
        None
    ].to(torch.uint8)
    spans = []
    for seed in range(30):
        found = changed(ClipAugment(crop=0.6, flip=False, colour=0.0), pixels, seed)[0].int()
        assert (found[:, 1:, 0] >= found[:, :-1, 0]).all() and (found[1:, :, 1] >= found[:-1, :, 1]).all()
        spans.append(int(found[24, -1, 0] - found[24, 0, 0]) / (47 * 5))
    assert 0.5 < min(spans) < 0.7 and 0.9 < max(spans) <= 1.0


def test_colour_keeps_places_and_stays_within_its_strength():
    gray = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    for seed in range(30):
        found = changed(ClipAugment(crop=1.0, flip=False, colour=0.2), gray, seed)
        assert (
            found.unique().numel() == 1 and 78 <= int(found[0, 0, 0, 0]) <= 122
        )  # a gray picture changes in brightness only
