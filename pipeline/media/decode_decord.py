"""Frames by decord, by index. It hangs or returns wrong frames on common files, so the packets are scanned first.

In: a Probe. Out: (presentation time, frame), or a MediaError that refuses the file. Knows nothing about clocks. The
scan cannot see damage inside packets: there decord repeats a neighbouring frame. Only pyav reports such damage.
"""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.media.clip import DecodeWarnings
from pipeline.media.packets import refusal, scan
from pipeline.media.probe import Probe

NAME = "decord"
CONTAINERS = ("mov", "matroska", "avi")  # where its index agrees with the packets
MAX_DIFFERENCE = 0.002  # seconds between decord's times (whole milliseconds) and those of the packets


@dataclass(eq=False)
class DecordFrame:
    """A frame that decord fetches when it is called."""

    reader: Any  # decord has no type stubs
    index: int
    rotation: int

    def __call__(self, max_pixels: int = 0) -> np.ndarray:
        """uint8 (H, W, 3) RGB as stored, never shrunk. It undoes the rotation by decord; the transform rotates."""
        import decord

        try:
            picture = self.reader[self.index].asnumpy()
        except decord.DECORDError as error:
            raise refusal(NAME, f"decord cannot decode its frame {self.index}") from error
        return np.rot90(picture, k=self.rotation // 90)


def frames(
    file: Probe, has_look: Callable[[float, float], bool], warnings: DecodeWarnings, thread_count: int
) -> Generator[tuple[float, DecordFrame], None, None]:
    """See decode.FrameReader. Raises MediaError failed:backend_refuses before the first frame.

    Measured on barcode videos: decord returns wrong frames, by index and in order, wherever groups of pictures are open
    (MPEG-2, MPEG-4 and x265's HEVC with B-frames) and in MPEG-TS. Its frame times agree with the file's all the same.
    """
    check_file(file)
    packets = scan(file, NAME, warnings.observer)
    if packets.is_trimmed:
        raise refusal(NAME, "an edit list trims the video, and decord returns frames twice")
    if packets.has_open_gops:
        raise refusal(NAME, "frames shown before a key frame are stored behind it, and decord seeks wrongly there")
    warnings.last_duration = packets.last_duration
    reader = open_reader(file, thread_count)
    if len(reader) != len(packets.times):
        raise refusal(NAME, f"it counts {len(reader)} frames where the file has {len(packets.times)}")
    timestamps = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
    if not np.allclose(timestamps - timestamps[0], packets.times, rtol=0, atol=MAX_DIFFERENCE):
        raise refusal(NAME, "its frame times differ from the file's")
    for index, time in enumerate(packets.times):
        warnings.observer.on_picture(file.width * file.height)
        yield float(time), DecordFrame(reader, index, file.rotation)


def check_file(file: Probe) -> None:
    """Raises MediaError failed:backend_refuses for files that decord is known to read wrongly."""
    if file.codec == "av1":
        raise refusal(NAME, "decord has no AV1 decoder")
    if not file.container.startswith(CONTAINERS):
        raise refusal(NAME, f"decord returns wrong frames of {file.container}")
    if file.container == "avi" and file.has_b_frames:
        raise refusal(NAME, "decord returns wrong frames of an AVI with B-frames")
    if file.has_warning("mirrored"):
        raise refusal(NAME, "decord rotates mirrored videos in another way")


def open_reader(file: Probe, thread_count: int) -> Any:
    """A decord.VideoReader.

    Raises MediaError failed:backend_refuses when decord is not installed or cannot open the file.
    """
    try:
        import decord  # here, not above: it has no wheel for some platforms and takes 70 MB
    except ImportError as error:
        raise refusal(NAME, "decord is not installed, it has no wheel for this platform") from error
    decord.logging.set_level(decord.logging.FATAL)
    try:
        return decord.VideoReader(os.path.abspath(file.path), ctx=decord.cpu(0), num_threads=thread_count)
    except (decord.DECORDError, UnicodeError) as error:
        raise refusal(NAME, f"decord cannot open {file.codec} in {file.container}") from error
