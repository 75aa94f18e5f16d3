"""A source of frames -> windows of looks as they arrive.

A worker process reads the source. It is killed when it hangs, and started again when a live source fails.

In: a StreamSource, a clock, a transform. Out: `LiveWindow` and `SourceEvent`, through a bounded queue. Sources that can
be read at any speed (a file, a recording behind an address, a pipe) wait while the queue is full and lose nothing.
Sources that do not wait (a camera, a live address) drop the oldest looks of a full queue, and the drops are counted.
Knows nothing about networks.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.media.clip import MAX_PIXELS, Clip, is_partial
from pipeline.media.clock import Clock
from pipeline.media.ring import Ring
from pipeline.media.stream_source import StreamSource
from pipeline.media.transform import Transform
from pipeline.media.worker_process import PROXIES, WorkerProcess

RING_SLOTS = 16  # pictures that the worker may be ahead
WORKER_MEMORY = 4 << 30  # bytes, more than its imports and its ring take
TICK = 0.25  # seconds between two looks at the worker's progress
FIRST_BACKOFF, MAX_BACKOFF = 0.5, 30.0  # seconds before the worker is started again; doubled after each failure


@dataclass(frozen=True)
class LiveWindow:
    """A window of looks. arrival_times: float64 (T,), when each look arrived in this process, by time.monotonic()."""

    clip: Clip
    arrival_times: np.ndarray


@dataclass(frozen=True)
class SourceEvent:
    """A change of the source. kind: opened, reconnect, dropped or closed. details: plain values."""

    kind: str
    details: dict[str, Any]


class _WorkerTimeout(Exception):
    pass


PIPE_ADVICE = (
    " A pipe cannot be read backwards, and most MP4 and MOV files need that. Give the file by its path, or send "
    "MPEG-TS (ffmpeg -i FILE -c copy -f mpegts - | unreel watch - --model DIR)."
)
"""What to do where a pipe could not be decoded."""


class LiveSource:
    """Starts to read at once. Use it as a context manager: its end stops the worker.

    Args:
        capacity: the most looks in the queue, for sources that wait. live_capacity: the same for sources that do not.
        patience: seconds without a message after which the worker is killed (a pipe has no limit).
        give_up: seconds without a look after which a camera or an address is closed; 0 tries once.
        is_known: the source has given frames before, so the first failure is no mistake and is tried again.
        start: seconds; earlier looks are left out.
        elapsed: seconds that passed at a live source since `start`.
    """

    def __init__(
        self,
        source: StreamSource,
        *,
        clock: Clock,
        transform: Transform,
        backend: str = "pyav",
        capacity: int = 64,
        live_capacity: int = 16,
        patience: float = 20.0,
        give_up: float = 300.0,
        start: float = 0.0,
        elapsed: float = 0.0,
        is_known: bool = False,
    ) -> None:
        self.source, self.clock, self.patience, self.give_up = source, clock, patience, give_up
        self._capacity, self._live_capacity = capacity, live_capacity
        self._settings = {
            "rate": clock.rate,
            "fit": transform.resize,
            "backend": backend,
        }
        self._next_look = start  # seconds
        self._origin = time.monotonic() - start - elapsed  # when second 0 of the live stream was
        self._condition = threading.Condition()
        self._queue: deque[tuple[float, np.ndarray, float, tuple[str, ...]] | SourceEvent] = deque()
        self._num_looks = 0  # in the queue
        self.dropped = self.reconnects = 0
        self._reported_drops = 0
        self._is_live = source.kind == "camera"
        self._is_known = is_known
        self._is_stopping = False
        self._worker: WorkerProcess | None = None
        self._size, self._picture = transform.size, np.empty(0)
        self._thread = threading.Thread(target=self._run, name="unreel-live", daemon=True)
        self._thread.start()

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The process id of the present worker."""
        return self._worker.process.pid if self._worker else None

    def close(self) -> None:
        """Stop the worker and the thread."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify_all()
        self._kill()
        self._thread.join(timeout=5.0)

    def take(self, limit: int, timeout: float) -> LiveWindow | SourceEvent | None:
        """The next event, or up to `limit` looks of the queue. None where nothing arrived within `timeout` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._queue, timeout)
            if self.dropped > self._reported_drops:
                new, self._reported_drops = self.dropped - self._reported_drops, self.dropped
                return SourceEvent("dropped", {"looks": new, "total": self.dropped})
            if not self._queue:
                return None
            first = self._queue[0]
            if isinstance(first, SourceEvent):
                self._queue.popleft()
                return first
            looks = []
            while self._queue and len(looks) < limit and not isinstance(self._queue[0], SourceEvent):
                looks.append(self._queue.popleft())
            self._num_looks -= len(looks)
            self._condition.notify_all()
        times, frames, arrivals, warnings = zip(*looks, strict=True)
        clip = Clip(np.stack(frames), np.array(times), self.source.display_name, warnings[-1])
        return LiveWindow(clip, np.array(arrivals))

    def _run(self) -> None:
        """Connect and read; connect again where the source may come back."""
        backoff, last_success = FIRST_BACKOFF, time.monotonic()
        while not self._is_stopping:
            next_before = self._next_look
            status, sentence, warnings = self._connect()
            if self._is_stopping:
                return
            if self._next_look > next_before:
                backoff, last_success, self._is_known = FIRST_BACKOFF, time.monotonic(), True
            can_return = self.source.kind == "camera" or (
                self.source.kind == "address" and (self._is_live or status != "ok")
            )
            silence = time.monotonic() - last_success
            if not can_return or not self._is_known or silence + backoff > self.give_up:
                if can_return and self._is_known:
                    name = self.source.display_name
                    sentence = f"{name} was given up after {silence:.0f} seconds without a frame. {sentence}"
                    status = "failed:lost"
                if status == "ok" and is_partial(warnings):
                    status = "partial"
                self._put(SourceEvent("closed", {"status": status, "error": sentence, "warnings": list(warnings)}))
                return
            self.reconnects += 1
            reason = sentence or "The stream ended."
            details = {"count": self.reconnects, "wait": round(backoff, 3), "reason": reason}
            self._put(SourceEvent("reconnect", details))
            with self._condition:
                self._condition.wait_for(lambda: self._is_stopping, backoff)
            backoff = min(2 * backoff, MAX_BACKOFF)

    def _connect(self) -> tuple[str, str, tuple[str, ...]]:
        """Run one worker to its end: (status, sentence, warnings)."""
        warnings: tuple[str, ...] = ()
        try:
            self._worker = worker = self._start_worker()
        except OSError as error:
            return "failed:crashed", f"The process that reads the source cannot be started: {error}.", warnings
        try:
            while not self._is_stopping:
                for message in self._read_messages(worker):
                    kind = message["kind"]
                    if kind == "open":
                        self._is_live = message["is_live"]
                        self._put(SourceEvent("opened", {"is_live": self._is_live}))
                    elif kind == "large":
                        worker.send({})  # no other file is decoded here
                    elif kind == "looks":
                        warnings = tuple(message["warnings"])
                        self._put_looks(worker.ring, message, warnings)
                    elif kind == "end":
                        return "ok", "", tuple(message["warnings"])
                    elif kind == "failed":
                        advice = PIPE_ADVICE if self.source.kind == "pipe" else ""
                        return message["status"], message["error"] + advice, warnings
            return "ok", "", warnings
        except _WorkerTimeout:
            sentence = (
                f"No frame arrived for {self.patience:g} seconds, so the worker process was killed. "
                "Raise --patience for a slow source."
            )
            return "failed:timeout", sentence, warnings
        except EOFError:
            worker.kill()  # it may live on without its descriptor
            cause = worker.wait()
            how = f"crashed ({cause})" if cause.startswith("SIG") else f"ended with {cause.replace('_', ' ')}"
            return "failed:crashed", f"The process that reads the source {how}.", warnings
        finally:
            worker.close()

    def _start_worker(self) -> WorkerProcess:
        source, now = self.source, self._next_look
        if source.kind != "pipe":
            now = max(now, time.monotonic() - self._origin)
        period = 1 / self.clock.rate
        request = {
            **self._settings,
            "kind": source.kind,
            "name": source.name,
            "shown": source.display_name,
            "source_size": source.size,
            "fps": source.fps,
            "start": self._next_look,
            "offset": float(np.ceil(now / period - 1e-6) * period) if self._next_look else 0.0,
            "patience": self.patience,
            "max_pixels": MAX_PIXELS,
            "memory_bytes": WORKER_MEMORY,
        }
        return WorkerProcess(
            request,
            num_slots=RING_SLOTS,
            size=self._size,
            variables=PROXIES if source.kind == "address" else (),
            has_input=source.kind == "pipe",
        )

    def _read_messages(self, worker: WorkerProcess) -> list[dict[str, Any]]:
        """The next messages.

        Raises EOFError, and _WorkerTimeout after `patience` seconds without a message, a packet and a picture. A pipe
        may be slow, and a worker that waits for a slot has pictures.
        """
        last, progress = time.monotonic(), worker.ring.progress
        while not self._is_stopping:
            if select.select([worker.replies], [], [], TICK)[0]:
                messages = worker.read()
                if messages is None:
                    raise EOFError
                return messages
            if worker.ring.progress != progress or self.source.kind == "pipe":
                last, progress = time.monotonic(), worker.ring.progress
            elif time.monotonic() - last > self.patience:
                raise _WorkerTimeout
        return []

    def _put_looks(self, ring: Ring, message: dict[str, Any], warnings: tuple[str, ...]) -> None:
        """Copy the pictures into the queue and free their slots. A picture that is shown again is copied once."""
        now = time.monotonic()
        for look, slot, is_repeat in zip(message["times"], message["slots"], message["repeats"], strict=True):
            if not is_repeat:
                self._picture = ring.pictures[slot].copy()
                ring.free(slot)
            if look <= self._next_look - 0.5 / self.clock.rate:
                continue
            if self._is_live:  # the first frames may arrive late and together, so the smallest delay sets the origin
                self._origin = now - look if self._next_look == 0 else min(self._origin, now - look)
            self._next_look = look + 1 / self.clock.rate
            with self._condition:
                if self._is_live and self._num_looks >= self._live_capacity:
                    oldest = next(i for i, item in enumerate(self._queue) if not isinstance(item, SourceEvent))
                    del self._queue[oldest]
                    self._num_looks, self.dropped = self._num_looks - 1, self.dropped + 1
                self._condition.wait_for(lambda: self._num_looks < self._capacity or self._is_stopping)
                self._queue.append((look, self._picture, now, warnings))
                self._num_looks += 1
                self._condition.notify_all()

    def _put(self, event: SourceEvent) -> None:
        with self._condition:
            self._queue.append(event)
            self._condition.notify_all()

    def _kill(self) -> None:
        if self._worker:
            self._worker.kill()
