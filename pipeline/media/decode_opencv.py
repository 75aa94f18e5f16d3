"""Frames by OpenCV. It reports errors as the end of the file, and it keeps no frame, so the packets are scanned first.

In: a Probe. Out: (presentation time, frame), or a MediaError that refuses the file. Knows nothing about clocks.
"""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.media.clip import DecodeWarnings
from pipeline.media.packets import Packets, refusal, scan
from pipeline.media.probe import Probe

NAME = "opencv"
MAX_DIFFERENCE = 0.002  # seconds between OpenCV's times (whole milliseconds) and those of the packets


@dataclass(eq=False)
class OpencvFrame:
    """A frame that was fetched while OpenCV had it; None where no look falls on it."""

    bgr: np.ndarray | None

    def __call__(self, max_pixels: int = 0) -> np.ndarray:
        """uint8 (H, W, 3) RGB as stored, never shrunk."""
        assert self.bgr is not None, "no look falls on this frame"
        return cv2.cvtColor(self.bgr, cv2.COLOR_BGR2RGB)


def frames(
    file: Probe, has_look: Callable[[float, float], bool], warnings: DecodeWarnings, thread_count: int
) -> Generator[tuple[float, OpencvFrame], None, None]:
    """See decode.FrameReader. Raises MediaError failed:backend_refuses, before the first frame where possible."""
    if file.is_interlaced:
        raise refusal(NAME, "the video is interlaced, and OpenCV returns one frame of it again and again")
    try:
        file.path.encode()
    except UnicodeEncodeError as error:
        raise refusal(NAME, "the path is not UTF-8, and OpenCV crashes on it") from error
    packets = scan(file, NAME, warnings.observer)
    warnings.last_duration = packets.last_duration
    capture = open_capture(file, thread_count)
    start = 0.0
    try:
        for index, time in enumerate(packets.times):
            if not capture.grab():
                raise refusal(NAME, f"it stopped after {index} of {len(packets.times)} frames of {file.codec}")
            warnings.observer.on_picture(file.width * file.height)
            timestamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            start = timestamp if index == 0 else start
            if timestamp or index == 0:  # OpenCV has no time (0) for the last frame of some files
                check_time(timestamp - start, index, packets)
            is_needed = index in (0, len(packets.times) - 1) or has_look(float(time), packets.end_of(index))
            is_converted, bgr = capture.retrieve() if is_needed else (True, None)
            if not is_converted:
                raise refusal(NAME, f"it could not convert frame {index}")
            yield float(time), OpencvFrame(bgr)
    finally:
        capture.release()


def open_capture(file: Probe, thread_count: int) -> cv2.VideoCapture:
    """Opens the file without rotation, as the transform rotates.

    Raises MediaError failed:backend_refuses when OpenCV cannot open it.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # errors are raised here, not printed by the library
    options = [cv2.CAP_PROP_N_THREADS, thread_count]
    capture = cv2.VideoCapture(os.path.abspath(file.path), cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise refusal(NAME, f"this build of OpenCV cannot open {file.codec} in {file.container}")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    return capture


def check_time(seconds: float, index: int, packets: Packets) -> None:
    """Raises MediaError failed:backend_refuses when OpenCV returns another frame than the packets say."""
    if abs(seconds - packets.times[index]) > MAX_DIFFERENCE:
        expected = packets.times[index]
        raise refusal(NAME, f"the time of its frame {index} is {seconds:.3f} s where the file has {expected:.3f} s")
