"""The promise silent: nothing leaves the machine unasked, and nothing is written where it does not belong.

Every verb runs with an empty home under strace, which sees the children in C++ and Go too. No socket but those of the
machine itself (AF_UNIX) may be made. No file may be opened for writing outside runs/, the cache, out/, the temporary
folder and /dev/shm, and nothing may be left in the last two. Then every verb runs again in an empty network namespace,
with the same answers. Python's own caches (__pycache__) are switched off.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import proof_tools

VIDEOS = "../data/clips.jsonl"
SMALL = ("encoder.size=64", "core.hidden=16", "training.epochs=2", "data.window=8")
GENERATE = ("encoder.size=16", "core.hidden=8", "heads.clip.channels=8", "heads.clip.critic.channels=8")
TEXTS = ("training.epochs=2", "core.hidden=16", "encoder.embedding=12", "data.window=null")
FORMATS = ("jsonl", "csv", "parquet", "srt", "vtt", "elan", "activitynet")
JOBS: dict[str, tuple[str, ...]] = {
    "list settings": ("config",),
    "print a config": ("config", VIDEOS),
    "check": ("check", VIDEOS, "--contents", "--near-duplicates"),
    "extract": ("extract", VIDEOS, *SMALL),
    "train": ("train", VIDEOS, "run=runs/clips", *SMALL, "data.workers=1"),
    "evaluate": ("evaluate", "runs/clips"),
    "predict": ("predict", "../data/clips", "--model", "runs/clips", "--out", "out/clips", "--format", *FORMATS[:3]),
    "predict part 0": ("predict", "../data/clips", "--model", "runs/clips", "--out", "out/parts", "--shard", "0/2"),
    "predict part 1": ("predict", "../data/clips", "--model", "runs/clips", "--out", "out/parts", "--shard", "1/2"),
    "merge": ("merge", "out/parts"),
    "status": ("status", "out/parts"),
    "verify": ("verify", "out/clips", "--sample", "20%"),
    "watch": ("watch", "../data/one.mp4", "--model", "runs/clips"),
    "train a timeline": (
        *("train", "puppets/timeline.yaml", f"data.path={VIDEOS}", "run=runs/timeline", "encoder.runtime=torch"),
        *("tracking.wandb=off", *SMALL),
    ),
    "predict a timeline": (
        *("predict", "../data/one.mp4", "--model", "runs/timeline", "--out", "out/spans", "--format", *FORMATS),
    ),
    "train to generate": (
        *("train", "puppets/generate.yaml", f"data.path={VIDEOS}", "run=runs/generate", "training.epochs=2", *GENERATE),
    ),
    "generate": (
        "generate",
        "--model",
        "runs/generate",
        "--out",
        "out/made",
        "--label",
        "bend_down",
        "--format",
        "png",
    ),
    "train on texts": ("train", "../data/texts.yaml", "run=runs/texts", *TEXTS),
    "predict texts": ("predict", "../data/texts.txt", "--model", "runs/texts", "--out", "out/texts"),
    "generate a text": ("generate", "--model", "runs/texts", "--prompt", "a", "--seed", "1"),
}
"""What runs, by name, in this order, in a folder beside data/. Every verb is among them."""
EXIT_CODES = {"check": 1}
"""The exit codes that are not 0: `check` finds that so few videos do not give every split every class."""
DEVICES = ("/dev/null", "/dev/tty", "/dev/shm/", "/memfd:", "pipe:", "socket:", "anon_inode:")
OOM_SCORE = re.compile(r"/proc/\d+/oom_score_adj")
"""A worker asks the system to end it before its parent where memory ends."""

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_OPENED = re.compile(r"= \d+<(.+?)>(?:\(deleted\))?$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Trace(NamedTuple):
    """What a job did: the sockets that are not local, the files opened for writing, and all names in /dev/shm."""

    sockets: list[str]
    written: list[str]
    shared: set[str]


LATENCY = re.compile(r'"latency_ms": \{[^}]*\}')
"""Times in the last event of `watch`, which differ from run to run."""


class Answer(NamedTuple):
    """What a job said: its exit code, its standard output, and the rows that it wrote, as JSON (nan equals nan)."""

    code: int
    output: str
    rows: str


def silent(data: Path, seeds: int) -> tuple[str, bool]:
    """Every verb under strace, and again without a network: the number of faults."""
    if not shutil.which("strace"):
        return "strace is not installed, and the proof needs it: apt-get install strace", False
    work = proof_tools.fresh_folder("silent").resolve()
    make_data(work / "data")
    faults: list[str] = []
    answers: dict[str, Answer] = {}
    for name, answer, trace in run_jobs(work / "traced", is_traced=True):
        answers[name] = answer
        assert trace is not None
        found = [*faults_of(answer, work / "traced", trace, EXIT_CODES.get(name, 0)), *left(work / "traced")]
        faults += [f"{name}: {fault}" for fault in found]
        print(f"  {name:<20} exit {answer.code}, {len(trace.written)} files written, {len(trace.sockets)} sockets")
        print("".join(f"  FAULT {fault}\n" for fault in found), end="", flush=True)
    if can_unshare():
        for name, answer, _ in run_jobs(work / "alone", prefix=("unshare", "-rn")):
            if answer != answers[name]:
                faults.append(f"{name}: another answer in an empty network namespace")
                print(f"  FAULT {faults[-1]}", flush=True)
        alone = "the same answers in an empty network namespace"
    else:
        alone = "not run in an empty network namespace: this machine does not allow `unshare -rn`"
    return f"{len(JOBS)} commands, {len(faults)} faults; {alone}", not faults


def make_data(folder: Path) -> None:
    """The tiny puppets, one video by itself, and texts, in a folder that the jobs only read."""
    proof_tools.prepare_dataset("puppets", "--size", "tiny", "--out", folder)
    shutil.copy(min((folder / "clips").glob("*.mp4")), folder / "one.mp4")
    rows = [
        {"path": f"t/{i}", "split": ("train", "train", "val", "test")[i % 4], "text": f"a {mood} film number {i % 7}"}
        for i, mood in enumerate(["good", "bad"] * 20)
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts.yaml").write_text(
        "encoder: {kind: tokens}\ndata: {path: ../data/texts.jsonl}\nheads: {next: {kind: language}}\n"
    )
    (folder / "texts.txt").write_text("a good film\na bad film\n")


def run_jobs(
    folder: Path, prefix: Sequence[str] = (), *, is_traced: bool = False, variables: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Answer, Trace | None]]:
    """Run every job in `folder`, with an empty home; yields its name, its answer and its trace."""
    for name in ("home", "cache", "tmp", "out"):
        (folder / name).mkdir(parents=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "UNREEL_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(proof_tools.REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        **(variables or {}),
    }
    path = folder / "trace.txt"
    strace = ["strace", "-f", "-qq", "-y", "-o", str(path)]
    strace += ["-e", "trace=network,openat,open,creat,link,linkat,rename,renameat,renameat2"]
    for name, job in JOBS.items():
        command = [*prefix, *(strace if is_traced else ()), sys.executable, "-m", "pipeline.cli", *job]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
        if done.returncode != EXIT_CODES.get(name, 0):
            print(f"  {name}: exit {done.returncode}\n{done.stderr[-2000:]}")
        trace = read_trace(path.read_text(errors="replace").splitlines()) if is_traced else None
        yield (
            name,
            Answer(done.returncode, LATENCY.sub("", done.stdout).replace(str(folder), ""), _rows(folder, job)),
            trace,
        )


def _rows(folder: Path, job: Sequence[str]) -> str:
    """The rows that a job wrote to --out, or to the report of its run, as JSON."""
    if "--out" in job:
        path = folder / job[job.index("--out") + 1] / "predictions.jsonl"
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    run = next((word.removeprefix("run=") for word in job if word.startswith("run=")), None)
    if run and (folder / run / "report.json").is_file():
        return json.dumps(proof_tools.read_report(folder / run)["rows"])
    return ""


def can_unshare() -> bool:
    """Whether this machine lets us make an empty network namespace."""
    unshare = shutil.which("unshare")
    return unshare is not None and not subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode


def read_trace(lines: Sequence[str]) -> Trace:
    """What the lines of strace say. A call that another process interrupts has two lines, which are joined."""
    begun: dict[str, str] = {}
    trace = Trace([], [], set())
    for line in lines:
        process = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>")
            continue
        if "resumed>" in line and process in begun:
            line = begun.pop(process) + line.split("resumed>", 1)[1]
        call = _CALL.match(line)
        if call is None:
            continue
        name, rest = call[2], call[3]
        if name in ("socket", "socketpair") and not rest.startswith(("AF_UNIX", "AF_LOCAL")):
            trace.sockets.append(f"{name}({rest}")
        for path in _QUOTED.findall(rest):
            if path.startswith("/dev/shm/") and name in ("link", "linkat", "rename", "renameat", "renameat2"):
                trace.shared.add(path)
        opened = _OPENED.search(rest)
        is_writing = name == "creat" or re.search(r"\bO_(WRONLY|RDWR|CREAT)\b", rest)
        if name in ("open", "openat", "creat") and opened and is_writing:
            trace.written.append(opened[1])
            if opened[1].startswith("/dev/shm/"):
                trace.shared.add(opened[1])
    return trace


def faults_of(answer: Answer, folder: Path, trace: Trace, code: int = 0) -> list[str]:
    """A sentence for each thing that a job must not do. code: the exit code that it should have."""
    allowed = (*DEVICES, *(f"{folder / name}/" for name in ("runs", "cache", "out", "tmp")))
    faults = [f"exit code {answer.code}"] if answer.code != code else []
    faults += [f"a socket that is not local: {socket}" for socket in trace.sockets]
    written = [path for path in dict.fromkeys(trace.written) if not OOM_SCORE.fullmatch(path)]
    faults += [f"opened for writing: {path}" for path in written if not path.startswith(allowed)]
    return faults + [f"left behind: {path}" for path in sorted(trace.shared) if Path(path).exists()]


def left(folder: Path) -> list[str]:
    """A sentence for each file or folder in the home and in the temporary folder."""
    return [f"left behind: {path}" for name in ("home", "tmp") for path in sorted((folder / name).rglob("*"))]
