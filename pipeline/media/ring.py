"""Looks in memory that a worker and its parent share, without a name in any file system.

In: uint8 (size, size, 3) pictures, from the worker. Out: views of them, in the parent. The memory ends with the last
process that has it open, also after kill -9. Knows nothing about files, clocks or messages.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time

import numpy as np

PACKETS, PICTURES, PIXELS, FILE_BYTES, WAITING, STOP = range(6)  # places of the counters; the parent sets STOP
NUM_COUNTERS = 8
POLL_SECONDS = 0.002  # between two looks at a full ring


class Ring:
    """Slots for pictures, one byte for each slot that says whether it is in use, and counters of the worker's work.

    The worker takes a slot and writes it; the parent reads and frees it. So each byte is written by one side at a time.
    """

    def __init__(self, descriptor: int, num_slots: int, size: int) -> None:
        """Map the memory behind `descriptor`, which `create_memory` made. size: pixels of a side of a picture."""
        self.memory = mmap.mmap(descriptor, num_bytes_of(num_slots, size))
        self.counters = np.frombuffer(self.memory, np.uint64, NUM_COUNTERS)
        self.is_used = np.frombuffer(self.memory, np.uint8, num_slots, NUM_COUNTERS * 8)
        pixels = np.frombuffer(self.memory, np.uint8, num_slots * size * size * 3, _header_bytes(num_slots))
        self.pictures = pixels.reshape(num_slots, size, size, 3)

    @property
    def num_bytes(self) -> int:
        """The size of the memory."""
        return len(self.memory)

    @property
    def is_full(self) -> bool:
        """Whether every slot is in use."""
        return bool(self.is_used.all())

    @property
    def progress(self) -> tuple[int, int]:
        """(packets read, pictures decoded) since the worker began."""
        return int(self.counters[PACKETS]), int(self.counters[PICTURES])

    def take(self) -> int | None:
        """The index of a free slot, which is then in use; None where the ring is full."""
        index = int(self.is_used.argmin())
        if self.is_used[index]:
            return None
        self.is_used[index] = 1
        return index

    def wait_for_slot(self) -> int:
        """As `take`; waits while the ring is full, and says so in the counters."""
        self.counters[WAITING] = 1
        while (index := self.take()) is None:
            time.sleep(POLL_SECONDS)
        self.counters[WAITING] = 0
        return index

    def free(self, index: int) -> None:
        """The slot may be written again."""
        self.is_used[index] = 0


def create_memory(num_slots: int, size: int) -> int:
    """The descriptor of new memory for a Ring, all of it reserved: a full disk or memory shows here, not as SIGBUS.

    An anonymous file of memory (Linux), else a file without a name. Raises OSError.
    """
    num_bytes = num_bytes_of(num_slots, size)
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("unreel-ring", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, num_bytes)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    with tempfile.TemporaryFile() as file:  # it has no name, or loses it at once
        file.write(bytes(num_bytes))
        file.flush()
        return os.dup(file.fileno())


def num_bytes_of(num_slots: int, size: int) -> int:
    """The bytes of a ring with so many slots of (size, size, 3)."""
    return _header_bytes(num_slots) + num_slots * size * size * 3


def _header_bytes(num_slots: int) -> int:
    """The bytes before the first slot: whole pages."""
    return -(-(NUM_COUNTERS * 8 + num_slots) // mmap.PAGESIZE) * mmap.PAGESIZE
