"""Frames by decord, by index. It hangs and lies on common files, so a scan of the packets goes ahead of it.

In: a Probe. Out: (presentation time, picture), or a refusal by name. Knows nothing about clocks. Damage inside
packets cannot be seen by the scan: there decord repeats a neighbouring frame. Only pyav reports it.
"""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.media.clip import Notes
from pipeline.media.packets import refuse, scan
from pipeline.media.probe import Probe

NAME = "decord"
CONTAINERS = ("mov", "matroska", "avi")  # where its index agrees with the packets
MAX_DIFFERENCE = 0.002  # seconds between decord's clock (milliseconds) and the packets'


@dataclass(eq=False)
class Picture:
    """A frame that decord fetches when called."""

    reader: Any  # decord ships no types
    index: int
    rotation: int

    def __call__(self) -> np.ndarray:
        """uint8 (H, W, 3) RGB as stored: decord turns by itself, the transform must not turn again."""
        return np.rot90(self.reader[self.index].asnumpy(), k=self.rotation // 90)


def frames(
    file: Probe, wanted: Callable[[float, float], bool], notes: Notes, thread_count: int
) -> Generator[tuple[float, Picture], None, None]:
    """See decode.Reader. Errors: MediaError failed:backend_refuses, before the first frame.

    Measured on barcodes: wherever groups are open (MPEG-2, MPEG-4 and x265's HEVC with B-frames) and in MPEG-TS,
    decord returns other frames than asked for, by index and by skipping alike; its frame times agree with the file's
    all the same.
    """
    check_file(file)
    packets = scan(file, NAME)
    if packets.is_trimmed:
        raise refuse(NAME, "an edit list trims the video, decord shows frames twice")
    if packets.has_open_gops:
        raise refuse(NAME, "frames shown before a key frame are stored behind it, decord skips wrongly there")
    notes.last_duration = packets.last_duration
    reader = open_reader(file, thread_count)
    if len(reader) != len(packets.times):
        raise refuse(NAME, f"it counts {len(reader)} frames where the file has {len(packets.times)}")
    stamps = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
    if not np.allclose(stamps - stamps[0], packets.times, rtol=0, atol=MAX_DIFFERENCE):
        raise refuse(NAME, "its frame times differ from the file's")
    for index, time in enumerate(packets.times):
        yield float(time), Picture(reader, index, file.rotation)


def check_file(file: Probe) -> None:
    """Errors: MediaError failed:backend_refuses for what decord is known to get wrong."""
    if file.codec == "av1":
        raise refuse(NAME, "decord has no AV1 decoder")
    if not file.container.startswith(CONTAINERS):
        raise refuse(NAME, f"decord returns wrong frames of {file.container}")
    if file.container == "avi" and file.has_b_frames:
        raise refuse(NAME, "decord returns wrong frames of an AVI with B-frames")
    if file.has_warning("mirrored"):
        raise refuse(NAME, "decord turns mirrored videos its own way")


def open_reader(file: Probe, thread_count: int) -> Any:
    """A decord.VideoReader. Errors: MediaError failed:backend_refuses when decord is not installed or does not
    open.
    """
    try:
        import decord  # here, not above: it has no wheel for some platforms and takes 70 MB
    except ImportError as error:
        raise refuse(NAME, "decord is not installed, it has no wheel for this platform") from error
    decord.logging.set_level(decord.logging.FATAL)
    try:
        return decord.VideoReader(os.path.abspath(file.path), ctx=decord.cpu(0), num_threads=thread_count)
    except (decord.DECORDError, UnicodeError) as error:
        raise refuse(NAME, f"decord cannot open {file.codec} in {file.container}") from error
