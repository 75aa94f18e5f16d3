"""The process that decodes: `python -P -m pipeline.media.worker RING CONTROL REPLY PARENT`, started by WorkerProcess.

In: lines of JSON on the descriptor CONTROL: first a request, then one line for each file. Out: lines of JSON on REPLY,
and pictures in the memory RING. A decoder that hangs, crashes or fills the memory does so here, where it can be killed.
The process ends with its parent. It imports numpy, OpenCV, PyAV and the one decoder that is needed, never torch. Knows
nothing about queues, restarts or networks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import av.error
import cv2

from pipeline.media.clip import is_partial
from pipeline.media.clock import Clock
from pipeline.media.damage import add_damage
from pipeline.media.decode import open_looks
from pipeline.media.decode_messages import OUT_OF_MEMORY
from pipeline.media.ring import Ring
from pipeline.media.sniff import MediaError
from pipeline.media.source_reader import SourceReader
from pipeline.media.transform import Transform
from pipeline.media.worker_port import LookSender, Port, RingObserver

OOM_SCORE = 800  # of 1000: where memory ends, the system kills a worker before its parent
NEAR_LIMIT = 0.9  # share of the address space; what fails above it failed for memory
HASH_CHUNK = 1 << 20  # bytes


def main() -> None:
    """Do what the first line of the parent asks, up to the end of its lines."""
    memory, control, reply, parent = (int(text) for text in sys.argv[1:5])
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    lines = os.fdopen(control, "rb")
    request = json.loads(lines.readline() or os._exit(0))
    port = Port(Ring(memory, request["num_slots"], request["size"]), lines, reply)
    os.close(memory)
    cv2.setNumThreads(1)
    if request["backend"] == "decord":
        with contextlib.suppress(ImportError):  # reading a file says so
            importlib.import_module("decord")
    limit_process(request["memory_bytes"])
    port.send("ready")
    if request["kind"] == "files":
        worker = FileWorker(request, port)
        while True:
            worker.decode_file(port.read())
    try:
        SourceReader(request, port, RingObserver(port, request["max_pixels"])).run()
    except Exception as error:  # whatever a decoder raises is the end of the source, with its text
        status, sentence = failure_of(error, is_near_limit())
        port.send("failed", status=status, error=sentence)
    os._exit(0)  # without waiting for the clean-up of libraries


class FileWorker:
    """Decodes one file after another.

    request: rate, size, fit, backend, hash_content and max_pixels, the same for all files.
    """

    def __init__(self, request: dict[str, Any], port: Port) -> None:
        self.port, self.backend = port, request["backend"]
        self.clock, self.transform = Clock(request["rate"]), Transform(request["size"], request["fit"])
        self.max_pixels, self.is_hashed = request["max_pixels"], request["hash_content"]

    def decode_file(self, task: dict[str, Any]) -> None:
        """Send "opened", "looks" and "finished", or "failed" at any place. task: path, and start in seconds."""
        path = task["path"]
        before = identity(path)
        failure: tuple[str, str] | None = None
        warnings: tuple[str, ...] = ()
        try:
            warnings = self._send_looks(path, task["start"], before)
        except Exception as error:  # whatever a decoder raises costs this file its row, and no other
            failure = failure_of(error, is_near_limit())
        if before is not None and identity(path) != before:
            failure = (
                "failed:changed",
                "The file was changed, replaced or deleted while it was read. Run again when it is complete.",
            )
        elif failure is None and is_partial(warnings) and is_near_limit():
            failure = OUT_OF_MEMORY
        is_worn = is_near_limit() or failure == OUT_OF_MEMORY
        if failure is None:
            self.port.send("finished", warnings=warnings, is_worn=is_worn)
        else:
            self.port.send("failed", status=failure[0], error=failure[1], is_worn=is_worn)

    def _send_looks(self, path: str, start: float, before: tuple[int, ...] | None) -> tuple[str, ...]:
        """Returns the warnings of the file. Raises whatever the decoder does."""
        observer = RingObserver(self.port, self.max_pixels)
        _, _, size, mtime_ns = before or (0, 0, 0, 0)
        observer.on_file(size)
        looks = open_looks(
            path,
            clock=self.clock,
            transform=self.transform,
            backend=self.backend,
            start_seconds=start,
            observer=observer,
        )
        content = self._hash(path, observer) if self.is_hashed else None
        self.port.send("opened", size=size, mtime_ns=mtime_ns, content_hash=content, is_large=observer.is_large)
        sender = LookSender(self.port)
        with contextlib.closing(looks.frames):
            for look, image in looks.images:
                sender.add(look, image, looks.warnings.lines())
        sender.flush()
        return add_damage(path, looks.warnings.lines(), observer)

    def _hash(self, path: str, observer: RingObserver) -> str:
        """SHA-256 of the file, in hexadecimal, as the feature store computes it."""
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while chunk := file.read(HASH_CHUNK):
                digest.update(chunk)
                observer.on_packet()
        return digest.hexdigest()


def identity(path: str) -> tuple[int, ...] | None:
    """What changes when a file is written or replaced: (device, inode, size, mtime_ns); None where there is no file."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def failure_of(error: Exception, is_near_limit: bool) -> tuple[str, str]:
    """(status, sentence) of an error of a decoder. Near the limit of the memory every error is one of memory."""
    is_no_memory = (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem)
    )
    if is_no_memory or is_near_limit:
        return OUT_OF_MEMORY
    if isinstance(error, MediaError):
        return error.status, str(error)
    if isinstance(error, OSError | av.error.FFmpegError):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return "failed:unreadable", f"The source cannot be read: {reason}."
    return "failed:error", f"{type(error).__name__}: {error}"


def limit_process(memory_bytes: int) -> None:
    """Let this process take at most so much more address space, die first where memory ends, and leave no core file.

    macOS does not enforce a limit of the address space; there the parent watches the memory.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def is_near_limit() -> bool:
    """Whether this process once took nearly all of the address space that it may."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform != "linux" or limit == resource.RLIM_INFINITY:
        return False
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmPeak:")[2].split()[0]) * 1024
    return peak >= NEAR_LIMIT * limit


def end_with_parent(parent: int) -> None:
    """End this process when its parent ends.

    Linux does so itself, also while a decoder holds the GIL, when the thread that started this process ends. A thread
    checks the parent too, for other systems and for a parent that ended while this process was starting.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before this line
        os._exit(0)

    def check() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=check, daemon=True).start()


if __name__ == "__main__":
    main()
