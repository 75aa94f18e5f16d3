"""The decode pool: its looks are those of `decode`, and no file costs another one its row, whatever a decoder does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from made_videos import barcode, make_video, set_matrix
from pools import copies, decode_all, wait_for

from pipeline.data.feature_store import content_hash
from pipeline.media import decode_pool
from pipeline.media.clock import Clock
from pipeline.media.damage import add_damage
from pipeline.media.decode import Backend, decode
from pipeline.media.decode_pool import (
    DecodeLimits,
    DecodePool,
    DecodeSettings,
    DecodeTask,
    Failed,
    Finished,
    Looks,
    Opened,
    WorkerStartError,
)
from pipeline.media.ring import WAITING
from pipeline.media.sniff import MediaError
from pipeline.media.transform import Transform

SIDE, RATE = 48, 40.0
SETTINGS = DecodeSettings(RATE, SIDE, "letterbox")
QUICK = DecodeLimits(idle_seconds=5.0)  # a worker of a busy machine may stand still for a second


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips of several kinds; some are damaged, and some backends refuse some."""
    folder = tmp_path_factory.mktemp("pool")
    cut = make_video(folder / "cut.ts", 60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 5])
    return [
        make_video(folder / "plain.mp4", 20),
        make_video(folder / "slow.mkv", 6, rate=Fraction(3)),  # each picture is shown at several looks
        set_matrix(make_video(folder / "rotated.mp4", 20), 0, 1, -1, 0),
        make_video(folder / "b_frames.avi", 20, codec="mpeg4", max_b_frames=2),
        make_video(folder / "odd.mkv", [barcode(n, 131, 97) for n in range(20)], codec="ffv1"),
        cut,
    ]


@pytest.fixture
def film(videos: list[Path]) -> Path:
    """A clip with more looks than a small ring has slots."""
    return videos[0]


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    """One worker with a ring of two pictures."""
    with DecodePool(1, SETTINGS, slots_a_worker=2) as pool:
        yield pool


@pytest.mark.parametrize("backend", ["pyav", "opencv", "decord"])
def test_the_looks_are_those_of_decode(videos: list[Path], backend: Backend) -> None:
    with DecodePool(2, DecodeSettings(RATE, SIDE, "crop", backend, hash_content=True), slots_a_worker=5) as pool:
        heard = decode_all(pool, videos)
    num_repeats = num_ok = 0
    for path in videos:
        one = heard[path.name]
        if one.status != "ok":
            with pytest.raises(MediaError) as caught:
                list(decode(path, clock=Clock(RATE), transform=Transform(SIDE, "crop"), backend=backend))
            assert one.ends == [Failed(one.ends[0].task, caught.value.status, str(caught.value))]
            continue
        clips = list(decode(path, clock=Clock(RATE), transform=Transform(SIDE, "crop"), backend=backend))
        assert np.array_equal(np.stack(one.frames), np.concatenate([clip.frames for clip in clips]))
        assert one.times == np.concatenate([clip.times for clip in clips]).tolist()
        assert one.ends == [Finished(one.ends[0].task, add_damage(path, clips[-1].warnings))]
        stat = path.stat()
        content = content_hash(str(path), stat.st_size, stat.st_mtime_ns)
        assert one.openings == [Opened(one.ends[0].task, stat.st_size, stat.st_mtime_ns, content, False)]
        num_repeats, num_ok = num_repeats + sum(one.repeats), num_ok + 1
    assert num_repeats > 20 and num_ok >= 3
    (end,) = heard["cut.ts"].ends
    assert backend != "pyav" or (isinstance(end, Finished) and any("truncated" in text for text in end.warnings))


def test_the_looks_from_a_start_on_are_the_end_of_all(film: Path, pool: DecodePool) -> None:
    whole = decode_all(pool, [film])[film.name]
    part = decode_all(pool, [film], start=0.3)[film.name]
    assert part.times == [look for look in whole.times if look >= 0.3]
    assert np.array_equal(np.stack(part.frames), np.stack(whole.frames)[-len(part.times) :])


def test_every_bad_file_gets_its_row_and_no_good_one_is_lost(tmp_path: Path, film: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    strange = tmp_path / os.fsdecode(b"\xff -\n%03d.mp4")
    strange.write_bytes(film.read_bytes())
    bad = {
        "text.mp4": "failed:not_a_video",
        "empty.mp4": "failed:not_a_video",
        "folder.mp4": "failed:not_regular_file",
        "pipe.mp4": "failed:not_regular_file",
        "missing.mp4": "failed:unreadable",
    }
    good = [*copies(film, tmp_path, "a.mp4", "b.mp4"), strange]
    with DecodePool(2, DecodeSettings(RATE, SIDE, "squash", hash_content=True), slots_a_worker=9) as pool:
        heard = decode_all(pool, [good[0], *(tmp_path / name for name in bad), *good[1:]])
    assert {name: one.status for name, one in heard.items()} == {**bad, **{path.name: "ok" for path in good}}


def test_a_worker_that_died_is_tried_once_more_alone_at_the_end(tmp_path: Path, film: Path) -> None:
    once, twice, good = copies(film, tmp_path, "once.mp4", "twice.mp4", "good.mp4")
    order: list[str] = []
    with DecodePool(2, SETTINGS, slots_a_worker=2) as pool:
        first = set(pool.process_ids)

        def kill(message: object) -> None:
            if isinstance(message, Opened):
                order.append(message.task.id)
                number, tries = pool.process_id(message.task) or 0, order.count(message.task.id)
                if message.task.id == "twice.mp4":
                    os.kill(number, signal.SIGKILL if tries == 1 else signal.SIGSEGV)
                elif message.task.id == "once.mp4" and tries == 1:
                    os.kill(number, signal.SIGKILL)
                assert tries == 1 or number not in first

        heard = decode_all(pool, [once, twice, good], on_message=kill)
    assert {name: one.status for name, one in heard.items()} == {
        "once.mp4": "ok",
        "twice.mp4": "crashed:SIGSEGV",
        "good.mp4": "ok",
    }
    assert sorted(order[:3]) == ["good.mp4", "once.mp4", "twice.mp4"]  # the second tries come last
    assert sorted(order[3:]) == ["once.mp4", "twice.mp4"]
    assert np.array_equal(np.stack(heard["once.mp4"].frames), np.stack(heard["good.mp4"].frames))
    (end,) = heard["twice.mp4"].ends
    assert isinstance(end, Failed) and "ended by SIGSEGV, twice" in end.error


def test_a_file_is_tried_again_by_a_worker_that_decoded_nothing_else(tmp_path: Path, film: Path) -> None:
    bad, good = copies(film, tmp_path, "bad.mp4", "good.mp4")
    tries: list[tuple[str, int]] = []
    with DecodePool(1, SETTINGS, slots_a_worker=2) as pool:

        def kill(message: object) -> None:
            if isinstance(message, Opened):
                tries.append((message.task.id, pool.process_ids[0]))
                if len(tries) == 1:
                    os.kill(pool.process_ids[0], signal.SIGKILL)

        heard = decode_all(pool, [bad, good], on_message=kill)
    assert [one.status for one in heard.values()] == ["ok", "ok"]
    assert [name for name, _ in tries] == ["bad.mp4", "good.mp4", "bad.mp4"]
    assert len({number for _, number in tries}) == 3


def test_a_worker_that_hangs_is_killed_and_its_file_is_final(tmp_path: Path, film: Path) -> None:
    hung, *good = copies(film, tmp_path, "hung.mp4", "a.mp4", "b.mp4")
    stopped: list[int] = []
    with DecodePool(2, SETTINGS, QUICK, slots_a_worker=2) as pool:

        def stop(message: object) -> None:
            if isinstance(message, Opened) and message.task.id == "hung.mp4":
                stopped.append(pool.process_id(message.task) or 0)
                os.kill(stopped[0], signal.SIGSTOP)

        heard = decode_all(pool, [hung, *good], on_message=stop)
    assert [one.status for one in heard.values()] == ["timeout", "ok", "ok"] and len(stopped) == 1
    (end,) = heard["hung.mp4"].ends
    assert isinstance(end, Failed) and end.error.startswith("The decoder gave no packet and no picture for 5 seconds")
    assert not Path(f"/proc/{stopped[0]}").exists()


def test_a_worker_that_goes_on_for_too_long_is_killed(film: Path) -> None:
    limits = DecodeLimits(idle_seconds=60, base_seconds=0.3, seconds_per_100_mb=0, seconds_per_megapixel=0)
    with DecodePool(1, SETTINGS, limits, slots_a_worker=2) as pool:

        def stop(message: object) -> None:
            if isinstance(message, Opened):
                os.kill(pool.process_ids[0], signal.SIGSTOP)

        (end,) = decode_all(pool, [film], on_message=stop)[film.name].ends
    assert isinstance(end, Failed) and end.status == "timeout" and end.error.startswith("The decoder needed more than")


def test_time_that_a_worker_waits_for_a_slot_does_not_count(film: Path, pool: DecodePool) -> None:
    pool.submit(DecodeTask("film", film))
    messages = wait_for(pool, lambda message: isinstance(message, Looks))
    (seat,) = pool._seats
    deadline = time.monotonic() + 60
    while not (seat.worker.ring.counters[WAITING] and seat.worker.ring.is_full) and time.monotonic() < deadline:
        messages += pool.wait(0.1)
    seconds = seat.work_seconds, seat.idle_seconds
    for _ in range(3):
        messages += pool.wait(0.3)
    assert (seat.work_seconds, seat.idle_seconds) == seconds
    while not isinstance(messages[-1], Finished | Failed):
        pool.release([slot for message in messages if isinstance(message, Looks) for slot in message.slots])
        messages = pool.wait(1.0) or messages
    assert isinstance(messages[-1], Finished)


def test_a_task_that_is_stopped_ends_and_the_next_one_is_whole(film: Path, pool: DecodePool) -> None:
    whole = decode_all(pool, [film])[film.name]

    def stop(message: object) -> None:
        if isinstance(message, Opened):
            pool.stop(message.task)

    stopped = decode_all(pool, [film], on_message=stop)[film.name]
    assert stopped.status == "failed:stopped" and len(stopped.times) < len(whole.times)
    assert decode_all(pool, [film])[film.name].times == whole.times


def test_a_slot_is_valid_until_it_is_released_and_released_once(film: Path, pool: DecodePool) -> None:
    pool.submit(DecodeTask("film", film))
    looks = next(m for m in wait_for(pool, lambda m: isinstance(m, Looks)) if isinstance(m, Looks))
    slot = looks.slots[0]
    assert pool.pixels(slot).shape == (SIDE, SIDE, 3)
    pool.release([slot, slot])
    with pytest.raises(AssertionError, match="was released"):
        pool.pixels(slot)
    later = wait_for(pool, lambda m: isinstance(m, Looks) and any(s.index == slot.index for s in m.slots))
    again = next(s for m in later if isinstance(m, Looks) for s in m.slots if s.index == slot.index)
    pool.release([slot])  # an old name of the same place frees nothing
    assert pool.pixels(again).shape == (SIDE, SIDE, 3)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three videos of 3 pictures with 9.4 megapixels."""
    frames = [np.full((2350, 4000, 3), 80 * n, np.uint8) for n in range(3)]
    for frame in frames:
        frame[:1000, :2000] = (200, 40, 90)
    folder = tmp_path_factory.mktemp("large")
    first = make_video(folder / "1.mp4", frames, rate=Fraction(2), options={"preset": "ultrafast"})
    return [first, *copies(first, folder, "2.mp4", "3.mp4")]


def test_files_with_large_pictures_are_decoded_one_at_a_time(large: list[Path], film: Path) -> None:
    open_now: set[str] = set()

    def count(message: object) -> None:
        if isinstance(message, Opened) and message.is_large:
            open_now.add(message.task.id)
            assert len(open_now) == 1
        elif isinstance(message, Finished | Failed):
            open_now.discard(message.task.id)

    with DecodePool(3, DecodeSettings(2, SIDE, "letterbox"), slots_a_worker=1) as pool:
        heard = decode_all(pool, [*large, film], on_message=count)
        again = decode_all(pool, [large[0], large[0]], on_message=count)  # a worker that knows the file asks again
    assert {one.status for one in heard.values()} == {"ok"}
    assert [heard[path.name].openings[0].is_large for path in (*large, film)] == [True, True, True, False]
    assert again["1.mp4"].openings[0].is_large
    (clip,) = decode(large[0], clock=Clock(2), transform=Transform(SIDE))
    assert all(np.array_equal(np.stack(heard[path.name].frames), clip.frames) for path in large)


def test_a_large_file_whose_worker_dies_or_hangs_lets_the_next_one_in(large: list[Path]) -> None:
    with DecodePool(2, DecodeSettings(2, SIDE, "letterbox"), QUICK, slots_a_worker=1) as pool:
        stopped: list[str] = []

        def disturb(message: object) -> None:
            if isinstance(message, Opened) and len(stopped) < 2:
                stopped.append(message.task.id)
                os.kill(pool.process_id(message.task) or 0, signal.SIGSTOP if len(stopped) == 1 else signal.SIGKILL)

        heard = decode_all(pool, large, on_message=disturb)
    assert heard[stopped[0]].status == "timeout" and len(stopped) == 2
    assert [one.status for name, one in heard.items() if name != stopped[0]] == ["ok", "ok"]


def test_a_file_that_grows_while_it_is_read_has_changed(tmp_path: Path, film: Path, pool: DecodePool) -> None:
    grown, gone = copies(film, tmp_path, "grown.mp4", "gone.mp4")

    def change(message: object) -> None:
        if isinstance(message, Opened):
            if message.task.id == "gone.mp4":
                gone.unlink()
            else:
                with open(grown, "ab") as file:
                    file.write(b"more")

    heard = decode_all(pool, [grown, gone], on_message=change)
    assert [one.status for one in heard.values()] == ["failed:changed", "failed:changed"]


def test_a_file_that_needs_more_memory_than_a_worker_may_take_is_not_called_corrupt(
    large: list[Path], film: Path, tmp_path: Path
) -> None:
    frames = [np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), np.uint8)] * 2
    lossless = make_video(tmp_path / "lossless.mkv", frames, codec="ffv1", pixels="bgra")
    with DecodePool(1, SETTINGS, DecodeLimits(memory_bytes=20 << 20), slots_a_worker=2) as pool:
        heard = decode_all(pool, [large[0], film, lossless])
    assert [one.status for one in heard.values()] == ["failed:out_of_memory", "ok", "failed:out_of_memory"]
    (end,) = heard["1.mp4"].ends
    assert isinstance(end, Failed) and "Raise the limit" in end.error


def test_where_the_system_does_not_limit_memory_the_pool_does(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "IS_MEMORY_WATCHED", True)
    monkeypatch.setattr(decode_pool, "MEMORY_TICK", 0.0)
    with DecodePool(1, SETTINGS, DecodeLimits(memory_bytes=30 << 20), slots_a_worker=1) as pool:
        (process,) = pool.process_ids
        assert decode_all(pool, [film])[film.name].status == "failed:out_of_memory"
        assert pool.process_ids != (process,)


def test_a_worker_is_renewed_after_many_files(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "MAX_FILES", 2)
    with DecodePool(1, SETTINGS, slots_a_worker=4) as pool:
        processes = []
        for _ in range(5):
            processes.append(pool.process_ids[0])
            assert decode_all(pool, [film])[film.name].status == "ok"
    assert [processes.index(number) for number in processes] == [0, 0, 2, 2, 4]


def test_workers_that_cannot_start_end_the_job_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1 is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with DecodePool(1, SETTINGS, slots_a_worker=2) as pool:
        pool.submit(DecodeTask("film", tmp_path / "film.mp4"))
        with pytest.raises(
            WorkerStartError, match=r"ended 3 times before it was ready \(exit_1\).*libGL.so.1 is missing"
        ):
            wait_for(pool, lambda message: False)


@pytest.mark.parametrize(("workers", "slots"), [(0, 4), (1, 0)])
def test_a_pool_without_workers_or_slots_is_refused(workers: int, slots: int) -> None:
    with pytest.raises(ValueError, match="It has at least one of both"):
        DecodePool(workers, SETTINGS, slots_a_worker=slots)
