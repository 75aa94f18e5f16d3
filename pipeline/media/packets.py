"""The presentation times of a file's packets, read without decoding. The other backends are checked against them.

In: a Probe. Out: the times, or a MediaError that refuses the file. Knows nothing about pixels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import av.error
import numpy as np

from pipeline.media.clip import NO_OBSERVER, DecodeObserver
from pipeline.media.probe import Probe, open_container, video_stream
from pipeline.media.sniff import MediaError, is_truncated_avi

MIN_MISSING = (0.5, 0.05)  # seconds, and share of the length in the header, that must be missing in a truncated file


class PacketHeader(NamedTuple):
    """Of one packet: its timestamp and duration in units of the stream's time base, and its flags."""

    timestamp: int | None
    duration: int
    is_keyframe: bool
    is_corrupt: bool
    is_discarded: bool


@dataclass(frozen=True)
class Packets:
    """The times of a video.

    times: float64 (N,) seconds since the first frame, increasing. last_duration: seconds of the frame shown last.
    is_trimmed: an edit list hides packets, which are not among the times. has_open_gops: frames shown before a key
    frame are stored behind it (open groups of pictures).
    """

    times: np.ndarray  # (N,)
    last_duration: float
    is_trimmed: bool
    has_open_gops: bool

    def end_of(self, index: int) -> float:
        """When the frame with this index is replaced by the next one, or ends, in seconds since the first frame."""
        return float(self.times[index + 1]) if index + 1 < len(self.times) else self.seconds

    @property
    def seconds(self) -> float:
        """The length of the video."""
        return float(self.times[-1]) + self.last_duration


def scan(file: Probe, backend: str, observer: DecodeObserver = NO_OBSERVER) -> Packets:
    """The times of all packets.

    Raises MediaError failed:backend_refuses where only a decoder that reads in order and reports errors is right:
    packets without times or two with the same time, a truncated or damaged file, no key frame first, two video streams.
    """
    packets, time_base = read_packets(file, backend, observer)
    if not packets or not packets[0].is_keyframe:
        raise refusal(backend, "the first packet is no key frame")
    if any(packet.is_corrupt for packet in packets):
        raise refusal(backend, "packets are damaged")
    if any(packet.timestamp is None for packet in packets):
        raise refusal(backend, "the packets have no presentation times")
    shown = sorted((packet.timestamp or 0, packet.duration) for packet in packets if not packet.is_discarded)
    times = np.array([timestamp for timestamp, _ in shown], np.float64) * time_base
    if not len(times) or (np.diff(times) <= 0).any():
        raise refusal(backend, "two packets have the same presentation time, or none is shown")
    last_duration = shown[-1][1] * time_base or (1 / file.fps if file.fps else 0.0)
    scanned = Packets(times - times[0], last_duration, len(shown) < len(packets), has_leading_frames(packets))
    if is_truncated(file, scanned.seconds):
        raise refusal(
            backend, f"the file is truncated: its header says {file.seconds:.1f} s and it has {scanned.seconds:.1f} s"
        )
    return scanned


def read_packets(file: Probe, backend: str, observer: DecodeObserver) -> tuple[list[PacketHeader], float]:
    """The headers of all packets in the order of the file, and the seconds of a unit of their times.

    Raises MediaError failed:backend_refuses for two video streams and for errors of the file.
    """
    with open_container(file.path, observer.max_pixels) as container:
        stream = video_stream(container)
        if len(container.streams.video) > 1:
            raise refusal(
                backend, f"it may read another than the main one of {len(container.streams.video)} video streams"
            )
        packets: list[PacketHeader] = []
        try:
            for packet in container.demux(stream):
                observer.on_packet()
                if packet.size:  # the flush packet at the end is empty
                    timestamp = packet.dts if has_decoding_times_only(file) else packet.pts
                    flags = (packet.is_keyframe, packet.is_corrupt, packet.is_discard)
                    packets.append(PacketHeader(timestamp, packet.duration or 0, *flags))
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            raise refusal(backend, f"the file is truncated or damaged: {error.strerror}") from error
        return packets, float(stream.time_base or 1)


def has_decoding_times_only(file: Probe) -> bool:
    """Whether the container stores decoding times only (AVI).

    FFmpeg makes up presentation times for such packets, and they are wrong where XviD packs two frames in one packet.
    So the time of a frame is that of the packet that completed it.
    """
    return file.container == "avi"


def has_leading_frames(packets: list[PacketHeader]) -> bool:
    """Whether a packet is shown before the key frame that it is stored behind (an open group of pictures)."""
    key_time = None
    for packet in packets:
        key_time = packet.timestamp if packet.is_keyframe else key_time
        if packet.timestamp is not None and key_time is not None and packet.timestamp < key_time:
            return True
    return False


def is_truncated(file: Probe, seconds: float) -> bool:
    """Whether clearly less was read than the header of the file says.

    The frame count of an AVI is often wrong (FFmpeg corrects it from what is there), so there only missing bytes count.
    """
    if file.container == "avi":
        return is_truncated_avi(file.path)
    min_seconds, min_share = MIN_MISSING
    header_seconds = file.seconds or 0.0
    return header_seconds - seconds > max(min_seconds, min_share * header_seconds)


def refusal(backend: str, reason: str) -> MediaError:
    """The error of a backend that would return wrong frames of this file."""
    return MediaError(
        "failed:backend_refuses",
        f"The backend {backend} would be wrong on this file ({reason}). "
        "Backend pyav reads every file in order and is right here. Set backend=pyav.",
    )
