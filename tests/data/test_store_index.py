"""The index of the feature store: a cache that knows the content of videos that have not changed, and never lies."""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

from pipeline.data import feature_store
from pipeline.data.feature_store import Features, FeatureStore
from pipeline.data.store_index import INDEX, FileContent, StoreIndex

OLD = time.time() - 100


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A file that was changed long ago."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the content of a video")
    os.utime(path, (OLD, OLD))
    return path


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", {"backbone": "x"})


def again(store: FeatureStore) -> FeatureStore:
    """The same store in a job that knows nothing but the disk."""
    store.flush()
    feature_store.content_hash.cache_clear()
    return FeatureStore(store.folder, {"backbone": "x"})


FEATURES = Features(np.ones((3, 2), np.float16), np.arange(3.0), ("short_video: It is short.",))


def test_a_warm_store_opens_no_video(store, video, monkeypatch) -> None:
    assert store.read_known(video) is None
    store.write(video, FEATURES)
    warm = again(store)
    monkeypatch.setattr(feature_store, "content_hash", None)  # to hash the video would fail
    stored = warm.read_known(video)
    assert stored is not None and np.array_equal(stored.values, FEATURES.values)
    assert stored.warnings == FEATURES.warnings and warm.length(video) == 3 and warm.read(video) is not None


def test_the_hash_of_a_worker_is_taken(store, video) -> None:
    path, stat = store.path(video), video.stat()
    sha256 = "5b0d" * 16
    store.write(video, FEATURES, FileContent(sha256, stat.st_size, stat.st_mtime_ns, time.time()))
    assert again(store).read_known(video) is not None and again(store).path(video) != path


def test_a_video_that_has_changed_is_not_known(store, video) -> None:
    store.write(video, FEATURES)
    os.utime(video, (OLD + 1, OLD + 1))
    assert again(store).read_known(video) is None and again(store).read(video) is not None, "its content is the same"
    video.write_bytes(b"the content of a VIDEO")
    os.utime(video, (OLD, OLD + 2))
    assert again(store).read_known(video) is None and again(store).read(video) is None


@pytest.mark.parametrize(("age", "is_known"), [(1.0, False), (3.0, True), (-60.0, False)])
def test_a_video_that_was_just_changed_when_it_was_read_is_not_known(store, video, age, is_known) -> None:
    changed = time.time() - age
    os.utime(video, (changed, changed))
    store.write(video, FEATURES)
    assert (again(store).read_known(video) is not None) == is_known


def test_features_of_another_fingerprint_are_not_given(store, video) -> None:
    store.write(video, FEATURES)
    store.flush()
    assert FeatureStore(store.folder, {"backbone": "y"}).read_known(video) is None


def test_a_feature_file_whose_bits_have_changed_is_deleted_and_computed_again(store, video) -> None:
    store.write(video, FEATURES)
    path = store.path(video)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert again(store).read_known(video) is None and not path.exists()
    store.write(video, FEATURES)
    assert again(store).read_known(video) is not None


@pytest.mark.parametrize("damage", [b"", b"no database at all, but long enough to be read as one " * 99, None])
def test_an_index_that_is_damaged_or_deleted_costs_time_and_nothing_else(store, video, damage) -> None:
    store.write(video, FEATURES)
    store.flush()
    index = store.folder / INDEX
    index.unlink()
    if damage is not None:
        index.write_bytes(damage)
    new = again(store)
    assert new.read_known(video) is None and new.read(video) is not None
    new.write(video, FEATURES)
    assert again(new).read_known(video) is not None


def test_an_index_of_another_version_is_begun_again(store, video) -> None:
    store.write(video, FEATURES)
    store.flush()
    connection = sqlite3.connect(store.folder / INDEX)
    with connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("ALTER TABLE videos RENAME COLUMN looks TO length")
    connection.close()
    new = again(store)
    assert new.read_known(video) is None
    new.write(video, FEATURES)
    assert again(new).read_known(video) is not None


def test_copies_for_workers_open_the_index_for_themselves(store, video) -> None:
    store.write(video, FEATURES)
    store.flush()
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read_known(video) is not None
    assert store.read_known(video) is not None
    parents = store.index._connection
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read_known(video) is not None and store.index._connection is not parents else 1)
    assert os.waitpid(child, 0)[1] == 0 and store.read_known(video) is not None


def test_jobs_share_an_index(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.data.store_index import FileContent, StoreIndex\n"
        "index = StoreIndex(Path(sys.argv[1]))\n"
        "for n in range(200):\n"
        "    index.add(f'/{sys.argv[2]}/{n}', FileContent('c', 1, 1, 100.0), 'f', 1, ())\n"
        "    index.flush()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    jobs = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)], env=env) for n in range(3)]
    assert [job.wait(timeout=120) for job in jobs] == [0, 0, 0]
    index = StoreIndex(tmp_path)
    assert all(index.content(f"/{job}/{n}", 1, 1) == "c" for job in range(3) for n in range(200))
