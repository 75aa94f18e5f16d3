"""Truths about the clock, windows, transforms and probing; and a test for every sentence about a bad file."""

import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_videos import barcode, make_sound, make_video, number_of

from pipeline.media.clip import Notes
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.probe import MediaError, probe
from pipeline.media.sniff import sniff
from pipeline.media.transform import Transform

# ---- the clock


def brute_force(times: list[float], last: float, rate: float) -> list[tuple[float, int]]:
    """At every look the last frame that has begun, by looking at all of them."""
    begun = [time - times[0] for time in times]
    looks = [k / rate for k in range(10_000) if k == 0 or k / rate < begun[-1] + last - 1e-6]
    return [(look, max(i for i, time in enumerate(begun) if time <= look + 1e-6)) for look in looks]


@pytest.mark.parametrize("seed", range(20))
def test_follow_is_brute_force_on_random_times(seed: int) -> None:
    random = np.random.default_rng(seed)
    gaps = random.choice([1e-3, 1 / 60, 1 / 30, 0.25, 1.7], size=random.integers(1, 60))
    times = (random.uniform(-5, 5) + np.cumsum(gaps)).tolist()
    rate, last = float(random.choice([0.3, 1, 4, 7.3, 30])), float(random.choice([0.0, 1 / 30, 2.0]))
    pairs = list(Clock(rate).follow(((time, i) for i, time in enumerate(times)), last))
    assert pairs == brute_force(times, last, rate)
    assert [look for look, _ in pairs] == Clock(rate).look_times(times[-1] - times[0] + last).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_has_look_is_what_follow_shows(seed: int) -> None:
    random = np.random.default_rng(seed)
    times = [0.0, *np.cumsum(random.choice([1e-3, 1 / 30, 0.25], size=50)).tolist()]
    shown = {frame for _, frame in Clock(4).follow(((time, i) for i, time in enumerate(times)), 0.5)}
    ends = [*times[1:], times[-1] + 0.5]
    assert shown == {i for i, (start, end) in enumerate(zip(times, ends, strict=True)) if Clock(4).has_look(start, end)}


def test_one_frame_gives_one_look_and_none_gives_none() -> None:
    assert list(Clock(4).follow([(7.0, "a")], 0.0)) == [(0.0, "a")]
    assert list(Clock(4).follow([], 1.0)) == []
    assert Clock(4).look_times(0).tolist() == [0.0]
    assert Clock(4).look_times(0.5).tolist() == [0.0, 0.25]


def test_frames_on_the_look_are_shown_at_it_despite_rounding() -> None:
    times = [float(np.float32(k) / np.float32(10)) for k in range(30)]  # float32 stamps, off by up to 1e-7
    assert [frame for _, frame in Clock(10).follow(((t, i) for i, t in enumerate(times)), 0.1)] == list(range(30))


def test_follow_holds_one_frame() -> None:
    class Frame:
        pass

    alive: weakref.WeakSet[Frame] = weakref.WeakSet()

    def frames() -> Iterator[tuple[float, Frame]]:
        for index in range(1000):
            frame = Frame()
            alive.add(frame)
            yield index / 30, frame
            del frame

    most = 0
    for _ in Clock(4).follow(frames(), 1 / 30):
        most = max(most, len(alive))
    assert most <= 2  # the one shown and the one that just came


def test_a_clock_needs_a_rate() -> None:
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"rate that no video can be watched at .* Set for example rate=4"):
            Clock(rate)


# ---- windows, starts and stops


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("media") / "video.mp4", 60)


def looks(path: Path, rate: float = 12, size: int = 32, **settings) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    clips = list(decode(path, clock=Clock(rate), transform=Transform(size), **settings))
    assert all(0 < len(clip.times) == len(clip.frames) <= settings.get("window", 64) for clip in clips)
    frames = [np.zeros((0, size, size, 3), np.uint8), *(clip.frames for clip in clips)]
    times = [np.zeros(0), *(clip.times for clip in clips)]
    return np.concatenate(frames), np.concatenate(times), clips[-1].warnings if clips else ()


@pytest.mark.parametrize("backend", ["pyav", "opencv", "decord"])
@pytest.mark.parametrize("window", [1, 5, 12, 24])
def test_windows_are_the_whole(video: Path, window: int, backend: str) -> None:
    whole, times, _ = looks(video, window=1000, backend=backend)
    frames, split, _ = looks(video, window=window, backend=backend)
    assert np.array_equal(frames, whole)
    assert np.array_equal(split, times)
    assert len(times) == 24


@pytest.mark.parametrize("backend", ["pyav", "opencv", "decord"])
@pytest.mark.parametrize(
    ("start", "stop"), [(0.0, 1.0), (0.5, None), (0.51, 1.3), (1.99, 5.0), (0.26, 0.3), (9.0, None)]
)
def test_ranges_are_slices_of_the_whole(video: Path, start: float, stop: float | None, backend: str) -> None:
    whole, times, _ = looks(video)
    frames, part, _ = looks(video, start_seconds=start, stop_seconds=stop, window=4, backend=backend)
    wanted = (times >= start) & (times < (stop or 1e9))
    assert np.array_equal(part, times[wanted])
    assert np.array_equal(frames, whole[wanted])


def test_the_limit_on_seconds_is_said_only_when_it_cuts(video: Path) -> None:
    _, times, warnings = looks(video, max_seconds=1.0)
    assert times[-1] < 1
    assert warnings == ("max_seconds: Only the first 1 seconds were watched, the limit.",)
    assert looks(video, max_seconds=10.0)[2] == ()
    assert looks(video, max_seconds=2.0, stop_seconds=1.0)[2] == ()


def test_more_looks_than_frames_repeat_frames(video: Path) -> None:
    frames, _, _ = looks(video, rate=120, size=64)
    assert len(frames) == 240
    assert [number_of(frame) for frame in frames] == [k // 4 for k in range(240)]


def test_threads_change_nothing(video: Path) -> None:
    assert np.array_equal(looks(video)[0], looks(video, thread_count=2)[0])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"backend": "vlc"}, "This backend is not known"),
        ({"window": 0}, "A window cannot be empty"),
        ({"start_seconds": -1.0}, "The start is not in the video"),
        ({"start_seconds": 2.0, "stop_seconds": 1.0}, "The range stops before it starts"),
        ({"max_seconds": 0.0}, "No video may be watched"),
    ],
)
def test_wrong_arguments_are_sentences(video: Path, settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        decode(video, clock=Clock(4), transform=None, **settings)


def test_media_needs_no_network_library() -> None:
    code = "import sys, pipeline.media.decode, pipeline.media.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- warnings


def codes(path: Path, **settings) -> list[str]:
    return [warning.split(":")[0] for warning in looks(path, **settings)[2]]


def test_short_videos_are_fine_with_a_warning(tmp_path: Path) -> None:
    for count in (1, 2):
        path = make_video(tmp_path / f"{count}.mp4", count)
        assert codes(path, rate=4) == ["short_video"]
        assert len(looks(path, rate=4)[1]) == 1
    assert codes(make_video(tmp_path / "5.mp4", 5), rate=4) == ["short_video"]  # 0.17 s, less than a look
    assert codes(make_video(tmp_path / "10.mp4", 10), rate=4) == []


def test_ten_bits_and_interlacing_are_said(tmp_path: Path) -> None:
    assert codes(make_video(tmp_path / "ten.mkv", codec="ffv1", pixels="yuv420p10le")) == ["ten_bit"]
    assert codes(make_video(tmp_path / "tv.mp4", options={"x264-params": "interlaced=1"})) == ["interlaced"]
    assert codes(make_video(tmp_path / "raw.h264")) == ["no_timestamps"]


def test_a_size_change_in_mid_stream_is_rescaled(tmp_path: Path) -> None:
    small, large = make_video(tmp_path / "1.m2v", 20, "mpeg2video"), tmp_path / "2.m2v"
    make_video(large, [barcode(n, 256, 192) for n in range(20, 40)], "mpeg2video")
    path = tmp_path / "both.m2v"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    clips = list(decode(path, clock=Clock(30), transform=None))
    numbers = [number_of(frame) for clip in clips for frame in clip.frames]
    assert clips[0].frames.shape[1:] == (96, 128, 3)
    assert {5, 35} <= set(numbers)
    assert numbers == sorted(numbers)
    assert any(w.startswith("size_change: The frames change their size ((96, 128, 3) to") for w in clips[-1].warnings)


def test_damage_is_counted_and_the_rest_is_shown(tmp_path: Path) -> None:
    path = make_video(tmp_path / "whole.mp4", 90, container={"movflags": "faststart"})
    data, random = bytearray(path.read_bytes()), np.random.default_rng(1)
    start = data.index(b"mdat")
    for at in random.integers(start + (len(data) - start) // 3, len(data), 40):
        data[at] ^= 255
    path.write_bytes(data)
    assert {"packet_errors", "damaged_frames"} & set(codes(path))
    assert len(looks(path)[1]) == 36


def test_a_cut_avi_and_a_cut_mkv_say_so_and_a_wrong_frame_count_does_not(tmp_path: Path) -> None:
    for name, codec in (("a.avi", "mpeg4"), ("a.mkv", "libx264")):
        path = make_video(tmp_path / name, 90, codec)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
        assert "truncated" in codes(path)
    path = make_video(tmp_path / "b.avi", 30, "mpeg4", max_b_frames=0)
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32  # dwLength
    assert int.from_bytes(data[at : at + 4], "little") == 30
    data[at : at + 4] = (300).to_bytes(4, "little")
    path.write_bytes(data)
    assert codes(path) == []
    assert len(looks(path, rate=30)[1]) == 30


def test_notes_say_each_code_once() -> None:
    notes = Notes()
    for warning in ("a: one", "b: two", "a: three"):
        notes.warn(warning)
    assert notes.lines() == ("a: three", "b: two")


# ---- bad files: status and sentence


def bad(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


JPEG = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
CONTENTS: dict[str, tuple[bytes, str, str]] = {
    "zero bytes": (b"", "failed:not_a_video", r"The file is empty \(0 bytes\)"),
    "one byte": (b"\0", "failed:not_a_video", "does not begin like any video"),
    "text": (b"hello\n" * 100, "failed:not_a_video", "The file is text"),
    "random": (np.random.default_rng(0).bytes(200_000), "failed:not_a_video", "does not begin like any video"),
    "jpeg": (JPEG, "failed:not_a_video", "The file is a picture"),
    "gif": (b"GIF89a" + bytes(50), "failed:not_a_video", "The file is a picture"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(50), "failed:not_a_video", "The file is a picture"),
    "hls": (
        b"\xef\xbb\xbf#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        "failed:playlist_refused",
        "a text that names other files",
    ),
    "concat": (b"ffconcat version 1.0\nfile a.mp4\n", "failed:playlist_refused", "Give the files that it names"),
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
        probe(bad(tmp_path / "video.mp4", content))
    assert caught.value.status == status
    assert str(caught.value).count(". ") >= 2


def test_errors_survive_the_way_between_processes(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        probe(bad(tmp_path / "a.mp4", b""))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.status, str(copy)) == (caught.value.status, str(caught.value))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
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


def test_sound_alone_and_covers_are_no_video(tmp_path: Path) -> None:
    sounds = [make_sound(tmp_path / "a.mp3", "libmp3lame"), make_sound(tmp_path / "a.m4a", "aac")]
    for path in [*sounds, make_sound(tmp_path / "cover.mp3", "libmp3lame", barcode(1))]:
        with pytest.raises(MediaError, match="The file has no video stream") as caught:
            probe(path)
        assert caught.value.status == "failed:no_video_stream"


def test_unknown_codecs_and_files_without_a_whole_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", 10, "mpeg4")
    data = path.read_bytes()
    with pytest.raises(MediaError, match="No decoder for this video's codec") as caught:
        probe(bad(path, data.replace(b"FMP4", b"ZZZZ")))
    assert caught.value.status == "failed:unsupported_codec"
    mp4 = bytearray(make_video(tmp_path / "a.mp4", container={"movflags": "faststart"}).read_bytes())
    start = mp4.index(b"mdat") + 4
    mp4[start:] = bytes(len(mp4) - start)
    with pytest.raises(MediaError, match="Not one frame could be decoded") as caught:
        looks(bad(tmp_path / "zero.mp4", bytes(mp4)))
    assert caught.value.status == "failed:corrupt"


@pytest.mark.parametrize("name", ["-dash.mp4", "line\nbreak.mp4", "%03d.mp4", "http:x.mp4", "ünï.mp4", "plain"])
def test_any_name_is_fine(video: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad(Path(name), video.read_bytes())
    for backend in ("pyav", "opencv", "decord"):
        assert np.array_equal(looks(Path(name), backend=backend)[0], looks(video)[0])


def test_a_file_is_probed_once_until_it_changes(video: Path, tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", frames=10)
    assert probe(path) is probe(path) and probe(path).num_frames == 10
    assert probe(bad(path, video.read_bytes())).num_frames == 60
    with pytest.raises(MediaError):
        probe(bad(path, b"no video at all"))


def test_probe_reports_what_was_made(video: Path) -> None:
    seen = probe(video)
    assert (seen.codec, seen.width, seen.height, seen.rotation, seen.aspect) == ("h264", 128, 96, 0, 1.0)
    assert seen.fps == 30
    assert seen.seconds == pytest.approx(2)
    assert seen.num_frames == 60
    assert seen.bit_depth == 8
    assert "mp4" in seen.container
    assert not seen.has_audio
    assert not seen.is_interlaced
    assert seen.warnings == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mpg", "wmv", "flv", "webm", "m2v", "h264", "nut"])
def test_real_containers_pass_the_sniffer_as_what_they_are(tmp_path: Path, suffix: str) -> None:
    codec = {"webm": "libvpx", "wmv": "wmv2", "mpg": "mpeg1video", "m2v": "mpeg2video", "flv": "flv"}.get(
        suffix, "mpeg4"
    )
    path = make_video(tmp_path / f"a.{suffix}", 10, "libx264" if suffix == "h264" else codec)
    with av.open(str(path)) as file:
        assert set(file.format.name.split(",")) <= set(sniff(path).split(","))


# ---- the transform


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (97, 131), (30, 500), (1, 1), (64, 64)])
def test_every_fit_gives_the_square(fit, shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 200, np.uint8)
    for rotation in (0, 90, 180, 270):
        for aspect in (0.5, 1.0, 1.5):
            square = Transform(64, fit)(frame, rotation, aspect)
            assert square.shape == (64, 64, 3)
            assert square.dtype == np.uint8
            assert square.flags.c_contiguous
            assert (square == 200).all() or fit == "letterbox"


def test_letterbox_keeps_proportions_and_centres() -> None:
    square = Transform(64)(np.full((50, 100, 3), 200, np.uint8))
    assert not square[:16].any()
    assert not square[48:].any()
    assert (square[16:48] == 200).all()
    assert (Transform(64)(np.full((50, 100, 3), 200, np.uint8), aspect=0.5) == 200).all()


def test_turning_is_clockwise() -> None:
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[:20, :20] = 255  # top left
    turned = Transform(40)(frame, rotation=90)
    assert turned[:20, 20:].all()
    assert not turned[:, :20].any()


def test_wrong_transforms_are_sentences() -> None:
    with pytest.raises(ValueError, match="The picture has no size"):
        Transform(0)
    with pytest.raises(ValueError, match="This way to fit a picture is not known"):
        Transform(8, "zoom")  # pyright: ignore[reportArgumentType]
