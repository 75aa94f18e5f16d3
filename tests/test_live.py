"""Sources: read in a process of their own, they may hang, crash, stall, lie about the time and come back."""

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
from pipeline.media.feed import MAX_JUMP, steady
from pipeline.media.live import Live, Looks, Note
from pipeline.media.source import parse_source, shown_address
from pipeline.media.transform import Transform

# sources


def test_sources_are_known_by_their_names(tmp_path, monkeypatch):
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
    assert parse_source("rtsp://me:pa@ss@host:554/a?token=x").shown == "rtsp://host:554/a?..."
    assert shown_address("http://host/a") == "http://host/a"
    for given, sentence in (
        (("file:///etc/passwd", None, None), "begins with 'file://' is not watched"),
        (("a.mp4", "3x4", 5), "for the source '-' only"),
        (("-", "3x4", None), "together"),
        (("-", "3,4", 5), "The size of the frames is '3,4'. It is width x height"),
        (("-", "3x4", 0), "The rate of the frames is 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            parse_source(given[0], size=given[1], fps=given[2])


def drained(
    live: Live, *, limit: int = 64, until: Callable[[list[Any]], bool] = lambda seen: False, pause: float = 0.0
) -> list[Any]:
    """What comes, up to the closing note or until enough was seen."""
    seen: list[Any] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not until(seen):
        if (item := live.take(limit, 0.2)) is not None:
            seen.append(item)
            if isinstance(item, Note) and item.kind == "closed":
                return seen
            time.sleep(pause)
    assert time.monotonic() < deadline, "nothing came any more"
    return seen


def times_of(seen: list[Any]) -> list[float]:
    return [t for item in seen if isinstance(item, Looks) for t in item.clip.times]


def notes(seen: list[Any], kind: str) -> list[dict[str, Any]]:
    return [item.facts for item in seen if isinstance(item, Note) and item.kind == kind]


def test_a_file_waits_for_its_reader_and_is_what_predict_sees(film):
    wanted = list(decode(film, clock=Clock(RATE), transform=Transform(32)))
    with Live(parse_source(str(film)), clock=Clock(RATE), transform=Transform(32), capacity=3) as live:
        time.sleep(1.0)
        seen = drained(live, limit=2)
        assert live.dropped == 0
    frames = np.concatenate([item.clip.frames for item in seen if isinstance(item, Looks)])
    assert np.array_equal(frames, np.concatenate([c.frames for c in wanted]))
    assert times_of(seen) == np.concatenate([c.times for c in wanted]).tolist()
    assert notes(seen, "closed") == [{"status": "ok", "error": "", "warnings": []}]
    with Live(parse_source(str(film)), clock=Clock(RATE), transform=Transform(32), start=2.5) as live:
        assert times_of(drained(live)) == [t for t in times_of(seen) if t >= 2.5]


def test_files_that_are_none_and_readers_that_crash_close_with_a_reason(tmp_path, film):
    (tmp_path / "text.mp4").write_text("no video")
    with Live(parse_source(str(tmp_path / "text.mp4")), clock=Clock(RATE), transform=Transform(32)) as live:
        (closed,) = notes(drained(live), "closed")
        assert closed["status"] == "failed:not_a_video" and closed["error"].startswith("The file is text")
    with Live(parse_source(str(film)), clock=Clock(RATE), transform=Transform(256), capacity=1) as live:
        drained(live, limit=1, until=lambda seen: len(times_of(seen)) > 1)
        os.kill(live.process_id or 0, signal.SIGSEGV)
        (closed,) = notes(drained(live), "closed")
        assert closed["status"] == "failed:crashed" and "(SIGSEGV)" in closed["error"]


class Server:
    """Serves a file's bytes without end or length, as a live source does. pace: seconds between two pieces. stall_at:
    bytes after which nothing more comes."""

    def __init__(self, data: bytes, *, pace: float = 0.0, stall_at: int | None = None, length: bool = False) -> None:
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
                if length:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                try:
                    for at in range(0, len(data), 4700):
                        if stall_at is not None and at >= stall_at:
                            time.sleep(30)
                        self.wfile.write(data[at : at + 4700])
                        time.sleep(pace)
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
def served(data: bytes, **options: Any) -> Iterator[Server]:
    server = Server(data, **options)
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def test_a_live_source_whose_reader_is_killed_comes_back_and_its_time_goes_on(film):
    data = film.read_bytes()
    with (
        served(data, pace=6.0 * 4700 / len(data)) as server,  # as fast as it plays
        Live(parse_source(server.address), clock=Clock(RATE), transform=Transform(32), give_up=30) as live,
    ):
        seen = drained(live, until=lambda seen: len(times_of(seen)) > 3)
        os.kill(live.process_id or 0, signal.SIGKILL)
        killed = times_of(seen)[-1]
        seen += drained(live, until=lambda seen: len(times_of(seen)) > 6)
        assert live.reconnects >= 1 and server.connections >= 2
    first = notes(seen, "reconnect")[0]
    assert first["wait"] == 0.5 and "(SIGKILL)" in first["reason"]
    times = times_of(seen)
    assert all(b > a for a, b in pairwise(times)) and np.allclose(
        np.array(times) * RATE, np.round(np.array(times) * RATE)
    )
    assert notes(seen, "opened")[0] == {"is_live": True}
    assert any(
        b - a > 0.4 for a, b in pairwise(t for t in times if t >= killed - 1)
    )  # the time without pictures counts


def test_a_live_source_that_stalls_or_stays_away_is_given_up_by_name(film):
    with (
        served(film.read_bytes(), stall_at=40_000) as server,
        Live(parse_source(server.address), clock=Clock(RATE), transform=Transform(32), patience=1.5, give_up=3) as live,
    ):
        drained(live, until=lambda seen: len(times_of(seen)) > 0)
        server.is_open.clear()
        seen = drained(live)
    waits = [n["wait"] for n in notes(seen, "reconnect")]
    assert waits[:2] == [0.5, 1.0]
    (closed,) = notes(seen, "closed")
    assert closed["status"] == "failed:lost" and "was given up after" in closed["error"] and "secret" not in str(closed)


def test_an_address_that_never_answered_is_a_mistake_at_once():
    with Live(parse_source("http://u:secret@127.0.0.1:9/x"), clock=Clock(RATE), transform=Transform(32)) as live:
        (closed,) = notes(drained(live), "closed")
    assert (
        closed["status"] == "failed:unreachable"
        and "Connection refused" in closed["error"]
        and "secret" not in closed["error"]
    )


def test_a_camera_that_is_not_there_says_so():
    with Live(parse_source("83"), clock=Clock(RATE), transform=Transform(32)) as live:
        (closed,) = notes(drained(live), "closed")
    assert closed["status"] == "failed:no_camera" and closed["error"].startswith("Camera 83 cannot be opened.")


def test_live_looks_that_nobody_takes_are_dropped_oldest_first_and_counted(film):
    with (
        served(film.read_bytes()) as server,
        Live(
            parse_source(server.address), clock=Clock(RATE), transform=Transform(32), live_capacity=5, give_up=0
        ) as live,
    ):
        deadline = time.monotonic() + 30
        while live.dropped < 19 and time.monotonic() < deadline:
            time.sleep(0.05)
        seen = drained(live)
    assert live.dropped == 19 and notes(seen, "dropped") == [{"looks": 19, "total": 19}]
    assert times_of(seen) == [19 / RATE + k / RATE for k in range(5)]  # the newest five of 24


def test_a_recording_behind_an_address_loses_nothing(tmp_path):
    path = make_video(tmp_path / "film.mp4", 90, rate=Fraction(15), container={"movflags": "faststart"})
    with (
        served(path.read_bytes(), length=True) as server,
        Live(parse_source(server.address), clock=Clock(RATE), transform=Transform(32), live_capacity=2) as live,
    ):
        time.sleep(1.0)
        seen = drained(live)
    assert notes(seen, "opened") == [{"is_live": False}] and notes(seen, "closed")[0]["status"] == "ok"
    clips = list(decode(path, clock=Clock(RATE), transform=Transform(32)))
    assert times_of(seen) == np.concatenate([c.times for c in clips]).tolist() and live.dropped == 0


def test_the_time_of_a_live_stream_only_goes_on():
    stamps = [5.0, 5.1, 5.2, 90000.0, 90000.1, 3.0, 3.1, 3.1]
    shown = [t for t, _ in steady(iter([(s, lambda: np.empty(0)) for s in stamps]), 0.1)]
    steps = np.diff(shown)
    assert shown[0] == 5.0 and (steps > 0).all() and (steps <= MAX_JUMP).all()
    assert steps[[0, 1, 3, 5]] == pytest.approx(0.1)


def test_a_reader_ends_with_its_parent(film):
    script = (
        "import time, os\nfrom pipeline.media.live import Live\nfrom pipeline.media.source import parse_source\n"
        "from pipeline.media.clock import Clock\nfrom pipeline.media.transform import Transform\n"
        f"live = Live(parse_source({str(film)!r}), clock=Clock(4), transform=Transform(32), capacity=1)\n"
        "live.take(1, 20)\nprint(live.process_id, flush=True)\ntime.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout
        reader = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(reader) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(reader)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
