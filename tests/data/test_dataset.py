"""Samples: a window depends on (seed, epoch, index) alone, and pixels have the same looks as stored features."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import make_video, number_of
from torch import Tensor

from pipeline.data.batch import collate
from pipeline.data.dataset import DecodedFrames, RowDataset, StoredFeatures, StoredSeries
from pipeline.data.feature_store import Features, FeatureStore
from pipeline.data.manifest_rows import Row
from pipeline.data.sampler import batches_by_length, epoch_batches
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.probe import probe
from pipeline.media.transform import Transform

LENGTHS = [30, 4, 12, 90]


class Counting:
    """A source whose steps are their own numbers."""

    sense = "series"
    reads_pixels = False

    def length(self, row: Row) -> int:
        return int(row.path)

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        return torch.arange(start, stop).float()[:, None], np.arange(start, stop) / 4.0


def label(row: Row, times: np.ndarray) -> Tensor | None:
    return None if row.label is None else torch.tensor(int(row.label))


ROWS = [Row(str(n), label=str(i)) for i, n in enumerate(LENGTHS)]


def dataset(**settings) -> RowDataset:
    return RowDataset(ROWS, Counting(), {"action": label}, **settings)


def steps(data: RowDataset, epoch: int, index: int) -> list[float]:
    return data[epoch, index].raw["series"][:, 0].tolist()


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
def test_a_sample_depends_on_seed_epoch_and_index_alone(order):
    keys = [(epoch, index) for epoch in range(3) for index in range(4)]
    first, second = dataset(seed=5, window=8, order=order), dataset(seed=5, window=8, order=order)
    expected = {key: steps(first, *key) for key in keys}
    assert {key: steps(second, *key) for key in reversed(keys)} == expected  # the order of the calls does not count
    loaded = pickle.loads(pickle.dumps(first))
    assert {key: steps(loaded, *key) for key in keys} == expected
    assert steps(dataset(seed=6, window=8, order=order), 0, 3) != expected[0, 3]
    assert len({tuple(sorted(steps(first, epoch, 3))) for epoch in range(20)}) > 10  # the window changes with the epoch


def test_windows_are_contiguous_and_reach_both_ends_of_the_row():
    data = dataset(window=8)
    assert data.lengths == [8, 4, 8, 8] and data.full_lengths == LENGTHS
    starts = set()
    for epoch in range(200):
        window = steps(data, epoch, 2)
        assert window == list(range(int(window[0]), int(window[0]) + 8))
        starts.add(int(window[0]))
    assert starts == {0, 1, 2, 3, 4}
    assert steps(data, 3, 1) == [0, 1, 2, 3]
    assert steps(dataset(), 3, 3) == list(range(90))


def test_steps_are_read_forward_reversed_or_shuffled():
    forward = steps(dataset(), -1, 0)
    assert steps(dataset(order="reversed"), -1, 0) == forward[::-1]
    shuffled = dataset(order="shuffled")
    assert sorted(steps(shuffled, -1, 0)) == forward != steps(shuffled, -1, 0)
    assert steps(shuffled, -1, 0) == steps(dataset(order="shuffled"), -1, 0)


def test_shuffled_steps_are_a_random_permutation():
    orders = np.array([steps(dataset(order="shuffled", seed=seed), -1, 3) for seed in range(40)])
    assert np.array_equal(np.sort(orders, 1), np.tile(np.arange(90.0), (40, 1)))
    neighbours = (np.abs(np.diff(orders, axis=1)) == 1).sum(1)
    assert neighbours.max() <= 8, "2 of 89 are expected; a rotated or reversed row has all of them"
    assert len({row[0] for row in orders}) > 25, "the first step is another one for each seed"
    correlations = [np.corrcoef(row, np.arange(90))[0, 1] for row in orders]
    assert np.abs(correlations).max() < 0.5 and abs(np.mean(correlations)) < 0.06
    assert steps(dataset(order="shuffled"), -1, 3)[:30] != steps(dataset(order="shuffled"), -1, 0), "not one for all"


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
@pytest.mark.parametrize("window", [None, 20])
def test_targets_of_steps_move_with_their_steps_and_others_stay(order, window):
    def number(row: Row, times: np.ndarray) -> Tensor:
        return torch.from_numpy(times * 4.0)

    data = RowDataset(
        ROWS,
        Counting(),
        {"action": label, "timeline": number, "whole": number},
        order=order,
        window=window,
        per_step_heads=["timeline"],
    )
    for index in range(4):
        sample = data[0, index]
        numbers = sample.raw["series"][:, 0].tolist()
        assert sample.targets["timeline"].tolist() == numbers
        assert sample.targets["whole"].tolist() == sorted(numbers) and int(sample.targets["action"]) == index


def test_samples_become_a_batch_with_their_sources_and_targets():
    data = dataset(window=8)
    batch = collate([data[0, i] for i in (1, 3)])
    assert batch.raw["series"].lengths.tolist() == [4, 8] and batch.sources == ("4", "90")
    assert torch.equal(batch.target("action"), torch.tensor([1, 3]))


def test_a_row_without_a_target_for_a_head_is_an_error():
    data = RowDataset([Row("7")], Counting(), {"action": label})
    with pytest.raises(ValueError, match="'7' has nothing for the head 'action'. Add what it learns from .a label, sp"):
        data[0, 0]


def test_every_index_occurs_once_in_an_epoch_and_similar_lengths_come_together():
    lengths = np.random.default_rng(0).integers(1, 100, 103).tolist()
    for epoch in range(3):
        batches = epoch_batches(lengths, 8, seed=1, epoch=epoch)
        indices = [index for batch in batches for index in batch]
        assert all(len(batch) == 8 for batch in batches) and len(indices) == 104 and set(indices) == set(range(103))
    assert epoch_batches(lengths, 8, 1, 0) == epoch_batches(lengths, 8, 1, 0) != epoch_batches(lengths, 8, 1, 1)
    keys = [key for batch in batches_by_length(lengths, 8) for key in batch]
    assert sorted(i for _, i in keys) == list(range(103)) and [lengths[i] for _, i in keys] == sorted(lengths)


# sources that read files


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return make_video(tmp_path_factory.mktemp("dataset") / "a.mp4", 60)


def frames_of(video: Path, backend: str = "pyav") -> DecodedFrames:
    return DecodedFrames(video.parent, Clock(6.0), Transform(96, "squash"), backend)  # type: ignore[arg-type]


@pytest.mark.parametrize(("start", "stop"), [(0, 12), (2, 5), (11, 12), (0, 1)])
def test_decoded_frames_are_the_looks_of_the_clock(video, start, stop):
    source, row = frames_of(video), Row("a.mp4")
    assert source.length(row) == 12
    pixels, times = source.read(row, start, stop)
    assert pixels.dtype == torch.uint8 and pixels.shape == (stop - start, 96, 96, 3)
    assert [number_of(p.numpy()) for p in pixels] == [5 * k for k in range(start, stop)]
    assert times.tolist() == pytest.approx([k / 6 for k in range(start, stop)])


def test_decoded_frames_have_the_times_of_stored_features(video, tmp_path):
    pixels, row = frames_of(video), Row("a.mp4")
    clips = list(decode(video, clock=Clock(6.0), transform=Transform(96, "squash")))
    frames = np.concatenate([clip.frames for clip in clips])
    values = frames.reshape(len(frames), -1)[:, :500].astype(np.float16)
    store = FeatureStore(tmp_path, {})
    store.write(video, Features(values, np.concatenate([clip.times for clip in clips])))
    stored = StoredFeatures(video.parent, store)
    assert stored.length(row) == pixels.length(row)
    for start, stop in ((0, 12), (3, 9)):
        features, feature_times = stored.read(row, start, stop)
        decoded, frame_times = pixels.read(row, start, stop)
        assert np.array_equal(feature_times, frame_times)
        assert torch.equal(features, decoded.flatten(1)[:, :500].half())


def test_a_range_behind_the_end_of_a_shortened_file_gives_its_last_look(video, tmp_path):
    whole = make_video(tmp_path / "whole.mkv", 60)
    shortened = tmp_path / "cut.mkv"
    shortened.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = DecodedFrames(tmp_path, Clock(6.0), Transform(96, "squash"), "pyav")
    length = source.length(Row("cut.mkv"))
    num_looks = sum(len(clip.times) for clip in decode(shortened, clock=Clock(6.0), transform=None))
    assert (probe(shortened).seconds or 0) > 1.5 and num_looks < length == 12
    frames, _ = source.read(Row("cut.mkv"), 0, 12)
    pixels, times = source.read(Row("cut.mkv"), 10, 12)
    assert len(frames) == num_looks and torch.equal(pixels, frames[-1:])
    assert times.tolist() == pytest.approx([(num_looks - 1) / 6])


def test_missing_features_are_an_error_that_names_the_command(video, tmp_path):
    with pytest.raises(ValueError, match="'a.mp4' has no stored features. Run `unreel extract` on this config first."):
        RowDataset([Row("a.mp4")], StoredFeatures(video.parent, FeatureStore(tmp_path, {})), {"action": label})


def test_a_stored_series_keeps_its_values_and_has_the_times_of_its_rate(tmp_path):
    values = np.random.default_rng(0).normal(size=(9, 4))
    np.save(tmp_path / "a.npy", values)
    source, row = StoredSeries(tmp_path, 4.0), Row("a.npy")
    assert source.length(row) == 9 and source.width(row) == 4
    data, times = source.read(row, 2, 6)
    assert data.dtype == torch.float32 and np.array_equal(data.numpy(), values[2:6].astype(np.float32))
    assert times.tolist() == [0.5, 0.75, 1.0, 1.25]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "is not a stored series .* A .npy file of shape .T, D. is needed."),
        (lambda p: p.write_text("1 2 3"), "is not a stored series"),
        (lambda p: p.touch(), "is not a stored series"),
        (lambda p: np.save(p, np.array([{"a": 1}], dtype=object), allow_pickle=True), "is not a stored series"),
        (lambda p: p.write_bytes(pickle.dumps([1, 2])), "is not a stored series"),
        (lambda p: p.mkdir(), "is not a stored series"),
        (lambda p: (np.save(p, np.zeros((50, 4))), p.write_bytes(p.read_bytes()[:-100])), "is not a stored series"),
        (lambda p: np.save(p, np.zeros(5)), r"holds float64 of shape \(5,\). A series is numbers of shape \(T, D\)."),
        (lambda p: np.save(p, np.zeros((2, 3, 4))), r"holds float64 of shape \(2, 3, 4\)"),
        (lambda p: np.save(p, np.array([["a", "b"]])), r"holds <U1 of shape \(1, 2\)"),
        (lambda p: np.save(p, np.zeros((2, 3), dtype=complex)), r"holds complex128 of shape \(2, 3\)"),
    ],
    ids=["missing", "text", "empty", "objects", "pickle", "folder", "cut", "flat", "deep", "words", "complex"],
)
def test_a_file_that_is_not_a_series_is_an_error(make, message, tmp_path):
    make(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=f"a.npy' {message}"):
        StoredSeries(tmp_path, 4.0).length(Row("a.npy"))
