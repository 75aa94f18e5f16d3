"""Pictures that are too large are refused before they are decoded; large ones shrink before they become RGB."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from made_videos import barcode, make_video, number_of
from pools import decode_all

from pipeline.media.clip import LARGE_PIXELS, DecodeObserver
from pipeline.media.clock import Clock
from pipeline.media.decode import decode, open_looks
from pipeline.media.decode_pool import DecodePool, DecodeSettings, Failed
from pipeline.media.decode_pyav import PyavFrame
from pipeline.media.probe import probe
from pipeline.media.sniff import MediaError
from pipeline.media.transform import Transform

QUICKLY = {"preset": "ultrafast", "tune": "zerolatency"}


class Limited(DecodeObserver):
    """At most 20,000 pixels a picture; counts what it is told."""

    max_pixels = 20_000

    def __init__(self) -> None:
        self.packets = self.pixels = 0

    def on_packet(self) -> None:
        self.packets += 1

    def on_picture(self, pixels: int) -> None:
        self.pixels += pixels


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of 16384 x 8192 pixels in less than 400 KB."""
    path = write_bomb(tmp_path_factory.mktemp("bomb") / "bomb.mp4", "libx264", "yuv420p", {**QUICKLY, "crf": "51"})
    assert path.stat().st_size < 400_000
    return path


def write_bomb(path: Path, codec: str, pixels: str, options: dict[str, str]) -> Path:
    """One empty picture of 16384 x 8192 pixels."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=1, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 16384, 8192, pixels
        frame = av.VideoFrame(16384, 8192, pixels)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def remux(source: Path, path: Path) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    return path


def test_a_bomb_is_refused_before_a_picture_is_decoded(bomb: Path, tmp_path: Path) -> None:
    lost = write_bomb(tmp_path / "lost.avi", "mjpeg", "yuvj420p", {})  # FFmpeg forgets its size
    files = [bomb, remux(bomb, tmp_path / "bomb.ts"), remux(bomb, tmp_path / "bomb.mkv"), lost]
    with DecodePool(1, DecodeSettings(4, 32, "crop"), slots_a_worker=2) as pool:
        heard = decode_all(pool, files)
        status = Path(f"/proc/{pool.process_ids[0]}/status").read_text()
    assert [one.status for one in heard.values()] == ["failed:too_large"] * 4
    (end,) = heard["bomb.mp4"].ends
    assert isinstance(end, Failed) and "16384x8192 pixels, 134 million. The limit is 64 million." in end.error
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    assert peak < 150, "one picture alone has 192 MB"
    with pytest.raises(MediaError, match="16384x8192"):
        probe(bomb)


def test_a_picture_that_grows_beyond_the_limit_is_no_picture(tmp_path: Path) -> None:
    small = make_video(tmp_path / "small.h264", [barcode(n) for n in range(10)])
    large = make_video(tmp_path / "large.h264", [barcode(n, 512, 384) for n in range(10)])
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    observer = Limited()
    video = open_looks(both, clock=Clock(30), transform=Transform(32), observer=observer)
    images = [image for _, image in video.images]
    assert len(images) >= 8 and observer.pixels == 128 * 96 * len(images)
    assert any(text.startswith("packet_errors") for text in video.warnings.lines())
    with pytest.raises(MediaError, match="512x384") as caught:
        open_looks(large, clock=Clock(30), transform=None, observer=observer)
    assert caught.value.status == "failed:too_large"


@pytest.mark.parametrize("backend", ["pyav", "opencv", "decord"])
def test_an_observer_is_told_of_every_packet_and_picture(tmp_path: Path, backend) -> None:
    path, observer = make_video(tmp_path / "film.mp4", 20), Limited()
    video = open_looks(path, clock=Clock(10), transform=None, backend=backend, observer=observer)
    assert len(list(video.images)) == 7
    assert observer.pixels == 20 * 128 * 96 and observer.packets >= 20


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "bgr0"])
def test_a_large_picture_shrinks_before_it_is_rgb_and_looks_the_same(tmp_path: Path, pixels: str) -> None:
    codec = {"yuv420p": "libx264", "yuv422p10le": "ffv1", "bgr0": "ffv1"}[pixels]
    frames = [barcode(n, 4100, 2310) for n in (5, 200)]
    path = make_video(tmp_path / "large.mkv", frames, codec=codec, pixels=pixels, rate=Fraction(2))
    assert LARGE_PIXELS < 4100 * 2310
    (small,) = decode(path, clock=Clock(2), transform=Transform(96))
    (whole,) = decode(path, clock=Clock(2), transform=None)
    assert whole.frames.shape == (2, 2310, 4100, 3)  # as displayed: not shrunk
    assert pixels != "bgr0" or np.array_equal(whole.frames, frames)
    expected = np.stack([Transform(96)(frame) for frame in whole.frames])
    assert [number_of(frame[21:75]) for frame in small.frames] == [5, 200]
    assert np.abs(small.frames.astype(int) - expected).mean() < 1


def test_a_picture_of_the_limit_is_converted_as_ever() -> None:
    frame = av.VideoFrame.from_ndarray(barcode(77, 130, 90), format="rgb24").reformat(format="yuv420p")
    picture = PyavFrame(frame, VideoReformatter())
    assert np.array_equal(picture(130 * 90), picture())
    assert picture(130 * 90 - 1).shape == (45, 65, 3)
    assert picture(100).shape == (8, 12, 3)
