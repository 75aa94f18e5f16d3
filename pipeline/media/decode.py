"""A file -> windows of the frames that the clock looks at. In: a path, a clock, a transform. Out: Clips.

Reads every frame in order, converts only the chosen ones, holds one window. Knows nothing about networks.
"""

import os
from collections.abc import Callable, Generator, Iterator
from typing import Literal, Protocol

import numpy as np

from pipeline.media import decode_decord, decode_opencv, decode_pyav
from pipeline.media.clip import Clip, Notes
from pipeline.media.clock import TOLERANCE, Clock
from pipeline.media.probe import Probe, probe
from pipeline.media.transform import Transform, show

Backend = Literal["pyav", "opencv", "decord"]
Picture = Callable[[], np.ndarray]  # the frame as stored, uint8 (H, W, 3) RGB, converted when called


class Reader(Protocol):
    """Yields (presentation time in seconds, picture) of every frame, in the order of presentation.

    A picture must stay callable for as long as it is held, if wanted(its time, the next frame's time) is true (both in
    seconds since the first frame); no other picture is ever called. The notes take the warnings, and the last frame's
    duration before the reader ends.
    """

    def __call__(
        self, file: Probe, wanted: Callable[[float, float], bool], notes: Notes, thread_count: int
    ) -> Generator[tuple[float, Picture], None, None]:
        """Opens the file at the first frame and lets go of it when closed. thread_count: of the decoder."""
        ...


READERS: dict[Backend, Reader] = {
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

    Looks are k / rate from start_seconds up to, not including, stop_seconds; the first is the first k / rate that is
    not before start_seconds, and a range without a look yields nothing. Times are since the first frame, whatever the
    range. Without a transform the frames are as shown: upright, square pixels, the size of the probe. max_seconds
    bounds how much of any video is watched, with a warning. Frames before the start are decoded too: reading in order
    is always right. Errors: ValueError for arguments; MediaError for the file, at once or while it is read
    (failed:corrupt: no frame could be decoded; failed:backend_refuses: this backend would be wrong here).
    """
    check_arguments(backend, window, start_seconds, stop_seconds, max_seconds)
    file = probe(path)
    stop = min(limit for limit in (stop_seconds, max_seconds, float("inf")) if limit is not None)
    notes = Notes()
    for warning in file.warnings:
        notes.warn(warning)

    def wanted(shown: float, until: float) -> bool:
        return until > start_seconds - TOLERANCE and clock.has_look(shown, until)

    frames = READERS[backend](file, wanted, notes, thread_count)
    looks = clock.follow(counted(frames, clock, notes), lambda: notes.last_duration)
    limit = f"max_seconds: Only the first {stop:g} seconds were watched, the limit." if stop == max_seconds else None
    return windows(pictures(looks, file, transform, notes, start_seconds), frames, file, notes, window, stop, limit)


def pictures(
    looks: Iterator[tuple[float, Picture]], file: Probe, transform: Transform | None, notes: Notes, start: float
) -> Iterator[tuple[float, np.ndarray]]:
    """(look, picture) -> (look, uint8 RGB array of one size), from start on; a frame shown again is not converted
    again.
    """
    latest, stored, ready = None, None, np.empty(0)
    for look, picture in looks:
        if look < start - TOLERANCE:
            continue
        if picture is not latest:
            raw = picture()
            if stored not in (None, raw.shape):
                notes.warn(
                    f"size_change: The frames change their size ({stored} to {raw.shape}); all are rescaled alike."
                )
            latest, stored = picture, raw.shape
            if transform is None:
                ready = show(raw, file.rotation, file.width, file.height)
            else:
                ready = transform(raw, file.rotation, file.aspect)
        yield look, ready


def windows(
    looks: Iterator[tuple[float, np.ndarray]],
    frames: Generator[tuple[float, Picture], None, None],
    file: Probe,
    notes: Notes,
    window: int,
    stop: float,
    end_of_range: str | None,
) -> Iterator[Clip]:
    """Packs looks into Clips. A full window waits for the next look or the end, so that the last carries every
    warning. end_of_range: the warning to give when the video goes on at stop.
    """
    times: list[float] = []
    ready: list[np.ndarray] = []
    try:
        for look, picture in looks:
            if look >= stop - TOLERANCE:
                if end_of_range:
                    notes.warn(end_of_range)
                break
            if len(times) == window:
                yield Clip(np.stack(ready), np.array(times), file.path, notes.lines())
                times, ready = [], []
            times.append(look)
            ready.append(picture)
    finally:
        frames.close()  # the reader lets go of the file and notes what it counted
    if times:
        yield Clip(np.stack(ready), np.array(times), file.path, notes.lines())


def counted(frames: Iterator[tuple[float, Picture]], clock: Clock, notes: Notes) -> Iterator[tuple[float, Picture]]:
    """Passes the frames on and notes at the end when there were hardly any."""
    count, first, last = 0, 0.0, 0.0
    for time, picture in frames:
        first, last, count = (time if count == 0 else first), time, count + 1
        yield time, picture
    seconds = last - first + notes.last_duration
    if count <= 2 or seconds < 1 / clock.rate:
        notes.warn(
            f"short_video: The video is very short ({count} frames, {seconds:.2f} s at {clock.rate:g} looks a second)."
        )


def check_arguments(
    backend: str, window: int, start_seconds: float, stop_seconds: float | None, max_seconds: float | None
) -> None:
    """Errors: ValueError with a sentence for the first argument that makes no sense."""
    if backend not in READERS:
        raise ValueError(
            f"This backend is not known ({backend!r}). It is one of {', '.join(READERS)}. Set backend=pyav, the default."
        )
    if window < 1:
        raise ValueError(f"A window cannot be empty ({window} looks). It holds at least 1. Set for example window=64.")
    if not 0 <= start_seconds < float("inf"):
        raise ValueError(f"The start is not in the video ({start_seconds} s). It is at least 0. Set start_seconds=0.")
    if stop_seconds is not None and not stop_seconds > start_seconds:
        raise ValueError(
            f"The range stops before it starts ({start_seconds} to {stop_seconds} s). "
            "A range stops after its start. Raise stop_seconds or leave it out."
        )
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(
            f"No video may be watched ({max_seconds} s at most). The limit is above 0. Raise max_seconds or leave it out."
        )
