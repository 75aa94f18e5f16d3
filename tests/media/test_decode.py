"""Decoding: windows and ranges are parts of the whole, and every warning is given where it applies."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_videos import barcode, make_video, number_of

from pipeline.media.clip import DecodeWarnings, is_partial
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.transform import Transform


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
def test_windows_together_equal_the_whole(video: Path, window: int, backend: str) -> None:
    whole, times, _ = looks(video, window=1000, backend=backend)
    frames, window_times, _ = looks(video, window=window, backend=backend)
    assert np.array_equal(frames, whole)
    assert np.array_equal(window_times, times)
    assert len(times) == 24


@pytest.mark.parametrize("backend", ["pyav", "opencv", "decord"])
@pytest.mark.parametrize(
    ("start", "stop"), [(0.0, 1.0), (0.5, None), (0.51, 1.3), (1.99, 5.0), (0.26, 0.3), (9.0, None)]
)
def test_a_range_equals_a_slice_of_the_whole(video: Path, start: float, stop: float | None, backend: str) -> None:
    whole, times, _ = looks(video)
    frames, range_times, _ = looks(video, start_seconds=start, stop_seconds=stop, window=4, backend=backend)
    is_inside = (times >= start) & (times < (stop or 1e9))
    assert np.array_equal(range_times, times[is_inside])
    assert np.array_equal(frames, whole[is_inside])


def test_a_warning_about_max_seconds_only_where_it_cuts(video: Path) -> None:
    _, times, warnings = looks(video, max_seconds=1.0)
    assert times[-1] < 1
    assert warnings == ("max_seconds: Only the first 1 seconds were read, the limit.",)
    assert looks(video, max_seconds=10.0)[2] == ()
    assert looks(video, max_seconds=2.0, stop_seconds=1.0)[2] == ()


def test_more_looks_than_frames_repeat_frames(video: Path) -> None:
    frames, _, _ = looks(video, rate=120, size=64)
    assert len(frames) == 240
    assert [number_of(frame) for frame in frames] == [k // 4 for k in range(240)]


def test_the_number_of_threads_changes_no_pixel(video: Path) -> None:
    assert np.array_equal(looks(video)[0], looks(video, thread_count=2)[0])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"backend": "vlc"}, "The backend 'vlc' is not known"),
        ({"window": 0}, "The window has 0 looks"),
        ({"start_seconds": -1.0}, "The start is -1.0 s"),
        ({"start_seconds": 2.0, "stop_seconds": 1.0}, "The range ends before it starts"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0"),
    ],
)
def test_wrong_arguments_are_refused_in_sentences(video: Path, settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        decode(video, clock=Clock(4), transform=None, **settings)


def test_media_imports_no_torch() -> None:
    code = "import sys, pipeline.media.decode, pipeline.media.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def codes(path: Path, **settings) -> list[str]:
    return [warning.split(":")[0] for warning in looks(path, **settings)[2]]


def test_short_videos_are_decoded_with_a_warning(tmp_path: Path) -> None:
    for count in (1, 2):
        path = make_video(tmp_path / f"{count}.mp4", count)
        assert codes(path, rate=4) == ["short_video"]
        assert len(looks(path, rate=4)[1]) == 1
    assert codes(make_video(tmp_path / "5.mp4", 5), rate=4) == ["short_video"]  # 0.17 s, less than a look
    assert codes(make_video(tmp_path / "10.mp4", 10), rate=4) == []


def test_ten_bits_interlacing_and_missing_times_give_warnings(tmp_path: Path) -> None:
    assert codes(make_video(tmp_path / "ten.mkv", codec="ffv1", pixels="yuv420p10le")) == ["ten_bit"]
    assert codes(make_video(tmp_path / "tv.mp4", options={"x264-params": "interlaced=1"})) == ["interlaced"]
    assert codes(make_video(tmp_path / "raw.h264")) == ["no_timestamps"]


def test_frames_after_a_size_change_are_resized(tmp_path: Path) -> None:
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


def test_damage_is_counted_and_the_rest_is_decoded(tmp_path: Path) -> None:
    path = make_video(tmp_path / "whole.mp4", 90, container={"movflags": "faststart"})
    data, random = bytearray(path.read_bytes()), np.random.default_rng(1)
    start = data.index(b"mdat")
    for position in random.integers(start + (len(data) - start) // 3, len(data), 40):
        data[position] ^= 255
    path.write_bytes(data)
    assert {"packet_errors", "damaged_frames"} & set(codes(path))
    assert len(looks(path)[1]) == 36


def test_a_truncated_avi_and_mkv_give_a_warning_and_a_wrong_frame_count_gives_none(tmp_path: Path) -> None:
    for name, codec in (("a.avi", "mpeg4"), ("a.mkv", "libx264")):
        path = make_video(tmp_path / name, 90, codec)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
        assert "truncated" in codes(path)
    path = make_video(tmp_path / "b.avi", 30, "mpeg4", max_b_frames=0)
    data = bytearray(path.read_bytes())
    offset = data.index(b"strh") + 8 + 32  # dwLength
    assert int.from_bytes(data[offset : offset + 4], "little") == 30
    data[offset : offset + 4] = (300).to_bytes(4, "little")
    path.write_bytes(data)
    assert codes(path) == []
    assert len(looks(path, rate=30)[1]) == 30


def test_each_warning_code_occurs_once() -> None:
    warnings = DecodeWarnings()
    for warning in ("a: one", "b: two", "a: three"):
        warnings.warn(warning)
    assert warnings.lines() == ("a: three", "b: two")


def test_a_video_is_partial_where_frames_are_missing_or_damaged() -> None:
    assert is_partial(["short_video: It is short.", "truncated: It ends early."])
    assert is_partial(["packet_errors: 2 packets."]) and is_partial(["damaged_frames: 1 frame."])
    assert not is_partial(["short_video: It is short.", "time_order: 1 frame."]) and not is_partial([])
