"""A source of frames as people write it -> what kind of source it is.

In: the text of the command line. Out: a StreamSource. Opens nothing. Knows nothing about processes, clocks or networks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

SourceKind = Literal["file", "camera", "address", "pipe"]
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "tcp", "udp", "rtp", "srt")


@dataclass(frozen=True)
class StreamSource:
    """A source of frames.

    name: what is opened (a path, the index of a camera, an address, "-"). display_name: the name without passwords and
    queries. size, fps: (width, height) and rate of raw rgb24 frames in a pipe, None where the pipe has a container.
    """

    kind: SourceKind
    name: str
    display_name: str
    size: tuple[int, int] | None = None
    fps: float | None = None


def parse_source(text: str, *, size: str | None = None, fps: float | None = None) -> StreamSource:
    """A file, the index of a camera ("0"), an address ("rtsp://..."), or "-" for standard input.

    size: "WxH" and fps: of raw rgb24 frames on standard input. Raises ValueError for an address with another scheme,
    for a wrong size or rate, and for a size or a rate with any source but "-".
    """
    if (size is None) != (fps is None) or (size is not None and text != "-"):
        raise ValueError(
            f"--size is {size}, --fps is {fps} and the source is '{text}'. Raw frames have both, and only the source "
            "'-' (standard input) has raw frames. Give - --size 320x240 --fps 25, or neither of the two."
        )
    if text == "-":
        frame_size, rate = _parse_size(size) if size else None, _check_rate(fps) if fps is not None else None
        return StreamSource("pipe", text, "standard input", frame_size, rate)
    if text.isdigit() and not Path(text).exists():
        return StreamSource("camera", text, f"camera {text}")
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", text)
    if not scheme:
        return StreamSource("file", text, text)
    if scheme[1].lower() not in SCHEMES:
        raise ValueError(
            f"An address that begins with '{scheme[1]}://' cannot be watched. It begins with one of "
            f"{', '.join(SCHEMES)}. Give a file by its path alone."
        )
    return StreamSource("address", text, redact_address(text))


def redact_address(address: str) -> str:
    """An address without user, password and query, so that it can be written to outputs."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?...' if parts.query else ''}"


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not match:
        raise ValueError(
            f"The size of the frames is '{text}'. It is width x height in pixels. Give for example 320x240."
        )
    return int(match[1]), int(match[2])


def _check_rate(fps: float) -> float:
    if not 0 < fps <= 1000:
        raise ValueError(f"The rate of the frames is {fps}. It is above 0, at most 1000 a second. Give for example 25.")
    return fps
