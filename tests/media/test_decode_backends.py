"""Every backend returns at every look exactly the frame of the clock, or refuses the file. Barcode videos only."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import cv2
import numpy as np
import pytest
from made_videos import barcode, make_video, number_of, pack_b_frames, set_matrix

from pipeline.media import decode_decord, decode_opencv
from pipeline.media.clip import Clip
from pipeline.media.clock import Clock
from pipeline.media.decode import READERS, Backend, decode
from pipeline.media.probe import probe
from pipeline.media.sniff import MediaError
from pipeline.media.transform import Transform

BACKENDS: tuple[Backend, ...] = get_args(Backend)
RATE = 9.15  # looks a second: no look but the first is within 1 ms of the start of a frame or the end of the video
VFR = [33 * i + 7 * (i % 5) + 100 * (i // 10) for i in range(40)]  # milliseconds, uneven, with gaps
MILLI = Fraction(1, 1000)
ALL: set[str] = set(BACKENDS)
NOT_DECORD: set[str] = {"pyav", "opencv"}
PYAV: set[str] = {"pyav"}

# name -> (how to make it, the backends that must not refuse it, milliseconds of each frame where they are uneven)
FILES: dict[str, tuple[Callable[[Path], Path], set[str], list[int] | None]] = {
    "h264.mp4": (lambda p: make_video(p, max_b_frames=3), ALL, None),
    "no_b_frames.mp4": (lambda p: make_video(p, max_b_frames=0), ALL, None),
    "23976.mp4": (lambda p: make_video(p, rate=Fraction(24000, 1001)), ALL, None),
    "h264.mkv": (lambda p: make_video(p), ALL, None),
    "vfr.mp4": (lambda p: make_video(p, pts=VFR, time_base=MILLI), ALL, VFR),
    "vfr.mkv": (lambda p: make_video(p, pts=VFR, time_base=MILLI), ALL, VFR),
    "start.mp4": (lambda p: make_video(p, pts=[5000 + t for t in VFR], time_base=MILLI), ALL, VFR),
    "gray.mkv": (lambda p: make_video(p, codec="ffv1", pixels="gray"), ALL, None),
    "alpha.mkv": (lambda p: make_video(p, codec="ffv1", pixels="bgra"), ALL, None),
    "444.mp4": (lambda p: make_video(p, pixels="yuv444p"), ALL, None),
    "odd.mkv": (lambda p: make_video(p, [barcode(n, 131, 97) for n in range(40)], codec="ffv1"), ALL, None),
    "vp9.webm": (lambda p: make_video(p, codec="libvpx-vp9", options={"cpu-used": "8", "crf": "20"}), ALL, None),
    "mjpeg.avi": (lambda p: make_video(p, codec="mjpeg", pixels="yuvj420p"), ALL, None),
    "mpeg4.avi": (lambda p: make_video(p, codec="mpeg4", max_b_frames=0), ALL, None),
    "mpeg4_b_frames.avi": (lambda p: make_video(p, codec="mpeg4", max_b_frames=2), NOT_DECORD, None),
    "packed.avi": (
        lambda p: pack_b_frames(make_video(p.with_stem("source"), codec="mpeg4", max_b_frames=1), p),
        NOT_DECORD,
        None,
    ),
    "mpeg4_b_frames.mp4": (lambda p: make_video(p, codec="mpeg4", max_b_frames=2), NOT_DECORD, None),
    "hevc.mp4": (lambda p: make_video(p, codec="libx265"), NOT_DECORD, None),
    "open_gop.mp4": (lambda p: make_video(p, options={"x264-params": "open-gop=1:scenecut=0"}), NOT_DECORD, None),
    "stream.ts": (lambda p: make_video(p), NOT_DECORD, None),
    "stream.mpg": (lambda p: make_video(p, codec="mpeg1video", max_b_frames=2), NOT_DECORD, None),
    "stream.m2v": (lambda p: make_video(p, codec="mpeg2video", max_b_frames=2), NOT_DECORD, None),
    "windows.wmv": (lambda p: make_video(p, codec="wmv2"), NOT_DECORD, None),
    "flash.flv": (lambda p: make_video(p, codec="flv"), NOT_DECORD, None),
    "ten_bit.mkv": (lambda p: make_video(p, codec="ffv1", pixels="yuv422p10le"), ALL, None),
    "interlaced.mp4": (lambda p: make_video(p, options={"x264-params": "interlaced=1"}), {"pyav", "decord"}, None),
    "raw.h264": (lambda p: make_video(p), PYAV, None),
    "av1.mp4": (lambda p: make_video(p, codec="libsvtav1"), PYAV, None),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All files, made once."""
    folder = tmp_path_factory.mktemp("videos")
    return {name: make(folder / name) for name, (make, _, _) in FILES.items()}


def read(path: Path, backend: Backend = "pyav", rate: float = RATE, transform: Transform | None = None) -> list[Clip]:
    return list(decode(path, clock=Clock(rate), transform=transform, backend=backend, window=7))


def join(clips: list[Clip]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([clip.frames for clip in clips]), np.concatenate([clip.times for clip in clips])


def expected(name: str, rate: float) -> list[int]:
    """The frame at each look, from the times that the file was made with: independent of any backend."""
    fps = 24000 / 1001 if name == "23976.mp4" else 30
    millis = FILES[name][2]
    starts = [t / 1000 for t in millis] if millis else [n / fps for n in range(40)]
    looks = [k / rate for k in range(int(np.ceil((starts[-1] + 1 / fps) * rate)))]
    assert all(abs(look - edge) > 1e-3 for look in looks[1:] for edge in [*starts, starts[-1] + 1 / fps])
    return [max(n for n, start in enumerate(starts) if start <= look) for look in looks]


def has_av1(path: Path) -> bool:
    """Whether this build of OpenCV decodes AV1; some do."""
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).grab()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FILES)
def test_every_look_has_the_frame_of_the_clock_or_the_file_is_refused(
    videos: dict[str, Path], name: str, backend: Backend
) -> None:
    if backend not in FILES[name][1] and not (name == "av1.mp4" and backend == "opencv" and has_av1(videos[name])):
        with pytest.raises(MediaError, match=rf"The backend {backend} would be wrong .* Set backend=pyav\.") as caught:
            read(videos[name], backend)
        assert caught.value.status == "failed:backend_refuses"
        return
    frames, times = join(read(videos[name], backend))
    assert [number_of(frame) for frame in frames] == expected(name, RATE)
    assert np.allclose(times, np.arange(len(times)) / RATE, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "backend"), [(name, other) for name in FILES for other in BACKENDS[1:] if other in FILES[name][1]]
)
def test_all_backends_return_nearly_the_same_pixels(videos: dict[str, Path], name: str, backend: Backend) -> None:
    expected_frames, _ = join(read(videos[name]))
    frames, _ = join(read(videos[name], backend))
    difference = np.abs(expected_frames.astype(int) - frames)
    assert expected_frames.shape == frames.shape
    assert difference.mean() < 2
    assert (difference > 32).mean() < 0.01


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
def test_colours_are_right_with_every_backend(tmp_path: Path, matrix: str) -> None:
    flat = np.zeros((64, 96, 3), np.uint8)
    flat[:, :32], flat[:, 32:64], flat[:, 64:] = (200, 40, 40), (40, 180, 60), (30, 60, 210)
    path = tmp_path / "colours.mp4"
    number = {"bt709": 1, "bt601": 6}[matrix]  # ITU-T H.273
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.colorspace = 96, 64, "yuv420p", number
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace={"bt709": "itu709", "bt601": "itu601"}[matrix])
            frame.colorspace, frame.pts = number, index
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    for backend in BACKENDS:
        frame = read(path, backend)[0].frames[0].astype(int)
        for x, colour in ((16, (200, 40, 40)), (48, (40, 180, 60)), (80, (30, 60, 210))):
            assert np.abs(frame[32, x] - colour).max() <= 8, (backend, x, frame[32, x])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("rotation", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0)), (0, (1, 0, 0, 1))]
)
def test_rotated_videos_are_shown_upright(
    tmp_path: Path, backend: Backend, rotation: int, matrix: tuple[int, int, int, int]
) -> None:
    stored = [np.ascontiguousarray(np.rot90(barcode(n), k=rotation // 90)) for n in range(40)]  # counterclockwise
    path = set_matrix(make_video(tmp_path / "rotated.mp4", stored), *matrix)
    probed = probe(path)
    assert (probed.rotation, probed.width, probed.height) == (rotation, 128, 96)
    frames, _ = join(read(path, backend, rate=30))
    assert [number_of(frame) for frame in frames] == list(range(40))
    assert frames[0, 90, 20, 0] > 150
    assert frames[0, 90, 110, 2] > 150
    squares, _ = join(read(path, backend, rate=30, transform=Transform(size=64, resize="squash")))
    assert [number_of(frame) for frame in squares] == list(range(40))


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_become_square(tmp_path: Path, backend: Backend) -> None:
    path = make_video(tmp_path / "wide.mp4", sample_aspect_ratio=Fraction(3, 2))
    assert (probe(path).width, probe(path).height, probe(path).aspect) == (192, 96, 1.5)
    assert read(path, backend)[0].frames.shape[1:] == (96, 192, 3)
    letterbox = read(path, backend, transform=Transform(size=96))[0].frames[0]
    assert letterbox.shape == (96, 96, 3)
    assert not letterbox[:23].any()
    assert letterbox[26:70].any(axis=2).mean() > 0.5
    crop = read(path, backend, transform=Transform(size=96, resize="crop"))[0].frames[0]
    assert crop[90, 20, 0] > 150
    assert crop[90, 75, 2] > 150


@pytest.mark.parametrize("backend", BACKENDS)
def test_truncated_files_are_partial_with_pyav_and_refused_by_the_others(tmp_path: Path, backend: Backend) -> None:
    whole = make_video(tmp_path / "whole.mp4", 90, container={"movflags": "faststart"}).read_bytes()
    path = tmp_path / "truncated.mp4"
    path.write_bytes(whole[: len(whole) * 6 // 10])
    if backend == "pyav":
        clips = read(path)
        warnings = clips[-1].warnings
        assert any(warning.startswith("truncated: ") for warning in warnings)
        assert any(warning.startswith("packet_errors: ") for warning in warnings)
        numbers = [number_of(frame) for clip in clips for frame in clip.frames]
        assert numbers == sorted(numbers)
        assert len(numbers) >= 5
    else:
        with pytest.raises(MediaError, match=f"backend {backend} would be wrong .*(truncated|damaged)"):
            read(path, backend)


def test_edit_lists_are_applied_by_pyav_and_opencv_and_refused_by_decord(tmp_path: Path) -> None:
    path = make_video(tmp_path / "edit.mp4")
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # first entry: duration, media time, rate
    ticks = int.from_bytes(data[entry + 4 : entry + 8], "big") + 15 * 512  # an MP4 of 30 fps has 512 ticks a frame
    data[entry + 4 : entry + 8] = ticks.to_bytes(4, "big")
    path.write_bytes(data)
    for backend in ("pyav", "opencv"):
        frames, times = join(read(path, backend, rate=30))
        assert [number_of(frame) for frame in frames] == list(range(15, 40))
        assert times[0] == 0
    with pytest.raises(MediaError, match="edit list trims"):
        read(path, "decord")


def test_backends_refuse_paths_and_files_on_which_they_fail(
    videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tmp_path / "bad\udcff.mp4"
    name.write_bytes(videos["h264.mp4"].read_bytes())
    assert len(join(read(name))[1]) == len(expected("h264.mp4", RATE))
    for backend in ("opencv", "decord"):
        with pytest.raises(MediaError, match=r"not UTF-8|cannot open"):
            read(name, backend)
    mirrored = set_matrix(make_video(tmp_path / "mirrored.mp4"), -1, 0, 0, 1)
    assert probe(mirrored).rotation == 0
    assert probe(mirrored).has_warning("mirrored")
    with pytest.raises(MediaError, match="rotates mirrored videos in another way"):
        read(mirrored, "decord")
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(MediaError, match="decord is not installed"):
        read(videos["h264.mp4"], "decord")


def test_a_backend_that_disagrees_with_the_packets_refuses(
    videos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos["h264.mp4"]
    monkeypatch.setattr(decode_opencv, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(MediaError, match="the time of its frame 0 is"):
        read(path, "opencv")
    monkeypatch.setattr(decode_decord, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(MediaError, match="its frame times differ"):
        read(path, "decord")


def test_every_backend_has_a_reader() -> None:
    assert tuple(READERS) == BACKENDS


def test_decord_refuses_a_file_of_which_it_cannot_decode_a_packet(tmp_path: Path) -> None:
    path = make_video(tmp_path / "damaged.mp4", 40, max_b_frames=0)
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][20]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    assert place is not None
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(MediaError, match="decord cannot decode its frame") as caught:
        read(path, "decord")
    assert caught.value.status == "failed:backend_refuses"
    assert any(text.startswith("packet_errors") for text in read(path)[-1].warnings)
