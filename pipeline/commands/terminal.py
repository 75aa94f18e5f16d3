"""What a long job writes on standard error while it runs: messages, epochs and progress.

In: texts and counts. Out: on a terminal one line that is rewritten; elsewhere, such as in a file, a few whole lines.
Knows nothing of the jobs.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from pipeline.training.epoch_line import EpochLine, duration

EVERY = 10
"""Elsewhere than on a terminal, one epoch in so many gets a line, and so many shares of a progress do."""
SECONDS = 60.0
"""Elsewhere than on a terminal, a progress gets a line at least so often."""


class TrainingLog:
    """Gets the messages of a training. Its epochs are one line that is rewritten on a terminal; elsewhere the first,
    the last and every tenth epoch have a line.

    log: gets whole lines.
    """

    def __init__(self, log: Callable[[str], None], stream: TextIO | None = None) -> None:
        self._log, self._stream, self._is_open = log, stream or sys.stderr, False

    def __call__(self, text: str) -> None:
        """Write a message, or the line of an epoch."""
        if not isinstance(text, EpochLine):
            self.close()
            self._log(text)
        elif self._stream.isatty():
            width = shutil.get_terminal_size().columns
            print(f"\r\033[K{text[: width - 1]}", end="", file=self._stream, flush=True)
            self._is_open = True
            if text.is_last:
                self.close()
        elif text.is_last or text.epoch == 1 or text.epoch % EVERY == 0:
            self._log(text)

    def close(self) -> None:
        """End the line that is rewritten, if there is one, so that the next text begins a new one."""
        if self._is_open:
            print(file=self._stream, flush=True)
            self._is_open = False


class Progress:
    """The progress over many videos: one line that is rewritten on a terminal; elsewhere a line for each tenth, and at
    least one a minute.

    what: what is done, such as "extracting features". clock: gives the seconds.
    """

    def __init__(self, what: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._stream, self._clock = what, stream or sys.stderr, clock
        self._start = self._last = clock()
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` videos are done."""
        now, is_last = self._clock(), done == total
        if self._stream.isatty():
            if now - self._last >= 0.1 or is_last:
                self._last = now
                print(
                    f"\r\033[K{self._text(done, total, now)}",
                    end="\n" if is_last else "",
                    file=self._stream,
                    flush=True,
                )
            return
        is_next_share = done * EVERY // total > self._done * EVERY // total
        is_slow = now - self._start >= 1.0  # where all is stored already, there is nothing to wait for
        if (is_next_share and is_slow) or now - self._last >= SECONDS:
            self._last, self._done = now, done
            print(self._text(done, total, now), file=self._stream, flush=True)

    def _text(self, done: int, total: int, now: float) -> str:
        speed = done / max(1e-9, now - self._start)
        left = "" if done == total else f"   {duration((total - done) / max(1e-9, speed))} left"
        return f"{self._what}: {done}/{total}   {speed:.1f} videos/s{left}"
