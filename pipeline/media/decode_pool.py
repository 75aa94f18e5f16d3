"""Video files -> their looks, decoded by worker processes that may hang, crash or run out of memory.

In: a DecodeTask for each file. Out: messages: Opened, Looks, and at the end of a task exactly one of Finished and
Failed. A worker that gives no sign of life or takes too long is killed, and its file gets `timeout`. The file of a
worker that died is tried once more, alone in a fresh worker, when nothing else runs. Files with large pictures are
decoded one at a time. Knows nothing about networks, stores or rows.
"""

from __future__ import annotations

import selectors
import sys
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.media.decode_messages import (
    OUT_OF_MEMORY,
    DecodeLimits,
    DecodeSettings,
    DecodeTask,
    Failed,
    Finished,
    Looks,
    Message,
    Opened,
    Slot,
)
from pipeline.media.ring import STOP, Ring, num_bytes_of
from pipeline.media.worker_process import WorkerProcess, import_problem
from pipeline.media.worker_seat import Lane, Seat, crash_sentence, resident_bytes

__all__ = [
    "DecodeLimits",
    "DecodePool",
    "DecodeSettings",
    "DecodeTask",
    "Failed",
    "Finished",
    "Looks",
    "Message",
    "Opened",
    "Slot",
    "WorkerStartError",
]

LATE_ADVICE = "Copy the file again, convert it, or leave it out; a slow disk needs a higher limit."
MAX_FILES = 500  # of one worker; then a new one takes its place, as libraries leak
MAX_STARTS = 3  # workers in a row that end before they are ready; then the pool gives up
START_SECONDS = 60.0  # until a worker is ready
TICK = 0.25  # seconds between two looks at the workers' clocks
MAX_TICK = 1.0  # seconds: what counts of a longer time without a look, as where the machine was suspended
IS_MEMORY_WATCHED = sys.platform == "darwin"  # macOS does not enforce the limit of a worker's address space
MEMORY_TICK = 2.0  # seconds between two looks at the memory of the workers


class WorkerStartError(RuntimeError):
    """The workers end before they are ready, so that no file can be decoded."""


class DecodePool:
    """Workers that start at once and decode one file each. One thread of the caller uses it; use it as a context.

    slots_a_worker: pictures that a worker may be ahead of the caller. Release each slot when its picture was read.
    Raises OSError where workers cannot be started, and WorkerStartError from `wait` where they end at once.
    """

    def __init__(
        self, num_workers: int, settings: DecodeSettings, limits: DecodeLimits | None = None, *, slots_a_worker: int
    ) -> None:
        if num_workers < 1 or slots_a_worker < 1:
            raise ValueError(
                f"The pool has {num_workers} workers and {slots_a_worker} slots for each. It has at least one of both. "
                "Raise the number."
            )
        self.settings, self.limits, self.slots_a_worker = settings, limits or DecodeLimits(), slots_a_worker
        self.ring_bytes = num_workers * num_bytes_of(slots_a_worker, settings.size)
        self._starter = ThreadPoolExecutor(1, "unreel-workers")  # a worker ends with the thread that started it
        self._selector = selectors.DefaultSelector()
        self._rings: dict[int, Ring] = {}
        self._held: dict[tuple[int, int], int] = {}  # (worker, index) of a slot that the caller has -> its number
        self._num_started = self._num_slots = self._num_failed_starts = 0
        self._lane = Lane()
        self._again: deque[DecodeTask] = deque()  # tasks whose worker died
        self._alone: Seat | None = None  # the one that tries such a task
        self._last_tick = self._last_memory_tick = time.monotonic()
        self._seats: list[Seat] = []
        try:
            for _ in range(num_workers):
                self._seats.append(self._start())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers. Pictures that the caller still reads stay valid; call it from the thread that waits."""
        for seat in self._seats:
            self._discard(seat)
        self._seats, self._rings = [], {}
        self._selector.close()
        self._starter.shutdown()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the present workers."""
        return tuple(seat.worker.process.pid for seat in self._seats)

    def can_accept(self) -> bool:
        """Whether a worker is free for a task."""
        return self._alone is None and any(seat.task is None for seat in self._seats)

    def submit(self, task: DecodeTask) -> None:
        """Give the task to a free worker. Call it only where can_accept()."""
        assert self.can_accept(), "no worker is free"
        free = [seat for seat in self._seats if seat.task is None]
        next((seat for seat in free if seat.is_ready), free[0]).give(task)

    def stop(self, task: DecodeTask) -> None:
        """No more looks of a task are needed, as where its features are stored already.

        It ends soon: by Failed with failed:stopped, or as it would have ended. A task that has ended is left alone.
        """
        for seat in self._seats:
            if seat.task is task:
                seat.worker.ring.counters[STOP] = 1

    def process_id(self, task: DecodeTask) -> int | None:
        """The process that decodes a task now; None where none does."""
        return next((seat.worker.process.pid for seat in self._seats if seat.task is task), None)

    def wait(self, timeout: float) -> list[Message]:
        """The messages that have arrived; waits up to `timeout` seconds for the first. Call it often.

        The clocks of the deadlines go on in it alone. Submit what can be submitted before: where every worker is free,
        a task whose worker died begins again.
        """
        end = time.monotonic() + timeout
        if self._can_begin_again():
            self._begin_again()
        while True:
            messages: list[Message] = []
            for key, _ in self._selector.select(max(0.0, min(TICK, end - time.monotonic()))):
                messages += self._receive(key.data)
            messages += self._check_clocks()
            if messages or time.monotonic() >= end or self._can_begin_again():
                return messages

    def pixels(self, slot: Slot) -> np.ndarray:
        """The picture in a slot: uint8 (size, size, 3), a view. It is valid until the slot is released."""
        assert self._held.get((slot.worker, slot.index)) == slot.number, f"{slot} was released"
        return self._rings[slot.worker].pictures[slot.index]

    def release(self, slots: Iterable[Slot]) -> None:
        """The worker may write these slots again. A slot that was released before is left alone."""
        for slot in slots:
            place = (slot.worker, slot.index)
            if self._held.get(place) == slot.number:
                del self._held[place]
                if ring := self._rings.get(slot.worker):
                    ring.free(slot.index)
        self._forget_rings()

    def _start(self) -> Seat:
        request = {
            "kind": "files",
            **asdict(self.settings),
            "max_pixels": self.limits.max_pixels,
            "memory_bytes": self.limits.memory_bytes,
        }
        start = self._starter.submit(WorkerProcess, request, num_slots=self.slots_a_worker, size=self.settings.size)
        seat = Seat(start.result(), self._num_started)
        self._num_started += 1
        self._rings[seat.number] = seat.worker.ring
        self._selector.register(seat.worker.replies, selectors.EVENT_READ, seat)
        return seat

    def _discard(self, seat: Seat) -> None:
        """End the process of a seat."""
        if not seat.is_closed:
            self._selector.unregister(seat.worker.replies)
            seat.worker.close()
            seat.is_closed = True
        self._lane.leave(seat)

    def _renew(self, seat: Seat) -> Seat:
        """A new process in the place of an old one."""
        self._discard(seat)
        new = self._start()
        self._seats[self._seats.index(seat)] = new
        self._forget_rings()
        return new

    def _forget_rings(self) -> None:
        """Let go of the memory of ended workers of which the caller has no slot."""
        needed = {seat.number for seat in self._seats} | {worker for worker, _ in self._held}
        for number in self._rings.keys() - needed:
            del self._rings[number]

    def _can_begin_again(self) -> bool:
        """Whether a worker died of its task, and nothing runs."""
        return bool(self._again) and all(seat.task is None for seat in self._seats)

    def _begin_again(self) -> None:
        """Give a task whose worker died to a fresh one."""
        seat = self._seats[0]
        self._alone = self._renew(seat) if seat.num_files else seat
        self._alone.give(self._again.popleft())

    def _receive(self, seat: Seat) -> list[Message]:
        if seat.is_closed:
            return []
        lines = seat.worker.read()
        if lines is None:
            return self._bury(seat)
        messages = []
        for line in lines:
            messages += self._understand(seat, line)
        return messages

    def _understand(self, seat: Seat, line: dict[str, Any]) -> list[Message]:
        """A line of a worker -> messages for the caller."""
        kind, task = line["kind"], seat.task
        if kind == "ready":
            seat.is_ready, seat.work_seconds, self._num_failed_starts = True, 0.0, 0
            return []
        assert task is not None, f"a worker without a task sent {kind}"
        if kind == "large":
            self._lane.enter(seat)
            return []
        if kind == "opened":
            return [Opened(task, line["size"], line["mtime_ns"], line["content_hash"], line["is_large"])]
        if kind == "looks":
            return [self._looks(seat, task, line)]
        self._end_task(seat, is_worn=line["is_worn"])
        if kind == "finished":
            return [Finished(task, tuple(line["warnings"]))]
        return [Failed(task, line["status"], line["error"])]

    def _looks(self, seat: Seat, task: DecodeTask, line: dict[str, Any]) -> Looks:
        slots = []
        for index, is_repeat in zip(line["slots"], line["repeats"], strict=True):
            if not is_repeat:
                self._num_slots += 1
                seat.last_slot = Slot(seat.number, index, self._num_slots)
                self._held[seat.number, index] = self._num_slots
            assert seat.last_slot is not None
            slots.append(seat.last_slot)
        times = np.array(line["times"], np.float64)
        return Looks(task, tuple(slots), times, tuple(line["repeats"]), tuple(line["warnings"]))

    def _end_task(self, seat: Seat, *, is_worn: bool = False) -> None:
        seat.task = None
        seat.num_files += 1
        self._lane.leave(seat)
        if seat is self._alone:
            self._alone = None
        if is_worn or seat.num_files >= MAX_FILES:
            self._renew(seat)

    def _bury(self, seat: Seat) -> list[Message]:
        """A worker ended by itself. Its file is tried again, alone; the second time it fails."""
        seat.worker.kill()  # it may live on without its descriptor
        cause, task, is_alone = seat.worker.wait(), seat.task, seat is self._alone
        new = self._renew(seat)
        if not seat.is_ready:
            self._count_failed_start(cause)
            if is_alone:
                self._alone = new
            if task is not None:
                new.give(task)
            return []
        if task is None:
            return []
        if not is_alone:
            self._again.append(task)
            return []
        self._alone = None
        return [Failed(task, f"crashed:{cause}", crash_sentence(cause))]

    def _count_failed_start(self, cause: str) -> None:
        self._num_failed_starts += 1
        if self._num_failed_starts >= MAX_STARTS:
            raise WorkerStartError(
                f"The process that decodes videos ended {MAX_STARTS} times before it was ready ({cause}). "
                f"{import_problem() or 'Its modules can be imported.'} Check the memory of this machine and run "
                f"{sys.executable} -c 'import pipeline.media.worker'."
            )

    def _check_clocks(self) -> list[Message]:
        """Count the time that each worker was at work, and end those that are late."""
        now = time.monotonic()
        passed, self._last_tick = min(now - self._last_tick, MAX_TICK), now
        is_memory_watched = IS_MEMORY_WATCHED and now - self._last_memory_tick >= MEMORY_TICK
        if is_memory_watched:
            self._last_memory_tick = now
        messages: list[Message] = []
        for seat in list(self._seats):
            if seat.task is None and seat.is_ready:
                continue
            seat.pass_time(passed)
            if not seat.is_ready:
                if seat.work_seconds > START_SECONDS:
                    seat.worker.kill()  # its end is read as that of a worker that could not start
            elif is_memory_watched and resident_bytes(seat.worker.process.pid) > self.limits.memory_bytes:
                messages.append(self._give_up(seat, *OUT_OF_MEMORY))
            elif lateness := seat.lateness(self.limits):
                messages.append(self._give_up(seat, "timeout", f"{lateness}, so it was stopped. {LATE_ADVICE}"))
        return messages

    def _give_up(self, seat: Seat, status: str, error: str) -> Failed:
        """Kill a worker; its task fails."""
        assert seat.task is not None
        if seat is self._alone:
            self._alone = None
        self._renew(seat)
        return Failed(seat.task, status, error)
