"""A video file -> windows of the frames at the looks of a clock.

In: a path, a clock, a transform. Out: Clips. It reads every frame in order, converts only the frames at a look, and
keeps one window in memory. Knows nothing about networks.
"""

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.media import decode_decord, decode_opencv, decode_pyav
from pipeline.media.clip import LARGE_PIXELS, NO_OBSERVER, Backend, Clip, DecodeObserver, DecodeWarnings, LazyFrame
from pipeline.media.clock import TOLERANCE, Clock
from pipeline.media.probe import Probe, probe
from pipeline.media.transform import Transform, to_display


class FrameReader(Protocol):
    """A backend: yields (presentation time in seconds, frame) for every frame, in the order of presentation.

    A frame at a look must stay callable for as long as it is kept: a frame for which has_look(its time, the time of the
    next frame) is true, both in seconds since the first frame. No other frame is ever called. The reader adds its
    warnings, and the duration of the last frame before it ends.
    """

    def __call__(
        self, file: Probe, has_look: Callable[[float, float], bool], warnings: DecodeWarnings, thread_count: int
    ) -> Generator[tuple[float, LazyFrame], None, None]:
        """Opens the file at the first frame, closes it with the generator. thread_count: threads of the decoder."""
        ...


READERS: dict[Backend, FrameReader] = {
    "pyav": decode_pyav.frames,
    "opencv": decode_opencv.frames,
    "decord": decode_decord.frames,
}


def decode(
    path: str | os.PathLike[str],
    *,
    clock: Clock,
    transform: Transform | None,
    backend: Backend = "pyav",
    window: int = 64,
    start_seconds: float = 0.0,
    stop_seconds: float | None = None,
    max_seconds: float | None = None,
    thread_count: int = 1,
) -> Iterator[Clip]:
    """Opens the file at once and yields its looks in windows of at most `window`.

    Looks are at k / rate, from start_seconds up to, but not including, stop_seconds. A range without a look yields
    nothing. Times count from the first frame, whatever the range. Without a transform the frames are as displayed:
    upright, square pixels, the size that the probe reports. max_seconds limits how much of any video is read, with a
    warning where it cuts. Frames before the start are decoded too, because only reading in order is always right.

    Raises ValueError for wrong arguments. Raises MediaError for the file, at once or while it is read (failed:corrupt:
    no frame could be decoded; failed:backend_refuses: this backend would return wrong frames).
    """
    check_arguments(backend, window, start_seconds, stop_seconds, max_seconds)
    stop = min(limit for limit in (stop_seconds, max_seconds, float("inf")) if limit is not None)
    limit = f"max_seconds: Only the first {stop:g} seconds were read, the limit." if stop == max_seconds else None
    video = open_looks(
        path, clock=clock, transform=transform, backend=backend, start_seconds=start_seconds, thread_count=thread_count
    )
    return pack_windows(video, window, stop, limit)


@dataclass(frozen=True)
class OpenedVideo:
    """The looks of an opened file.

    images: (look time, uint8 RGB array) in order; where the picture of the look before is shown again, the array is the
    same object. warnings: grows while images are read. frames: the reader; its close() closes the file and adds the
    last warnings.
    """

    path: str
    images: Iterator[tuple[float, np.ndarray]]
    warnings: DecodeWarnings
    frames: Generator[tuple[float, LazyFrame], None, None]


def open_looks(
    path: str | os.PathLike[str],
    *,
    clock: Clock,
    transform: Transform | None,
    backend: Backend = "pyav",
    start_seconds: float = 0.0,
    thread_count: int = 1,
    observer: DecodeObserver = NO_OBSERVER,
) -> OpenedVideo:
    """Opens the file at once; its looks from start_seconds on are read one by one. Errors as of `decode`."""
    file = probe(path, observer)
    warnings = DecodeWarnings(observer=observer)
    for warning in file.warnings:
        warnings.warn(warning)

    def has_look(start: float, end: float) -> bool:
        return end > start_seconds - TOLERANCE and clock.has_look(start, end)

    frames = READERS[backend](file, has_look, warnings, thread_count)
    looks = clock.sample(warn_if_short(frames, clock, warnings), lambda: warnings.last_duration)
    images = transform_frames(looks, file, transform, warnings, start_seconds)
    return OpenedVideo(file.path, images, warnings, frames)


def transform_frames(
    looks: Iterator[tuple[float, LazyFrame]],
    file: Probe,
    transform: Transform | None,
    warnings: DecodeWarnings,
    start: float,
) -> Iterator[tuple[float, np.ndarray]]:
    """(look, frame) -> (look, uint8 RGB array), all of one size, from `start` on.

    A frame that is shown at several looks is converted once.
    """
    previous, stored_shape, image = None, None, np.empty(0)
    for look, frame in looks:
        if look < start - TOLERANCE:
            continue
        if frame is not previous:
            stored = frame(LARGE_PIXELS) if transform else frame()
            if stored_shape not in (None, stored.shape):
                change = f"{stored_shape} to {stored.shape}"
                warnings.warn(f"size_change: The frames change their size ({change}); all are resized to one.")
            previous, stored_shape = frame, stored.shape
            if transform is None:
                image = to_display(stored, file.rotation, file.width, file.height)
            else:
                image = transform(stored, file.rotation, file.aspect)
        yield look, image


def pack_windows(video: OpenedVideo, window: int, stop: float, limit_warning: str | None) -> Iterator[Clip]:
    """Packs looks into Clips. A full window waits for the next look or the end, so the last one has every warning.

    limit_warning: the warning to add when the video continues at `stop`.
    """
    warnings = video.warnings
    times: list[float] = []
    images: list[np.ndarray] = []
    try:
        for look, image in video.images:
            if look >= stop - TOLERANCE:
                if limit_warning:
                    warnings.warn(limit_warning)
                break
            if len(times) == window:
                yield Clip(np.stack(images), np.array(times), video.path, warnings.lines())
                times, images = [], []
            times.append(look)
            images.append(image)
    finally:
        video.frames.close()  # the reader closes the file and adds its last warnings
    if times:
        yield Clip(np.stack(images), np.array(times), video.path, warnings.lines())


def warn_if_short(
    frames: Iterator[tuple[float, LazyFrame]], clock: Clock, warnings: DecodeWarnings
) -> Iterator[tuple[float, LazyFrame]]:
    """Passes the frames on. Adds a warning at the end of a video of at most two frames, or shorter than one period."""
    count, first, last = 0, 0.0, 0.0
    for time, frame in frames:
        first, last, count = (time if count == 0 else first), time, count + 1
        yield time, frame
    seconds = last - first + warnings.last_duration
    if count <= 2 or seconds < 1 / clock.rate:
        warnings.warn(
            f"short_video: The video is very short ({count} frames, {seconds:.2f} s at {clock.rate:g} looks a second)."
        )


def check_arguments(
    backend: str, window: int, start_seconds: float, stop_seconds: float | None, max_seconds: float | None
) -> None:
    """Raises ValueError with a sentence about the first wrong argument."""
    if backend not in READERS:
        raise ValueError(
            f"The backend {backend!r} is not known. It is one of {', '.join(READERS)}. Set backend=pyav, the default."
        )
    if window < 1:
        raise ValueError(f"The window has {window} looks. It has at least 1. Set for example window=64.")
    if not 0 <= start_seconds < float("inf"):
        raise ValueError(f"The start is {start_seconds} s. It is a number of seconds, 0 or more. Set start_seconds=0.")
    if stop_seconds is not None and not stop_seconds > start_seconds:
        raise ValueError(
            f"The range ends before it starts ({start_seconds} to {stop_seconds} s). "
            "A range ends after its start. Raise stop_seconds or leave it out."
        )
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds is {max_seconds}. It is above 0. Raise max_seconds or leave it out.")
