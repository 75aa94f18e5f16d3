"""The properties of a video file, read before it is decoded.

In: a path. Out: a Probe, or a MediaError with its status. It checks the first bytes, opens the file with a whitelist of
formats and of protocols (files only), and reads the header and one frame. Knows nothing about clocks or networks.
"""

import math
import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import av.error
import av.logging
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.media.clip import LARGE_PIXELS, MAX_PIXELS, NO_OBSERVER, DecodeObserver
from pipeline.media.sniff import MediaError, mp4_boxes, sniff

__all__ = ["MediaError", "Probe", "first_frame", "open_container", "probe", "video_stream"]

PROBE_PACKETS = 300  # how many packets are read to find the first frame
HDR_TRANSFERS = (16, 18)  # PQ and HLG, ITU-T H.273


@dataclass(frozen=True)
class Probe:
    """What the header and the first frame of a video file say.

    container, codec: FFmpeg's names. width, height: pixels as displayed (upright, square pixels). rotation: degrees
    clockwise to apply to a stored frame (0, 90, 180, 270). aspect: width / height of one stored pixel. fps: average
    frames a second. seconds, num_frames: from the header, None where it does not say. bit_depth: bits of one colour
    channel. warnings: "code: sentence".
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    aspect: float
    fps: float | None
    seconds: float | None
    num_frames: int | None
    has_audio: bool
    is_interlaced: bool
    bit_depth: int
    has_b_frames: bool
    warnings: tuple[str, ...] = ()

    def has_warning(self, code: str) -> bool:
        """Whether there is a warning with this code."""
        return any(warning.startswith(f"{code}: ") for warning in self.warnings)


def probe(path: str | os.PathLike[str], observer: DecodeObserver = NO_OBSERVER) -> Probe:
    """Reads the header and the first frame. A file that has not changed is read once: a training probes it three times.

    The observer gives the most pixels of a picture, and is asked before a large one is decoded.

    Raises MediaError failed:unreadable, failed:not_regular_file, failed:not_a_video, failed:playlist_refused,
    failed:truncated_header, failed:corrupt, failed:no_video_stream, failed:unsupported_codec or failed:too_large.
    """
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return _probe(os.fspath(path), observer)
    return _cached_probe(os.fspath(path), observer, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 14)
def _cached_probe(path: str, observer: DecodeObserver, *identity: int) -> Probe:
    return _probe(path, observer)


def _probe(path: str, observer: DecodeObserver) -> Probe:
    limit = min(LARGE_PIXELS, observer.max_pixels)
    with open_container(path, limit) as container:
        if 0 < num_pixels(video_stream(container)) <= limit:  # 0: a decoder refused it, or the header does not say
            return _describe_first(path, container, observer)
    with open_container(path, is_decoded=False) as container:
        pixels = check_size(video_stream(container), observer.max_pixels)
    if pixels > LARGE_PIXELS:
        observer.on_large()
    with open_container(path, observer.max_pixels) as container:
        return _describe_first(path, container, observer)


def _describe_first(path: str, container: InputContainer, observer: DecodeObserver) -> Probe:
    stream = video_stream(container)
    limit_pictures(stream, observer.max_pixels)
    return describe(path, container, stream, first_frame(container, stream))


def num_pixels(stream: VideoStream) -> int:
    """The pixels of a picture, from the header; 0 where it does not say."""
    return stream.codec_context.width * stream.codec_context.height


def check_size(stream: VideoStream, max_pixels: int) -> int:
    """The pixels of a picture, from the header. Raises MediaError failed:too_large for more than max_pixels."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if num_pixels(stream) > max_pixels:
        raise MediaError(
            "failed:too_large",
            f"A picture of this video has {width}x{height} pixels, {width * height / 1e6:.0f} million. The limit is "
            f"{max_pixels / 1e6:g} million. Make the video smaller (ffmpeg -i FILE -vf scale=1920:-2 SMALL.mp4).",
        )
    return num_pixels(stream)


def limit_pictures(stream: VideoStream, max_pixels: int) -> None:
    """Let the decoder refuse every larger picture, as after a change of the size. Call it before it decodes."""
    stream.codec_context.options = {"max_pixels": str(max_pixels)}


def open_container(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, *, is_decoded: bool = True
) -> InputContainer:
    """Opens a file by the demuxers that its first bytes allow, and by the file protocol alone.

    FFmpeg decodes pictures while it opens a file; it does not decode one of more than max_pixels. Without is_decoded it
    decodes nothing, so that the container alone says how large a picture is.

    Raises MediaError as `probe` does.
    """
    demuxers = sniff(path)
    av.logging.set_level(av.logging.PANIC)
    whitelists = {"format_whitelist": demuxers, "protocol_whitelist": "file"}
    if not is_decoded:
        whitelists["codec_whitelist"] = "none"
    options = {"max_pixels": str(max_pixels)}
    try:
        # An absolute path has no protocol and no leading dash, whatever the name.
        return av.open(
            os.path.abspath(path), "r", options=options, container_options=whitelists, metadata_errors="replace"
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if demuxers.startswith("mov") and mp4_boxes(path).get("moov") != 0:
            raise MediaError(
                "failed:truncated_header",
                "The index of this MP4 is missing (no whole moov box), so its frames cannot be found. "
                "A complete MP4 has one. The upload or the recording was interrupted: copy the file again.",
            ) from error
        raise MediaError(
            "failed:corrupt",
            f"The header of the file cannot be read ({getattr(error, 'strerror', None) or type(error).__name__}). "
            "A video's header describes its streams. Copy the file again or leave it out.",
        ) from error


def video_stream(container: InputContainer) -> VideoStream:
    """The main video stream; cover art does not count.

    Raises MediaError failed:no_video_stream or failed:unsupported_codec.
    """
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        kinds = sorted({"a cover" if stream.type == "video" else stream.type for stream in container.streams})
        others = ", ".join(kinds) or "nothing"
        raise MediaError(
            "failed:no_video_stream",
            f"The file has no video stream (it has {others}). A video has one; cover art does not count. "
            "Leave the file out.",
        )
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError(
            "failed:unsupported_codec",
            f"There is no decoder for this video's codec (stream {stream.index} of {container.format.name}). "
            "Common codecs are H.264, HEVC, VP9, AV1 and MPEG-4. Convert the video to one of them.",
        )
    return stream


def first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    """The first frame that can be decoded, None where the first packets contain none."""
    stream.codec_context.thread_count = 1
    try:
        for count, packet in enumerate(container.demux(stream)):
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except av.error.FFmpegError:
                frames = []
            if frames or count >= PROBE_PACKETS:
                return frames[0] if frames else None
    except MemoryError:
        raise
    except av.error.FFmpegError:
        pass
    return None


def describe(path: str, container: InputContainer, stream: VideoStream, frame: VideoFrame | None) -> Probe:
    """The Probe of an opened file."""
    context = stream.codec_context
    stored_width, stored_height = (frame.width, frame.height) if frame else (context.width, context.height)
    rotation, is_mirrored = orientation(frame) if frame else (0, False)
    aspect = pixel_aspect(stream)
    width, height = max(1, round(stored_width * aspect)), stored_height
    if rotation % 180:
        width, height = height, width
    bit_depth = max((part.bits for part in context.format.components), default=8) if context.format else 8
    is_interlaced = frame is not None and frame.interlaced_frame
    is_hdr = frame is not None and frame.color_trc in HDR_TRANSFERS
    seconds = header_seconds(container, stream)
    warnings = []
    if is_interlaced:
        warnings.append("interlaced: The frames are interlaced; they are shown as stored, with comb artefacts.")
    if bit_depth > 8 or is_hdr:
        warnings.append(f"ten_bit: The video has {bit_depth} bits a colour{', HDR' if is_hdr else ''}; 8 are used.")
    if is_mirrored:
        warnings.append("mirrored: The file is to be shown mirrored; it is rotated upright but not mirrored.")
    return Probe(
        path=path,
        container=container.format.name,
        codec=context.codec.canonical_name,
        width=width,
        height=height,
        rotation=rotation,
        aspect=aspect,
        fps=frame_rate(stream, has_duration=seconds is not None),
        seconds=seconds,
        num_frames=stream.frames or None,
        has_audio=bool(container.streams.audio),
        is_interlaced=is_interlaced,
        bit_depth=bit_depth,
        has_b_frames=bool(context.has_b_frames),
        warnings=tuple(warnings),
    )


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """From the display matrix: (degrees clockwise to rotate a stored frame, a multiple of 90; whether to mirror it)."""
    side_data: Any = frame.side_data  # a mapping by name; PyAV's stubs know one name only
    if frame.rotation == 0 and "DISPLAYMATRIX" not in {data.type.name for data in side_data}:
        return 0, False
    a, b, _, c, d = struct.unpack("=5i", bytes(side_data["DISPLAYMATRIX"])[:20])
    is_mirrored = a * d - b * c < 0
    angle = math.degrees(math.atan2(b, -a if is_mirrored else a))
    return round(angle / 90) * 90 % 360, is_mirrored


def pixel_aspect(stream: VideoStream) -> float:
    """Width / height of one stored pixel; 1.0 where the file has no value or one outside 0.1 to 10."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 <= aspect <= 10 else 1.0


def frame_rate(stream: VideoStream, has_duration: bool) -> float | None:
    """Average frames a second. A stream without a duration (a raw one) has only the codec's guess."""
    rates = (stream.average_rate, stream.guessed_rate)
    rate = next((rate for rate in (rates if has_duration else rates[::-1]) if rate), None)
    return float(rate) if rate else None


def header_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """The length in the header, None where it has none.

    The edit list of an MP4 shortens the length, so the smallest value counts.
    """
    lengths = []
    if stream.duration and stream.time_base:
        lengths.append(float(stream.duration * stream.time_base))
    elif "DURATION" in stream.metadata:  # Matroska: hours:minutes:seconds
        try:
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            lengths.append(int(hours) * 3600 + int(minutes) * 60 + float(seconds))
        except ValueError:
            pass
    if container.duration and not (lengths and container.streams.audio and "mov" not in container.format.name):
        lengths.append(container.duration / av.time_base)
    return min(lengths, default=None)
