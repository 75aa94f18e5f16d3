"""Proof `memory`: watch reads hours in constant memory, and continues after the source or itself is killed.

In: nothing; the puppets are made. Out: the memory over three hours, and the events after each kill.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import proof_tools
from loop_source import loop
from streams import QUICK, Event

from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.write import write_video

LOOP = Path(__file__).with_name("loop_source.py")
HOURS = proof_tools.SIZE.pick(3.0, 0.005)
MAX_GROWTH = 20.0  # MB
MAX_KILLS = proof_tools.SIZE.pick(3, 1)
FIRST_LOOKS = proof_tools.SIZE.pick(40, 4)
"""Looks before the server is killed."""


def memory(data: Path, seeds: int) -> tuple[str, bool]:
    """Three hours through a pipe at full speed, a network source that is killed, and kill -9 of the command itself."""
    work = proof_tools.fresh_folder("memory")
    proof_tools.prepare_dataset("puppets", "--size", "tiny", "--out", work / "puppets")
    common = [f"data.feature_store={work}/features", f"run={work}/run", "encoder.size=64", "training.epochs=10"]
    heads = "heads={action: {kind: classify}, timeline: {kind: segment}}"
    proof_tools.unreel("train", work / "puppets/clips.jsonl", *QUICK, *common, heads)
    video = join_videos(work)
    growth, speed = three_hours(work, video)
    is_back, latency = restart_server(work, video)
    kills, is_equal = kill_command(work, video)
    figure = (
        f"{HOURS:g} h at {speed:.0f}x: memory within {growth:.1f} MB after the first minute; network source back: "
        f"{is_back}, latency p50 {latency.get('p50', 0):.0f} ms, p99 {latency.get('p99', 0):.0f} ms; "
        f"{kills} times kill -9, events {'equal' if is_equal else 'DIFFER'}"
    )
    return figure, growth <= MAX_GROWTH and is_back and is_equal


def join_videos(work: Path) -> Path:
    """All long puppets videos as one video."""
    videos = sorted((work / "puppets/long").glob("*.mp4"))
    frames = (f for v in videos for c in decode(v, clock=Clock(15), transform=None) for f in c.frames)
    write_video(work / "joined.mp4", frames, fps=15)
    return work / "joined.mp4"


def command(work: Path, source: str, *options: str) -> list[str]:
    """The command as a user types it."""
    return [sys.executable, "-m", "pipeline.cli", "watch", source, "--model", str(work / "run"), *options]


def three_hours(work: Path, video: Path) -> tuple[float, float]:
    """Measure the resident memory of the command and its worker while three hours go through a pipe.

    Returns the MB between the least and the most after the first minute, and the seconds of video a second.
    """
    source = subprocess.Popen(
        [sys.executable, str(LOOP), str(video), "--seconds", str(HOURS * 3600)], stdout=subprocess.PIPE
    )
    with open(work / "three_hours.jsonl", "wb") as out:
        start = time.monotonic()
        process = subprocess.Popen(
            command(work, "-", "--state", str(work / "h.state")), stdin=source.stdout, stdout=out
        )
        assert source.stdout
        source.stdout.close()
        samples: list[tuple[float, float]] = []
        while process.poll() is None:
            megabytes, processes = tree_megabytes(process.pid)
            if processes == 2 or not samples:  # the worker ends before the last looks are answered
                samples.append((time.monotonic() - start, megabytes))
            time.sleep(0.5)
    source.wait()
    events = [json.loads(line) for line in (work / "three_hours.jsonl").read_text().splitlines()]
    closed = events[-1]
    seconds = samples[-1][0]
    after = [megabytes for time_of_sample, megabytes in samples if time_of_sample >= 60]
    print(
        f"\nmemory of command and worker, MB ({seconds:.0f} s; {closed['looks']} looks, {len(events)} events, "
        f"{closed['status']})"
    )
    for share in range(0, 101, 10):
        time_of_sample, megabytes = samples[min(len(samples) - 1, share * len(samples) // 100)]
        print(f"  {time_of_sample:6.0f} s   {megabytes:7.1f}")
    print(f"  latency of a look at full speed (it waits in a full queue), ms: {closed['latency_ms']}")
    is_whole = closed["status"] == "ok" and abs(closed["seconds"] - HOURS * 3600) < 2 and not closed["dropped"]
    if not is_whole or not after:
        print(f"  not all of the stream was read: {closed}" if not is_whole else "  it took less than a minute")
    return (max(after) - min(after) if after and is_whole else float("inf")), HOURS * 3600 / seconds


def tree_megabytes(pid: int) -> tuple[float, int]:
    """Resident memory of a process and its children, and the number of these processes."""
    total = count = 0
    pids = [pid]
    with contextlib.suppress(OSError):
        pids += [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += [int(p) for p in (task / "children").read_text().split()]
    for child in set(pids):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{child}/status").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
            count += 1
    return total / 1024, count


def restart_server(work: Path, video: Path) -> tuple[bool, dict[str, float]]:
    """Watch a local server in real time. It is killed after `FIRST_LOOKS` and starts again some seconds later."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serve(video, port) as server:
        process = subprocess.Popen(
            command(work, f"http://127.0.0.1:{port}/live", "--probabilities"), stdout=subprocess.PIPE, text=True
        )
        events: list[Event] = []
        assert process.stdout
        reader = threading.Thread(target=lambda: events.extend(map(json.loads, process.stdout or [])), daemon=True)
        reader.start()
        wait_for(lambda: len(looks_of(events)) > FIRST_LOOKS, 120)
        server.kill()
        before = looks_of(events)[-1]
    wait_for(lambda: any(e["event"] == "reconnect" for e in events), 60)
    time.sleep(3.0)
    with serve(video, port):
        wait_for(lambda: looks_of(events)[-1] > before and len(looks_of(events)) > 2 * FIRST_LOOKS, 120)
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    reader.join(10)
    times = looks_of(events)
    gap = float(np.diff(times).max())
    closed = events[-1]
    print(f"\nnetwork: {len(times)} looks, {closed['reconnects']} reconnects, a gap of {gap:.1f} s, exit code {code}")
    print(f"  latency from arrival to event, ms: {closed['latency_ms']}; dropped: {closed['dropped']}")
    is_back = times[-1] > before and gap > 2.0 and bool((np.diff(times) > 0).all()) and code == 130
    return is_back, closed["latency_ms"]


@contextlib.contextmanager
def serve(video: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server in another process."""
    process = subprocess.Popen([sys.executable, str(LOOP), str(video), "--port", str(port)])

    def is_listening() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return True
        return False

    try:
        wait_for(is_listening, 60)
        yield process
    finally:
        process.kill()
        process.wait()


def looks_of(events: list[Event]) -> list[float]:
    """The looks that the head `action` has labelled."""
    return [e["look"] for e in list(events) if e["event"] == "probabilities" and e["head"] == "action"]


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until the condition is true. Raises SystemExit after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"a condition of this proof was not met within {seconds:.0f} s")
        time.sleep(0.1)


def kill_command(work: Path, video: Path) -> tuple[int, bool]:
    """Kill the command on a file at random moments, start it again with its state, and compare with one left alone."""
    half_hour = work / "half_an_hour.ts"
    with open(half_hour, "wb") as out:
        loop(video, out, proof_tools.SIZE.pick(1800, 20))
    uninterrupted = subprocess.run(command(work, str(half_hour)), capture_output=True, text=True, check=True).stdout
    state, out = work / "k.state", work / "killed.jsonl"
    rng, kills = random.Random(0), 0
    while True:
        with open(out, "a") as file:
            process = subprocess.Popen(command(work, str(half_hour), "--state", str(state)), stdout=file)
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and kills < MAX_KILLS:
            if state.exists() and state.stat().st_mtime_ns != before:
                time.sleep(rng.uniform(0, 2.0))
                process.kill()
                break
            time.sleep(0.02)
        if process.wait() == 0:
            break
        kills += 1
    expected, events = final_events(uninterrupted), final_events(out.read_text())
    lost, extra = expected.keys() - events.keys(), events.keys() - expected.keys()
    different = [key for key in expected.keys() & events.keys() if expected[key] != events[key]]
    print(
        f"\nkill -9: {kills} times; {len(expected)} final events, {len(lost)} lost, {len(extra)} too many, "
        f"{len(different)} different"
    )
    return kills, kills > 0 and not lost and not extra and not different


def final_events(text: str) -> dict[tuple[Any, ...], Event]:
    """Actions and answers by kind, head and times. Incomplete lines are skipped, repeated events counted once."""
    events = {}
    for line in text.split("\n"):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event["event"] in ("start", "update", "end", "answer"):
                events[event["event"], event["head"], event.get("start"), event.get("end")] = event
    return events
