"""A video again and again with running timestamps, as MPEG-TS: to standard output at full speed, or over HTTP at the speed
of life. Nothing is encoded anew. Not part of the product.

In: a video file. Out: a stream of so many seconds.
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


def loop(video: Path, out: Any, seconds: float, *, is_paced: bool = False) -> None:
    """Write packets to a file object until `seconds` of video were written; is_paced: not faster than they play."""
    began = time.monotonic()
    with av.open(str(video)) as file, av.open(out, "w", format="mpegts") as stream:
        source = file.streams.video[0]
        sink = stream.add_stream_from_template(source)
        base = source.time_base
        assert base
        offset = 0
        while offset * base < seconds:
            file.seek(0)
            end = 0
            for packet in file.demux(source):
                if packet.dts is None or packet.pts is None:
                    continue
                end = max(end, packet.pts + (packet.duration or 1))
                packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, sink
                if packet.pts * base >= seconds:
                    return
                if is_paced:
                    time.sleep(max(0.0, float(packet.pts * base) - (time.monotonic() - began)))
                stream.mux(packet)
            offset += end


def serve(video: Path, port: int, seconds: float) -> None:
    """Anybody who asks gets the stream from its beginning, live."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            with contextlib.suppress(Exception):  # whoever asked went away, which PyAV tells in its own words
                loop(video, _Pushed(self.wfile), seconds, is_paced=True)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


class _Pushed:
    """A file that sends what it is given at once."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        """All of it."""
        self.file.write(data)
        self.file.flush()
        return len(data)


def main() -> None:
    """See the top."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--port", type=int, help="serve http://127.0.0.1:PORT/ instead")
    options = parser.parse_args()
    if options.port:
        serve(options.video, options.port, options.seconds)
    else:
        with contextlib.suppress(BrokenPipeError, av.error.FFmpegError):
            loop(options.video, _Pushed(sys.stdout.buffer), options.seconds)


if __name__ == "__main__":
    main()
