"""Looks at the first bytes of a file, before any library may interpret it. In: a path. Out: the demuxers that may
open it.

Only real containers pass; text that names other files (playlists) is refused by its content. Knows nothing about
codecs.
"""

import os
import re
import stat
from pathlib import Path

HEAD_BYTES = 4096
MAX_BOXES = 10_000  # a fragmented MP4 has two a fragment; a hostile one a million


class MediaError(ValueError):
    """A file that cannot be watched. status: "failed:<reason>" for the results; str(error): the sentence for
    people.
    """

    def __init__(self, status: str, sentence: str) -> None:
        super().__init__(status, sentence)  # both, so that it crosses process borders (pickle)
        self.status = status
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


PLAYLIST = re.compile(
    rb"#EXTM3U|#EXT-X-|ffconcat |\[playlist\]|<(asx|smil|MPD|SmoothStreamingMedia)\b|v=0\r?\no=|(rtsp|https?|file|concat)://?",
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
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp", b"sidx", b"uuid", b"pnot")
START_CODES = "mpeg,mpegvideo,m4v,h264,hevc,vvc,cavsvideo,vc1"  # MPEG program and elementary streams begin alike
AUDIO = "mp3,flac,wav,w64,aac,ac3,eac3,aiff,caf,amr,ape,wv,au"  # opened only to say that there is no picture in them
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

    Errors: MediaError failed:unreadable, failed:not_regular_file, failed:playlist_refused, failed:not_a_video.
    """
    head = read_head(path)
    if not head:
        raise not_a_video("The file is empty (0 bytes).")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if is_text(head) and (PLAYLIST.match(text) or b"<MPD" in head):
        raise MediaError(
            "failed:playlist_refused",
            f"The file is a playlist, a text that names other files ({text[:24]!r}). "
            "A video holds its own pictures. Give the files that it names.",
        )
    demuxers = container_of(head)
    if demuxers:
        return demuxers
    if head.startswith(IMAGES) or head[8:12] == b"WEBP" or head[8:12] in IMAGE_BRANDS:
        raise not_a_video(f"The file is a picture ({head[:12]!r}).")
    if is_text(head):
        raise not_a_video(f"The file is text ({text[:24]!r}).")
    raise not_a_video(f"The file does not begin like any video ({head[:12]!r}).")


def read_head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a regular file. Errors: MediaError failed:unreadable, failed:not_regular_file."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise MediaError(
                "failed:not_regular_file",
                f"This is a {kind_of(mode)}, not a file ({Path(path).name!r}). A video is a regular file. Give a file.",
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


def kind_of(mode: int) -> str:
    """The name of what a stat mode describes."""
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device"}
    return kinds.get(stat.S_IFMT(mode), "special file")


def not_a_video(what: str) -> MediaError:
    """The error for content that no container begins with."""
    return MediaError(
        "failed:not_a_video",
        f"{what} A video begins with the header of its container (MP4, MKV, AVI, ...). Copy the file again or leave it out.",
    )


def is_text(head: bytes) -> bool:
    """Whether the bytes are printable: no control bytes but white space."""
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", head)


def container_of(head: bytes) -> str | None:
    """The demuxers for these first bytes, None when they are no container's."""
    if head[4:8] in MP4_BOXES and head[8:12] not in IMAGE_BRANDS:
        return "mov,mp4,m4a,3gp,3g2,mj2"
    for offset, magic, demuxers in CONTAINERS:
        if head[offset : offset + len(magic)] == magic:
            return demuxers
    return "mpegts" if is_transport_stream(head) else None


def is_transport_stream(head: bytes) -> bool:
    """Whether the sync byte 0x47 comes back at a packet's distance, from any start within the first packet."""
    for size in (188, 192, 204):
        for start in range(size):
            syncs = head[start::size]
            if len(syncs) >= 2 and syncs == b"\x47" * len(syncs) and (len(syncs) >= 5 or start == 0):
                return True
    return False


def boxes(path: str | os.PathLike[str]) -> dict[str, int]:
    """The top-level boxes of an MP4: name -> how many of their bytes are missing behind the end of the file."""
    found: dict[str, int] = {}
    end = os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        for _ in range(MAX_BOXES):
            if at + 8 > end:
                break
            file.seek(at)
            header = file.read(16)
            size, name = int.from_bytes(header[:4], "big"), header[4:8].decode("latin-1")
            if size == 1:
                size = int.from_bytes(header[8:16], "big")
            size = end - at if size == 0 else size
            if size < 8:
                break
            at += size
            found[name] = max(found.get(name, 0), at - end, 0)
    return found


def is_cut_avi(path: str | os.PathLike[str]) -> bool:
    """Whether clearly more bytes are missing than a careless writer gets wrong in the size of its RIFF header."""
    claimed = int.from_bytes(read_head(path)[4:8], "little") + 8
    return os.path.getsize(path) < 0.98 * claimed
