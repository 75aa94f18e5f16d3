"""The promise kill: a folder job that ends at any moment gives the same files when its command runs again.

A small library (tests/support/file_faults.c), loaded into the parent process alone, counts the calls that change a file
of the job and stops the process at one of them: as a crash does, or as a failure of the power does, where writes that
were not synced are lost, each by a coin; or it lets the disk be full from that call on. Parents and workers are also
killed by SIGKILL at random moments. After each fault the command runs again, and its files must be byte-equal to those
of a job that was not interrupted, with each input once in the ledger. Results are kept, so the proof can be continued.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import proof_tools

from pipeline.media.write import write_video

SEED = 0
CLIPS = 12
VIEWS = ("predictions.jsonl", "predictions.csv", "predictions.parquet")
FAULTS = proof_tools.REPOSITORY / "tests/support/file_faults.c"
SECONDS = 300
"""Of one job at most."""


class Fault(NamedTuple):
    """What happens to a job. at: the call of the library, or the share of the job's time (kinds parent, worker)."""

    kind: str  # kill, power, full, parent, worker, long
    at: float
    is_warm: bool

    def name(self) -> str:
        """A key for the results."""
        return f"{self.kind} at {self.at:g} ({'warm' if self.is_warm else 'cold'} store)"


class Place(NamedTuple):
    """The files of the proof. library: the compiled file_faults.c."""

    work: Path
    library: Path
    videos: Path
    warm_store: Path

    def command(self, out: Path, store: Path) -> list[str]:
        """The folder job."""
        command = [sys.executable, "-m", "pipeline.cli", "predict", str(self.videos)]
        return [*command, "--model", str(self.work / "run"), "--out", str(out), "--store", str(store)]


def kill(data: Path, seeds: int) -> tuple[str, bool]:
    """Faults at up to 100 calls, 100 failures of the power, full disks, and random SIGKILLs."""
    place = _prepare()
    started = time.monotonic()
    reference, seconds = _reference(place)
    calls = _count_calls(place)
    print(f"  {calls} calls that change a file; seed {SEED}; a job on a warm store takes {seconds['warm']:.1f} s")
    results = place.work / "results.jsonl"
    known = {row["fault"]: row for row in proof_tools.read_json_lines(results)} if results.is_file() else {}
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    for fault in _faults(calls):
        row = known.get(fault.name())
        if row is None:
            row = {"fault": fault.name(), **_run(place, fault, reference, seconds)}
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
        counts[fault.kind] += 1
        counts["hit"] += row["is_hit"]
        if row["problem"]:
            wrong.append(f"{fault.name()}: {row['problem']}")
            print(f"  WRONG {wrong[-1]}", flush=True)
    total = sum(counts.values()) - counts["hit"]
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ("kill", "power", "full", "parent", "worker", "long"))
    minutes = (time.monotonic() - started) / 60
    figure = f"{total - len(wrong)} of {total} jobs gave the same files ({kinds}; {counts['hit']} met their fault)"
    is_enough = counts["hit"] >= 0.8 * total  # a fault that never came proves nothing
    return f"{figure}; {minutes:.0f} minutes; {len(wrong)} wrong", not wrong and is_enough


def _prepare() -> Place:
    """Draw the clips, train a small model on others, compile the library. Kept from run to run."""
    work = proof_tools.kept_folder("kill").resolve()
    place = Place(work, work / "file_faults.so", work / "videos", work / "warm")
    work.mkdir(parents=True, exist_ok=True)
    proof_tools.run_command("gcc", "-O1", "-shared", "-fPIC", "-o", place.library, FAULTS, "-ldl", "-lpthread")
    if not (work / "run/report.json").is_file():
        for name in ("videos", "warm", "run", "train"):
            shutil.rmtree(work / name, ignore_errors=True)
        (work / "results.jsonl").unlink(missing_ok=True)
        _draw(work / "train", 24, 8)
        _draw(place.videos, CLIPS - 1, 40)
        (place.videos / "broken.mp4").write_bytes(b"no video")
        settings = ["encoder.size=64", "core.hidden=16", "training.epochs=1", "tracking.wandb=off"]
        settings += [f"data.feature_store={work / 'training_store'}", "clock.rate=4"]
        proof_tools.run_command(
            sys.executable, "-m", "pipeline.cli", "train", work / "train", f"run={work / 'run'}", *settings, cwd=work
        )
    return place


def _draw(folder: Path, count: int, steps: int) -> None:
    """Clips of noise that drifts, each another one, in two class folders."""
    rng = np.random.default_rng(SEED + count)
    for number in range(count):
        path = folder / f"class{number % 2}" / f"clip{number:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures = rng.integers(0, 255, (1, 48, 64, 3)) + rng.integers(-9, 9, (steps, 48, 64, 3)).cumsum(0)
        write_video(path, np.clip(pictures, 0, 255).astype(np.uint8), fps=4)


def _reference(place: Place) -> tuple[dict[str, str], dict[str, float]]:
    """The digests of the files of a job that is not interrupted, and the seconds of a cold and of a warm one.

    It fills the warm store. The second job must give what the first gave.
    """
    digests, seconds = [], {}
    shutil.rmtree(place.warm_store, ignore_errors=True)
    for kind in ("cold", "warm"):
        out = place.work / f"reference_{kind}"
        shutil.rmtree(out, ignore_errors=True)
        begun = time.monotonic()
        proof_tools.run_command(*place.command(out, place.warm_store), code=1, timeout=SECONDS)  # one clip is broken
        seconds[kind] = time.monotonic() - begun
        digests.append(_digests(out))
        _sleep_until_files_are_old()
    assert digests[0] == digests[1], "a warm store changes the answers"
    return digests[0], seconds


def _sleep_until_files_are_old() -> None:
    """The store trusts the time of a file's change only where it is 2 seconds old."""
    time.sleep(2.1)


def _digests(out: Path) -> dict[str, str]:
    """View -> SHA-256 of its bytes."""
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in VIEWS if (out / name).is_file()}


def _count_calls(place: Place) -> int:
    out, store = _new_folders(place, is_warm=True)
    log = place.work / "calls"
    log.write_text("0")
    environment = _environment(place, out, store, {"FAULT_AT": "0", "FAULT_LOG": str(log)})
    proof_tools.run_command(*place.command(out, store), code=1, env=environment, timeout=SECONDS)
    return int(log.read_text().split()[0])


def _faults(calls: int) -> Iterator[Fault]:
    """What is tried, in this order; the same for the same number of calls."""
    generator = random.Random(SEED)
    num_calls, num_power, num_kills = (proof_tools.SIZE.pick(full, 2) for full in (min(100, calls), 100, 15))
    yield from (Fault("kill", 1 + round(at), True) for at in np.linspace(0, calls - 1, num_calls))
    yield from (Fault("power", generator.randint(1, calls), number % 5 > 0) for number in range(num_power))
    yield from (Fault("full", generator.randint(1, calls), True) for _ in range(proof_tools.SIZE.pick(10, 1)))
    for kind in ("parent", "worker"):
        yield from (Fault(kind, round(generator.uniform(0.3, 1.0), 3), False) for _ in range(num_kills))
    yield Fault("long", 0.6, False)


def _new_folders(place: Place, *, is_warm: bool) -> tuple[Path, Path]:
    """An empty folder of answers, and a store: a copy of the warm one, or an empty one."""
    out, store = place.work / "out", place.work / "store"
    for folder in (out, store):
        shutil.rmtree(folder, ignore_errors=True)
    if is_warm:
        shutil.copytree(place.warm_store, store)
    return out, store


def _environment(place: Place, out: Path, store: Path, variables: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "LD_PRELOAD": str(place.library), "FAULT_FOLDERS": f"{out}:{store}", **variables}


def _run(place: Place, fault: Fault, reference: dict[str, str], seconds: Mapping[str, float]) -> dict[str, object]:
    """Run a job with a fault, then the same command again; says whether the fault came, and what is wrong."""
    if fault.kind == "long":
        return _run_long(place, fault.at)
    out, store = _new_folders(place, is_warm=fault.is_warm)
    command = place.command(out, store)
    problem = ""
    if fault.kind in ("parent", "worker"):
        code, is_hit = _kill_at(command, fault.kind, fault.at * seconds["cold"])
        expected = (-signal.SIGKILL, 1) if fault.kind == "parent" else (1,)
    else:
        settings = {"FAULT_AT": str(round(fault.at)), "FAULT_MODE": fault.kind, "FAULT_SEED": str(round(fault.at))}
        environment = _environment(place, out, store, settings)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        code, is_hit = done.returncode, done.returncode != 1
        expected = (4, 1) if fault.kind == "full" else (-signal.SIGKILL, 1)
        if fault.kind == "full" and code == 4 and not any(str(one) in done.stderr for one in (out, store)):
            problem = f"the sentence names no file: {done.stderr.strip()[-300:]}"
    if code not in expected:
        problem = f"exit code {code}, not {' or '.join(map(str, expected))}"
    again = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if again.returncode != 1:
        problem = f"the second run ended with {again.returncode}: {again.stderr.strip()[-500:]}"
    return {"is_hit": is_hit, "problem": problem or _compare(out, reference, CLIPS)}


def _compare(out: Path, reference: dict[str, str], count: int) -> str:
    """What is wrong with the files and the ledger of a finished job; "" where nothing is."""
    digests = _digests(out)
    if digests != reference:
        return f"other bytes in {', '.join(n for n in VIEWS if digests.get(n) != reference.get(n))}"
    with sqlite3.connect(f"file:{out / 'ledger.sqlite'}?mode=ro", uri=True) as ledger:
        ids = [row[0] for row in ledger.execute("select id from inputs")]
    return "" if len(ids) == len(set(ids)) == count else f"{len(ids)} rows in the ledger, not {count}"


def _kill_at(command: list[str], kind: str, seconds: float) -> tuple[int, bool]:
    """Start a job and kill its parent, or a worker, after some seconds: (exit code, whether one was hit)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    target = process.pid if kind == "parent" else next(iter(_workers_of(process.pid)), 0)
    is_hit = target > 0 and process.poll() is None
    if is_hit:
        with suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)
    return process.wait(timeout=SECONDS), is_hit


def _workers_of(parent: int) -> list[int]:
    """The processes that decode for a job."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and b"pipeline.media.worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def _run_long(place: Place, share: float) -> dict[str, object]:
    """Kill a job in the middle of one long video; the second run gives what an uninterrupted one gives."""
    video = place.work / "long.mp4"
    if not video.is_file():
        rng = np.random.default_rng(SEED)
        count = proof_tools.SIZE.pick(6000, 400)  # 25 minutes of looks
        colours = rng.integers(0, 255, (count, 1, 1, 3))
        write_video(video, np.broadcast_to(colours, (count, 48, 64, 3)).astype(np.uint8), fps=4)
    digests, seconds, is_hit = [], 0.0, False
    for is_killed in (False, True):
        out, store = _new_folders(place, is_warm=False)
        command = place.command(out, store)
        command[command.index("predict") + 1] = str(video)
        if is_killed:
            code, _ = _kill_at(command, "parent", share * seconds)
            is_hit = code == -signal.SIGKILL
        begun = time.monotonic()
        proof_tools.run_command(*command, timeout=SECONDS)
        seconds = time.monotonic() - begun
        digests.append(_digests(out))
    return {"is_hit": is_hit, "problem": "" if digests[0] == digests[1] else "another answer after the kill"}
