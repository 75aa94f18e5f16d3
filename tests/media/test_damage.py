"""Cut and damaged files are found by their packets, in every container; whole files are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from made_videos import make_video

from pipeline.media.damage import add_damage, damage, damages_of, length_by_packets
from pipeline.media.sniff import MediaError

CONTAINERS = {
    "mp4": ("libx264", {"movflags": "faststart"}),
    "mov": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("libx264", {}),
    "webm": ("libvpx", {}),
    "avi": ("mpeg4", {}),
    "flv": ("libx264", {}),
    "ts": ("libx264", {}),
    "ogg": ("libvpx", {}),
    "wmv": ("wmv2", {}),
}


def make(folder: Path, suffix: str) -> Path:
    codec, container = CONTAINERS[suffix]
    noise = np.random.default_rng(0).integers(0, 255, (90, 96, 128, 3), np.uint8)  # large packets
    return make_video(folder / f"whole.{suffix}", list(noise), codec, container=container)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_cut_file_and_one_that_ends_in_zeros_are_found(tmp_path: Path, suffix: str) -> None:
    whole = make(tmp_path, suffix)
    assert damage(whole) == ()
    data = whole.read_bytes()
    cut, hollow = tmp_path / f"cut.{suffix}", tmp_path / f"hollow.{suffix}"
    cut.write_bytes(data[: len(data) * 45 // 100])
    hollow.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert damage(cut)[0].startswith("truncated: The file ends early;") and damage(hollow) != ()
    assert damages_of(damage(cut)) == damage(cut)


def test_a_file_cut_by_little_is_found_by_its_bytes(tmp_path: Path) -> None:
    whole = make(tmp_path, "mkv")
    short = tmp_path / "short.mkv"
    short.write_bytes(whole.read_bytes()[:-50])
    assert damage(short) == ("truncated: The file ends early; 50 bytes that its header counts are missing.",)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_that_goes_on_after_the_picture_is_no_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sound.{suffix}"
    with av.open(str(make_video(tmp_path / "v.mp4"))) as old, av.open(str(path), "w") as new:
        picture = new.add_stream_from_template(old.streams.video[0])
        sound = new.add_stream("aac", rate=44100)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = picture
                new.mux(packet)
        for number in range(400):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, number * 1024
            new.mux(sound.encode(frame))
        new.mux(sound.encode(None))
    assert damage(path) == () and length_by_packets(path) == pytest.approx(400 * 1024 / 44100, abs=0.2)


def test_a_file_that_cannot_be_opened_raises_and_a_decoders_warnings_are_kept_once(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"text")
    with pytest.raises(MediaError, match="The file is text"):
        damage(tmp_path / "x.mp4")
    whole = make(tmp_path, "ts")
    assert add_damage(whole, ("interlaced: yes.",)) == ("interlaced: yes.",)
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[:-100])
    added = add_damage(cut, ("short_video: yes.",))
    assert added == ("short_video: yes.", "truncated: The file ends early; its last part is not whole.")
    shutil.copy(cut, tmp_path / "again.ts")
    assert add_damage(tmp_path / "again.ts", ("truncated: mine.",)) == ("truncated: mine.",)
    assert damages_of(("interlaced: yes.", "damaged_frames: 1 frame.")) == ("damaged_frames: 1 frame.",)
