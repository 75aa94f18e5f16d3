"""The types of decoding many files: the settings and limits of a job, its tasks, and the messages about them.

Knows nothing about processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.media.clip import MAX_PIXELS, Backend

if TYPE_CHECKING:  # the parent starts its workers before it imports OpenCV
    from pipeline.media.transform import ResizeMode

OUT_OF_MEMORY = (
    "failed:out_of_memory",
    "The memory that one worker may use did not suffice for this file. Its pictures or its index are very large. "
    "Raise the limit or make the video smaller (ffmpeg -i FILE -vf scale=1280:-2 SMALL.mp4).",
)
"""(status, sentence) of a file for which the memory of a worker did not suffice."""


@dataclass(frozen=True)
class DecodeSettings:
    """How the files of a job are decoded, the same for all.

    rate: looks a second. size, fit: those of Transform. hash_content: Opened has the SHA-256 of the file.
    """

    rate: float
    size: int
    fit: ResizeMode
    backend: Backend = "pyav"
    hash_content: bool = False


@dataclass(frozen=True)
class DecodeLimits:
    """When the decoding of a file ends. Times are times at work: waiting for a free slot does not count.

    idle_seconds: without a new packet or picture. The other three add up to the time of a file: base_seconds, those for
    each 100 MB of it, and those for each million pixels decoded. max_pixels: of a picture. memory_bytes: of a worker,
    more than what its imports and its ring take.
    """

    idle_seconds: float = 30.0
    base_seconds: float = 30.0
    seconds_per_100_mb: float = 20.0
    seconds_per_megapixel: float = 0.05
    max_pixels: int = MAX_PIXELS
    memory_bytes: int = 4 << 30


@dataclass(frozen=True)
class DecodeTask:
    """A file to decode. start: seconds; the looks before it are not sent."""

    id: str
    path: Path
    start: float = 0.0


@dataclass(frozen=True)
class Slot:
    """A picture in the ring of a worker. number: of this use of the slot."""

    worker: int
    index: int
    number: int


@dataclass(frozen=True)
class Opened:
    """The file could be opened. A second one of the same task says that it begins again: forget its looks."""

    task: DecodeTask
    size: int
    mtime_ns: int
    content_hash: str | None
    is_large: bool


@dataclass(frozen=True)
class Looks:
    """The next looks of a file: times float64 (n,) in seconds, and the slots with their pictures.

    is_repeat: the picture of the look before is shown again. Its slot is that of the look before, and may have been
    released already. warnings: those known so far.
    """

    task: DecodeTask
    slots: tuple[Slot, ...]
    times: np.ndarray
    is_repeat: tuple[bool, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """Every look of the file was sent. warnings: all, also of what its packets show and no picture did."""

    task: DecodeTask
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """The file could not be decoded to its end. status: failed:<reason>, timeout or crashed:<signal>."""

    task: DecodeTask
    status: str
    error: str


Message = Opened | Looks | Finished | Failed
