"""The feature store: whole files or none, and nothing stale is ever read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import make_video, number_of

from pipeline.data.features import Features, FeatureStore
from pipeline.encoders.backbone import Backbone
from pipeline.inference.extract import extract
from pipeline.media.clock import Clock
from pipeline.media.transform import Transform
from pipeline.recipe import ClockSection, FramesSection, Recipe

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


def test_what_was_written_is_read_back_exactly(store, video):
    assert store.read(video) is None and store.length(video) is None
    wrote = features()
    store.write(video, wrote)
    found = store.read(video)
    assert found is not None and store.length(video) == 5
    assert found.values.dtype == np.float16 and np.array_equal(found.values, wrote.values)
    assert found.times.dtype == np.float64 and np.array_equal(found.times, wrote.times)
    assert found.warnings == wrote.warnings


def test_features_are_rounded_to_half_precision_once(store, video):
    values = np.array([[1 / 3, 65504.0, 1e-7, -0.1]], dtype=np.float32)
    store.write(video, Features(values, np.zeros(1)))
    found = store.read(video)
    assert found is not None and np.array_equal(found.values, values.astype(np.float16))
    store.write(video, found)
    again = store.read(video)
    assert again is not None and np.array_equal(again.values, found.values)


def test_an_interrupted_write_leaves_nothing_under_the_final_name(store, video, monkeypatch):
    def crash(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="No space left"):
            store.write(video, features())
    assert store.read(video) is None and not [p for p in store.folder.rglob("*") if p.is_file()]
    store.write(video, features(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="No space left"):
            store.write(video, features(2))
    found = store.read(video)
    assert found is not None and np.array_equal(found.values, features(1).values)


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


def test_the_key_depends_on_all_that_shapes_the_numbers(tmp_path, video):
    backbone, other = Backbone(size=64), Backbone(size=64)
    with torch.no_grad():
        next(other.net.parameters()).mul_(2)

    def path(net: Backbone = backbone, rate: float = 4.0, **section) -> Path:
        recipe = Recipe(
            clock=ClockSection(rate=rate), encoder=FramesSection(**{"size": 64, "runtime": "torch", **section})
        )
        return FeatureStore(tmp_path, recipe.made_by(CPU, net)).path(video)

    changed = [
        path(other),
        path(rate=5.0),
        path(decoder="opencv"),
        path(decoder="decord"),
        path(fit="crop"),
        path(size=96),
        path(runtime="openvino"),
    ]
    assert len({path(), *changed}) == 1 + len(changed)
    assert path(project=7, dropout=0.1, normalise="none") == path()  # what stands behind the features


def test_two_processes_writing_one_entry_leave_it_whole(store, video):
    script = ("import sys, numpy as np\nfrom pipeline.data.features import *\n"
              "s = FeatureStore(sys.argv[1], {'backbone': 'x', 'rate': 4.0})\n"
              "for i in range(40): s.write(sys.argv[2], Features(np.full((2000, 64), int(sys.argv[3])), np.arange(2000.0)))\n")  # fmt: skip
    writers = [subprocess.Popen([sys.executable, "-c", script, str(store.folder), str(video), str(n)]) for n in (1, 2)]
    seen = set()
    while any(w.poll() is None for w in writers):
        found = store.read(video)
        if found is not None:
            assert found.values.shape == (2000, 64) and len(values := np.unique(found.values)) == 1
            seen.add(float(values[0]))
    assert [w.returncode for w in writers] == [0, 0] and seen <= {1.0, 2.0} and seen
    assert len([p for p in store.folder.rglob("*") if p.is_file()]) == 1


# filling it


class Look:
    """Reads the barcodes: the feature of a frame is its number."""

    def __init__(self) -> None:
        self.built = self.looked = 0

    def __call__(self) -> Look:
        self.built += 1
        return lambda pixels: self.look(pixels)  # type: ignore[return-value]

    def look(self, pixels: np.ndarray) -> np.ndarray:
        self.looked += len(pixels)
        return np.array([[number_of(p)] for p in pixels], dtype=np.float32)


def fill(videos: list[Path], store: FeatureStore, look: Look):
    return extract(videos, store, look, clock=Clock(6.0), transform=Transform(96, "squash"), backend="pyav")


def test_extraction_keeps_what_is_there_and_redoes_what_is_damaged(store, tmp_path):
    videos = [make_video(tmp_path / f"{n}.mp4", n) for n in (40, 20)]
    first, second, third = Look(), Look(), Look()
    found = fill(videos, store, first)
    assert (found.kept, found.made, found.looks, found.failed) == (0, 2, 12, {}) and first.built == 1
    kept = store.read(videos[0])
    assert kept is not None and kept.values[:, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    assert kept.times.tolist() == pytest.approx([k / 6 for k in range(8)])
    found = fill(videos, store, second)
    assert (found.kept, found.made) == (2, 0) and second.built == second.looked == 0
    path = store.path(videos[1])
    path.write_bytes(path.read_bytes()[:-3])
    found = fill(videos, store, third)
    assert (found.kept, found.made, third.looked) == (1, 1, 4) and store.length(videos[1]) == 4


def test_extraction_names_what_it_could_not_look_at_and_goes_on(store, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")  # to hash it would wait for ever
    good = make_video(tmp_path / "good.mp4", 10)
    names = ["text.mp4", "empty.mp4", "folder.mp4", "pipe.mp4", "missing.mp4"]
    found = fill([*(tmp_path / n for n in names), good], store, Look())
    assert found.made == 1 and store.length(good) == 2
    statuses = {Path(video).name: status for video, (status, _) in found.failed.items()}
    assert statuses == {"text.mp4": "failed:not_a_video", "empty.mp4": "failed:not_a_video", "folder.mp4": "failed:not_regular_file",
                        "pipe.mp4": "failed:not_regular_file", "missing.mp4": "failed:unreadable"}  # fmt: skip
    assert all(sentence.endswith(".") for _, sentence in found.failed.values())


def test_a_disk_that_cannot_take_the_store_is_no_fault_of_the_video(tmp_path):
    (tmp_path / "store").write_text("a file stands where the folder would")
    with pytest.raises(OSError):
        fill([make_video(tmp_path / "a.mp4", 4)], FeatureStore(tmp_path / "store", {}), Look())
