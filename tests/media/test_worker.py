"""The worker by itself: every error of a decoder becomes the row of its file, with the right reason."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import av.error
import cv2
import pytest
from made_videos import make_video

from pipeline.media import damage, decode_pyav, packets, probe, worker
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.decode_messages import OUT_OF_MEMORY
from pipeline.media.ring import Ring, create_memory
from pipeline.media.sniff import MediaError
from pipeline.media.worker import FileWorker, failure_of
from pipeline.media.worker_port import Port

CORRUPT = MediaError("failed:corrupt", "No frame could be decoded.")


@pytest.mark.parametrize(
    ("error", "is_near_limit", "expected"),
    [
        (CORRUPT, False, ("failed:corrupt", "No frame could be decoded.")),
        (CORRUPT, True, OUT_OF_MEMORY),
        (IndexError("tuple index out of range"), False, ("failed:error", "IndexError: tuple index out of range")),
        (IndexError("tuple index out of range"), True, OUT_OF_MEMORY),
        (MemoryError(), False, OUT_OF_MEMORY),
        (av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"), False, OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), False, OUT_OF_MEMORY),
        (OSError(errno.EIO, "Input/output error"), False, ("failed:unreadable", "cannot be read: Input/output error.")),
        (av.error.InvalidDataError(1, "Invalid data"), False, ("failed:unreadable", "cannot be read: Invalid data.")),
    ],
)
def test_every_error_has_its_status(error: Exception, is_near_limit: bool, expected: tuple[str, str]) -> None:
    status, sentence = failure_of(error, is_near_limit)
    assert status == expected[0] and sentence.endswith(expected[1])


def test_opencv_without_memory_is_no_error_of_the_file() -> None:
    error = cv2.error("Failed to allocate 99 bytes")
    error.code = cv2.Error.StsNoMem
    assert failure_of(error, False) == OUT_OF_MEMORY
    assert failure_of(cv2.error("(-215:Assertion failed) !_src.empty()"), False)[0] == "failed:error"


def test_an_error_inside_a_decoder_costs_that_file_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = make_video(tmp_path / "film.mp4", 10)
    memory = create_memory(20, 16)
    receive, reply = os.pipe()
    request = {"rate": 30.0, "size": 16, "fit": "crop", "backend": "pyav", "hash_content": False, "max_pixels": 1 << 20}
    files = FileWorker(request, Port(Ring(memory, 20, 16), io.BytesIO(), reply))
    task = {"path": str(film), "start": 0.0}
    with monkeypatch.context() as patched:
        patched.setattr(decode_pyav, "decode_packet", lambda *_: [][0])
        files.decode_file(task)
    files.decode_file(task)
    os.close(reply)
    messages = [json.loads(line) for line in os.fdopen(receive, "rb")]
    os.close(memory)
    kinds = [message["kind"] for message in messages]
    assert kinds == ["opened", "failed", "opened", "looks", "looks", "finished"]
    assert messages[1]["status"] == "failed:error" and messages[1]["error"] == "IndexError: list index out of range"


@pytest.mark.parametrize("backend", ["pyav", "opencv"])
def test_no_memory_inside_ffmpeg_is_no_damage_of_the_file(tmp_path: Path, monkeypatch, backend) -> None:
    """PyAV's MemoryError is also an FFmpegError, which readers count as damaged packets."""
    film = make_video(tmp_path / f"{backend}.mp4", 10)

    class Broken:
        """A container without memory."""

        def __init__(self, real) -> None:
            self.real = real

        def __getattr__(self, name: str):
            return getattr(self.real, name)

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            self.real.close()

        def demux(self, *_: object):
            raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    real_open = probe.open_container
    for module in (decode_pyav, packets, damage):
        monkeypatch.setattr(module, "open_container", lambda *arguments: Broken(real_open(*arguments)))
    with pytest.raises(MemoryError):
        list(decode(film, clock=Clock(5), transform=None, backend=backend))
    with pytest.raises(MemoryError):
        damage.damage(film)
    monkeypatch.setattr(probe, "open_container", lambda *arguments: Broken(real_open(*arguments)))
    with pytest.raises(MemoryError):
        probe.probe(make_video(tmp_path / "other.mp4", 10))


def test_a_worker_near_its_limit_says_that_it_is_worn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = create_memory(20, 16)
    receive, reply = os.pipe()
    request = {"rate": 5.0, "size": 16, "fit": "crop", "backend": "pyav", "hash_content": False, "max_pixels": 1 << 20}
    files = FileWorker(request, Port(Ring(memory, 20, 16), io.BytesIO(), reply))
    film, text = make_video(tmp_path / "film.mp4", 10), tmp_path / "text.mp4"
    text.write_text("no video")
    for is_near in (False, True):
        monkeypatch.setattr(worker, "is_near_limit", lambda value=is_near: value)
        for path in (film, text):
            files.decode_file({"path": str(path), "start": 0.0})
    os.close(reply)
    ends = [m for m in map(json.loads, os.fdopen(receive, "rb")) if m["kind"] in ("finished", "failed")]
    os.close(memory)
    assert [(m.get("status"), m["is_worn"]) for m in ends] == [
        (None, False),
        ("failed:not_a_video", False),
        (None, True),
        ("failed:out_of_memory", True),
    ]
