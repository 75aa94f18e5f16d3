"""unreel watch as people use it: events on standard output, signals, mistakes, and the overlay."""

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
from streaming import CPU, make_checkpoint

from pipeline.checkpoint import load_model, save_model
from pipeline.cli import main
from pipeline.inference.engine import answer_file
from pipeline.inference.predictor import Predictor
from pipeline.inference.stream import Stream
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.writers.overlay import Overlay, OverlayFile, has_windows

# the overlay


def test_a_look_is_drawn_when_all_heads_have_labelled_it(tmp_path):
    images: list[np.ndarray] = []
    overlay = Overlay(["a", "b"], [images.append])

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
    assert len(images) == 1 and images[0].shape[1] == 480
    overlay(np.empty(0), frames[:0], [event("b", 0.333), event("b", 0.667), event("a", 0.667)])
    assert len(images) == 3 and not np.array_equal(images[0], images[2])  # the time in them
    file = OverlayFile(tmp_path / "o.mp4", fps=3)
    for image in images:
        file.put(image)
    file.close()
    assert sum(len(c.times) for c in decode(tmp_path / "o.mp4", clock=Clock(3), transform=None)) == 3


# the command


def read_events(text: str) -> list[dict[str, Any]]:
    """The events in the lines of a text."""
    return [json.loads(line) for line in text.splitlines()]


def without_latency(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in e.items() if k != "latency_ms"} for e in events]


def without_source(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of the heads alone."""
    return [e for e in events if e["event"] not in ("opened", "closed")]


def test_watch_and_predict_give_the_same_answer_about_a_file(watcher, film, tmp_path, capsys):
    outputs = []
    for batch in ("1", "64"):
        overlay = tmp_path / f"{batch}.mp4"
        assert main(["watch", str(film), "--model", str(watcher), "--batch", batch, "--overlay", str(overlay)]) == 0
        out = capsys.readouterr()
        outputs.append(without_latency(read_events(out.out)))
        assert overlay.stat().st_size > 1000
    events = outputs[0]
    assert (
        outputs[1] == events and events[0]["event"] == "opened" and "probabilities" not in {e["event"] for e in events}
    )
    *_, answer, closed = events
    row = answer_file(film, Predictor(load_model(watcher), CPU)).to_dict()
    assert [closed[key] for key in ("status", "seconds", "looks")] == [
        row[key] for key in ("status", "seconds", "looks")
    ]
    assert answer["label"] == row["action"]["label"]
    assert answer["score"] == pytest.approx(row["action"]["score"], abs=1e-5)


def test_mistakes_end_with_a_sentence_and_an_exit_code(watcher, film, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "both", make_checkpoint(core={"bidirectional": True}))
    save_model(tmp_path / "series", make_checkpoint())
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
        ([str(film), "--model", "series"], 3, "This model reads stored series, and a stream brings frames."),
        (["ftp://x/y", *model], 2, "begins with 'ftp://' cannot be watched"),
        ([str(film), *model, "--lag", "-1"], 2, "lag is -1.0 seconds"),
        ([str(film), *model, "--state", "old.state"], 2, "'old.state' is no saved state"),
        ([str(film), *model, "--state", "other.state"], 2, "is the state of 'other.mp4', and this source is"),
        ([str(film), *model, "--state", "no/where"], 2, "The folder of --state no/where does not exist."),
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
            closed = read_events(out.out)[-1]
            assert (
                closed["event"] == "closed" and closed["status"].startswith("failed:") and closed["error"].endswith(".")
            )


@pytest.fixture(scope="module")
def raw_halves() -> tuple[bytes, bytes]:
    """The halves of a raw video, 20 frames of 40x30 each."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (40, 30, 40, 3), dtype=np.uint8).tobytes()
    return data[: len(data) // 2], data[len(data) // 2 :]


RAW = ["watch", "-", "--size", "40x30", "--fps", "4", "--probabilities"]


@contextmanager
def standard_input(*chunks: bytes, before_end: Callable[[], None] | None = None) -> Iterator[None]:
    """Standard input of the processes that are started in the block. before_end is called before its end."""
    read_end, write_end = os.pipe()
    old = os.dup(0)
    os.dup2(read_end, 0)
    os.close(read_end)

    def write() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            for chunk in chunks:
                pipe.write(chunk)
            pipe.flush()
            if before_end:
                before_end()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(old, 0)
        os.close(old)
        thread.join(30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_the_state_continues_the_events(number, watcher, raw_halves, tmp_path, capsys):
    arguments = [*RAW, "--model", str(watcher)]
    with standard_input(*raw_halves):
        assert main(arguments) == 0
    uninterrupted = read_events(capsys.readouterr().out)

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        out: Any = sys.stdout
        while out.getvalue().count('"probabilities"') < 19 and time.monotonic() < deadline:
            time.sleep(0.02)  # the last frame is shown until the next one comes
        os.kill(os.getpid(), number)
        time.sleep(1.0)

    with standard_input(raw_halves[0], before_end=interrupt):
        assert main([*arguments, "--state", str(tmp_path / "s")]) == 128 + number
    first = read_events(capsys.readouterr().out)
    interrupted = {e["event"] for e in first if e.get("interrupted")}
    assert {"end", "answer"} <= interrupted and first[-1]["status"] == "interrupted"
    with standard_input(raw_halves[0][-40 * 30 * 3 :], raw_halves[1]):
        assert main([*arguments, "--state", str(tmp_path / "s")]) == 0
    second = read_events(capsys.readouterr().out)
    continued = [e for e in first if not e.get("interrupted")] + second
    assert without_source(continued) == without_source(uninterrupted)


def test_a_closed_standard_output_ends_the_command_quietly(watcher, raw_halves):
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline.cli", *RAW, "--model", str(watcher)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(raw_halves[0])
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(raw_halves[1])
        process.stdin.close()
        assert process.wait(60) == 141 and process.stderr.read() == b""
