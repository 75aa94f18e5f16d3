"""The feature store: a reader sees a whole file or none, and never reads outdated features."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import make_video, number_of

from pipeline.config.architecture import Architecture
from pipeline.config.encoders import ClockSection, FramesSection
from pipeline.data.feature_store import Features, FeatureStore
from pipeline.encoders.backbone import Backbone
from pipeline.encoders.cnn_runtime import FeatureRequests
from pipeline.inference.extract_features import extract
from pipeline.inference.feeder import FeatureSource
from pipeline.media.decode_pool import DecodeSettings

CPU = torch.device("cpu")


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the content of a video")
    return path


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", {"backbone": "x", "rate": 4.0})


def features(seed: int = 0, steps: int = 5) -> Features:
    values = np.random.default_rng(seed).normal(size=(steps, 6)).astype(np.float16)
    return Features(values, np.arange(steps) / 4.0, ("short_video: It is short.", "ümlaut: ü"))


def test_reading_gives_exactly_what_was_written(store, video):
    assert store.read(video) is None and store.length(video) is None
    written = features()
    store.write(video, written)
    stored = store.read(video)
    assert stored is not None and store.length(video) == 5
    assert stored.values.dtype == np.float16 and np.array_equal(stored.values, written.values)
    assert stored.times.dtype == np.float64 and np.array_equal(stored.times, written.times)
    assert stored.warnings == written.warnings


def test_features_are_rounded_to_half_precision_once(store, video):
    values = np.array([[1 / 3, 65504.0, 1e-7, -0.1]], dtype=np.float32)
    store.write(video, Features(values, np.zeros(1)))
    stored = store.read(video)
    assert stored is not None and np.array_equal(stored.values, values.astype(np.float16))
    store.write(video, stored)
    again = store.read(video)
    assert again is not None and np.array_equal(again.values, stored.values)


def test_an_interrupted_write_leaves_nothing_under_the_final_name(store, video, monkeypatch):
    def crash(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="No space left"):
            store.write(video, features())
    assert store.read(video) is None and not list(store.folder.rglob("*.safetensors"))
    store.write(video, features(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="No space left"):
            store.write(video, features(2))
    stored = store.read(video)
    assert stored is not None and np.array_equal(stored.values, features(1).values)


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * len(b), lambda b: b"{" + b],
)
def test_a_damaged_entry_is_not_read(store, video, damage):
    store.write(video, features())
    path = store.path(video)
    path.write_bytes(damage(path.read_bytes()))
    assert store.read(video) is None and store.length(video) is None


def test_the_key_depends_on_the_content_and_not_on_the_path(store, video, tmp_path):
    store.write(video, features())
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(video, tmp_path / "elsewhere" / "b.avi")
    assert store.path(moved) == store.path(video) and store.length(moved) == 5
    video.write_bytes(b"the content of a VIDEO")
    assert store.path(video) != store.path(moved) and store.read(video) is None


def test_the_key_depends_on_everything_that_shapes_the_features(tmp_path, video, monkeypatch):
    backbone, other = Backbone(size=64), Backbone(size=64)
    with torch.no_grad():
        next(other.net.parameters()).mul_(2)
    brighter, wider = Backbone(size=64), Backbone(size=64)
    brighter.get_buffer("mean").add_(1)
    wider.get_buffer("std").add_(1)

    def path(net: Backbone = backbone, rate: float = 4.0, **section) -> Path:
        encoder = FramesSection(**{"size": 64, "runtime": "torch", **section})
        architecture = Architecture(clock=ClockSection(rate=rate), encoder=encoder)
        return FeatureStore(tmp_path, architecture.made_by(CPU, net)).path(video)

    changed = [
        path(other),
        path(brighter),
        path(wider),
        path(rate=5.0),
        path(decoder="opencv"),
        path(decoder="decord"),
        path(resize="crop"),
        path(size=96),
        path(runtime="openvino"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.config.architecture.LOOKS", 99)
        changed.append(path())
    assert len({path(), *changed}) == 1 + len(changed)
    assert path(project=7, dropout=0.1, normalise="none") == path()  # settings of the layers after the features


def test_two_processes_writing_one_entry_leave_it_whole(store, video):
    script = "\n".join(
        [
            "import sys, numpy as np",
            "from pipeline.data.feature_store import Features, FeatureStore",
            "store = FeatureStore(sys.argv[1], {'backbone': 'x', 'rate': 4.0})",
            "features = Features(np.full((2000, 64), int(sys.argv[3])), np.arange(2000.0))",
            "for _ in range(40): store.write(sys.argv[2], features)",
        ]
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(store.folder), str(video), str(n)]) for n in (1, 2)]
    written_by = set()
    while any(writer.poll() is None for writer in writers):
        stored = store.read(video)
        if stored is not None:
            values = np.unique(stored.values)
            assert stored.values.shape == (2000, 64) and len(values) == 1
            written_by.add(float(values[0]))
    assert [writer.returncode for writer in writers] == [0, 0] and written_by <= {1.0, 2.0} and written_by
    assert len(list(store.folder.rglob("*.safetensors"))) == 1


# extraction into the store


class BarcodeRequests:
    """A CNN that reads barcodes: the feature of a frame is its number."""

    request_size, output_size = 8, 1

    def __init__(self) -> None:
        self.num_builds = self.num_frames = 0

    def build(self) -> FeatureRequests:
        self.num_builds += 1
        return self

    def submit(self, frames: Sequence[np.ndarray], on_done: Callable[[np.ndarray], None]) -> None:
        self.num_frames += len(frames)
        on_done(np.array([[number_of(frame)] for frame in frames], dtype=np.float32))

    def wait(self) -> None:
        """Every request is done at once."""


def fill(videos: list[Path], store: FeatureStore, requests: BarcodeRequests):
    settings = DecodeSettings(6.0, 96, "squash", hash_content=True)
    return extract(videos, store, FeatureSource(settings, requests.build))


def test_extraction_keeps_stored_features_and_replaces_damaged_ones(store, tmp_path):
    videos = [make_video(tmp_path / f"{n}.mp4", n) for n in (40, 20)]
    first, second, third = BarcodeRequests(), BarcodeRequests(), BarcodeRequests()
    result = fill(videos, store, first)
    counts = (result.num_stored, result.num_extracted, result.num_looks, result.failed)
    assert counts == (0, 2, 12, {}) and first.num_builds == 1
    stored = store.read(videos[0])
    assert stored is not None and stored.values[:, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    assert stored.times.tolist() == pytest.approx([k / 6 for k in range(8)])
    result = fill(videos, store, second)
    assert (result.num_stored, result.num_extracted) == (2, 0) and second.num_builds == second.num_frames == 0
    path = store.path(videos[1])
    path.write_bytes(path.read_bytes()[:-3])
    result = fill(videos, store, third)
    assert (result.num_stored, result.num_extracted, third.num_frames) == (1, 1, 4) and store.length(videos[1]) == 4


def test_extraction_lists_videos_that_cannot_be_read_and_continues(store, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")  # reading it to hash it would never end
    good = make_video(tmp_path / "good.mp4", 10)
    expected = {
        "text.mp4": "failed:not_a_video",
        "empty.mp4": "failed:not_a_video",
        "folder.mp4": "failed:not_regular_file",
        "pipe.mp4": "failed:not_regular_file",
        "missing.mp4": "failed:unreadable",
    }
    result = fill([*(tmp_path / name for name in expected), good], store, BarcodeRequests())
    assert result.num_extracted == 1 and store.length(good) == 2
    assert {Path(video).name: status for video, (status, _) in result.failed.items()} == expected
    assert all(message.endswith(".") for _, message in result.failed.values())


def test_a_store_that_cannot_be_written_is_not_a_failure_of_the_video(tmp_path):
    (tmp_path / "store").write_text("a file with the name of the store")
    with pytest.raises(OSError, match="store"):
        fill([make_video(tmp_path / "a.mp4", 4)], FeatureStore(tmp_path / "store", {}), BarcodeRequests())
