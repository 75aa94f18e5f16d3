"""The features of a long video that is not finished, kept on the disk as they come.

In: windows of features in order. Out: the same windows after the process was killed at any moment. The file is only
appended to and synced; a record that is not whole, and what follows it, is forgotten. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline.media.clock import TOLERANCE

_HEADER = struct.Struct("<4sIII")  # b"part", looks, numbers of a look, CRC-32 of what follows
_MARK = b"part"


class FeaturePart:
    """The part of one video: a file of records, each with the times (n,) and features float16 (n, D) of n looks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, times: np.ndarray, values: np.ndarray) -> None:
        """Add a record and sync it to the disk. Raises OSError."""
        data = times.astype(np.float64).tobytes() + values.astype(np.float16).tobytes()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            file.write(_HEADER.pack(_MARK, *values.shape, zlib.crc32(data)) + data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, rate: float, max_looks: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The records (times, features) that are whole and follow each other at `rate` looks a second, up to max_looks.

        What follows them is cut off, such as a record that another job wrote too.
        """
        if not self.path.is_file():
            return
        with open(self.path, "r+b") as file:
            end, looks = 0, 0
            while record := _read_record(file.read(_HEADER.size), file.read):
                times = record[0]
                if abs(times[0] - looks / rate) > TOLERANCE or (
                    max_looks is not None and looks + len(times) > max_looks
                ):
                    break
                looks += len(times)
                end = file.tell()
                yield record
            file.truncate(end)

    def delete(self) -> None:
        """The video needs it no longer."""
        self.path.unlink(missing_ok=True)


def part_of(folder: Path, video: Path, size: int, mtime_ns: int, made_by: str) -> FeaturePart:
    """The part of a video of this size and time of change. made_by: all that shapes its features besides the video."""
    key = hashlib.sha256(f"{os.path.abspath(video)}\0{size}\0{mtime_ns}\0{made_by}".encode(errors="surrogateescape"))
    return FeaturePart(folder / f"{key.hexdigest()[:32]}.part")


def _read_record(header: bytes, read: Callable[[int], bytes]) -> tuple[np.ndarray, np.ndarray] | None:
    """The record after a header; None where it is not whole."""
    if len(header) < _HEADER.size:
        return None
    mark, looks, width, checksum = _HEADER.unpack(header)
    num_bytes = looks * (8 + 2 * width)
    data = read(num_bytes) if mark == _MARK else b""
    if not data or len(data) < num_bytes or zlib.crc32(data) != checksum:
        return None
    times, values = data[: 8 * looks], data[8 * looks :]
    # copies, because torch wants arrays that may be written
    return np.frombuffer(times, np.float64).copy(), np.frombuffer(values, np.float16).reshape(looks, width).copy()
