"""A live source, a pipe, an address or a file that is watched -> looks as they come, in the worker.

In: a request from the parent: the source and how to read it. Out: messages and looks through a Port. Knows nothing
about queues, restarts or networks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, BinaryIO

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from pipeline.media.clip import LARGE_PIXELS, MAX_PIXELS, DecodeObserver, LazyFrame
from pipeline.media.clock import TOLERANCE, Clock
from pipeline.media.decode import open_looks
from pipeline.media.decode_pyav import DecodeErrorCounts, PyavFrame, decode_packet, read_frames
from pipeline.media.probe import Probe, check_size, describe, limit_pictures, video_stream
from pipeline.media.sniff import HEAD_BYTES, PLAYLIST, MediaError, find_demuxers, is_text, not_a_video
from pipeline.media.transform import Transform
from pipeline.media.worker_port import LookSender, Port

PROTOCOLS = "http,https,httpproxy,crypto,tcp,tls,udp,rtp,rtsp,rtsps,rtmp,rtmps,rtmpt,srt,srtp"
"""Without the file protocol: an answer of a server must not open a file of this machine."""
MAX_JUMP = 10.0  # seconds: a larger jump of a live stream's clock is a reset of that clock

Frames = Iterator[tuple[float, LazyFrame]]


class SourceReader:
    """Reads one source and sends its looks.

    request: kind, name, shown, source_size, fps, rate, size, fit, backend, patience, start (seconds; earlier looks are
    not sent again) and offset (seconds to add to the looks of a source that cannot be read from its beginning again).
    observer: it is told about packets and pictures.
    """

    def __init__(self, request: dict[str, Any], port: Port, observer: DecodeObserver) -> None:
        self.request, self.port, self.observer = request, port, observer
        self.clock = Clock(request["rate"])
        self.transform = Transform(request["size"], request["fit"])
        self.last_duration = 0.0  # seconds, of the latest frame
        self.warnings: tuple[str, ...] = ()

    def run(self) -> None:
        """Send "open", then "looks", at last "end". Raises MediaError."""
        kind = self.request["kind"]
        if kind == "file":
            self._read_file()
        elif kind == "camera":
            self._read_camera()
        elif kind == "pipe" and self.request["source_size"]:
            self._read_raw_frames(sys.stdin.buffer)
        else:
            with _open_pipe(sys.stdin.buffer) if kind == "pipe" else _open_address(self.request) as container:
                self._read_container(container, is_pipe=kind == "pipe")
        self.port.send("end", warnings=self.warnings)

    def _read_file(self) -> None:
        """The same decoder and the same looks as `unreel predict`."""
        looks = open_looks(
            self.request["name"],
            clock=self.clock,
            transform=self.transform,
            backend=self.request["backend"],
            start_seconds=self.request["start"],
            observer=self.observer,
        )
        self.port.send("open", is_live=False)
        sender = LookSender(self.port)
        for look, image in looks.images:
            sender.add(look, image, looks.warnings.lines())
        sender.flush()
        self.warnings = looks.warnings.lines()

    def _read_container(self, container: InputContainer, *, is_pipe: bool) -> None:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        check_size(stream, self.observer.max_pixels)
        limit_pictures(stream, self.observer.max_pixels)
        counts = DecodeErrorCounts()
        is_live = not is_pipe and container.duration is None
        if is_pipe:
            decoded = read_frames(container, stream, counts, self.observer)
        else:
            decoded = self._receive(container, stream, counts)
        first = next(decoded, None)
        if first is None:
            raise MediaError(
                "failed:corrupt", "No frame could be decoded. A video stream has at least one whole frame."
            )
        probed = describe(self.request["name"], container, stream, first)
        self.warnings = probed.warnings
        self.port.send("open", is_live=is_live)
        period = 1 / probed.fps if probed.fps else 0.0
        self.last_duration = period
        frames = self._timed(chain([first], decoded), period, is_live=is_live)
        is_sequential = is_live or is_pipe  # it cannot be read from its beginning again
        self._send_looks(
            monotonic_times(frames, period) if is_live else frames,
            lambda: self.last_duration,
            probed,
            offset=self.request["offset"] if is_sequential else 0.0,
            start=0.0 if is_sequential else self.request["start"],
        )
        if counts.packet_errors:
            self.warnings += (
                f"packet_errors: {counts.packet_errors} packets could not be decoded; the rest is shown.",
            )

    def _timed(self, decoded: Iterator[VideoFrame], period: float, *, is_live: bool) -> Frames:
        """Frames with their presentation time; without one the arrival time (live) or a count at the frame rate."""
        latest, start, reformatter = None, time.monotonic(), VideoReformatter()
        for frame in decoded:
            self.observer.on_picture(frame.width * frame.height)
            time_base = float(frame.time_base or 0)
            duration = frame.duration * time_base or period
            timestamp = None if frame.pts is None else frame.pts * time_base
            if timestamp is None:
                timestamp = time.monotonic() - start if is_live else (0.0 if latest is None else latest + duration)
            if latest is None or timestamp > latest or is_live:
                latest = timestamp
                self.last_duration = duration
                yield timestamp, PyavFrame(frame, reformatter)

    def _receive(
        self, container: InputContainer, stream: VideoStream, counts: DecodeErrorCounts
    ) -> Iterator[VideoFrame]:
        """Every frame of a connection, up to the place where it breaks."""
        try:
            for packet in container.demux(stream):
                self.observer.on_packet()
                yield from decode_packet(stream, packet, counts)
            return
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            self.warnings += (f"truncated: The connection broke ({error.strerror}); the frames before it are shown.",)
        yield from decode_packet(stream, None, counts)

    def _read_raw_frames(self, file: BinaryIO) -> None:
        (width, height), fps = self.request["source_size"], self.request["fps"]
        num_bytes = width * height * 3
        self.port.send("open", is_live=False)

        def frames() -> Frames:
            count = 0
            while len(data := file.read(num_bytes)) == num_bytes:
                self.observer.on_picture(width * height)
                yield count / fps, lambda _=0, data=data: np.frombuffer(data, np.uint8).reshape(height, width, 3)
                count += 1
            if data:
                self.warnings += (f"truncated: The last frame has {len(data)} of {num_bytes} bytes; left out.",)
            if not count:
                raise MediaError("failed:not_a_video", "Standard input ended before one whole frame. Check --size.")

        self._send_looks(frames(), lambda: 1 / fps, None, offset=self.request["offset"], start=0.0)

    def _read_camera(self) -> None:
        """A camera of this machine, by arrival time, because the times of its driver are not reliable."""
        import cv2

        name = self.request["name"]
        camera = cv2.VideoCapture(int(name))
        if not camera.isOpened():
            raise MediaError(
                "failed:no_camera",
                f"Camera {name} cannot be opened. The first camera is 0. Check that it is connected and that no other "
                "program uses it.",
            )
        self.port.send("open", is_live=True)

        def frames() -> Frames:
            while True:
                is_read, frame = camera.read()
                if not is_read:
                    raise MediaError("failed:lost", f"Camera {name} gives no more frames.")
                self.observer.on_picture(frame.shape[0] * frame.shape[1])
                yield time.monotonic(), lambda _=0, frame=frame: cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

        self._send_looks(frames(), lambda: 0.0, None, offset=self.request["offset"], start=0.0)

    def _send_looks(
        self,
        frames: Frames,
        last_duration: Callable[[], float],
        probed: Probe | None,
        *,
        offset: float,
        start: float,
    ) -> None:
        """Send every look from `start` on, as soon as it is known. A frame shown at several looks is converted once."""
        rotation, aspect = (probed.rotation, probed.aspect) if probed else (0, 1.0)
        previous, image, sender = None, np.empty(0), LookSender(self.port, batch=1)
        for look, frame in self.clock.sample(frames, last_duration):
            if look < start - TOLERANCE:
                continue
            if frame is not previous:
                previous, image = frame, self.transform(frame(LARGE_PIXELS), rotation, aspect)
            sender.add(look + offset, image, self.warnings)


def monotonic_times(frames: Frames, period: float) -> Frames:
    """The frames with increasing times.

    Where the clock of a stream goes back, stands still or jumps by more than MAX_JUMP, the time between the two
    arrivals is used instead: at least `period`, the usual duration of a frame, and 1 ms, and at most MAX_JUMP.
    """
    output_time = previous = None
    previous_arrival = time.monotonic()
    for timestamp, frame in frames:
        arrival = time.monotonic()
        if output_time is None or previous is None:
            output_time = timestamp
        elif 0 < timestamp - previous <= MAX_JUMP:
            output_time += timestamp - previous
        else:
            output_time += min(MAX_JUMP, max(period, arrival - previous_arrival, 1e-3))
        previous, previous_arrival = timestamp, arrival
        yield output_time, frame


def _open_address(request: dict[str, Any]) -> InputContainer:
    """Opens an address by network protocols alone. Raises MediaError failed:unreachable."""
    av.logging.set_level(av.logging.PANIC)
    name = request["name"]
    options = {"protocol_whitelist": PROTOCOLS}
    pictures = {"max_pixels": str(MAX_PIXELS)}
    if name.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # UDP loses packets without an error
    try:
        timeout = (request["patience"], request["patience"])  # of opening and of reading, in seconds
        container = av.open(
            name, "r", options=pictures, container_options=options, metadata_errors="replace", timeout=timeout
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MediaError(
            "failed:unreachable",
            f"{request['shown']} cannot be opened ({reason}). Check the address, the network and the password.",
        ) from error
    assert isinstance(container, InputContainer)
    return container


def _open_pipe(file: BinaryIO) -> InputContainer:
    """Opens a container that can be read once. Raises MediaError failed:not_a_video or failed:corrupt."""
    av.logging.set_level(av.logging.PANIC)
    head = file.read(HEAD_BYTES)
    demuxers = find_demuxers(head)
    if not head or demuxers is None or (is_text(head) and PLAYLIST.match(head.lstrip())):
        problem = "Standard input is empty."
        if head:
            problem = f"Standard input does not begin like any known video format ({head[:12]!r})."
        raise not_a_video(f"{problem} Raw frames need --size and --fps.")
    try:
        options = {"format_whitelist": demuxers, "protocol_whitelist": ""}
        pictures = {"max_pixels": str(MAX_PIXELS)}
        container = av.open(
            _PrefixedFile(head, file), "r", options=pictures, container_options=options, metadata_errors="replace"
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MediaError(
            "failed:corrupt",
            f"The header of the stream cannot be read ({reason}). An MP4 can be read from a pipe only where its index "
            "comes first. Send MPEG-TS, Matroska or Y4M.",
        ) from error
    assert isinstance(container, InputContainer)
    return container


class _PrefixedFile:
    """The bytes that were read already, then the rest of the file. It cannot seek."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self.head, self.file = head, file

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, as soon as there are any."""
        if self.head:
            data, self.head = self.head[:count], self.head[count:]
            return data
        return self.file.read1(count)  # type: ignore[attr-defined]
