"""Whether a video file is whole, by its packets, without decoding.

In: a path. Out: sentences about what is missing or damaged. Knows nothing about pixels.
"""

import os
from dataclasses import dataclass

import av
import av.error
from av.container import InputContainer

from pipeline.media.clip import NO_OBSERVER, DecodeObserver
from pipeline.media.packets import MIN_MISSING
from pipeline.media.probe import open_container, probe, video_stream
from pipeline.media.sniff import is_truncated_avi, mp4_boxes

DAMAGE_CODES = ("truncated", "packet_errors", "damaged_frames")
"""The codes of a decoder's warnings that say that a file is cut or damaged."""
HEADERS_WITH_LENGTH = ("mov", "matroska", "flv")
"""Parts of FFmpeg's names of the containers whose header has the length; in others FFmpeg estimates it."""
MAX_ERRORS = 100
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # of ASF and WMV: the size of the file is behind it
SEGMENT = b"\x18\x53\x80\x67"  # of Matroska: all that follows its first header


@dataclass
class _Count:
    """What was found while the packets of a file were read. end: seconds, of the last packet of any stream."""

    packets: int = 0
    errors: int = 0
    corrupt: int = 0
    empty: int = 0
    end: float = 0.0


def damage(path: str | os.PathLike[str], observer: DecodeObserver = NO_OBSERVER) -> tuple[str, ...]:
    """What is cut or damaged, as "code: sentence"; nothing for a file that is whole.

    Reads all packets of all streams, because sound may go on after the picture. Raises MediaError for a file that
    cannot be opened as a video.
    """
    file = probe(path, observer)
    with open_container(path, observer.max_pixels) as container:
        count = _read(container, observer)
        is_in_header = any(name in container.format.name for name in HEADERS_WITH_LENGTH)
        header = container.duration / av.time_base if container.duration and is_in_header else 0.0
        start = (container.start_time or 0) / av.time_base
    found = []
    missing_bytes = _missing_bytes(path, file.container)
    seconds = max(count.end, count.end - start)
    least, share = MIN_MISSING
    if header - seconds > max(least, share * header):
        found.append(f"truncated: The file ends early; {seconds:.1f} s of the {header:.1f} s in its header are there.")
    elif _has_no_end(path, file.container):
        found.append("truncated: The file ends early; its last part is not whole.")
    elif missing_bytes:
        found.append(f"truncated: The file ends early; {missing_bytes:,} bytes that its header counts are missing.")
    if not count.packets:
        found.append("truncated: The file has no packet of its video stream.")
    if count.errors or count.corrupt:
        found.append(f"packet_errors: {count.errors + count.corrupt:,} parts of the file are damaged.")
    if count.empty and file.codec != "rawvideo":
        found.append(f"packet_errors: {count.empty:,} of {count.packets:,} packets hold only zeros.")
    elif _ends_in_zeros(path) and file.codec != "rawvideo":
        found.append("packet_errors: The end of the file holds only zeros, as where a download was not finished.")
    return tuple(found)


def length_by_packets(path: str | os.PathLike[str]) -> float:
    """The seconds from the first to the end of the last packet, for a file whose header has no length.

    Packets without times, as in raw streams, are counted. Raises MediaError.
    """
    rate = probe(path).fps
    with open_container(path) as container:
        count = _read(container)
        by_times = count.end - (container.start_time or 0) / av.time_base
    return by_times if by_times > 0 else count.packets / rate if rate else 0.0


def damages_of(warnings: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a video's warnings that say that it is cut or damaged."""
    return tuple(warning for warning in warnings if warning.partition(": ")[0] in DAMAGE_CODES)


def add_damage(
    path: str | os.PathLike[str], warnings: tuple[str, ...], observer: DecodeObserver = NO_OBSERVER
) -> tuple[str, ...]:
    """A decoder's warnings about a video, with what its packets show and no frame did. Raises MediaError."""
    codes = {warning.partition(": ")[0] for warning in warnings}
    return warnings + tuple(text for text in damage(path, observer) if text.partition(": ")[0] not in codes)


def _read(container: InputContainer, observer: DecodeObserver = NO_OBSERVER) -> _Count:
    """Read all packets to the end. A part that cannot be read counts as one error."""
    count, errors_in_a_row = _Count(), 0
    video = video_stream(container).index
    units: dict[int, float] = {}  # of the times of each stream, in seconds; a Fraction a packet is slow
    while errors_in_a_row < MAX_ERRORS:
        try:
            for packet in container.demux():
                errors_in_a_row = 0
                observer.on_packet()
                if not packet.size:
                    continue
                time = packet.pts if packet.pts is not None else packet.dts
                index = packet.stream_index
                if index not in units:
                    units[index] = float(packet.time_base or 0)
                if time is not None:
                    count.end = max(count.end, (time + (packet.duration or 0)) * units[index])
                if index == video:
                    count.packets += 1
                    count.corrupt += packet.is_corrupt
                    count.empty += not bytes(packet).strip(b"\0")
            return count
        except MemoryError:
            raise
        except av.error.FFmpegError:
            count.errors += errors_in_a_row == 0
            errors_in_a_row += 1
    return count


def _ends_in_zeros(path: str | os.PathLike[str]) -> bool:
    """Whether the last 2 % of a file are zeros (at least 4 KiB, at most 1 MiB)."""
    size = os.path.getsize(path)
    count = min(max(4096, size // 50), 2**20)
    with open(path, "rb") as file:
        file.seek(max(0, size - count))
        return size > count and not file.read().strip(b"\0")


def _has_no_end(path: str | os.PathLike[str], container: str) -> bool:
    """Whether a container that has no length in its header stops within a packet (MPEG-TS) or without its end (Ogg)."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if container == "mpegts":
            head = file.read(5 * 204)
            sizes = [length for length in (188, 192, 204) if len(head) == 5 * 204 and set(head[::length][:5]) == {0x47}]
            return bool(sizes) and size % sizes[0] != 0
        if container == "ogg":
            file.seek(max(0, size - 2**17))
            tail = file.read()
            page = tail.rfind(b"OggS")
            return 0 <= page < len(tail) - 6 and not tail[page + 5] & 4
    return False


def _missing_bytes(path: str | os.PathLike[str], container: str) -> int:
    """How many bytes the headers of the container count that the file does not have."""
    if "mov" in container:
        return sum(mp4_boxes(path).values())
    if "matroska" in container:
        return _missing_of_matroska(path)
    if container == "asf":
        with open(path, "rb") as file:
            head = file.read(2**16)
        place = head.find(ASF_PROPERTIES)
        size = int.from_bytes(head[place + 40 : place + 48], "little") if place >= 0 else 0
        return max(0, size - os.path.getsize(path))
    if container == "avi" and is_truncated_avi(path):
        with open(path, "rb") as file:
            return int.from_bytes(file.read(8)[4:], "little") + 8 - os.path.getsize(path)
    return 0


def _missing_of_matroska(path: str | os.PathLike[str]) -> int:
    """From the size of the segment; 0 where it is not known, as in live streams."""
    with open(path, "rb") as file:
        head = file.read(4096)
    place = head.find(SEGMENT)
    if place < 0 or place + 12 > len(head):
        return 0
    first = head[place + 4]
    length = 9 - first.bit_length()  # the number of leading zeros says how many bytes the size has
    if not first or head[place + 4 : place + 4 + length] == bytes([(1 << (9 - length)) - 1]) + b"\xff" * (length - 1):
        return 0
    size = int.from_bytes(head[place + 4 : place + 4 + length], "big") - (1 << (7 * length))
    return max(0, place + 4 + length + size - os.path.getsize(path))
