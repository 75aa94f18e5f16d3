"""The promises linear and warm: many clips and long videos cost no more a look, and stored features need no video.

In: the folder of the real data. Costs are compared within one run; memory is that of the whole process tree (PSS, so
what processes share counts once).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import proof_tools
from folder_clips import cut_clips
from folder_speed import prepare, stage, train_model

from pipeline.media.write import write_video

COUNTS = (300, 1000, 3000)
MINUTES = (1, 30, 180)
ROUNDS = 3
NAMES = 100_000
HEADS = {
    **{f"classify{n}": {"kind": "classify"} for n in range(4)},
    **{f"segment{n}": {"kind": "segment"} for n in range(3)},
    **{f"forecast{n}": {"kind": "forecast", "horizon": 4} for n in range(2)},
    "caption": {"kind": "caption", "beam": 5},
}


class Cost(NamedTuple):
    """What a job cost. milliseconds: a look, without the start. megabytes: peak PSS of its processes."""

    milliseconds: float
    megabytes: float


def linear(data: Path, seeds: int) -> tuple[str, bool]:
    """Clips of 1 s and one long video at three sizes, a plan of 100,000 names, and ten heads beside one."""
    work = proof_tools.kept_folder("linear").resolve()
    clips = cut_clips(data, work / "clips", proof_tools.SIZE.pick(COUNTS[-1], 8), 1.0)
    model = train_model(work, clips)
    sizes = proof_tools.SIZE.pick(COUNTS, (2, 4, 8))
    many = [_median_cost(work, model, clips[:count], f"{count} clips") for count in sizes]
    lengths = proof_tools.SIZE.pick(MINUTES, (0.1, 0.2, 0.4))
    long = [_median_cost(work, model, [_long_video(work, minutes)], f"{minutes:g} minutes") for minutes in lengths]
    plan = _plan_seconds(work, model)
    heads = _ten_heads(data, work)
    problems = []
    for name, costs in (("clips", many), ("one video", long)):
        middle, largest = costs[1], costs[2]
        if largest.milliseconds > 1.1 * middle.milliseconds:
            problems.append(f"{name}: {largest.milliseconds:.2f} ms a look against {middle.milliseconds:.2f}")
        if largest.megabytes > middle.megabytes + 50:
            problems.append(f"{name}: {largest.megabytes:.0f} MB against {middle.megabytes:.0f}")
    if plan > 20:
        problems.append(f"the plan took {plan:.1f} s")
    if heads > 1.2:
        problems.append(f"ten heads cost {heads:.2f} times one")
    print("".join(f"  WRONG {problem}\n" for problem in problems), end="")
    ratios = [costs[2].milliseconds / costs[1].milliseconds for costs in (many, long)]
    more = [costs[2].megabytes - costs[1].megabytes for costs in (many, long)]
    figure = (
        f"a look of the largest costs {ratios[0]:.2f} (clips) and {ratios[1]:.2f} (one video) of the middle one's (bar "
        f"1.10); memory {more[0]:+.0f} and {more[1]:+.0f} MB (bar +50); {NAMES:,} names planned in {plan:.1f} s (bar "
        f"20); ten heads {heads:.2f} times one (bar 1.20)"
    )
    return figure, not problems


def _long_video(work: Path, minutes: float) -> Path:
    """A video whose looks all differ: coloured noise, 4 frames a second."""
    path = work / f"long_{minutes:g}.mp4"
    if not path.is_file():
        rng = np.random.default_rng(0)
        count = round(minutes * 60 * 4)
        write_video(path, (rng.integers(0, 255, (60, 80, 3), np.uint8) for _ in range(count)), fps=4, quality=35)
    return path


def _median_cost(work: Path, model: Path, paths: Sequence[Path], name: str) -> Cost:
    costs = [_cost(work, model, paths) for _ in range(proof_tools.SIZE.pick(ROUNDS, 1))]
    cost = Cost(statistics.median(c.milliseconds for c in costs), statistics.median(c.megabytes for c in costs))
    print(f"  {name}: {cost.milliseconds:.2f} ms a look, {cost.megabytes:.0f} MB", flush=True)
    return cost


def _cost(work: Path, model: Path, paths: Sequence[Path]) -> Cost:
    """One job. The start is excluded: the clock begins when the first picture was decoded (its line on the log)."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    (work / "list.txt").write_text("\n".join(map(str, paths)))
    command = [sys.executable, Path(__file__).with_name("folder_stages.py"), "looks"]
    settings = {"paths": [f"@{work / 'list.txt'}"], "model": str(model), "out": str(out)}
    environment = {**os.environ, "PYTHONPATH": str(proof_tools.REPOSITORY)}
    process = subprocess.Popen([*command, json.dumps(settings)], stdout=subprocess.PIPE, text=True, env=environment)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_pss(process.pid))
        time.sleep(0.1)
    assert process.stdout is not None and process.returncode == 0, "the job failed"
    result = json.loads(process.stdout.read().strip().splitlines()[-1])
    return Cost(1000 * result["seconds"] / result["looks"], peak)


def tree_pss(root: int) -> float:
    """The memory of a process and its children in MB; what they share counts once."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    members, total = {root}, 0
    for pid in sorted(parents):
        if parents[pid] in members:
            members.add(pid)
    for pid in members:
        with suppress(OSError, IndexError):
            total += int(re.findall(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[0])
    return total / 1024


def _plan_seconds(work: Path, model: Path) -> float:
    """`--dry-run` on a folder of many names, seconds with the start."""
    folder = work / "names"
    for number in range(proof_tools.SIZE.pick(NAMES, 100)):
        path = folder / f"{number % 100:02d}" / f"{number}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    started = time.monotonic()
    proof_tools.unreel("predict", folder, "--model", model, "--out", work / "planned", "--dry-run")
    return time.monotonic() - started


def _ten_heads(data: Path, work: Path) -> float:
    """The cost of a job with ten heads over that of one classify head, on the same clips."""
    clips = cut_clips(data, work / "seven", proof_tools.SIZE.pick(60, 4), proof_tools.SIZE.pick(7.0, 2.0))
    costs = {}
    for name, heads in (("one", {"classify0": HEADS["classify0"]}), ("ten", HEADS)):
        run = work / f"run_{name}"
        if not (run / "report.json").is_file():
            shutil.rmtree(run, ignore_errors=True)
            rows = [
                {
                    "path": str(clip),
                    "label": "ab"[n % 2],
                    "split": "train",
                    "captions": ["a person moves on a mat"],
                    "spans": [[0.0, 1.0, "a"], [1.0, 2.0, "b"]],
                }
                for n, clip in enumerate(clips[:16])
            ]
            (work / "rows_heads.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            config = {
                "data": {
                    "path": str(work / "rows_heads.jsonl"),
                    "validation_share": 0,
                    "window": None,
                    "feature_store": str(work / "s"),
                },
                "clock": {"rate": 4},
                "heads": heads,
                "training": {"epochs": 1},
                "evaluation": {"baselines": False},
                "tracking": {"wandb": "off"},
            }
            (work / f"{name}.yaml").write_text(json.dumps(config))  # JSON is YAML
            proof_tools.unreel("train", str(work / f"{name}.yaml"), f"run={run}")
        costs[name] = [_cost(work, run / "model", clips).milliseconds for _ in range(proof_tools.SIZE.pick(ROUNDS, 1))]
    one, ten = (statistics.median(costs[name]) for name in ("one", "ten"))
    print(f"  one classify head {one:.2f} ms a look, ten heads {ten:.2f}", flush=True)
    return ten / one


def warm(data: Path, seeds: int) -> tuple[str, bool]:
    """A second model on a warm store, with another --out: its time beside a cold job's, and the files that it opens."""
    clips, model = prepare(data)
    work = proof_tools.fresh_folder("warm").resolve()
    second = train_model(work, clips, ["core.cell=lstm", "training.seed=1"])
    names, store = [str(clip) for clip in clips], work / "store"
    time.sleep(2.1)  # the store trusts the time of a change that is 2 seconds old
    cold = stage("job", paths=names, model=str(model), out=str(work / "cold"), store=str(store))
    warms = [
        stage("job", paths=names, model=str(second), out=str(work / f"warm{n}"), store=str(store))
        for n in range(proof_tools.SIZE.pick(ROUNDS, 1))
    ]
    alone = stage("stored", store=str(store), model=str(second))
    opened = _opened_videos(work, second, clips[0].parent, store)
    precision = stage("cnn", looks=28, model=str(model))["precision"]
    bar = 8.0 if precision == "bf16" else 30.0
    cost = statistics.median(one["seconds"] / one["clips"] for one in warms)
    ratio = cold["seconds"] / cold["clips"] / cost
    figure = (
        f"{ratio:.1f} times the cold job (bar {bar:g} in {precision}), {1000 * cost:.1f} ms a clip; reading features, "
        f"core and heads alone {1000 * alone['seconds'] / alone['clips']:.1f} ms; {opened} videos opened (bar 0)"
    )
    return figure, ratio >= bar and opened == 0


def _opened_videos(work: Path, model: Path, clips: Path, store: Path) -> int:
    """How many video files a warm job opens, by strace."""
    trace = work / "trace.txt"
    command = ["strace", "-f", "-qq", "-e", "trace=openat,open,openat2", "-o", trace, sys.executable, "-m"]
    command += ["pipeline.cli", "predict", clips, "--model", model, "--out", work / "traced", "--store", store]
    proof_tools.run_command(*command, timeout=3600)
    lines = trace.read_text(errors="replace").splitlines()
    return sum(f'"{clips}/' in line and "ENOENT" not in line and "O_DIRECTORY" not in line for line in lines)
