"""Frames by PyAV, the default. It reads in order and reports errors per packet, so it is right on every known file.

In: a Probe. Out: (presentation time, frame). Knows nothing about clocks.
"""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from pipeline.media.clip import NO_OBSERVER, DecodeObserver, DecodeWarnings
from pipeline.media.packets import has_decoding_times_only, is_truncated
from pipeline.media.probe import Probe, limit_pictures, open_container, video_stream
from pipeline.media.sniff import MediaError

MAX_READ_ERRORS = 100  # in a row, without a packet between them; then the rest of the file is not read


@dataclass(eq=False)
class PyavFrame:
    """A decoded frame, converted to RGB when it is called. One conversion costs more than skipping ten frames."""

    frame: VideoFrame
    reformatter: VideoReformatter  # shared: to create one costs ten times the conversion

    def __call__(self, max_pixels: int = 0) -> np.ndarray:
        """uint8 (H, W, 3) RGB as stored. Matrix and range are the frame's own, BT.601 limited where it has none.

        A frame of more than max_pixels shrinks by a whole factor on its way to RGB, by the mean of areas; 0: never.
        """
        width, height = self.frame.width, self.frame.height
        if not 0 < max_pixels < width * height:
            rgb = self.reformatter.reformat(self.frame, format="rgb24", threads=1)
        else:
            factor = math.ceil(math.sqrt(width * height / max_pixels))
            size = (max(1, round(width / factor)), max(1, round(height / factor)))
            rgb = self.reformatter.reformat(
                self.frame, *size, format="rgb24", interpolation=Interpolation.AREA, threads=1
            )
        return rgb.to_ndarray().astype(np.uint8, copy=False)


@dataclass
class DecodeErrorCounts:
    """How often each kind of error occurred."""

    packet_errors: int = 0
    damaged_frames: int = 0
    untimed_frames: int = 0
    unordered_frames: int = 0

    def add_to(self, warnings: DecodeWarnings) -> None:
        """Add one warning for each kind that occurred."""
        kinds = {
            "packet_errors": (self.packet_errors, "packet", "could not be decoded; the rest is shown."),
            "damaged_frames": (self.damaged_frames, "frame", "decoded with errors; shown repaired."),
            "no_timestamps": (self.untimed_frames, "frame", "without a presentation time; counted at the frame rate."),
            "time_order": (self.unordered_frames, "frame", "not later than the one before; left out."),
        }
        for code, (count, noun, sentence) in kinds.items():
            if count:
                warnings.warn(f"{code}: {count} {noun}{'s' * (count > 1)} {sentence}")


def frames(
    file: Probe, has_look: Callable[[float, float], bool], warnings: DecodeWarnings, thread_count: int
) -> Generator[tuple[float, PyavFrame], None, None]:
    """See decode.FrameReader. has_look is not used, as every frame stays valid. Raises MediaError failed:corrupt."""
    counts, reformatter = DecodeErrorCounts(), VideoReformatter()
    first = latest = None
    period, observer = 1 / file.fps if file.fps else 0.0, warnings.observer
    try:
        with open_container(file.path, observer.max_pixels) as container:
            stream = video_stream(container)
            limit_pictures(stream, observer.max_pixels)
            stream.codec_context.thread_count = thread_count
            if thread_count > 1 and not has_decoding_times_only(file):  # frame threads would shift the decoding times
                stream.codec_context.thread_type = "AUTO"
            for frame in read_frames(container, stream, counts, observer):
                observer.on_picture(frame.width * frame.height)
                counts.damaged_frames += frame.is_corrupt
                time_base = float(frame.time_base or 0)
                duration = frame.duration * time_base or period
                timestamp = frame.dts if has_decoding_times_only(file) else frame.pts
                if timestamp is None:
                    counts.untimed_frames += not has_decoding_times_only(file)
                    time = 0.0 if latest is None else latest + duration
                else:
                    time = timestamp * time_base
                if latest is not None and time <= latest:
                    counts.unordered_frames += 1
                    continue
                first = time if first is None else first
                latest, warnings.last_duration = time, duration
                yield time, PyavFrame(frame, reformatter)
        if first is None or latest is None:
            raise no_frames(counts)
        seconds = latest - first + warnings.last_duration
        if is_truncated(file, seconds):
            claim = f" of the {file.seconds:.1f} s in its header" if file.seconds and file.seconds > seconds else ""
            warnings.warn(f"truncated: The file ends early; {seconds:.1f} s{claim} could be decoded.")
    finally:
        counts.add_to(warnings)


def read_frames(
    container: InputContainer, stream: VideoStream, counts: DecodeErrorCounts, observer: DecodeObserver = NO_OBSERVER
) -> Iterator[VideoFrame]:
    """Every frame that can be decoded. Errors of the file and of packets are counted and skipped."""
    num_errors = 0
    while num_errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                num_errors = 0
                observer.on_packet()
                yield from decode_packet(stream, packet, counts)
            return
        except MemoryError:  # of FFmpeg too: the file is not damaged
            raise
        except av.error.FFmpegError:
            counts.packet_errors += num_errors == 0  # a damaged part of the file counts once
            num_errors += 1
    yield from decode_packet(stream, None, counts)


def decode_packet(
    stream: VideoStream, packet: "Packet[VideoStream] | None", counts: DecodeErrorCounts
) -> list[VideoFrame]:
    """The frames that a packet completes. None flushes the frames that the decoder still holds."""
    try:
        return stream.decode(packet)
    except av.error.EOFError:  # the decoder was flushed before
        return []
    except MemoryError:
        raise
    except av.error.FFmpegError:
        counts.packet_errors += 1
        return []


def no_frames(counts: DecodeErrorCounts) -> MediaError:
    """The error for a file that can be opened and has no frame that can be decoded."""
    return MediaError(
        "failed:corrupt",
        f"No frame could be decoded ({counts.packet_errors} packets with errors). "
        "A video has at least one whole frame. Copy the file again or leave it out.",
    )
