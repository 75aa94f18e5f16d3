"""The process that reads a source: `python -m pipeline.media.feed SPECIFICATION`.

In: one JSON object, the source and how to look at it. Out, on standard output: messages, each a length, a JSON object and
pixels. A decoder that hangs, crashes or fills the memory does it here, where it can be killed. Ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import struct
import sys
import threading
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

from pipeline.media.clock import TOLERANCE, Clock
from pipeline.media.decode import decode
from pipeline.media.decode_pyav import Counts, Picture, read, unpack
from pipeline.media.probe import MediaError, describe, video_stream
from pipeline.media.sniff import HEAD_BYTES, PLAYLIST, container_of, is_text, not_a_video
from pipeline.media.transform import Transform

HEADER = struct.Struct("<II")  # bytes of the JSON object, bytes of the pixels
FILE_WINDOW = 8  # looks: as many as the CNN takes at once
PROTOCOLS = "http,https,httpproxy,crypto,tcp,tls,udp,rtp,rtsp,rtsps,rtmp,rtmps,rtmpt,srt,srtp"
"""No files among them: what a server answers may not name one of this machine."""
MAX_JUMP = 10.0  # seconds: a live stream's clock that jumps further was set anew
ALIVE_SECONDS = 1.0  # how often a frame without a look is reported

Send = Callable[..., None]
Frames = Iterator[tuple[float, Callable[[], np.ndarray]]]


def main() -> None:
    """Read the source that the first argument describes, to its end."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes elsewhere
    request = json.loads(sys.argv[1])
    _end_with_parent(request["parent"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process in its time

    def send(kind: str, frames: np.ndarray | None = None, **about: Any) -> None:
        _write(out, {"kind": kind, **about}, b"" if frames is None else np.ascontiguousarray(frames).tobytes())

    try:
        Feed(request, send).run()
    except BrokenPipeError:
        os._exit(0)  # nobody reads any more
    except MediaError as error:
        send("failed", status=error.status, error=str(error))
    except (OSError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        send("failed", status="failed:unreadable", error=f"The source cannot be read: {reason}.")
    except Exception as error:
        send("failed", status="failed:error", error=f"{type(error).__name__}: {error}")
    out.flush()
    os._exit(0)  # without waiting for libraries that tidy up


class Feed:
    """Looks at one source. request: kind, name, size, fps, rate, pixels, fit, backend, start (seconds of looks not to
    send again), offset (seconds to add where the source cannot be read from its beginning again).
    """

    def __init__(self, request: dict[str, Any], send: Send) -> None:
        self.request, self.send = request, send
        self.clock = Clock(request["rate"])
        self.transform = Transform(request["pixels"], request["fit"])
        self.spoke = time.monotonic()
        self.warnings: tuple[str, ...] = ()

    def run(self) -> None:
        """Send "open", "looks" and "alive" and at last "end"."""
        kind = self.request["kind"]
        if kind == "file":
            self._file()
        elif kind == "camera":
            self._camera()
        elif kind == "pipe" and self.request["size"]:
            self._raw(sys.stdin.buffer)
        else:
            with _open_pipe(sys.stdin.buffer) if kind == "pipe" else _open_address(self.request) as container:
                self._container(container, is_pipe=kind == "pipe")
        self.send("end", warnings=self.warnings)

    def _file(self) -> None:
        """As predict reads it: the same decoder, the same looks."""
        window = FILE_WINDOW if self.clock.rate > 1 else 1
        start = self.request["start"]
        clips = decode(
            self.request["name"],
            clock=self.clock,
            transform=self.transform,
            backend=self.request["backend"],
            window=window,
        )
        self.send("open", is_live=False)
        for clip in clips:
            self.warnings = clip.warnings
            new = clip.times > start - TOLERANCE
            if new.any():
                self.send("looks", clip.frames[new], times=clip.times[new].tolist(), warnings=clip.warnings)
            else:
                self.send("alive")

    def _container(self, container: InputContainer, *, is_pipe: bool) -> None:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        counts, reformatter = Counts(), VideoReformatter()
        is_live = not is_pipe and container.duration is None
        decoded = read(container, stream, counts) if is_pipe else self._received(container, stream, counts)
        first = next(decoded, None)
        if first is None:
            raise MediaError("failed:corrupt", "Not one frame could be decoded. A stream of pictures holds some.")
        about = describe(self.request["name"], container, stream, first)
        self.warnings = about.warnings
        self.send("open", is_live=is_live)
        step = 1 / about.fps if about.fps else 0.0

        def timed() -> Frames:
            """Presentation time where there is one, else arrival for what is live, else the frame rate."""
            latest, began = None, time.monotonic()
            for frame in chain([first], decoded):
                own = frame.duration * float(frame.time_base or 0) or step
                stamp = None if frame.pts is None else frame.pts * float(frame.time_base or 0)
                if stamp is None:
                    stamp = time.monotonic() - began if is_live else (0.0 if latest is None else latest + own)
                if latest is None or stamp > latest or is_live:
                    latest = stamp
                    self.duration = own
                    yield stamp, Picture(frame, reformatter)

        self.duration = step
        is_again = is_live or is_pipe
        frames = steady(timed(), step) if is_live else timed()
        offset = self.request["offset"] if is_again else 0.0
        start = 0.0 if is_again else self.request["start"]
        self._send_looks(frames, lambda: self.duration, about.rotation, about.aspect, offset, start)
        if counts.packet_errors:
            self.warnings += (
                f"packet_errors: {counts.packet_errors} packets could not be decoded; the rest is shown.",
            )

    def _received(self, container: InputContainer, stream: VideoStream, counts: Counts) -> Iterator[VideoFrame]:
        """Every frame of a connection; where it breaks, the frames so far are all there is."""
        try:
            for packet in container.demux(stream):
                yield from unpack(stream, packet, counts)
            return
        except av.error.FFmpegError as error:
            self.warnings += (f"truncated: The connection broke ({error.strerror}); what came before is shown.",)
        yield from unpack(stream, None, counts)

    def _raw(self, file: BinaryIO) -> None:
        (width, height), fps = self.request["size"], self.request["fps"]
        self.send("open", is_live=False)

        def frames() -> Frames:
            count = 0
            while len(data := file.read(width * height * 3)) == width * height * 3:
                yield count / fps, lambda data=data: np.frombuffer(data, np.uint8).reshape(height, width, 3)
                count += 1
            if data:
                self.warnings += (
                    f"truncated: The last frame has {len(data)} of {width * height * 3} bytes; left out.",
                )
            if not count:
                raise MediaError("failed:not_a_video", "Standard input ended before one whole frame. Check --size.")

        self._send_looks(frames(), lambda: 1 / fps, 0, 1.0, self.request["offset"], 0.0)

    def _camera(self) -> None:
        """A camera of this machine, by arrival time: its driver's times are not to be trusted."""
        import cv2

        camera = cv2.VideoCapture(int(self.request["name"]))
        if not camera.isOpened():
            raise MediaError(
                "failed:no_camera",
                f"Camera {self.request['name']} cannot be opened. The first camera is 0. Check that it is there and that "
                "no other program uses it.",
            )
        self.send("open", is_live=True)

        def frames() -> Frames:
            while True:
                is_there, frame = camera.read()
                if not is_there:
                    raise MediaError("failed:lost", f"Camera {self.request['name']} gives no more pictures.")
                yield time.monotonic(), lambda frame=frame: cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

        self._send_looks(frames(), lambda: 0.0, 0, 1.0, self.request["offset"], 0.0)

    def _send_looks(
        self,
        frames: Frames,
        last_duration: Callable[[], float],
        rotation: int,
        aspect: float,
        offset: float,
        start: float,
    ) -> None:
        """Every look as soon as it is known, not before start; a frame shown again is not converted again."""
        latest, ready = None, np.empty(0)
        for look, picture in self.clock.follow(self._alive(frames), last_duration):
            if look < start - TOLERANCE:
                continue
            if picture is not latest:
                latest, ready = picture, self.transform(picture(), rotation, aspect)
            self.send("looks", ready[None], times=[look + offset], warnings=self.warnings)
            self.spoke = time.monotonic()

    def _alive(self, frames: Frames) -> Frames:
        """Passes frames on and says from time to time that they come."""
        for time_and_frame in frames:
            if time.monotonic() - self.spoke > ALIVE_SECONDS:
                self.send("alive")
                self.spoke = time.monotonic()
            yield time_and_frame


def steady(frames: Frames, step: float) -> Frames:
    """Times that only go on. Where a stream's clock goes back, stands or jumps by more than MAX_JUMP, the time between the
    two arrivals counts (at least `step`, the usual duration of a frame, and a thousandth).
    """
    shown = told = None
    arrived = time.monotonic()
    for stamp, picture in frames:
        now = time.monotonic()
        if shown is None or told is None:
            shown = stamp
        elif 0 < stamp - told <= MAX_JUMP:
            shown += stamp - told
        else:
            shown += min(MAX_JUMP, max(step, now - arrived, 1e-3))
        told, arrived = stamp, now
        yield shown, picture


def _open_address(request: dict[str, Any]) -> InputContainer:
    """An address by network protocols alone. Errors: MediaError failed:unreachable."""
    av.logging.set_level(av.logging.PANIC)
    name = request["name"]
    options = {"protocol_whitelist": PROTOCOLS}
    if name.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # udp loses packets and says nothing
    try:
        patience = request["patience"]
        limits = (patience, patience)
        opened = av.open(name, "r", container_options=options, metadata_errors="replace", timeout=limits)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MediaError(
            "failed:unreachable",
            f"{request['shown']} cannot be opened ({reason}). Check the address, the network and the password.",
        ) from error
    assert isinstance(opened, InputContainer)
    return opened


def _open_pipe(file: BinaryIO) -> InputContainer:
    """A container that is read once, from its beginning. Errors: MediaError failed:not_a_video, failed:corrupt."""
    av.logging.set_level(av.logging.PANIC)
    head = file.read(HEAD_BYTES)
    demuxers = container_of(head)
    if not head or demuxers is None or (is_text(head) and PLAYLIST.match(head.lstrip())):
        what = f"Standard input does not begin like any video ({head[:12]!r})." if head else "Standard input is empty."
        raise not_a_video(f"{what} Raw frames need --size and --fps.")
    try:
        options = {"format_whitelist": demuxers, "protocol_whitelist": ""}
        opened = av.open(_Once(head, file), "r", container_options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            "failed:corrupt",
            f"The header of the stream cannot be read ({getattr(error, 'strerror', None) or type(error).__name__}). An MP4 "
            "is read from a pipe only where its index comes first. Send MPEG-TS, Matroska or Y4M.",
        ) from error
    assert isinstance(opened, InputContainer)
    return opened


class _Once:
    """A file that was begun: its first bytes again, then the rest. It cannot be wound back."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self.head, self.file = head, file

    def read(self, count: int) -> bytes:
        """Up to count bytes, as soon as there are some."""
        if self.head:
            data, self.head = self.head[:count], self.head[count:]
            return data
        return self.file.read1(count)  # type: ignore[attr-defined]


def _write(out: BinaryIO, about: dict[str, Any], pixels: bytes) -> None:
    text = json.dumps(about).encode()
    out.write(HEADER.pack(len(text), len(pixels)))
    out.write(text)
    out.write(pixels)
    out.flush()


def _end_with_parent(parent: int) -> None:
    """Linux ends this process with its parent, even where a decoder holds Python; elsewhere a thread looks."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    main()
