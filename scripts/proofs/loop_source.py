"""A test source: a video in a loop with increasing timestamps, as MPEG-TS. Not part of the package.

In: a video file. Out: a stream of a given length, on standard output at full speed or over HTTP in real time. Packets
are copied, not encoded again.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import av.error


def loop(video: Path, out: Any, seconds: float, *, is_real_time: bool = False) -> None:
    """Write packets to a file object up to `seconds` of video. is_real_time: not faster than they are shown."""
    start = time.monotonic()
    with av.open(str(video)) as file, av.open(out, "w", format="mpegts") as stream:
        source = file.streams.video[0]
        output = stream.add_stream_from_template(source)
        time_base = source.time_base
        assert time_base
        offset = 0
        while offset * time_base < seconds:
            file.seek(0)
            end = 0
            for packet in file.demux(source):
                if packet.dts is None or packet.pts is None:
                    continue
                end = max(end, packet.pts + (packet.duration or 1))
                packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, output
                if packet.pts * time_base >= seconds:
                    return
                if is_real_time:
                    time.sleep(max(0.0, float(packet.pts * time_base) - (time.monotonic() - start)))
                stream.mux(packet)
            offset += end


def serve(video: Path, port: int, seconds: float) -> None:
    """Serve the stream over HTTP, to each client from its beginning and in real time."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            with contextlib.suppress(Exception):  # the client disconnected; PyAV has its own exceptions for it
                loop(video, _FlushedFile(self.wfile), seconds, is_real_time=True)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


class _FlushedFile:
    """A file that flushes after every write."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        """Write all of the data."""
        self.file.write(data)
        self.file.flush()
        return len(data)


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--port", type=int, help="serve http://127.0.0.1:PORT/ instead")
    options = parser.parse_args()
    if options.port:
        serve(options.video, options.port, options.seconds)
    else:
        with contextlib.suppress(BrokenPipeError, av.error.FFmpegError):
            loop(options.video, _FlushedFile(sys.stdout.buffer), options.seconds)


if __name__ == "__main__":
    main()
