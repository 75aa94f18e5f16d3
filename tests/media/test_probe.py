"""Probing: what a good file says, and the status and the sentence of every kind of bad file."""

import os
import pickle
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_videos import barcode, make_sound, make_video

from pipeline.media.clock import Clock
from pipeline.media.decode import Backend, decode
from pipeline.media.probe import probe
from pipeline.media.sniff import MediaError, sniff
from pipeline.media.transform import Transform


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("media") / "video.mp4", 60)


def decoded(path: Path, backend: Backend = "pyav") -> np.ndarray:
    """All looks, (T, 32, 32, 3)."""
    return np.concatenate([c.frames for c in decode(path, clock=Clock(12), transform=Transform(32), backend=backend)])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
CONTENTS: dict[str, tuple[bytes, str, str]] = {
    "zero bytes": (b"", "failed:not_a_video", r"The file is empty \(0 bytes\)"),
    "one byte": (b"\0", "failed:not_a_video", "does not begin like any known video format"),
    "text": (b"hello\n" * 100, "failed:not_a_video", "The file is text"),
    "random": (
        np.random.default_rng(0).bytes(200_000),
        "failed:not_a_video",
        "does not begin like any known video format",
    ),
    "jpeg": (JPEG, "failed:not_a_video", "The file is an image"),
    "gif": (b"GIF89a" + bytes(50), "failed:not_a_video", "The file is an image"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(50), "failed:not_a_video", "The file is an image"),
    "hls": (
        b"\xef\xbb\xbf#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        "failed:playlist_refused",
        "a text that names other files",
    ),
    "concat": (
        b"ffconcat version 1.0\nfile a.mp4\n",
        "failed:playlist_refused",
        "Give the files that the playlist names",
    ),
    "sdp": (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", "failed:playlist_refused", "playlist"),
    "dash": (b'<?xml version="1.0"?>\n<MPD></MPD>', "failed:playlist_refused", "playlist"),
    "no moov": (
        b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x20mdat" + bytes(24),
        "failed:truncated_header",
        "index .* is missing",
    ),
    "mkv header": (b"\x1a\x45\xdf\xa3" + bytes(100), "failed:corrupt", "header of the file cannot be read"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_bad_content_has_its_status_and_sentence(tmp_path: Path, name: str) -> None:
    content, status, sentence = CONTENTS[name]
    with pytest.raises(MediaError, match=sentence) as caught:
        probe(write(tmp_path / "video.mp4", content))
    assert caught.value.status == status
    assert str(caught.value).count(". ") >= 2


def test_errors_can_be_pickled(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        probe(write(tmp_path / "a.mp4", b""))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.status, str(copy)) == (caught.value.status, str(caught.value))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name, kind in (("pipe.mp4", "pipe"), ("folder.mp4", "folder")):
        with pytest.raises(MediaError, match=f"This is a {kind}, not a file") as caught:
            probe(tmp_path / name)
        assert caught.value.status == "failed:not_regular_file"
    with pytest.raises(MediaError, match="This is a device, not a file"):
        probe("/dev/zero")
    with pytest.raises(MediaError, match=r"The file cannot be read .*No such file") as caught:
        probe(tmp_path / "missing.mp4")
    assert caught.value.status == "failed:unreadable"
    with pytest.raises(MediaError, match="The file cannot be read"):
        probe("a\0b.mp4")


def test_sound_and_cover_art_are_no_video(tmp_path: Path) -> None:
    sounds = [make_sound(tmp_path / "a.mp3", "libmp3lame"), make_sound(tmp_path / "a.m4a", "aac")]
    for path in [*sounds, make_sound(tmp_path / "cover.mp3", "libmp3lame", barcode(1))]:
        with pytest.raises(MediaError, match="The file has no video stream") as caught:
            probe(path)
        assert caught.value.status == "failed:no_video_stream"


def test_unknown_codecs_and_files_without_a_whole_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", 10, "mpeg4")
    data = path.read_bytes()
    with pytest.raises(MediaError, match="There is no decoder for this video's codec") as caught:
        probe(write(path, data.replace(b"FMP4", b"ZZZZ")))
    assert caught.value.status == "failed:unsupported_codec"
    mp4 = bytearray(make_video(tmp_path / "a.mp4", container={"movflags": "faststart"}).read_bytes())
    start = mp4.index(b"mdat") + 4
    mp4[start:] = bytes(len(mp4) - start)
    with pytest.raises(MediaError, match="No frame could be decoded") as caught:
        decoded(write(tmp_path / "zero.mp4", bytes(mp4)))
    assert caught.value.status == "failed:corrupt"


@pytest.mark.parametrize("name", ["-dash.mp4", "line\nbreak.mp4", "%03d.mp4", "http:x.mp4", "ünï.mp4", "plain"])
def test_any_file_name_can_be_decoded(video: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(name), video.read_bytes())
    for backend in ("pyav", "opencv", "decord"):
        assert np.array_equal(decoded(Path(name), backend), decoded(video))


def test_a_file_is_probed_once_until_it_changes(video: Path, tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", frames=10)
    assert probe(path) is probe(path) and probe(path).num_frames == 10
    assert probe(write(path, video.read_bytes())).num_frames == 60
    with pytest.raises(MediaError):
        probe(write(path, b"no video at all"))


def test_the_probe_of_a_made_video(video: Path) -> None:
    probed = probe(video)
    assert (probed.codec, probed.width, probed.height, probed.rotation, probed.aspect) == ("h264", 128, 96, 0, 1.0)
    assert probed.fps == 30
    assert probed.seconds == pytest.approx(2)
    assert probed.num_frames == 60
    assert probed.bit_depth == 8
    assert "mp4" in probed.container
    assert not probed.has_audio
    assert not probed.is_interlaced
    assert probed.warnings == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mpg", "wmv", "flv", "webm", "m2v", "h264", "nut"])
def test_real_containers_pass_the_sniffer_as_what_they_are(tmp_path: Path, suffix: str) -> None:
    codec = {"webm": "libvpx", "wmv": "wmv2", "mpg": "mpeg1video", "m2v": "mpeg2video", "flv": "flv"}.get(
        suffix, "mpeg4"
    )
    path = make_video(tmp_path / f"a.{suffix}", 10, "libx264" if suffix == "h264" else codec)
    with av.open(str(path)) as file:
        assert set(file.format.name.split(",")) <= set(sniff(path).split(","))
