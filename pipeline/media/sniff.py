"""Checks the first bytes of a file before any library interprets it.

In: a path. Out: the demuxers that may open the file. Only containers of video and audio pass. A text that names other
files (a playlist) is refused by its content. Knows nothing about codecs.
"""

import os
import re
import stat
from pathlib import Path

from pipeline.media.search import frame_folder, frame_folders_sentence

HEAD_BYTES = 4096
MAX_BOXES = 10_000  # a fragmented MP4 has two a fragment; a hostile one a million


class MediaError(ValueError):
    """A file that cannot be read as a video.

    status: "failed:<reason>" for the results. str(error): the sentence for people.
    """

    def __init__(self, status: str, sentence: str) -> None:
        super().__init__(status, sentence)  # both, so that it can be pickled
        self.status = status
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


PLAYLIST = re.compile(
    rb"#EXTM3U|#EXT-X-|ffconcat |\[playlist\]|<(asx|smil|MPD|SmoothStreamingMedia)\b|v=0\r?\no=|"
    rb"(rtsp|https?|file|concat)://?",
    re.IGNORECASE,
)
IMAGES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\1\0\1",
    b"8BPS",
    b"\0\0\0\x0cjP  ",
)
IMAGE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")
APPLE_DOUBLE = b"\x00\x05\x16\x07"  # "._x.mp4": what macOS keeps beside x.mp4 on disks of other systems
MP4_TYPES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"uuid", b"pnot")
START_CODES = "mpeg,mpegvideo,m4v,h264,hevc,vvc,cavsvideo,vc1"  # MPEG program and elementary streams begin alike
AUDIO = "mp3,flac,wav,w64,aac,ac3,eac3,aiff,caf,amr,ape,wv,au"  # opened only to report that there is no video stream
CONTAINERS: tuple[tuple[int, bytes, str], ...] = (  # (offset, the bytes there, libavformat's demuxers)
    (0, b"\x1a\x45\xdf\xa3", "matroska,webm"),
    (8, b"AVI", "avi"),
    (0, b"FLV", "flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"OggS", "ogg"),
    (0, b"\0\0\1", START_CODES),
    (0, b"\0\0\0\1", START_CODES),
    (0, b"DKIF", "ivf"),
    (0, b"nut/multimedia container", "nut"),
    (0, b"\x06\x0e\x2b\x34", "mxf"),
    (0, b"\x1f\x07\0", "dv"),
    (0, b".RMF", "rm"),
    (0, b"YUV4MPEG2", "yuv4mpegpipe"),
    (0, b"\x12\0\x0a", "obu"),
    (8, b"WAVE", AUDIO),
    (0, b"ID3", AUDIO),
    (0, b"fLaC", AUDIO),
    (0, b"FORM", AUDIO),
    (0, b"caff", AUDIO),
    (0, b"#!AMR", AUDIO),
    (0, b"\xff\xfb", AUDIO),
    (0, b"\xff\xf3", AUDIO),
    (0, b"\xff\xf1", AUDIO),
    (0, b"\xff\xf9", AUDIO),
    (0, b"\x0b\x77", AUDIO),
)


def sniff(path: str | os.PathLike[str]) -> str:
    """The demuxers (libavformat's names, comma-separated) that may open the file.

    Raises MediaError failed:unreadable, failed:not_regular_file, failed:playlist_refused or failed:not_a_video.
    """
    head = read_head(path)
    if not head:
        raise not_a_video("The file is empty (0 bytes).")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if is_text(head) and (PLAYLIST.match(text) or b"<MPD" in head):
        raise MediaError(
            "failed:playlist_refused",
            f"The file is a playlist, a text that names other files ({text[:24]!r}). "
            "A video file contains its frames. Give the files that the playlist names.",
        )
    demuxers = find_demuxers(head)
    if demuxers:
        return demuxers
    if head.startswith(IMAGES) or head[8:12] == b"WEBP" or head[8:12] in IMAGE_BRANDS:
        is_animation = head.startswith((b"GIF8", b"\x89PNG")) or head[8:12] == b"WEBP"
        raise MediaError(
            "failed:not_a_video",
            f"The file is an image ({head[:12]!r}). A video is needed. "
            + ("If it is an animation, make a video of it (ffmpeg -i a.gif a.mp4). " if is_animation else "")
            + "Of images that are the frames of a clip, make one (ffmpeg -i %03d.jpg clip.mp4). Else leave it out.",
        )
    if head.startswith(APPLE_DOUBLE):
        raise not_a_video("The file is an AppleDouble file of macOS: notes about a file beside it, and no video.")
    if is_text(head):
        raise not_a_video(f"The file is text ({text[:24]!r}).")
    raise not_a_video(f"The file does not begin like any known video format ({head[:12]!r}).")


def read_head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a regular file. Raises MediaError failed:unreadable or failed:not_regular_file."""
    try:
        mode = os.stat(path).st_mode
        frames = frame_folder(path) if stat.S_ISDIR(mode) else None
        if frames:
            raise MediaError("failed:not_regular_file", frame_folders_sentence([frames]))
        if not stat.S_ISREG(mode):
            raise MediaError(
                "failed:not_regular_file",
                f"This is a {file_type(mode)}, not a file ({Path(path).name!r}). A video is a regular file. "
                "Give a file.",
            )
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        if isinstance(error, MediaError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise MediaError(
            "failed:unreadable",
            f"The file cannot be read ({Path(path).name!r}: {reason}). "
            "It must exist and be readable. Check its name and its permissions.",
        ) from error


def file_type(mode: int) -> str:
    """The type of a file, from its stat mode."""
    types = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device"}
    return types.get(stat.S_IFMT(mode), "special file")


def not_a_video(problem: str) -> MediaError:
    """The error for content that does not begin like any container. problem: a sentence."""
    return MediaError(
        "failed:not_a_video",
        f"{problem} A video begins with the header of its container (MP4, MKV, AVI, ...). "
        "Copy the file again or leave it out.",
    )


def is_text(head: bytes) -> bool:
    """Whether the bytes have no control characters except white space."""
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", head)


def find_demuxers(head: bytes) -> str | None:
    """The demuxers for these first bytes, None where they belong to no known container."""
    if head[4:8] in MP4_TYPES and head[8:12] not in IMAGE_BRANDS:
        return "mov,mp4,m4a,3gp,3g2,mj2"
    for offset, magic, demuxers in CONTAINERS:
        if head[offset : offset + len(magic)] == magic:
            return demuxers
    return "mpegts" if is_transport_stream(head) else None


def is_transport_stream(head: bytes) -> bool:
    """Whether the sync byte 0x47 repeats at the distance of a packet, from any start within the first packet."""
    for size in (188, 192, 204):
        for start in range(size):
            syncs = head[start::size]
            if len(syncs) >= 2 and syncs == b"\x47" * len(syncs) and (len(syncs) >= 5 or start == 0):
                return True
    return False


def mp4_boxes(path: str | os.PathLike[str]) -> dict[str, int]:
    """The top-level boxes of an MP4: type -> how many of their bytes are missing at the end of the file."""
    missing: dict[str, int] = {}
    end = os.path.getsize(path)
    with open(path, "rb") as file:
        position = 0
        for _ in range(MAX_BOXES):
            if position + 8 > end:
                break
            file.seek(position)
            header = file.read(16)
            size, box_type = int.from_bytes(header[:4], "big"), header[4:8].decode("latin-1")
            if size == 1:
                size = int.from_bytes(header[8:16], "big")
            size = end - position if size == 0 else size
            if size < 8:
                break
            position += size
            missing[box_type] = max(missing.get(box_type, 0), position - end, 0)
    return missing


def is_truncated_avi(path: str | os.PathLike[str]) -> bool:
    """Whether more than 2 % of the bytes in the size of the RIFF header are missing: some encoders write it wrongly."""
    size = int.from_bytes(read_head(path)[4:8], "little") + 8
    return os.path.getsize(path) < 0.98 * size
