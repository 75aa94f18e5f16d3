"""Live sources: a worker process reads them; they may hang, crash, stall, have a wrong clock and come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from made_videos import make_video
from streaming import RATE

from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.live import LiveSource, LiveWindow, SourceEvent
from pipeline.media.source_reader import MAX_JUMP, monotonic_times
from pipeline.media.stream_source import parse_source, redact_address
from pipeline.media.transform import Transform


def test_the_kind_of_a_source_follows_from_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = {
        "a.mp4": "file",
        "0": "camera",
        "rtsp://h/1": "address",
        "https://h/x": "address",
        "-": "pipe",
        "http:x": "file",
    }
    assert {text: parse_source(text).kind for text in kinds} == kinds
    (tmp_path / "0").touch()
    assert parse_source("0").kind == "file"
    raw = parse_source("-", size="320x240", fps=25)
    assert (raw.size, raw.fps) == ((320, 240), 25)
    assert parse_source("rtsp://me:pa@ss@host:554/a?token=x").display_name == "rtsp://host:554/a?..."
    assert redact_address("http://host/a") == "http://host/a"
    for (text, size, fps), sentence in (
        (("file:///etc/passwd", None, None), "begins with 'file://' cannot be watched"),
        (("a.mp4", "3x4", 5), "only the source '-'"),
        (("-", "3x4", None), "Raw frames have both"),
        (("-", "3,4", 5), "The size of the frames is '3,4'. It is width x height"),
        (("-", "3x4", 0), "The rate of the frames is 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            parse_source(text, size=size, fps=fps)


Items = list[Any]
"""Windows and events of a source, in order."""


def take_all(
    live: LiveSource, *, limit: int = 64, until: Callable[[Items], bool] = lambda items: False, pause: float = 0.0
) -> Items:
    """What arrives, up to the closing event or until there is enough."""
    items: Items = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not until(items):
        if (item := live.take(limit, 0.2)) is not None:
            items.append(item)
            if isinstance(item, SourceEvent) and item.kind == "closed":
                return items
            time.sleep(pause)
    assert time.monotonic() < deadline, "nothing arrived any more"
    return items


def times_of(items: Items) -> list[float]:
    return [t for item in items if isinstance(item, LiveWindow) for t in item.clip.times]


def details_of(items: Items, kind: str) -> list[dict[str, Any]]:
    """The details of the events of one kind."""
    return [item.details for item in items if isinstance(item, SourceEvent) and item.kind == kind]


def test_a_file_waits_for_the_caller_and_gives_the_looks_of_predict(film):
    clips = list(decode(film, clock=Clock(RATE), transform=Transform(32)))
    with LiveSource(parse_source(str(film)), clock=Clock(RATE), transform=Transform(32), capacity=3) as live:
        time.sleep(1.0)
        items = take_all(live, limit=2)
        assert live.dropped == 0
    frames = np.concatenate([item.clip.frames for item in items if isinstance(item, LiveWindow)])
    assert np.array_equal(frames, np.concatenate([c.frames for c in clips]))
    assert times_of(items) == np.concatenate([c.times for c in clips]).tolist()
    assert details_of(items, "closed") == [{"status": "ok", "error": "", "warnings": []}]
    with LiveSource(parse_source(str(film)), clock=Clock(RATE), transform=Transform(32), start=2.5) as live:
        assert times_of(take_all(live)) == [t for t in times_of(items) if t >= 2.5]


def test_a_file_that_is_no_video_and_a_crashed_worker_close_with_a_reason(tmp_path, film):
    (tmp_path / "text.mp4").write_text("no video")
    with LiveSource(parse_source(str(tmp_path / "text.mp4")), clock=Clock(RATE), transform=Transform(32)) as live:
        (closed,) = details_of(take_all(live), "closed")
        assert closed["status"] == "failed:not_a_video" and closed["error"].startswith("The file is text")
    with LiveSource(parse_source(str(film)), clock=Clock(RATE), transform=Transform(256), capacity=1) as live:
        take_all(live, limit=1, until=lambda items: len(times_of(items)) > 1)
        os.kill(live.process_id or 0, signal.SIGSEGV)
        (closed,) = details_of(take_all(live), "closed")
        assert closed["status"] == "failed:crashed" and "(SIGSEGV)" in closed["error"]


CHUNK = 4700  # bytes: 25 packets of MPEG-TS


class Server:
    """Serves the bytes of a file without a length, as a live source does.

    pause: seconds between two chunks. stall_at: bytes after which nothing more is sent. has_length: send the length.
    """

    def __init__(
        self, data: bytes, *, pause: float = 0.0, stall_at: int | None = None, has_length: bool = False
    ) -> None:
        self.connections = 0
        self.is_open = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.connections += 1
                if not server.is_open.is_set():
                    return self.send_error(503)
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                if has_length:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                try:
                    for start in range(0, len(data), CHUNK):
                        if stall_at is not None and start >= stall_at:
                            time.sleep(30)
                        self.wfile.write(data[start : start + CHUNK])
                        time.sleep(pause)
                except OSError:
                    pass
                return None

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.is_open.set()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://user:secret@127.0.0.1:{self.http.server_address[1]}/x.ts"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@contextmanager
def serve(data: bytes, **options: Any) -> Iterator[Server]:
    server = Server(data, **options)
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def test_a_live_source_continues_after_its_worker_is_killed_and_time_passes(film):
    data = film.read_bytes()
    with (
        serve(data, pause=6.0 * CHUNK / len(data)) as server,  # as fast as it plays
        LiveSource(parse_source(server.address), clock=Clock(RATE), transform=Transform(32), give_up=30) as live,
    ):
        items = take_all(live, until=lambda items: len(times_of(items)) > 3)
        os.kill(live.process_id or 0, signal.SIGKILL)
        last_before = times_of(items)[-1]
        items += take_all(live, until=lambda items: len(times_of(items)) > 6)
        assert live.reconnects >= 1 and server.connections >= 2
    first = details_of(items, "reconnect")[0]
    assert first["wait"] == 0.5 and "(SIGKILL)" in first["reason"]
    times = times_of(items)
    assert all(b > a for a, b in pairwise(times)) and np.allclose(
        np.array(times) * RATE, np.round(np.array(times) * RATE)
    )
    assert details_of(items, "opened")[0] == {"is_live": True}
    assert any(
        b - a > 0.4 for a, b in pairwise(t for t in times if t >= last_before - 1)
    )  # the time without frames counts


def test_a_live_source_that_stalls_or_stays_away_is_given_up(film):
    with (
        serve(film.read_bytes(), stall_at=40_000) as server,
        LiveSource(
            parse_source(server.address), clock=Clock(RATE), transform=Transform(32), patience=1.5, give_up=3
        ) as live,
    ):
        take_all(live, until=lambda items: len(times_of(items)) > 0)
        server.is_open.clear()
        items = take_all(live)
    waits = [n["wait"] for n in details_of(items, "reconnect")]
    assert waits[:2] == [0.5, 1.0]
    (closed,) = details_of(items, "closed")
    assert closed["status"] == "failed:lost" and "was given up after" in closed["error"] and "secret" not in str(closed)


def test_an_address_that_never_answered_fails_at_once():
    with LiveSource(parse_source("http://u:secret@127.0.0.1:9/x"), clock=Clock(RATE), transform=Transform(32)) as live:
        (closed,) = details_of(take_all(live), "closed")
    assert (
        closed["status"] == "failed:unreachable"
        and "Connection refused" in closed["error"]
        and "secret" not in closed["error"]
    )


def test_a_missing_camera_fails_with_a_sentence():
    with LiveSource(parse_source("83"), clock=Clock(RATE), transform=Transform(32)) as live:
        (closed,) = details_of(take_all(live), "closed")
    assert closed["status"] == "failed:no_camera" and closed["error"].startswith("Camera 83 cannot be opened.")


def test_live_looks_that_are_not_taken_are_dropped_oldest_first_and_counted(film):
    with (
        serve(film.read_bytes()) as server,
        LiveSource(
            parse_source(server.address), clock=Clock(RATE), transform=Transform(32), live_capacity=5, give_up=0
        ) as live,
    ):
        deadline = time.monotonic() + 30
        while live.dropped < 19 and time.monotonic() < deadline:
            time.sleep(0.05)
        items = take_all(live)
    assert live.dropped == 19 and details_of(items, "dropped") == [{"looks": 19, "total": 19}]
    assert times_of(items) == [19 / RATE + k / RATE for k in range(5)]  # the newest five of 24


def test_a_recording_behind_an_address_loses_nothing(tmp_path):
    path = make_video(tmp_path / "film.mp4", 90, rate=Fraction(15), container={"movflags": "faststart"})
    with (
        serve(path.read_bytes(), has_length=True) as server,
        LiveSource(parse_source(server.address), clock=Clock(RATE), transform=Transform(32), live_capacity=2) as live,
    ):
        time.sleep(1.0)
        items = take_all(live)
    assert details_of(items, "opened") == [{"is_live": False}] and details_of(items, "closed")[0]["status"] == "ok"
    clips = list(decode(path, clock=Clock(RATE), transform=Transform(32)))
    assert times_of(items) == np.concatenate([c.times for c in clips]).tolist() and live.dropped == 0


def test_the_time_of_a_live_stream_only_increases():
    timestamps = [5.0, 5.1, 5.2, 90000.0, 90000.1, 3.0, 3.1, 3.1]
    times = [t for t, _ in monotonic_times(iter([(s, lambda: np.empty(0)) for s in timestamps]), 0.1)]
    steps = np.diff(times)
    assert times[0] == 5.0 and (steps > 0).all() and (steps <= MAX_JUMP).all()
    assert steps[[0, 1, 3, 5]] == pytest.approx(0.1)


def test_a_worker_ends_with_its_parent(film):
    script = (
        "import time, os\nfrom pipeline.media.live import LiveSource\n"
        "from pipeline.media.stream_source import parse_source\n"
        "from pipeline.media.clock import Clock\nfrom pipeline.media.transform import Transform\n"
        f"live = LiveSource(parse_source({str(film)!r}), clock=Clock(4), transform=Transform(32), capacity=1)\n"
        "live.take(1, 20)\nprint(live.process_id, flush=True)\ntime.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
