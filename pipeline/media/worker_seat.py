"""One worker of a pool and the clocks of its file, and the lane in which large files are decoded one at a time.

In: tasks, and the time that passes. Out: whether a worker is late. Knows nothing about messages or the other workers.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from dataclasses import dataclass

from pipeline.media.decode_messages import DecodeLimits, DecodeTask, Slot
from pipeline.media.ring import FILE_BYTES, PIXELS, STOP, WAITING
from pipeline.media.worker_process import WorkerProcess


@dataclass(eq=False)
class Seat:
    """One worker, and what is known of the file that it decodes. number: of the process, in the order of starts."""

    worker: WorkerProcess
    number: int
    is_ready: bool = False
    is_closed: bool = False
    is_in_lane: bool = False  # waits for its turn to decode a large file
    task: DecodeTask | None = None
    num_files: int = 0
    work_seconds: float = 0.0
    idle_seconds: float = 0.0
    progress: tuple[int, int] = (0, 0)
    last_slot: Slot | None = None

    def give(self, task: DecodeTask) -> None:
        """Let the worker decode a file; its clocks begin at 0."""
        self.task, self.work_seconds, self.idle_seconds = task, 0.0, 0.0
        self.progress = self.worker.ring.progress
        self.worker.ring.counters[STOP] = 0
        self.worker.send({"path": os.fspath(task.path), "start": task.start})

    def pass_time(self, seconds: float) -> None:
        """Count time at work. Waiting for a free slot or for the lane is no work."""
        ring = self.worker.ring
        if self.is_in_lane or (ring.counters[WAITING] and ring.is_full):
            return
        self.work_seconds += seconds
        self.idle_seconds = self.idle_seconds + seconds if ring.progress == self.progress else 0.0
        self.progress = ring.progress

    def lateness(self, limits: DecodeLimits) -> str:
        """How the worker is late with its file, as the begin of a sentence; "" where it is not."""
        if self.idle_seconds > limits.idle_seconds:
            return f"The decoder gave no packet and no picture for {limits.idle_seconds:g} seconds"
        counters = self.worker.ring.counters
        allowed = (
            limits.base_seconds
            + limits.seconds_per_100_mb * int(counters[FILE_BYTES]) / 1e8
            + limits.seconds_per_megapixel * int(counters[PIXELS]) / 1e6
        )
        if self.work_seconds > allowed:
            return f"The decoder needed more than {allowed:.0f} seconds, the time for what it had decoded by then"
        return ""


class Lane:
    """The workers with large files: one decodes, the others wait for their turn."""

    def __init__(self) -> None:
        self._holder: Seat | None = None
        self._waiting: deque[Seat] = deque()

    def enter(self, seat: Seat) -> None:
        """Let the worker decode its large file, now or when it is its turn."""
        seat.is_in_lane = True
        self._waiting.append(seat)
        self._advance()

    def leave(self, seat: Seat) -> None:
        """The worker has no large file any more; one that never entered is left alone."""
        if seat.is_in_lane:
            self._waiting.remove(seat)
            seat.is_in_lane = False
        if self._holder is seat:
            self._holder = None
            self._advance()

    def _advance(self) -> None:
        if self._holder is None and self._waiting:
            self._holder = self._waiting.popleft()
            self._holder.is_in_lane = False
            self._holder.worker.send({})


def resident_bytes(process_id: int) -> int:
    """The memory that a process takes, by ps; 0 where it has ended."""
    command = ["ps", "-o", "rss=", "-p", str(process_id)]
    text = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    return int(text) * 1024 if text else 0


def crash_sentence(cause: str) -> str:
    """What people read about a file whose worker died twice. cause: the name of a signal, or exit_<code>."""
    how = f"by {cause}" if cause.startswith("SIG") else f"with {cause.replace('_', ' ')}"
    return (
        f"The process that decoded this file ended {how}, twice, the second time alone. "
        "The file crashes the decoder or needs more memory than there is. Convert it or leave it out."
    )
