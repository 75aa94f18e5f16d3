"""Videos for the tests: every frame has its number as a barcode of black and white blocks.

In: what to vary. Out: a file.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream

QUIET = {"libx265": {"x265-params": "log-level=none", "preset": "ultrafast"}, "libsvtav1": {"preset": "8", "crf": "20"}}


def barcode(number: int, width: int = 128, height: int = 96) -> np.ndarray:
    """uint8 (H, W, 3): the 8 bits of the number in the upper half, the lowest bit left. Below: red left, blue right."""
    frame = np.full((height, width, 3), (90, 120, 60), np.uint8)
    for bit in range(8):
        frame[height // 4 : height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255 * (number >> bit & 1)
    frame[3 * height // 4 :, : width // 2] = (200, 40, 40)
    frame[3 * height // 4 :, width // 2 :] = (40, 60, 200)
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number of a barcode of any size."""
    height, width = frame.shape[:2]
    row = frame[3 * height // 8 - 2 : 3 * height // 8 + 2].mean((0, 2))
    return sum(1 << bit for bit in range(8) if row[int((bit + 0.5) * width / 8)] > 128)


def make_video(
    path: Path,
    frames: Sequence[np.ndarray] | int = 40,
    codec: str = "libx264",
    rate: Fraction = Fraction(30),
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    **settings: Any,
) -> Path:
    """Encode frames, or this number of barcodes; returns the path. pts are in units of time_base; settings are
    attributes of the codec context.
    """
    images = [barcode(n) for n in range(frames)] if isinstance(frames, int) else frames
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options={**QUIET.get(codec, {}), **(options or {})})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pixels, 12
        context = stream.codec_context
        if time_base:
            context.time_base = time_base
        for name, value in settings.items():
            setattr(context, name, value)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = (pts[index] if pts else index), time_base or 1 / rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def make_sound(path: Path, codec: str, cover: np.ndarray | None = None) -> Path:
    """Write half a second of silence, with a cover image if there is one (MP3)."""
    with av.open(str(path), "w") as file:
        sound: Any = file.add_stream(codec, rate=44100)
        image: Any = file.add_stream("png", rate=1) if cover is not None else None
        if cover is not None:
            image.height, image.width, image.pix_fmt = *cover.shape[:2], "rgb24"
            image.disposition = 0x400  # FFmpeg's flag of an attached picture
            file.mux(image.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
            file.mux(image.encode(None))
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the first track header of an MP4: (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    for offset, value in ((0, a), (4, b), (12, c), (16, d)):
        data[matrix + offset : matrix + offset + 4] = (value * 0x10000).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def pack_b_frames(source: Path, path: Path) -> Path:
    """An MPEG-4 AVI with B-frames -> the same with packed B-frames, as old versions of XviD wrote them.

    A P-frame and the B-frame that is shown before it are in one packet; a packet without content replaces the B-frame.
    """
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        data = [bytes(packet) for packet in old.demux(stream) if packet.size]
        types = [vop_type(chunk) for chunk in data]
        packed: list[bytes] = []
        index = 0
        while index < len(data):
            if types[index] == 1 and index + 1 < len(data) and types[index + 1] == 2:
                packed += [data[index] + data[index + 1], b"\0\0\1\xb6\x50\0\x7f"]
                index += 2
            else:
                packed.append(data[index])
                index += 1
        start = packed[0].find(b"\0\0\1\xb2")
        packed[0] = packed[0][: max(start, 0)] + b"\0\0\1\xb2DivX503b1393p" + packed[0][max(start, 0) :]
        for number, chunk in enumerate(packed):
            packet = av.Packet(chunk)
            packet.stream, packet.pts, packet.dts, packet.time_base = copy, number, number, 1 / Fraction(30)
            packet.is_keyframe = number == 0 or vop_type(chunk) == 0
            new.mux(packet)
    return path


def vop_type(chunk: bytes) -> int:
    """0: I-frame, 1: P, 2: B; the two bits after the start code of an MPEG-4 frame. -1 without a start code."""
    start_code = chunk.find(b"\0\0\1\xb6")
    return chunk[start_code + 4] >> 6 if start_code >= 0 else -1
