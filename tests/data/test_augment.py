"""Augmentation: drawn once per clip or series, equal for every step, and random only by the given generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_training import make_toy

from pipeline.commands.train import train
from pipeline.config.run import load_config
from pipeline.data.augment import ClipAugment, SeriesMirror
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest_rows import Row

ALL = ClipAugment(crop=0.6, flip=True, colour=0.5)


def clip(steps: int = 5, size: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (steps, 3, 6, 6), generator=generator).float()
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).to(torch.uint8)


def augmented(augment: ClipAugment, pixels: torch.Tensor, seed: int) -> torch.Tensor:
    return augment(pixels, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_every_frame_of_a_clip_is_changed_in_the_same_way(seed):
    pixels = clip()
    together = augmented(ALL, pixels, seed)
    assert together.dtype == torch.uint8 and together.shape == pixels.shape
    for t in range(len(pixels)):
        assert torch.equal(augmented(ALL, pixels[t : t + 1], seed)[0], together[t])
    still = augmented(ALL, pixels[:1].expand(4, -1, -1, -1), seed)
    assert torch.equal(still, still[:1].expand_as(still))


def test_only_the_generator_is_random():
    pixels = clip()
    torch.manual_seed(1)
    first = [augmented(ALL, pixels, seed) for seed in range(8)]
    torch.manual_seed(2)
    second = [augmented(ALL, pixels, seed) for seed in range(8)]
    assert all(map(torch.equal, first, second))
    assert len({x.numpy().tobytes() for x in first}) == 8


def test_the_number_of_draws_does_not_depend_on_what_is_switched_on():
    next_draws = set()
    for augment in (ALL, ClipAugment(crop=1.0, flip=False, colour=0.0), ClipAugment(crop=1.0, flip=True, colour=0.0)):
        rng = np.random.default_rng(3)
        augment(clip(), rng)
        next_draws.add(float(rng.random()))
    assert len(next_draws) == 1


def test_everything_off_changes_nothing():
    pixels = clip()
    for seed in range(5):
        assert torch.equal(augmented(ClipAugment(crop=1.0, flip=False, colour=0.0), pixels, seed), pixels)


def test_flip_flips_half_of_the_clips_and_changes_nothing_else():
    pixels, flip = clip(2), ClipAugment(crop=1.0, flip=True, colour=0.0)
    num_flipped = 0
    for seed in range(200):
        output = augmented(flip, pixels, seed)
        assert torch.equal(output, pixels) or torch.equal(output, pixels.flip(2))
        num_flipped += torch.equal(output, pixels.flip(2))
    assert 70 < num_flipped < 130


def test_a_crop_is_a_part_of_the_image_without_reordering():
    """The value of a pixel is its position. After a crop, values still increase to the right and down."""
    position = torch.arange(48, dtype=torch.float32) * 5
    channels = [position[None, :].expand(48, 48), position[:, None].expand(48, 48), torch.zeros(48, 48)]
    pixels = torch.stack(channels, dim=-1)[None].to(torch.uint8)
    ranges = []
    for seed in range(30):
        output = augmented(ClipAugment(crop=0.6, flip=False, colour=0.0), pixels, seed)[0].int()
        assert (output[:, 1:, 0] >= output[:, :-1, 0]).all() and (output[1:, :, 1] >= output[:-1, :, 1]).all()
        ranges.append(int(output[24, -1, 0] - output[24, 0, 0]) / (47 * 5))
    assert 0.5 < min(ranges) < 0.7 and 0.9 < max(ranges) <= 1.0


def test_colour_jitter_moves_no_pixel_and_stays_within_its_strength():
    gray = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    for seed in range(30):
        output = augmented(ClipAugment(crop=1.0, flip=False, colour=0.2), gray, seed)
        value = int(output[0, 0, 0, 0])
        assert output.unique().numel() == 1 and 78 <= value <= 122  # only the brightness of a gray image changes


# series

MIRROR = SeriesMirror(width=6, swap=[(2, 4), (3, 5)], negate=[1, 3, 5])


def series(steps: int = 12, width: int = 6) -> torch.Tensor:
    return torch.randn(steps, width, generator=torch.Generator().manual_seed(0))


def test_mirroring_twice_gives_the_series_again():
    x = series()
    mirrored = MIRROR.mirror(x)
    assert torch.equal(MIRROR.mirror(mirrored), x) and not torch.equal(mirrored, x)
    y, left, right = (0, slice(2, 4), slice(4, 6))
    flip = torch.tensor([1.0, -1.0])
    assert torch.equal(mirrored[:, y], x[:, y]) and torch.equal(mirrored[:, 1], -x[:, 1])
    assert torch.equal(mirrored[:, left], x[:, right] * flip) and torch.equal(mirrored[:, right], x[:, left] * flip)


def test_half_of_the_series_are_mirrored_and_only_the_generator_decides_which():
    x = series()
    outputs = [MIRROR(x, np.random.default_rng(seed)) for seed in range(200)]
    assert all(torch.equal(output, x) or torch.equal(output, MIRROR.mirror(x)) for output in outputs)
    assert 70 < sum(torch.equal(output, MIRROR.mirror(x)) for output in outputs) < 130
    again = [MIRROR(x, np.random.default_rng(seed)) for seed in range(200)]
    assert all(map(torch.equal, outputs, again))


def test_mirroring_channels_that_the_series_does_not_have_is_an_error():
    with pytest.raises(ValueError, match="mirror names channel 5, but the series has 4 channels, counted from 0. Name"):
        SeriesMirror(width=4, negate=[1, 5])


class OneSeries:
    """A source in which every row is the same series."""

    sense = "series"
    reads_pixels = False

    def length(self, row: Row) -> int:
        return 12

    def read(self, row: Row, start: int, stop: int) -> tuple[torch.Tensor, np.ndarray]:
        return series()[start:stop], np.arange(start, stop) / 4.0


def test_a_mirrored_sample_depends_on_seed_epoch_and_index_alone_and_keeps_its_class():
    rows = [Row(str(i), label=str(i % 2)) for i in range(4)]
    targets = {"action": lambda row, times: torch.tensor(int(row.label))}
    keys = [(epoch, index) for epoch in range(20) for index in range(4)]

    def samples(seed: int, keys: list[tuple[int, int]]) -> dict[tuple[int, int], torch.Tensor]:
        dataset = RowDataset(rows, OneSeries(), targets, seed=seed, augment=MIRROR)
        by_key = {key: dataset[key] for key in keys}
        assert all(int(sample.targets["action"]) == key[1] % 2 for key, sample in by_key.items())
        return {key: sample.raw["series"] for key, sample in by_key.items()}

    first, again, other = samples(0, keys), samples(0, keys[::-1]), samples(1, keys)
    assert all(torch.equal(first[key], again[key]) for key in keys)
    for index in range(4):  # every row is mirrored in some epochs
        assert {tuple(first[epoch, index][0].tolist()) for epoch in range(20)} == {
            tuple(x[0].tolist()) for x in (series(), MIRROR.mirror(series()))
        }
    assert any(not torch.equal(first[key], other[key]) for key in keys)


def test_all_windows_of_a_row_in_one_epoch_are_mirrored_or_none():
    dataset = RowDataset([Row("0", label="0")], OneSeries(), {}, window=4, augment=MIRROR)
    for epoch in range(10):
        whole = torch.cat([dataset[epoch, 0, start].raw["series"] for start in (0, 4, 8)])
        assert torch.equal(whole, series()) or torch.equal(whole, MIRROR.mirror(series()))


def test_only_training_data_are_augmented(tmp_path, monkeypatch):
    """Of all datasets that a run makes, only those of the training split get an augmentation."""
    datasets = []

    class Recording(RowDataset):
        def __init__(self, rows, *arguments, **settings):
            super().__init__(rows, *arguments, **settings)
            datasets.append((rows[0].split, self.augment))

    monkeypatch.setattr("pipeline.evaluation.test_evaluation.RowDataset", Recording)
    make_toy(tmp_path / "set")
    settings = [f"data.path={tmp_path}/set/manifest.jsonl", f"run={tmp_path}/run", "encoder.kind=series"]
    settings += ["training.augment={mirror: {negate: [0]}}", "training.epochs=1", "core.hidden=8", "tracking.wandb=off"]
    train(load_config(None, settings), lambda text: None)
    assert {split for split, _ in datasets} == {"train", "val", "test"}
    augmented_splits = [split for split, augment in datasets if augment is not None]
    assert augmented_splits and set(augmented_splits) == {"train"}
