"""The presentation times of a file's packets, read without decoding: what the other backends are checked against.

In: a Probe. Out: the times, or a refusal by name. Knows nothing about pixels.
"""

from dataclasses import dataclass

import av.error
import numpy as np

from pipeline.media.probe import MediaError, Probe, open_container, video_stream
from pipeline.media.sniff import is_cut_avi

MIN_SHORTFALL = (0.5, 0.05)  # seconds, and share of the claim, that must be missing before a file counts as cut


Stamp = tuple[int | None, int, bool, bool, bool]  # of a packet: pts, duration, is it a key frame, corrupt, discarded


@dataclass(frozen=True)
class Packets:
    """times: float64 (N,) seconds since the first frame, increasing; last_duration: seconds of the frame shown last;
    is_trimmed: an edit list hides packets, which are not among the times; has_open_gops: frames shown before a key
    frame are stored behind it.
    """

    times: np.ndarray  # (N,)
    last_duration: float
    is_trimmed: bool
    has_open_gops: bool

    def until(self, index: int) -> float:
        """When the frame with this index is replaced by the next, or ends, in seconds since the first frame."""
        return float(self.times[index + 1]) if index + 1 < len(self.times) else self.seconds

    @property
    def seconds(self) -> float:
        """The length."""
        return float(self.times[-1]) + self.last_duration


def scan(file: Probe, backend: str) -> Packets:
    """Reads every packet's times. Errors: MediaError failed:backend_refuses where only a decoder that reads in order
    and reports errors can be trusted: no times, times twice, a cut or damaged file, no key frame first, two
    videos.
    """
    with open_container(file.path) as container:
        stream = video_stream(container)
        if len(container.streams.video) > 1:
            raise refuse(backend, f"it may take another than the main one of {len(container.streams.video)} videos")
        packets: list[Stamp] = []
        try:
            for packet in container.demux(stream):
                if packet.size:  # the flush at the end has none
                    flags = (packet.is_keyframe, packet.is_corrupt, packet.is_discard)
                    stamp = packet.dts if has_order_only(file) else packet.pts
                    packets.append((stamp, packet.duration or 0, *flags))
        except av.error.FFmpegError as error:
            raise refuse(backend, f"the file is cut or damaged: {error.strerror}") from error
        base = float(stream.time_base or 1)
    if not packets or not packets[0][2]:
        raise refuse(backend, "the first packet is no key frame")
    if any(is_corrupt for *_, is_corrupt, _ in packets):
        raise refuse(backend, "packets are damaged")
    if any(pts is None for pts, *_ in packets):
        raise refuse(backend, "the packets have no presentation times")
    kept = sorted((pts or 0, duration) for pts, duration, *_, is_discard in packets if not is_discard)
    stamps = np.array([pts for pts, _ in kept], np.float64) * base
    if not len(stamps) or (np.diff(stamps) <= 0).any():
        raise refuse(backend, "two packets have one presentation time, or none is shown")
    last = kept[-1][1] * base or (1 / file.fps if file.fps else 0.0)
    found = Packets(stamps - stamps[0], last, len(kept) < len(packets), has_leading_frames(packets))
    if is_cut(file, found.seconds):
        raise refuse(backend, f"the file is cut: it says {file.seconds:.1f} s and holds {found.seconds:.1f} s")
    return found


def has_order_only(file: Probe) -> bool:
    """Whether the container stores decoding times only (AVI). The presentation times that FFmpeg makes up for its
    packets are wrong where XviD packs two frames in one; a frame's time is that of the packet that completed it.
    """
    return file.container == "avi"


def has_leading_frames(packets: list[Stamp]) -> bool:
    """Whether any packet is shown before the key frame that it is stored behind (an open group of pictures)."""
    key = None
    for pts, _, is_keyframe, *_ in packets:
        key = pts if is_keyframe else key
        if pts is not None and key is not None and pts < key:
            return True
    return False


def is_cut(file: Probe, seconds: float) -> bool:
    """Whether clearly less was found than the file claims. An AVI's frame count is often wrong (FFmpeg corrects it
    from what is there), so only its missing bytes count.
    """
    if file.container == "avi":
        return is_cut_avi(file.path)
    least, share = MIN_SHORTFALL
    claimed = file.seconds or 0.0
    return claimed - seconds > max(least, share * claimed)


def refuse(backend: str, why: str) -> MediaError:
    """The error of a backend that would be wrong on this file."""
    return MediaError(
        "failed:backend_refuses",
        f"The backend {backend} would be wrong on this file ({why}). "
        "Backend pyav reads every file in order and is right here. Set backend=pyav.",
    )
