"""unreel watch as people use it: events on standard output, signals, mistakes, and what is drawn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from streaming import CPU, made

from pipeline.checkpoint import load_model, save_model
from pipeline.cli import main
from pipeline.inference.predictor import Predictor
from pipeline.inference.stream import Stream
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.writers.overlay import Overlay, OverlayFile, has_windows

# what is drawn


def test_a_look_is_drawn_when_all_heads_have_spoken(tmp_path):
    drawn: list[np.ndarray] = []
    overlay = Overlay(["a", "b"], [drawn.append])

    def event(head: str, look: float) -> dict[str, Any]:
        return {
            "event": "probabilities",
            "head": head,
            "look": look,
            "label": "sit",
            "top": [{"label": "sit", "score": 0.5}],
        }

    frames = np.zeros((3, 32, 32, 3), np.uint8)
    overlay(np.array([0.0, 1 / 3, 2 / 3]), frames, [event("a", 0.0), event("a", 0.333), event("b", 0.0)])
    assert len(drawn) == 1 and drawn[0].shape[1] == 480
    overlay(np.empty(0), frames[:0], [event("b", 0.333), event("b", 0.667), event("a", 0.667)])
    assert len(drawn) == 3 and not np.array_equal(drawn[0], drawn[2])  # the clock
    file = OverlayFile(tmp_path / "o.mp4", fps=3)
    for picture in drawn:
        file.put(picture)
    file.close()
    assert sum(len(c.times) for c in decode(tmp_path / "o.mp4", clock=Clock(3), transform=None)) == 3


# the command


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def without_latency(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in e.items() if k != "latency_ms"} for e in events]


def test_watch_says_on_a_file_what_predict_says(watcher, film, tmp_path, capsys):
    said = []
    for batch in ("1", "64"):
        overlay = tmp_path / f"{batch}.mp4"
        assert main(["watch", str(film), "--model", str(watcher), "--batch", batch, "--overlay", str(overlay)]) == 0
        out = capsys.readouterr()
        said.append(without_latency(lines(out.out)))
        assert overlay.stat().st_size > 1000
    events = said[0]
    assert said[1] == events and events[0]["event"] == "opened" and "probabilities" not in {e["event"] for e in events}
    *_, answer, closed = events
    row = Predictor(load_model(watcher), CPU).watch(film)
    assert (closed["status"], closed["seconds"], closed["looks"]) == (row.status, round(row.seconds, 3), row.looks)
    wanted = row.predictions["action"].row(5)
    assert answer["label"] == wanted["label"] and answer["score"] == pytest.approx(wanted["score"], abs=1e-5)


def test_mistakes_are_sentences(watcher, film, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "both", made(core={"bidirectional": True}))
    save_model(tmp_path / "series", made())
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "old.state").write_text("no state")
    stream = Stream(load_model(watcher), CPU)
    stream.save_state(tmp_path / "other.state", {"source": "other.mp4"})
    model = ["--model", str(watcher)]
    mistakes: list[tuple[list[str], int, str]] = [
        (["text.mp4", *model], 1, ""),
        (["gone.mp4", *model], 1, ""),
        ([str(film), "--model", "gone"], 3, "'gone' is no model"),
        ([str(film), "--model", "both"], 3, "core is bidirectional"),
        ([str(film), "--model", "series"], 3, "This model reads stored series, and a stream brings pictures."),
        (["ftp://x/y", *model], 2, "begins with 'ftp://' is not watched"),
        ([str(film), *model, "--lag", "-1"], 2, "lag is -1.0 seconds"),
        ([str(film), *model, "--state", "old.state"], 2, "'old.state' is no saved state"),
        ([str(film), *model, "--state", "other.state"], 2, "is the state of 'other.mp4', and this source is"),
        ([str(film), *model, "--state", "no/where"], 2, "--state no/where stands in a folder that is not there."),
        ([str(film), *model, "--device", "quantum"], 2, "'quantum' is no device"),
        (
            [str(film), *model, "--overlay", "no/where.mp4"],
            4,
            "Check that the disk has room and that the path is yours.",
        ),
    ]
    if not has_windows():
        mistakes.append(([str(film), *model, "--window"], 2, "--window needs an OpenCV with windows"))
    for arguments, code, sentence in mistakes:
        assert main(["watch", *arguments]) == code, arguments
        out = capsys.readouterr()
        assert sentence in out.err and "Traceback" not in out.err, (arguments, out.err)
        if code == 1:
            closed = lines(out.out)[-1]
            assert (
                closed["event"] == "closed" and closed["status"].startswith("failed:") and closed["error"].endswith(".")
            )


@pytest.fixture(scope="module")
def painted() -> tuple[bytes, bytes]:
    """Two halves of a raw film, 20 frames of 40x30 each."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (40, 30, 40, 3), dtype=np.uint8).tobytes()
    return data[: len(data) // 2], data[len(data) // 2 :]


RAW = ["watch", "-", "--size", "40x30", "--fps", "4", "--probabilities"]


@contextmanager
def typed(*pieces: bytes, then: Callable[[], None] | None = None) -> Iterator[None]:
    """Standard input, as processes that are started now see it; `then` comes before its end."""
    read_end, write_end = os.pipe()
    old = os.dup(0)
    os.dup2(read_end, 0)
    os.close(read_end)

    def feed() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            for piece in pieces:
                pipe.write(piece)
            pipe.flush()
            if then:
                then()

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(old, 0)
        os.close(old)
        thread.join(30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_goes_on_and_the_state_takes_it_up(number, watcher, painted, tmp_path, capsys):
    arguments = [*RAW, "--model", str(watcher)]
    with typed(*painted):
        assert main(arguments) == 0
    uninterrupted = lines(capsys.readouterr().out)

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        out: Any = sys.stdout
        while out.getvalue().count('"probabilities"') < 19 and time.monotonic() < deadline:
            time.sleep(0.02)  # the last frame is shown until the next one comes
        os.kill(os.getpid(), number)
        time.sleep(1.0)

    with typed(painted[0], then=interrupt):
        assert main([*arguments, "--state", str(tmp_path / "s")]) == 128 + number
    read = lines(capsys.readouterr().out)
    cut = [e for e in read if e.get("interrupted")]
    assert {"end", "answer"} <= {e["event"] for e in cut} and read[-1]["status"] == "interrupted"
    with typed(painted[0][-40 * 30 * 3 :], painted[1]):
        assert main([*arguments, "--state", str(tmp_path / "s")]) == 0
    rest = lines(capsys.readouterr().out)
    kept = [e for e in read if not e.get("interrupted") and e["event"] not in ("opened", "closed")]
    again = [e for e in rest if e["event"] not in ("opened", "closed")]
    assert kept + again == [e for e in uninterrupted if e["event"] not in ("opened", "closed")]


def test_a_reader_of_events_that_goes_away_is_no_tragedy(watcher, painted):
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline.cli", *RAW, "--model", str(watcher)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe) as one:
        assert one.stdin and one.stdout and one.stderr
        one.stdin.write(painted[0])
        one.stdin.flush()
        one.stdout.readline()
        one.stdout.close()
        one.stdin.write(painted[1])
        one.stdin.close()
        assert one.wait(60) == 141 and one.stderr.read() == b""
