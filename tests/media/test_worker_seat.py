"""The clocks of a file that is decoded: time at work counts, waiting does not, and what was decoded gives more time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.media.decode_messages import DecodeLimits, DecodeTask
from pipeline.media.ring import FILE_BYTES, PACKETS, PICTURES, PIXELS, WAITING, Ring, create_memory
from pipeline.media.worker_seat import Lane, Seat, resident_bytes

LIMITS = DecodeLimits()


class StubWorker:
    """The ring of a worker, and what it was sent."""

    def __init__(self) -> None:
        memory = create_memory(1, 4)
        self.ring = Ring(memory, 1, 4)
        os.close(memory)
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        """Keep it."""
        self.sent.append(message)


def make_seat() -> Seat:
    """A seat whose worker decodes a file."""
    worker: Any = StubWorker()
    seat = Seat(worker, 0, is_ready=True)
    seat.give(DecodeTask("a", Path("a.mp4"), 1.5))
    assert worker.sent == [{"path": "a.mp4", "start": 1.5}]
    return seat


def test_time_without_a_packet_or_picture_is_idle() -> None:
    seat = make_seat()
    seat.pass_time(29.0)
    assert not seat.lateness(LIMITS)
    seat.pass_time(2.0)
    assert seat.lateness(LIMITS) == "The decoder gave no packet and no picture for 30 seconds"
    for counter in (PACKETS, PICTURES):
        seat.worker.ring.counters[counter] += 1
        seat.pass_time(1.0)
        assert not seat.idle_seconds
    seat.give(DecodeTask("b", Path("b.mp4")))
    assert not seat.work_seconds and not seat.lateness(LIMITS)


@pytest.mark.parametrize(("num_bytes", "pixels", "seconds"), [(0, 0, 30.0), (10**9, 0, 230.0), (0, 10**10, 530.0)])
def test_size_and_decoded_pictures_give_more_time(num_bytes: int, pixels: int, seconds: float) -> None:
    seat = make_seat()
    counters = seat.worker.ring.counters
    counters[FILE_BYTES], counters[PIXELS] = num_bytes, pixels
    passed = 0.0
    while passed < seconds:
        assert not seat.lateness(LIMITS)
        counters[PICTURES] += 1
        seat.pass_time(10.0)
        passed += 10.0
    assert not seat.lateness(LIMITS)
    counters[PICTURES] += 1
    seat.pass_time(0.5)
    assert seat.lateness(LIMITS).startswith(f"The decoder needed more than {seconds:.0f} seconds")


def test_waiting_is_no_work() -> None:
    seat = make_seat()
    ring = seat.worker.ring
    ring.take()
    ring.counters[WAITING] = 1
    seat.pass_time(1000.0)
    assert not seat.work_seconds and not seat.idle_seconds
    ring.free(0)
    seat.pass_time(31.0)  # it hangs: there is a slot
    assert seat.lateness(LIMITS)
    seat = make_seat()
    seat.is_in_lane = True
    seat.pass_time(1000.0)
    assert not seat.lateness(LIMITS)


def test_one_worker_at_a_time_is_in_the_lane() -> None:
    lane, (a, b, c) = Lane(), (make_seat() for _ in range(3))
    workers: list[Any] = [seat.worker for seat in (a, b, c)]
    for seat in (a, b, c):
        lane.enter(seat)
    assert [len(worker.sent) for worker in workers] == [2, 1, 1] and [s.is_in_lane for s in (a, b, c)] == [
        False,
        True,
        True,
    ]
    lane.leave(b)  # it died while it waited
    lane.leave(b)
    assert [len(worker.sent) for worker in workers] == [2, 1, 1]
    lane.leave(a)
    assert [len(worker.sent) for worker in workers] == [2, 1, 2] and not c.is_in_lane
    lane.leave(c)
    lane.enter(b)
    assert [len(worker.sent) for worker in workers] == [2, 2, 2]


def test_the_memory_of_a_process_is_known() -> None:
    assert 10_000_000 < resident_bytes(os.getpid()) < 10**11
