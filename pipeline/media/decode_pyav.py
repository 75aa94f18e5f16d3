"""Frames by PyAV, the default: right on every file we know, because it reads in order and reports errors per packet.

In: a Probe. Out: (presentation time, picture). Knows nothing about clocks.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from pipeline.media.clip import Notes
from pipeline.media.packets import has_order_only, is_cut
from pipeline.media.probe import MediaError, Probe, open_container, video_stream

MAX_READ_ERRORS = 100  # in a row, without a packet between them: then the rest of the file is given up


@dataclass(eq=False)
class Picture:
    """One decoded frame, converted to RGB when called. Converting a chosen frame costs more than skipping ten."""

    frame: VideoFrame
    reformatter: VideoReformatter  # shared: setting one up costs ten times the conversion

    def __call__(self) -> np.ndarray:
        """uint8 (H, W, 3) RGB as stored. Matrix and range are the frame's own, BT.601 limited when it names none."""
        rgb = self.reformatter.reformat(self.frame, format="rgb24", threads=1)
        return rgb.to_ndarray().astype(np.uint8, copy=False)


@dataclass
class Counts:
    """What went wrong, how often."""

    packet_errors: int = 0
    damaged: int = 0
    untimed: int = 0
    dropped: int = 0

    def note(self, notes: Notes) -> None:
        """Says each kind that occurred once."""
        kinds = {
            "packet_errors": (self.packet_errors, "packet", "could not be decoded; the rest is shown."),
            "damaged_frames": (self.damaged, "frame", "decoded with errors; shown repaired."),
            "no_timestamps": (self.untimed, "frame", "without a presentation time; counted at the frame rate."),
            "time_order": (self.dropped, "frame", "not later than the one before; left out."),
        }
        for code, (count, noun, sentence) in kinds.items():
            if count:
                notes.warn(f"{code}: {count} {noun}{'s' * (count > 1)} {sentence}")


def frames(
    file: Probe, wanted: Callable[[float, float], bool], notes: Notes, thread_count: int
) -> Generator[tuple[float, Picture], None, None]:
    """See decode.Reader; wanted is not needed, since every frame stays whole. Errors: MediaError failed:corrupt."""
    counts, reformatter = Counts(), VideoReformatter()
    first = latest = None
    step = 1 / file.fps if file.fps else 0.0
    try:
        with open_container(file.path) as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = thread_count
            if thread_count > 1 and not has_order_only(file):  # frame threads would move the decoding times
                stream.codec_context.thread_type = "AUTO"
            for frame in read(container, stream, counts):
                counts.damaged += frame.is_corrupt
                base = float(frame.time_base or 0)
                own = frame.duration * base or step
                stamp = frame.dts if has_order_only(file) else frame.pts
                if stamp is None:
                    counts.untimed += not has_order_only(file)
                    time = 0.0 if latest is None else latest + own
                else:
                    time = stamp * base
                if latest is not None and time <= latest:
                    counts.dropped += 1
                    continue
                first = time if first is None else first
                latest, notes.last_duration = time, own
                yield time, Picture(frame, reformatter)
        if first is None or latest is None:
            raise no_frames(counts)
        seconds = latest - first + notes.last_duration
        if is_cut(file, seconds):
            claim = f" of the {file.seconds:.1f} s it claims" if file.seconds and file.seconds > seconds else ""
            notes.warn(f"truncated: The file ends early; {seconds:.1f} s{claim} could be decoded.")
    finally:
        counts.note(notes)


def read(container: InputContainer, stream: VideoStream, counts: Counts) -> Iterator[VideoFrame]:
    """Every frame that can be decoded; errors of the file and of packets are counted and stepped over."""
    failures = 0
    while failures < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield from unpack(stream, packet, counts)
            return
        except av.error.FFmpegError:
            counts.packet_errors += failures == 0  # a hole in the file counts once
            failures += 1
    yield from unpack(stream, None, counts)


def unpack(stream: VideoStream, packet: "Packet[VideoStream] | None", counts: Counts) -> list[VideoFrame]:
    """The frames that a packet completes; None asks for those that the decoder still holds."""
    try:
        return stream.decode(packet)
    except av.error.EOFError:  # the decoder was emptied before
        return []
    except av.error.FFmpegError:
        counts.packet_errors += 1
        return []


def no_frames(counts: Counts) -> MediaError:
    """The error for a file that opens and shows nothing."""
    return MediaError(
        "failed:corrupt",
        f"Not one frame could be decoded ({counts.packet_errors} packets with errors). "
        "A video holds at least one whole frame. Copy the file again or leave it out.",
    )
