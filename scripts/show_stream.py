"""The promises of streaming: watching says what predicting says, for hours, through deaths of the source and of itself."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import proof
import torch
from loop_source import loop

from pipeline.checkpoint import load_model, save_model
from pipeline.inference.predictor import Answer, Predictor
from pipeline.media.clock import Clock
from pipeline.media.decode import decode
from pipeline.media.write import write_video
from pipeline.padded import stack
from pipeline.watch import watch

Event = dict[str, Any]
BATCHES = (1, 7, 64)
RUNTIMES = ("openvino", "torch")
SIZE = "small"
LOOP = Path(__file__).with_name("loop_source.py")
HOURS = 3.0
FLAT = 20.0  # MB
QUICK = ["tracking.wandb=off", "evaluation.baselines=false", "evaluation.orders=false", "encoder.size=96"]


# [stream]


def stream(data: Path, seeds: int) -> tuple[str, bool]:
    """A classifier and a timeline, both causal, on videos of unseen actors: watched in three chunkings with each runtime
    of the CNN.
    """
    work = proof.fresh("stream")
    proof.prepare_dataset("puppets", "--size", SIZE, "--out", work / "puppets")
    common = ["clock.rate=6", "core.input_dropout=0", "core.hidden=256", "encoder.project=256", "training.lr=0.002"]
    # fmt: off
    for head, (manifest, *settings) in {
        "action": ["clips.jsonl", "training.epochs=15", "heads={action: {kind: classify}}"],
        "timeline": ["long.jsonl", "training.epochs=60", "training.batch_size=8", "data.window=256",
                     "heads={timeline: {kind: segment}}"],
    }.items():
        proof.unreel("train", work / "puppets" / manifest, *QUICK, f"data.features={work}/features", f"run={work}/{head}",
                     *common, *settings)
    # fmt: on
    rows = [json.loads(line) for line in (work / "puppets/long.jsonl").read_text().splitlines()]
    videos = [work / "puppets" / r["path"] for r in rows if r["split"] == "test"][:3]
    wrong: list[str] = []
    compared = 0
    for head, comparison in {"action": compare_answers, "timeline": compare_timelines}.items():
        for runtime in RUNTIMES:
            folder = with_runtime(work, head, runtime)
            print(f"\n{head}, {runtime}: chunks of {', '.join(map(str, BATCHES))} looks", flush=True)
            for video in videos:
                found, count = comparison(folder, video)
                wrong += [f"{head}, {runtime}, {video.name}: {problem}" for problem in found]
                compared += count
    print("\n" + ("\n".join(wrong) if wrong else "All events agree."))
    cases = f"2 heads, {len(RUNTIMES)} runtimes, {len(videos)} videos, chunks of {BATCHES}"
    return f"{compared} events compared ({cases}), {len(wrong)} differences", not wrong and compared > 0


def with_runtime(work: Path, head: str, runtime: str) -> Path:
    """A copy of a model whose CNN runs on another runtime."""
    checkpoint = load_model(work / head)
    encoder = checkpoint.recipe.encoder.model_copy(update={"runtime": runtime})
    recipe = checkpoint.recipe.model_copy(update={"encoder": encoder})
    folder = work / f"{head}_{runtime}"
    save_model(folder, type(checkpoint)(checkpoint.model, recipe, checkpoint.vocabularies, None, checkpoint.notes))
    return folder


def watched(model: Path, source: Path, **options: Any) -> list[Event]:
    """The events of the verb, in this process; what differs from run to run (latency) left out."""
    events: list[Event] = []
    watch(str(source), model, emit=events.append, device="cpu", **options)
    return [{k: v for k, v in e.items() if k != "latency_ms"} for e in events]


def chunked(folder: Path, video: Path, answer: Answer) -> tuple[dict[int, list[Event]], list[str]]:
    """The events by chunking, and what differs between them or from predict's status."""
    events = {b: watched(folder, video, batch=b, probabilities=True, top=99) for b in BATCHES}
    first = events[BATCHES[0]]
    wrong = [f"chunks of {b} give other events" for b in BATCHES if events[b] != first]
    if (first[-1]["status"], first[-1]["looks"]) != (answer.status, answer.looks):
        wrong.append(f"predict saw {answer.looks} looks ({answer.status}), watch {first[-1]['looks']}")
    return events, wrong


def compare_answers(folder: Path, video: Path) -> tuple[list[str], int]:
    """What differs in the answer about the whole; how many events were compared."""
    answer = Predictor(load_model(folder), torch.device("cpu")).watch(video)
    row = answer.predictions["action"].row(99)
    events, wrong = chunked(folder, video, answer)
    first = events[BATCHES[0]]
    said = next(e for e in first if e["event"] == "answer")
    gap = score_gap(said["top"], row["top"])
    if said["label"] != row["label"] or gap > 1e-5:
        wrong.append(f"the answers differ by {gap:.1e}")
    print(
        f"  {video.name}: {len(first)} events; the answer is predict's ({row['label']}), scores within {gap:.0e}",
        flush=True,
    )
    return wrong, sum(map(len, events.values())) + 1


def compare_timelines(folder: Path, video: Path) -> tuple[list[str], int]:
    """What differs with a lag of the whole (nothing may) and with one of a second; how many events were compared."""
    predictor = Predictor(load_model(folder), torch.device("cpu"))
    answer = predictor.watch(video)
    row = answer.predictions["timeline"].row(99)
    events, wrong = chunked(folder, video, answer)
    first = events[BATCHES[0]]
    whole = {b: watched(folder, video, batch=b, lag=answer.seconds + 1) for b in BATCHES}
    for b in BATCHES:
        found = actions(whole[b])
        gaps = [abs(a["score"] - s["score"]) for a, s in zip(found, row["spans"], strict=False)]
        if spans(found) != spans(row["spans"]) or max(gaps, default=0.0) > 1e-4:
            wrong.append(f"with a lag of the whole, chunks of {b} give other actions than predict")
    settled = [e for e in first if e["event"] == "probabilities"]
    if [e["label"] for e in settled] != lagged_path(predictor, "timeline", video):
        wrong.append("the settled labels are not those of the fixed lag over predict's features")
    late = max(e["time"] - e["look"] for e in settled)
    wrong += [f"a label came {late:.2f} s late"] if late > 1.0 + 1e-3 else []
    lagged, truth = spans(actions(first)), spans(row["spans"])
    wrong += [] if truth and lagged else ["there is no action to compare"]
    near = sum(any(is_near(a, t, 1 + 1 / predictor.clock.rate) for t in truth) for a in lagged)
    print(
        f"  {video.name}: {len(first)} events; with a lag of the whole the {len(truth)} actions are predict's; at 1 s {near} of "
        f"{len(lagged)} lie within 1 s of one of them, and each look is settled at most {late:.2f} s later",
        flush=True,
    )
    return wrong, sum(map(len, [*events.values(), *whole.values()]))


def actions(events: list[Event]) -> list[Event]:
    """The actions on the timeline that ended."""
    return [e for e in events if e["event"] == "end" and e["head"] == "timeline"]


def spans(events: list[Event]) -> list[tuple[float, float, str]]:
    """Start, end and label alone."""
    return [(e["start"], e["end"], e["label"]) for e in events]


def is_near(a: tuple[float, float, str], b: tuple[float, float, str], seconds: float) -> bool:
    """One label, and both ends not farther apart."""
    return a[2] == b[2] and abs(a[0] - b[0]) <= seconds and abs(a[1] - b[1]) <= seconds


def score_gap(a: list[Event], b: list[Event]) -> float:
    """The largest difference of two lists of scores by label."""
    others = {one["label"]: one["score"] for one in b}
    return max(abs(one["score"] - others[one["label"]]) for one in a)


def lagged_path(predictor: Predictor, name: str, video: Path) -> list[str | None]:
    """What fixed-lag Viterbi (one second) says offline, over the features that predict looks at."""
    section: Any = predictor.checkpoint.recipe.encoder
    clips = decode(video, clock=predictor.clock, transform=section.transform(), backend=section.decoder)
    features = np.concatenate([predictor.look(c.frames).astype(np.float16) for c in clips])
    head: Any = predictor.model.head(name)
    head.lag_steps = round(predictor.clock.rate)
    with torch.inference_mode():
        seen = predictor.model.watch({"frames": stack([torch.from_numpy(features)])})
        labels = head.lagged(head.emissions(seen)).data[0].tolist()
    names = [head.vocabulary.names[n] for n in labels]
    return [None if n == head.background else n for n in names]


# [memory]


def memory(data: Path, seeds: int) -> tuple[str, bool]:
    """Three hours through a pipe at full speed, a network source that dies, and kill -9 of the command itself."""
    work = proof.fresh("memory")
    proof.prepare_dataset("puppets", "--size", "tiny", "--out", work / "puppets")
    # fmt: off
    proof.unreel(
        "train", work / "puppets/clips.jsonl", *QUICK, f"data.features={work}/features", f"run={work}/run", "encoder.size=64",
        "training.epochs=10", "heads={action: {kind: classify}, timeline: {kind: segment}}",
    )
    # fmt: on
    video = joined(work)
    flat, speed = three_hours(work, video)
    is_back, latency = network(work, video)
    kills, is_equal = killed(work, video)
    figure = (
        f"{HOURS:g} h at {speed:.0f}x: memory within {flat:.1f} MB after the first minute; network source back: {is_back}, "
        f"latency p50 {latency.get('p50', 0):.0f} ms, p99 {latency.get('p99', 0):.0f} ms; {kills} times kill -9, events "
        f"{'equal' if is_equal else 'DIFFER'}"
    )
    return figure, flat <= FLAT and is_back and is_equal


def joined(work: Path) -> Path:
    """All long puppets videos as one."""
    videos = sorted((work / "puppets/long").glob("*.mp4"))
    frames = (f for v in videos for c in decode(v, clock=Clock(15), transform=None) for f in c.frames)
    write_video(work / "joined.mp4", frames, fps=15)
    return work / "joined.mp4"


def command(work: Path, source: str, *more: str) -> list[str]:
    """The verb as a user types it."""
    return [sys.executable, "-m", "pipeline.cli", "watch", source, "--model", str(work / "run"), *more]


def three_hours(work: Path, video: Path) -> tuple[float, float]:
    """Resident memory of the command and its reader while three hours go through a pipe: (MB between the least and the
    most after the first minute, seconds of video a second).
    """
    feeder = subprocess.Popen(
        [sys.executable, str(LOOP), str(video), "--seconds", str(HOURS * 3600)], stdout=subprocess.PIPE
    )
    with open(work / "three_hours.jsonl", "wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(
            command(work, "-", "--state", str(work / "h.state")), stdin=feeder.stdout, stdout=out
        )
        assert feeder.stdout
        feeder.stdout.close()
        samples: list[tuple[float, float]] = []
        while process.poll() is None:
            megabytes, processes = tree_megabytes(process.pid)
            if processes == 2 or not samples:  # at the end the reader is gone before the last looks are answered
                samples.append((time.monotonic() - began, megabytes))
            time.sleep(0.5)
    feeder.wait()
    events = [json.loads(line) for line in (work / "three_hours.jsonl").read_text().splitlines()]
    closed = events[-1]
    seconds = samples[-1][0]
    after = [mb for at, mb in samples if at >= 60]
    print(
        f"\nmemory of command and reader, MB ({seconds:.0f} s; {closed['looks']} looks, {len(events)} events, {closed['status']})"
    )
    for share in range(0, 101, 10):
        at, mb = samples[min(len(samples) - 1, share * len(samples) // 100)]
        print(f"  {at:6.0f} s   {mb:7.1f}")
    print(f"  latency of a look at full speed (it waits in a full queue), ms: {closed['latency_ms']}")
    is_whole = closed["status"] == "ok" and abs(closed["seconds"] - HOURS * 3600) < 2 and not closed["dropped"]
    if not is_whole or not after:
        print(f"  not the whole: {closed}" if not is_whole else "  it took less than a minute")
    return (max(after) - min(after) if after and is_whole else float("inf")), HOURS * 3600 / seconds


def tree_megabytes(pid: int) -> tuple[float, int]:
    """Resident memory of a process and its children, and how many they are."""
    total = count = 0
    pids = [pid]
    with contextlib.suppress(OSError):
        pids += [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += [int(p) for p in (task / "children").read_text().split()]
    for one in set(pids):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
            count += 1
    return total / 1024, count


def network(work: Path, video: Path) -> tuple[bool, dict[str, float]]:
    """A server over loopback, at the speed of life: killed after a while, and back some seconds later."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(video, port) as server:
        process = subprocess.Popen(
            command(work, f"http://127.0.0.1:{port}/live", "--probabilities"), stdout=subprocess.PIPE, text=True
        )
        events: list[Event] = []
        assert process.stdout
        reader = threading.Thread(target=lambda: events.extend(map(json.loads, process.stdout or [])), daemon=True)
        reader.start()
        wait_for(lambda: len(looks_of(events)) > 40, 120)
        server.kill()
        before = looks_of(events)[-1]
    wait_for(lambda: any(e["event"] == "reconnect" for e in events), 60)
    time.sleep(3.0)
    with served(video, port):
        wait_for(lambda: looks_of(events)[-1] > before and len(looks_of(events)) > 80, 120)
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    reader.join(10)
    times = looks_of(events)
    hole = float(np.diff(times).max())
    closed = events[-1]
    print(f"\nnetwork: {len(times)} looks, {closed['reconnects']} reconnects, a hole of {hole:.1f} s, exit code {code}")
    print(f"  latency from arrival to event, ms: {closed['latency_ms']}; dropped: {closed['dropped']}")
    is_back = times[-1] > before and hole > 2.0 and bool((np.diff(times) > 0).all()) and code == 130
    return is_back, closed["latency_ms"]


@contextlib.contextmanager
def served(video: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server in a process of its own."""
    process = subprocess.Popen([sys.executable, str(LOOP), str(video), "--port", str(port)])

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return True
        return False

    try:
        wait_for(answers, 60)
        yield process
    finally:
        process.kill()
        process.wait()


def looks_of(events: list[Event]) -> list[float]:
    """The looks that one head spoke about."""
    return [e["look"] for e in list(events) if e["event"] == "probabilities" and e["head"] == "action"]


def wait_for(is_so: Any, seconds: float) -> None:
    """Until it is so; SystemExit when it does not become so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit("what was waited for did not come")
        time.sleep(0.1)


def killed(work: Path, video: Path) -> tuple[int, bool]:
    """The command on a file, killed at random moments and started again with its state, beside one that was left alone."""
    film = work / "half_an_hour.ts"
    with open(film, "wb") as out:
        loop(video, out, 1800)
    alone = subprocess.run(command(work, str(film)), capture_output=True, text=True, check=True).stdout
    state, out = work / "k.state", work / "killed.jsonl"
    rng, kills = random.Random(0), 0
    while True:
        with open(out, "a") as file:
            process = subprocess.Popen(command(work, str(film), "--state", str(state)), stdout=file)
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and kills < 3:
            if state.exists() and state.stat().st_mtime_ns != before:
                time.sleep(rng.uniform(0, 2.0))
                process.kill()
                break
            time.sleep(0.02)
        if process.wait() == 0:
            break
        kills += 1
    wanted, found = final(alone), final(out.read_text())
    lost, more = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    other = [k for k in wanted.keys() & found.keys() if wanted[k] != found[k]]
    print(
        f"\nkill -9: {kills} times; {len(wanted)} final events, {len(lost)} lost, {len(more)} too many, {len(other)} different"
    )
    return kills, kills > 0 and not lost and not more and not other


def final(text: str) -> dict[tuple[Any, ...], Event]:
    """Actions and answers by what they are about; a line that a kill cut in two is none, what came twice is one."""
    found = {}
    for line in text.split("\n"):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event["event"] in ("start", "update", "end", "answer"):
                found[event["event"], event["head"], event.get("start"), event.get("end")] = event
    return found
