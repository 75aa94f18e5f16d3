"""The promises throughput and naive: how fast a folder job is, beside its limits and beside a naive loop.

Every figure is a ratio of times that are measured in turn on the same clips, each in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_clips
import proof_tools

ROUNDS = 3
CLIPS, SECONDS, LOOKS = 300, 7.0, 28
STAGES = Path(__file__).with_name("folder_stages.py")


def stage(name: str, **settings: object) -> dict[str, Any]:
    """Measure a stage in a process of its own."""
    scripts = os.pathsep.join(filter(None, [str(proof_tools.REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": scripts}
    done = proof_tools.run_command(sys.executable, STAGES, name, json.dumps(settings), env=environment, timeout=3600)
    return json.loads(done.stdout.strip().splitlines()[-1])


def prepare(data: Path) -> tuple[list[Path], Path]:
    """The clips, and a model that looks 4 times a second. Both are kept from run to run."""
    work = proof_tools.kept_folder("folder").resolve()
    count, seconds = proof_tools.SIZE.pick((CLIPS, SECONDS), (6, 1.0))
    clips = folder_clips.cut_clips(data, work / "clips", count, seconds)
    return clips, train_model(work, clips)


def train_model(work: Path, clips: Sequence[Path], settings: Sequence[str] = ()) -> Path:
    """The model folder of a short training on some of the clips: its answers mean nothing, its cost is real."""
    run = work / "run"
    if not (run / "report.json").is_file():
        shutil.rmtree(run, ignore_errors=True)
        rows = [{"path": str(clip), "label": f"{n % 2}", "split": "train"} for n, clip in enumerate(clips[:24])]
        (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = [
            *settings,
            f"run={run}",
            "clock.rate=4",
            "training.epochs=1",
            "tracking.wandb=off",
            "evaluation.baselines=false",
        ]
        settings += ["data.validation_share=0", f"data.feature_store={work / 'training_store'}"]
        proof_tools.unreel("train", str(work / "rows.jsonl"), *settings)
    return run / "model"


def throughput(data: Path, seeds: int) -> tuple[str, bool]:
    """Clips a second of the job over 1 / (decode + CNN + core), three alternating rounds, medians."""
    clips, model = prepare(data)
    names = [str(clip) for clip in clips]
    looks = LOOKS if not proof_tools.SIZE.toy else 4
    rounds: list[dict[str, float]] = []
    for number in range(proof_tools.SIZE.pick(ROUNDS, 1)):
        decode = stage("decode", clips=names, model=str(model), processes=os.cpu_count() or 1)
        cnn = stage("cnn", looks=looks * len(clips), model=str(model))
        core = stage("core", looks=[looks] * len(clips), model=str(model))
        job = _job(names, model)
        assert decode["looks"] == looks * len(clips), decode
        costs = {name: 1000 * one["seconds"] / len(clips) for name, one in zip("DCH", (decode, cnn, core), strict=True)}
        costs["job"] = 1000 * job["seconds"] / job["clips"]
        rounds.append(costs)
        print(
            f"  round {number + 1}, ms a clip: decode {costs['D']:.1f}, CNN {costs['C']:.1f} ({cnn['precision']}, "
            f"{cnn['best']}), core and heads {costs['H']:.1f}, together {sum(costs[name] for name in 'DCH'):.1f}; "
            f"job {costs['job']:.1f}",
            flush=True,
        )
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    _print_tables(medians)
    ratios = [sum(one[name] for name in "DCH") / one["job"] for one in rounds]
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    figure = f"{ratio:.2f} of the limit (bar 0.90; rounds {spread}; {1000 / medians['job']:.2f} clips a second)"
    return figure, ratio >= 0.90


def _job(names: Sequence[str], model: Path) -> dict[str, float]:
    out = model.parents[1] / "out"
    shutil.rmtree(out, ignore_errors=True)
    return stage("job", paths=names, model=str(model), out=str(out), store=None)


def _print_tables(costs: dict[str, float]) -> None:
    """How long each stage keeps the cores busy, and how fast the job would be if one of them were free."""
    total = sum(costs[name] for name in "DCH")
    words = {"D": "decode and resize", "C": "CNN", "H": "core and heads"}
    print("\n  stage               ms a clip   share of the job   the limit if it were free, clips a second")
    for name, word in words.items():
        print(
            f"  {word:<18} {costs[name]:>10.1f} {costs[name] / costs['job']:>18.2f} "
            f"{1000 / (total - costs[name]):>43.2f}"
        )
    print(f"  {'together':<18} {total:>10.1f} {total / costs['job']:>18.2f} {1000 / total:>43.2f} (nothing free)")


def naive(data: Path, seeds: int) -> tuple[str, bool]:
    """Three thirds of the clips by a naive loop and by the job, in turn."""
    clips, model = prepare(data)
    names = [str(clip) for clip in clips]
    cnn = stage("cnn", looks=LOOKS * 4, model=str(model))
    has_bf16 = cnn["precision"] == "bf16"
    ratios = []
    for third in range(proof_tools.SIZE.pick(ROUNDS, 1)):
        part = names[third::ROUNDS] if not proof_tools.SIZE.toy else names
        loop, job = stage("naive", clips=part, model=str(model)), _job(part, model)
        costs = [1000 * one["seconds"] / one["clips"] for one in (loop, job)]
        ratios.append(costs[0] / costs[1])
        print(f"  third {third + 1}: naive loop {costs[0]:.0f} ms a clip, job {costs[1]:.0f}: {ratios[-1]:.1f} times")
    ratio, bar = statistics.median(ratios), 10.0 if has_bf16 else 2.4
    note = _float32(names[::ROUNDS], model) if has_bf16 else "no bf16 here"
    figure = f"{ratio:.1f} times the naive loop (bar {bar:g} in {cnn['precision']}); {note}"
    return figure, ratio >= bar


def _float32(names: Sequence[str], model: Path) -> str:
    """The job where the processor's bf16 is not used."""
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    try:
        job = _job(names, model)
    finally:
        del os.environ["ONEDNN_MAX_CPU_ISA"]
    return f"with AVX2 at most, in float32, the job takes {1000 * job['seconds'] / job['clips']:.0f} ms a clip"
