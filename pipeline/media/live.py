"""A source of frames -> windows of looks as they arrive.

A worker process reads the source. It is killed when it hangs, and started again when a live source fails.

In: a StreamSource, a clock, a transform. Out: `LiveWindow` and `SourceEvent`, through a bounded queue. Sources that can
be read at any speed (a file, a recording behind an address, a pipe) wait while the queue is full and lose nothing.
Sources that do not wait (a camera, a live address) drop the oldest looks of a full queue, and the drops are counted.
Knows nothing about networks.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.media.clip import Clip, is_partial
from pipeline.media.clock import Clock
from pipeline.media.stream_source import StreamSource
from pipeline.media.transform import Transform
from pipeline.media.worker import HEADER

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
            "pixels": transform.size,
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
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="unreel-live", daemon=True)
        self._thread.start()

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The process id of the present worker."""
        return self._process.pid if self._process else None

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
        process = self._start_worker()
        try:
            while True:
                message, pixels = self._read_message(process)
                kind = message["kind"]
                if kind == "open":
                    self._is_live = message["is_live"]
                    self._put(SourceEvent("opened", {"is_live": self._is_live}))
                elif kind == "looks":
                    warnings = tuple(message["warnings"])
                    self._put_looks(message["times"], pixels, warnings)
                elif kind == "end":
                    return "ok", "", tuple(message["warnings"])
                elif kind == "failed":
                    advice = PIPE_ADVICE if self.source.kind == "pipe" else ""
                    return message["status"], message["error"] + advice, warnings
        except _WorkerTimeout:
            sentence = (
                f"No frame arrived for {self.patience:g} seconds, so the worker process was killed. "
                "Raise --patience for a slow source."
            )
            return "failed:timeout", sentence, warnings
        except EOFError:
            code = process.wait()
            how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
            return "failed:crashed", f"The process that reads the source {how}.", warnings
        finally:
            self._kill()
            process.wait()
            assert process.stdout
            process.stdout.close()

    def _start_worker(self) -> subprocess.Popen[bytes]:
        source, package = self.source, Path(__file__).resolve().parents[2]
        now = self._next_look
        if source.kind != "pipe":
            now = max(now, time.monotonic() - self._origin)
        period = 1 / self.clock.rate
        request = {
            **self._settings,
            "kind": source.kind,
            "name": source.name,
            "shown": source.display_name,
            "size": source.size,
            "fps": source.fps,
            "start": self._next_look,
            "offset": np.ceil(now / period - 1e-6) * period if self._next_look else 0.0,
            "parent": os.getpid(),
            "patience": self.patience,
        }
        path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            # -P: a file av.py in the current folder of the user must not be imported
            [sys.executable, "-P", "-m", "pipeline.media.worker", json.dumps(request)],
            stdin=None if source.kind == "pipe" else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
            bufsize=0,
        )
        self._process = process
        return process

    def _read_message(self, process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], bytearray]:
        json_size, pixel_size = HEADER.unpack(self._read(process, HEADER.size))
        return json.loads(self._read(process, json_size)), self._read(process, pixel_size)

    def _read(self, process: subprocess.Popen[bytes], count: int) -> bytearray:
        """Exactly `count` bytes. Raises EOFError, and _WorkerTimeout after `patience` seconds without a byte."""
        assert process.stdout
        data, position = bytearray(count), 0
        while position < count:
            timeout = None if self.source.kind == "pipe" else self.patience  # a pipe may be slow
            if not select.select([process.stdout], [], [], timeout)[0]:
                raise _WorkerTimeout
            num_bytes = process.stdout.readinto(memoryview(data)[position:])  # type: ignore[attr-defined]
            if not num_bytes:
                raise EOFError
            position += num_bytes
        return data

    def _put_looks(self, times: list[float], pixels: bytearray, warnings: tuple[str, ...]) -> None:
        side = self._settings["pixels"]
        frames = np.frombuffer(pixels, np.uint8).reshape(len(times), side, side, 3)
        now = time.monotonic()
        for look, frame in zip(times, frames, strict=True):
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
                self._queue.append((look, frame, now, warnings))
                self._num_looks += 1
                self._condition.notify_all()

    def _put(self, event: SourceEvent) -> None:
        with self._condition:
            self._queue.append(event)
            self._condition.notify_all()

    def _kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
