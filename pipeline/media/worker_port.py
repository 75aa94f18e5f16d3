"""The worker's side of the connection to its parent: lines of JSON, and pictures in the ring.

In: messages and looks. Out: lines on a descriptor, and filled slots. Knows nothing about files or decoders.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, BinaryIO

import numpy as np

from pipeline.media.clip import DecodeObserver
from pipeline.media.ring import FILE_BYTES, PACKETS, PICTURES, PIXELS, STOP, Ring
from pipeline.media.sniff import MediaError

MAX_BATCH = 8  # looks in one message: as many as the CNN takes at once on a CPU
MAX_DELAY = 0.25  # seconds that a look may wait for the others of its message


class Port:
    """Sends messages to the parent and reads its lines. The process ends where the parent no longer reads."""

    def __init__(self, ring: Ring, control: BinaryIO, reply: int) -> None:
        self.ring, self._control, self._reply = ring, control, reply

    def send(self, kind: str, **fields: Any) -> None:
        """Send one message; waits while the pipe is full."""
        data = json.dumps({"kind": kind, **fields}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._reply, data) :]
        except BrokenPipeError:
            os._exit(0)

    def read(self) -> dict[str, Any]:
        """The next line of the parent. The process ends where there is none."""
        line = self._control.readline()
        if not line:
            os._exit(0)
        return json.loads(line)


class LookSender:
    """Sends the looks of one video: pictures into the ring, their times in messages of at most `batch` looks.

    A picture that is shown again is not written again: its message names the slot of the look before.
    """

    def __init__(self, port: Port, batch: int = MAX_BATCH) -> None:
        self.port, self.batch = port, batch
        self._slots: list[int] = []
        self._times: list[float] = []
        self._repeats: list[bool] = []
        self._warnings: tuple[str, ...] = ()
        self._image: np.ndarray | None = None
        self._slot = 0
        self._last_flush = time.monotonic()

    def add(self, look: float, image: np.ndarray, warnings: tuple[str, ...]) -> None:
        """A look at `look` seconds. `image` is the same object where the picture is the same. Waits for a slot."""
        is_repeat = image is self._image
        if not is_repeat:
            slot = self.port.ring.take()
            if slot is None:
                self.flush()  # the parent may wait for these looks before it frees a slot
                slot = self.port.ring.wait_for_slot()
            self.port.ring.pictures[slot] = image
            self._slot, self._image = slot, image
        self._slots.append(self._slot)
        self._times.append(look)
        self._repeats.append(is_repeat)
        self._warnings = warnings
        if len(self._times) >= self.batch or time.monotonic() - self._last_flush > MAX_DELAY:
            self.flush()

    def flush(self) -> None:
        """Send the looks that wait."""
        if self._times:
            fields = {"slots": self._slots, "times": self._times, "repeats": self._repeats}
            self.port.send("looks", **fields, warnings=self._warnings)
            self._slots, self._times, self._repeats = [], [], []
        self._last_flush = time.monotonic()


class RingObserver(DecodeObserver):
    """Counts in the ring, where the parent sees it. One for each file.

    Before the first picture of a large file it sends "large" and waits for a line of the parent. is_large: it did.
    """

    def __init__(self, port: Port, max_pixels: int) -> None:
        self.port, self.max_pixels, self.is_large = port, max_pixels, False
        self._counters = port.ring.counters
        self._counters[FILE_BYTES] = self._counters[PIXELS] = 0

    def on_large(self) -> None:
        """See DecodeObserver."""
        self.is_large = True
        self.port.send("large")
        self.port.read()

    def on_packet(self) -> None:
        """See DecodeObserver. Raises MediaError failed:stopped where the parent needs no more of the file."""
        self._counters[PACKETS] += 1
        if self._counters[STOP]:
            raise MediaError("failed:stopped", "The looks of this file are not needed any more.")

    def on_picture(self, pixels: int) -> None:
        """See DecodeObserver."""
        self._counters[PICTURES] += 1
        self._counters[PIXELS] += pixels

    def on_file(self, num_bytes: int) -> None:
        """The file has so many bytes."""
        self._counters[FILE_BYTES] = num_bytes
