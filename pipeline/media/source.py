"""What people name as a source of pictures -> what it is. In: the text of the command line. Out: a Source.

Opens nothing. Knows nothing about processes, clocks or networks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["file", "camera", "address", "pipe"]
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "tcp", "udp", "rtp", "srt")


@dataclass(frozen=True)
class Source:
    """kind; name: what is opened (a path, an index, an address, "-"); shown: the name without passwords and queries;
    size, fps: (width, height) and rate of raw rgb24 frames in a pipe, None where the pipe holds a container.
    """

    kind: Kind
    name: str
    shown: str
    size: tuple[int, int] | None = None
    fps: float | None = None


def parse_source(text: str, *, size: str | None = None, fps: float | None = None) -> Source:
    """A file, a camera's index ("0"), an address ("rtsp://..."), or "-" for standard input.

    size: "WxH" and fps: of raw rgb24 frames on standard input. Errors: ValueError for an address of another kind, for
    a size that is none, and for a size or a rate beside anything but "-".
    """
    if (size is None) != (fps is None) or (size is not None and text != "-"):
        raise ValueError(
            f"Raw frames are described by a size ({size}) and a rate ({fps}) together, for the source '-' only (it is "
            f"'{text}'). Give - --size 320x240 --fps 25, or neither of the two."
        )
    if text == "-":
        return Source(
            "pipe", text, "standard input", _size(size) if size else None, _rate(fps) if fps is not None else None
        )
    if text.isdigit() and not Path(text).exists():
        return Source("camera", text, f"camera {text}")
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", text)
    if not scheme:
        return Source("file", text, text)
    if scheme[1].lower() not in SCHEMES:
        raise ValueError(
            f"An address that begins with '{scheme[1]}://' is not watched. It is one of {', '.join(SCHEMES)}. "
            "Give a file by its path alone."
        )
    return Source("address", text, shown_address(text))


def shown_address(address: str) -> str:
    """An address as it may stand in outputs: without user, password and query."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?...' if parts.query else ''}"


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise ValueError(
            f"The size of the frames is '{text}'. It is width x height in pixels. Give for example 320x240."
        )
    return int(found[1]), int(found[2])


def _rate(fps: float) -> float:
    if not 0 < fps <= 1000:
        raise ValueError(f"The rate of the frames is {fps}. It is above 0, at most 1000 a second. Give for example 25.")
    return fps
