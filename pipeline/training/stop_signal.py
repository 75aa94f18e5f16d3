"""The signals that end a job: it finishes what it has begun, keeps it, and ends with 128 + the number.

In: SIGINT, SIGTERM and SIGUSR1. Out: the number of the first one, which a loop asks for. It imports nothing heavy, so a
process that is the first one of a container catches its signals from its first moment. Knows nothing of the jobs.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType


class Interrupted(Exception):
    """A signal stopped the job, after its work was kept. kept: what is kept, in a sentence."""

    def __init__(self, number: int, kept: str = "The state is saved.") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}. {kept} Run the same command again to continue.")
        self.exit_code = 128 + number


class StopSignal:
    """Catches SIGINT, SIGTERM and SIGUSR1 and keeps the number of the signal, which the loop checks between two steps.

    A second SIGINT raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._since = 0.0
        self._on_stop: Callable[[], None] | None = None
        self._previous = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    def is_older_than(self, seconds: float) -> bool:
        """Whether the signal came so long ago."""
        return self.number is not None and time.monotonic() - self._since > seconds

    def call(self, on_stop: Callable[[], None]) -> None:
        """Call `on_stop` when the signal comes, in the main thread; at once where it has come before."""
        self._on_stop = on_stop
        if self.number is not None:
            on_stop()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is None:
            self._since = time.monotonic()
        self.number = number
        if self._on_stop is not None:
            self._on_stop()

    def __enter__(self) -> StopSignal:
        for number in self._previous:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
