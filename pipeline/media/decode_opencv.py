"""Frames by OpenCV. Its errors look like ends and it keeps no frame for later, so a scan of the packets goes ahead of
it.

In: a Probe. Out: (presentation time, picture), or a refusal by name. Knows nothing about clocks.
"""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.media.clip import Notes
from pipeline.media.packets import Packets, refuse, scan
from pipeline.media.probe import Probe

NAME = "opencv"
MAX_DIFFERENCE = 0.002  # seconds between OpenCV's clock (milliseconds) and the packets'


@dataclass(eq=False)
class Picture:
    """A frame taken while OpenCV had it, or nothing when no look wants it."""

    bgr: np.ndarray | None

    def __call__(self) -> np.ndarray:
        """uint8 (H, W, 3) RGB as stored."""
        assert self.bgr is not None, "no look wants this frame"
        return cv2.cvtColor(self.bgr, cv2.COLOR_BGR2RGB)


def frames(
    file: Probe, wanted: Callable[[float, float], bool], notes: Notes, thread_count: int
) -> Generator[tuple[float, Picture], None, None]:
    """See decode.Reader. Errors: MediaError failed:backend_refuses, before the first frame wherever that can be
    known.
    """
    if file.is_interlaced:
        raise refuse(NAME, "the video is interlaced, OpenCV shows one frame of it again and again")
    try:
        file.path.encode()
    except UnicodeEncodeError as error:
        raise refuse(NAME, "the path is not UTF-8, OpenCV crashes on it") from error
    packets = scan(file, NAME)
    notes.last_duration = packets.last_duration
    capture = open_capture(file, thread_count)
    start = 0.0
    try:
        for index, time in enumerate(packets.times):
            if not capture.grab():
                raise refuse(NAME, f"it stopped after {index} of {len(packets.times)} frames of {file.codec}")
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            start = stamp if index == 0 else start
            if stamp or index == 0:  # OpenCV knows no time (0) for the last frame of some files
                check_time(stamp - start, index, packets)
            is_needed = index in (0, len(packets.times) - 1) or wanted(float(time), packets.until(index))
            is_whole, bgr = capture.retrieve() if is_needed else (True, None)
            if not is_whole:
                raise refuse(NAME, f"it could not convert frame {index}")
            yield float(time), Picture(bgr)
    finally:
        capture.release()


def open_capture(file: Probe, thread_count: int) -> cv2.VideoCapture:
    """Opens without turning: the transform turns. Errors: MediaError failed:backend_refuses when it does not open."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # errors are raised here, not printed by the library
    options = [cv2.CAP_PROP_N_THREADS, thread_count]
    capture = cv2.VideoCapture(os.path.abspath(file.path), cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise refuse(NAME, f"this build of OpenCV cannot open {file.codec} in {file.container}")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    return capture


def check_time(seconds: float, index: int, packets: Packets) -> None:
    """Errors: MediaError failed:backend_refuses when OpenCV holds another frame than the packets say."""
    if abs(seconds - packets.times[index]) > MAX_DIFFERENCE:
        raise refuse(NAME, f"its frame {index} is of {seconds:.3f} s where the file has {packets.times[index]:.3f} s")
