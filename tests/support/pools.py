"""Helpers of the tests of the decode pool.

In: a pool and files. Out: what it said about each, with copies of the pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.media.decode_pool import DecodePool, DecodeTask, Failed, Finished, Looks, Message, Opened

MAX_SECONDS = 90  # of one test


@dataclass
class Heard:
    """What a pool said about one task, since it last began. openings: how often it began."""

    openings: list[Opened] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    repeats: list[bool] = field(default_factory=list)
    ends: list[Finished | Failed] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Of its one end."""
        (end,) = self.ends
        return end.status if isinstance(end, Failed) else "ok"

    def take(self, pool: DecodePool, message: Message) -> None:
        """Keep what a message says, and release its slots."""
        if isinstance(message, Opened):
            self.openings.append(message)
            self.frames, self.times, self.repeats = [], [], []
        elif isinstance(message, Looks):
            for slot, look, is_repeat in zip(message.slots, message.times, message.is_repeat, strict=True):
                self.frames.append(self.frames[-1] if is_repeat else pool.pixels(slot).copy())
                self.times.append(float(look))
                self.repeats.append(is_repeat)
            pool.release(message.slots)
        else:
            self.ends.append(message)


def decode_all(
    pool: DecodePool,
    files: Sequence[Path],
    *,
    start: float = 0.0,
    on_message: Callable[[Message], None] = lambda message: None,
) -> dict[str, Heard]:
    """Decode files in this order: name -> what was heard of it. on_message: before a message is taken."""
    todo, heard = list(files), {path.name: Heard() for path in files}
    deadline = time.monotonic() + MAX_SECONDS
    while todo or not all(one.ends for one in heard.values()):
        assert time.monotonic() < deadline, heard
        while todo and pool.can_accept():
            path = todo.pop(0)
            pool.submit(DecodeTask(path.name, path, start))
        for message in pool.wait(1.0):
            on_message(message)
            heard[message.task.id].take(pool, message)
    return heard


def wait_for(pool: DecodePool, is_wanted: Callable[[Message], bool]) -> list[Message]:
    """All messages up to the first wanted one and those that came with it."""
    messages: list[Message] = []
    deadline = time.monotonic() + MAX_SECONDS
    while not any(is_wanted(message) for message in messages):
        assert time.monotonic() < deadline, messages
        messages += pool.wait(1.0)
    return messages


def copies(path: Path, folder: Path, *names: str) -> list[Path]:
    """The same file under other names."""
    for name in names:
        (folder / name).write_bytes(path.read_bytes())
    return [folder / name for name in names]
