"""The ring: memory without a name that two processes share."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from pipeline.media.ring import PACKETS, PICTURES, WAITING, Ring, create_memory


@pytest.mark.parametrize("has_memfd", [True, False])
def test_both_sides_see_pictures_and_counters_and_nothing_has_a_name(tmp_path, monkeypatch, has_memfd: bool) -> None:
    if not has_memfd:  # as on macOS: a file that is unlinked at once
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = create_memory(5, 7)
    assert not os.get_inheritable(memory) and not list(tmp_path.iterdir())
    worker, parent = Ring(memory, 5, 7), Ring(memory, 5, 7)
    os.close(memory)
    assert parent.pictures.shape == (5, 7, 7, 3) and worker.num_bytes == parent.num_bytes
    pictures = np.random.default_rng(0).integers(0, 255, (5, 7, 7, 3), np.uint8)
    places = []
    for picture in pictures:
        place = worker.take()
        assert place is not None and parent.is_full == (len(places) == 4)
        worker.pictures[place] = picture
        places.append(place)
    assert sorted(places) == [0, 1, 2, 3, 4] and parent.is_full and worker.take() is None
    assert np.array_equal(parent.pictures[places], pictures) and parent.progress == (0, 0)
    worker.counters[PACKETS] += 3
    worker.counters[PICTURES] += 2
    assert parent.progress == (3, 2)
    parent.free(3)
    assert not parent.is_full and worker.take() == 3


def test_a_worker_waits_for_a_slot_and_says_so() -> None:
    memory = create_memory(1, 4)
    ring = Ring(memory, 1, 4)
    os.close(memory)
    assert ring.wait_for_slot() == 0 and not ring.counters[WAITING]
    thread = threading.Thread(target=ring.wait_for_slot)
    thread.start()
    deadline = time.monotonic() + 10
    while not ring.counters[WAITING] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ring.counters[WAITING] and thread.is_alive()
    ring.free(0)
    thread.join(10)
    assert not thread.is_alive() and not ring.counters[WAITING] and ring.is_full


def test_memory_that_does_not_exist_is_an_error_at_once(monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        create_memory(2, 4)
    assert set(os.listdir("/proc/self/fd")) == before
