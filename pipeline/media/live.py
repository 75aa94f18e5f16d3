"""A source -> looks, as they come, from a process of its own that is killed when it hangs and started again when it dies.

In: a Source and how to look at it. Out: `Looks` and notes, through a bounded queue. What can be read again at any speed (a
file, a recording behind an address, a pipe) waits for its reader and loses nothing. What goes on by itself (a camera, a
live address) does not wait: the oldest looks that nobody took are dropped and counted. Knows nothing about networks.
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

from pipeline.media.clip import Clip
from pipeline.media.clock import Clock
from pipeline.media.feed import HEADER
from pipeline.media.source import Source
from pipeline.media.transform import Transform

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a reader is started again; doubled after each failure
PARTIAL = ("packet_errors", "truncated", "damaged_frames")


@dataclass(frozen=True)
class Looks:
    """A window and when its looks arrived here: float64 (T,), seconds of time.monotonic()."""

    clip: Clip
    arrived: np.ndarray


@dataclass(frozen=True)
class Note:
    """Something about the source: kind (opened, reconnect, dropped, closed) and its facts as plain values."""

    kind: str
    facts: dict[str, Any]


class _Hung(Exception):
    pass


class Live:
    """Starts reading at once. Use it as a context: leaving it ends the process.

    capacity, live_capacity: looks that wait at most, of what waits and of what does not. patience: seconds without a
    picture after which the reader is killed (a pipe may take its time). give_up: seconds without a look after which a
    camera or an address is given up; 0 tries once. is_known: it gave pictures before, so it is waited for at once.
    start: seconds; looks before it are not sent again. elapsed: seconds to add where the source went on without us.
    """

    def __init__(
        self,
        source: Source,
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
        self._look = {"rate": clock.rate, "pixels": transform.size, "fit": transform.fit, "backend": backend}
        self._next = start  # seconds of the next look
        self._origin = time.monotonic() - start - elapsed  # when the live stream's second 0 was
        self._ready = threading.Condition()
        self._queue: deque[tuple[float, np.ndarray, float, tuple[str, ...]] | Note] = deque()
        self._waiting = 0  # looks in the queue
        self.dropped = self.reconnects = 0
        self._told_dropped = 0
        self._is_live = source.kind == "camera"
        self._is_known = is_known  # else a mistake is said at once
        self._is_stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="unreel-live", daemon=True)
        self._thread.start()

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """Of the process that reads at the moment."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """End the process and the thread."""
        with self._ready:
            self._is_stopping = True
            self._ready.notify_all()
        self._kill()
        self._thread.join(timeout=5.0)

    def take(self, limit: int, timeout: float) -> Looks | Note | None:
        """The next note, or up to `limit` looks that wait; None when nothing came within `timeout` seconds."""
        with self._ready:
            self._ready.wait_for(lambda: self._queue, timeout)
            if self.dropped > self._told_dropped:
                new, self._told_dropped = self.dropped - self._told_dropped, self.dropped
                return Note("dropped", {"looks": new, "total": self.dropped})
            if not self._queue:
                return None
            first = self._queue[0]
            if isinstance(first, Note):
                self._queue.popleft()
                return first
            taken = []
            while self._queue and len(taken) < limit and not isinstance(self._queue[0], Note):
                taken.append(self._queue.popleft())
            self._waiting -= len(taken)
            self._ready.notify_all()
        times, frames, arrived, warnings = zip(*taken, strict=True)
        return Looks(Clip(np.stack(frames), np.array(times), self.source.shown, warnings[-1]), np.array(arrived))

    def _run(self) -> None:
        """Connect, read, and connect again where that makes sense."""
        wait, last_look = FIRST_WAIT, time.monotonic()
        while not self._is_stopping:
            before = self._next
            status, sentence, warnings = self._connect()
            if self._is_stopping:
                return
            if self._next > before:
                wait, last_look, self._is_known = FIRST_WAIT, time.monotonic(), True
            can_return = self.source.kind == "camera" or (
                self.source.kind == "address" and (self._is_live or status != "ok")
            )
            without = time.monotonic() - last_look
            if not can_return or not self._is_known or without + wait > self.give_up:
                if can_return and self._is_known:
                    sentence = (
                        f"{self.source.shown} was given up after {without:.0f} seconds without a picture. {sentence}"
                    )
                    status = "failed:lost"
                if status == "ok" and any(w.startswith(PARTIAL) for w in warnings):
                    status = "partial"
                self._put(Note("closed", {"status": status, "error": sentence, "warnings": list(warnings)}))
                return
            self.reconnects += 1
            reason = sentence or "The stream ended."
            self._put(Note("reconnect", {"count": self.reconnects, "wait": round(wait, 3), "reason": reason}))
            with self._ready:
                self._ready.wait_for(lambda: self._is_stopping, wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _connect(self) -> tuple[str, str, tuple[str, ...]]:
        """One reader from start to end: (status, sentence, warnings)."""
        warnings: tuple[str, ...] = ()
        process = self._start()
        try:
            while True:
                about, pixels = self._message(process)
                kind = about["kind"]
                if kind == "open":
                    self._is_live = about["is_live"]
                    self._put(Note("opened", {"is_live": self._is_live}))
                elif kind == "looks":
                    warnings = tuple(about["warnings"])
                    self._keep(about["times"], pixels, warnings)
                elif kind == "end":
                    return "ok", "", tuple(about["warnings"])
                elif kind == "failed":
                    return about["status"], about["error"], warnings
        except _Hung:
            return (
                "failed:timeout",
                f"No picture came for {self.patience:g} seconds, so the reader was ended. Raise --patience for a slow source.",
                warnings,
            )
        except EOFError:
            code = process.wait()
            how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
            return "failed:crashed", f"The process that reads the source {how}.", warnings
        finally:
            self._kill()
            process.wait()
            assert process.stdout
            process.stdout.close()

    def _start(self) -> subprocess.Popen[bytes]:
        source, package = self.source, Path(__file__).resolve().parents[2]
        now = max(self._next, time.monotonic() - self._origin) if source.kind != "pipe" else self._next
        step = 1 / self.clock.rate
        request = {
            **self._look, "kind": source.kind, "name": source.name, "shown": source.shown, "size": source.size,
            "fps": source.fps, "start": self._next, "offset": np.ceil(now / step - 1e-6) * step, "parent": os.getpid(),
            "patience": self.patience,
        }  # fmt: skip
        if self._next == 0:
            request["offset"] = 0.0
        path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(  # -P: a file av.py where the user stands is none of ours
            [sys.executable, "-P", "-m", "pipeline.media.feed", json.dumps(request)],
            stdin=None if source.kind == "pipe" else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path}, start_new_session=True, bufsize=0,
        )  # fmt: skip
        self._process = process
        return process

    def _message(self, process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], bytearray]:
        text_size, pixel_size = HEADER.unpack(self._read(process, HEADER.size))
        return json.loads(self._read(process, text_size)), self._read(process, pixel_size)

    def _read(self, process: subprocess.Popen[bytes], count: int) -> bytearray:
        """Raises EOFError, and _Hung after `patience` seconds in which nothing came."""
        assert process.stdout
        data, place = bytearray(count), 0
        while place < count:
            patience = None if self.source.kind == "pipe" else self.patience  # who writes into a pipe may take his time
            if not select.select([process.stdout], [], [], patience)[0]:
                raise _Hung
            got = process.stdout.readinto(memoryview(data)[place:])  # type: ignore[attr-defined]
            if not got:
                raise EOFError
            place += got
        return data

    def _keep(self, times: list[float], pixels: bytearray, warnings: tuple[str, ...]) -> None:
        side = self._look["pixels"]
        frames = np.frombuffer(pixels, np.uint8).reshape(len(times), side, side, 3)
        now = time.monotonic()
        for look, frame in zip(times, frames, strict=True):
            if look <= self._next - 0.5 / self.clock.rate:
                continue
            if self._is_live:  # the first pictures may come late and many at once: the freshest look tells
                self._origin = now - look if self._next == 0 else min(self._origin, now - look)
            self._next = look + 1 / self.clock.rate
            with self._ready:
                if self._is_live and self._waiting >= self._live_capacity:
                    index = next(i for i, one in enumerate(self._queue) if not isinstance(one, Note))
                    del self._queue[index]
                    self._waiting, self.dropped = self._waiting - 1, self.dropped + 1
                self._ready.wait_for(lambda: self._waiting < self._capacity or self._is_stopping)
                self._queue.append((look, frame, now, warnings))
                self._waiting += 1
                self._ready.notify_all()

    def _put(self, note: Note) -> None:
        with self._ready:
            self._queue.append(note)
            self._ready.notify_all()

    def _kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
