"""Augmentation: one draw a clip or a series, the same change for every step, all of it from the given generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_training import make_toy

from pipeline.config import load_config
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest import Row
from pipeline.run import train
from pipeline.training.augment import ClipAugment, SeriesMirror

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


# series

MIRROR = SeriesMirror(width=6, swap=[(2, 4), (3, 5)], negate=[1, 3, 5])


def series(steps: int = 12, width: int = 6) -> torch.Tensor:
    return torch.randn(steps, width, generator=torch.Generator().manual_seed(0))


def test_a_mirror_twice_is_the_series_again():
    x = series()
    mirrored = MIRROR.mirror(x)
    assert torch.equal(MIRROR.mirror(mirrored), x) and not torch.equal(mirrored, x)
    y, left, right = (0, slice(2, 4), slice(4, 6))
    flip = torch.tensor([1.0, -1.0])
    assert torch.equal(mirrored[:, y], x[:, y]) and torch.equal(mirrored[:, 1], -x[:, 1])
    assert torch.equal(mirrored[:, left], x[:, right] * flip) and torch.equal(mirrored[:, right], x[:, left] * flip)


def test_half_of_the_series_are_mirrored_and_the_generator_alone_decides_which():
    x = series()
    found = [MIRROR(x, np.random.default_rng(seed)) for seed in range(200)]
    assert all(torch.equal(f, x) or torch.equal(f, MIRROR.mirror(x)) for f in found)
    assert 70 < sum(torch.equal(f, MIRROR.mirror(x)) for f in found) < 130
    again = [MIRROR(x, np.random.default_rng(seed)) for seed in range(200)]
    assert all(map(torch.equal, found, again))


def test_a_mirror_of_channels_that_the_series_lacks_is_refused():
    with pytest.raises(ValueError, match="mirror names channel 5, and the series has 4 of them, counted from 0. Name"):
        SeriesMirror(width=4, negate=[1, 5])


class Stored:
    """A source of one series."""

    sense = "series"
    reads_pixels = False

    def length(self, row: Row) -> int:
        return 12

    def read(self, row: Row, start: int, stop: int) -> tuple[torch.Tensor, np.ndarray]:
        return series()[start:stop], np.arange(start, stop) / 4.0


def test_a_mirrored_sample_is_a_pure_function_of_seed_epoch_and_index_and_keeps_its_class():
    rows = [Row(str(i), label=str(i % 2)) for i in range(4)]
    targets = {"action": lambda row, times: torch.tensor(int(row.label))}
    keys = [(epoch, index) for epoch in range(20) for index in range(4)]

    def samples(seed: int, keys: list[tuple[int, int]]) -> dict[tuple[int, int], torch.Tensor]:
        data = RowDataset(rows, Stored(), targets, seed=seed, augment=MIRROR)
        found = {key: data[key] for key in keys}
        assert all(int(sample.targets["action"]) == key[1] % 2 for key, sample in found.items())
        return {key: sample.raw["series"] for key, sample in found.items()}

    first, again, other = samples(0, keys), samples(0, keys[::-1]), samples(1, keys)
    assert all(torch.equal(first[key], again[key]) for key in keys)
    for index in range(4):  # which epochs mirror it depends on the row and on the seed
        assert {tuple(first[epoch, index][0].tolist()) for epoch in range(20)} == {
            tuple(x[0].tolist()) for x in (series(), MIRROR.mirror(series()))
        }
    assert any(not torch.equal(first[key], other[key]) for key in keys)


def test_windows_of_a_row_whose_state_is_carried_are_mirrored_alike():
    data = RowDataset([Row("0", label="0")], Stored(), {}, window=4, augment=MIRROR)
    for epoch in range(10):
        whole = torch.cat([data[epoch, 0, start].raw["series"] for start in (0, 4, 8)])
        assert torch.equal(whole, series()) or torch.equal(whole, MIRROR.mirror(series()))


def test_only_training_is_changed(tmp_path, monkeypatch):
    """Of all datasets that a run makes, none but the training part's is handed an augmentation."""
    made = []

    class Recording(RowDataset):
        def __init__(self, rows, *arguments, **settings):
            super().__init__(rows, *arguments, **settings)
            made.append((rows[0].split, self.augment))

    monkeypatch.setattr("pipeline.measure.RowDataset", Recording)
    make_toy(tmp_path / "set")
    settings = [f"data.path={tmp_path}/set/manifest.jsonl", f"run={tmp_path}/run", "encoder.kind=series"]
    settings += ["training.augment={mirror: {negate: [0]}}", "training.epochs=1", "core.hidden=8", "tracking.wandb=off"]
    train(load_config(None, settings), lambda text: None)
    assert {split for split, _ in made} == {"train", "val", "test"}
    changed = [split for split, augment in made if augment is not None]
    assert changed and set(changed) == {"train"}
