"""A stand-in for `DecodePool` that decodes in the process of the test, in an order that a seed gives."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.decode_pool import DecodeSettings, DecodeTask, Failed, Finished, Looks, Message, Opened, Slot
from pipeline.media.sniff import MediaError
from pipeline.media.transform import Transform


class PoolInProcess:
    """Gives one message of a random open file at a time.

    die_at: the number of looks after which the worker of each file dies once; the file is tried again at the end.
    """

    ring_bytes = 0

    def __init__(self, num_workers: int, settings: DecodeSettings, seed: int = 0, die_at: int | None = None) -> None:
        self.num_workers, self.settings, self.die_at = num_workers, settings, die_at
        self.random = random.Random(seed)
        self.open: dict[str, tuple[DecodeTask, Iterator[Message]]] = {}
        self.again: list[DecodeTask] = []
        self.pictures: dict[Slot, np.ndarray] = {}
        self.num_slots = self.num_submitted = self.most_open = 0
        self.is_closed = False

    def can_accept(self) -> bool:
        """As `DecodePool.can_accept`."""
        return len(self.open) < self.num_workers

    def submit(self, task: DecodeTask) -> None:
        """As `DecodePool.submit`."""
        assert self.can_accept()
        self.num_submitted += 1
        self.open[task.id] = (task, self._decode(task, self.die_at))
        self.most_open = max(self.most_open, len(self.open))

    def wait(self, timeout: float) -> list[Message]:
        """The next message of one of the files."""
        if not self.open and self.again:
            task = self.again.pop(0)
            self.open[task.id] = (task, self._decode(task, None))
        if not self.open:
            return []
        task, messages = self.open[self.random.choice(sorted(self.open))]
        message = next(messages, None)
        if message is None:  # its worker died
            del self.open[task.id]
            self.again.append(task)
            return []
        if isinstance(message, Finished | Failed):
            del self.open[task.id]
        return [message]

    def pixels(self, slot: Slot) -> np.ndarray:
        """The picture of a slot that was not released."""
        return self.pictures[slot]

    def release(self, slots: Iterable[Slot]) -> None:
        """The picture is overwritten, as a worker may do."""
        for slot in slots:
            self.pictures.pop(slot)[:] = 255

    def close(self) -> None:
        """Forget all."""
        self.is_closed = True
        self.open.clear()

    def _decode(self, task: DecodeTask, die_at: int | None) -> Iterator[Message]:
        settings, previous, slot, num_looks, warnings = self.settings, None, Slot(0, 0, 0), 0, ()
        yield Opened(task, task.path.stat().st_size, task.path.stat().st_mtime_ns, None, is_large=False)
        try:
            transform = Transform(settings.size, settings.fit)
            clock = Clock(settings.rate)
            for clip in decode(task.path, clock=clock, transform=transform, window=3, start_seconds=task.start):
                slots, repeats, warnings = [], [], clip.warnings
                for frame in clip.frames:
                    is_repeat = previous is not None and np.array_equal(previous, frame)
                    if not is_repeat:
                        self.num_slots += 1
                        slot = Slot(0, 0, self.num_slots)
                        self.pictures[slot], previous = frame.copy(), frame
                    slots.append(slot)
                    repeats.append(is_repeat)
                num_looks += len(slots)
                yield Looks(task, tuple(slots), clip.times, tuple(repeats), warnings)
                if die_at is not None and num_looks >= die_at:
                    return
        except MediaError as error:
            yield Failed(task, error.status, str(error))
            return
        yield Finished(task, warnings)
