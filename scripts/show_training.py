"""Promises about training: resume, wandb.

Each function trains by real `unreel train` commands on made sequences, kills them, and returns (figure as text, whether
the bar holds). What is compared is read from the files that the runs left.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import made_series
import proof
import torch
import wandb_file
from trainings import EPOCH, TWO, Rows, Run, Training, environment_here

Answer = tuple[str, bool]
NO_DROPOUT = ("encoder.dropout=0", "core.input_dropout=0", "heads.action.dropout=0")


def resume(data: Path, seeds: int) -> Answer:
    """Killed runs against uninterrupted ones, in one process and in two."""
    work = proof.fresh("resume")
    make = made_series.make_series(work / "series")
    print(
        f"200 sequences of 5 to 40 steps, label = order of two bumps; {EPOCH} steps an epoch, dropout on, early stop on validation; "
        "a state every 7 steps",
        flush=True,
    )
    holds, interrupted = [], 0
    for seed in range(seeds):
        train = Training(work / f"seed{seed}", make, [f"training.seed={seed}", "tracking.wandb=off"])
        whole = train.finish("whole")
        steps = whole.rows("train")[-1]["step"]
        stopped = f"early stop after epoch {steps // EPOCH} of 60" if steps < 60 * EPOCH else "NO EARLY STOP"
        print(
            f"seed {seed}: uninterrupted: {steps} steps, {stopped}, best epoch {whole.progress['best_epoch'] + 1}",
            flush=True,
        )
        loaded = Training(train.work, make, [f"training.seed={seed}", "tracking.wandb=off", "data.workers=2"])
        broken = [
            train.broken("killed", [(signal.SIGKILL, at) for at in (4, EPOCH + 4, 2 * EPOCH + 8, steps - EPOCH - 4)]),
            train.broken("terminated", [(signal.SIGTERM, 3 * EPOCH + 5)]),
            loaded.broken("Ctrl-C, 2 workers", [(signal.SIGINT, EPOCH + 6)], to_group=True),
        ]
        holds += [steps < 60 * EPOCH, *(same_runs(whole, run) for run in broken)]
        holds.append(any(stop % EPOCH for stop in broken[0].stops))
        interrupted += len(broken)
        settings = [f"training.seed={seed + 1000}", "tracking.wandb=off"]
        other = Training(work / f"other{seed}", make, settings).finish("whole")
        holds.append(not same_runs(whole, other, "another seed (must differ)"))
    figure, equal = _two_processes(work, make)
    return f"{interrupted} interrupted runs bit-equal to whole ones: {all(holds)}; {figure}", all(holds) and equal


def wandb_offline(data: Path, seeds: int) -> Answer:
    """Real offline runs, read back from their binary files by other code."""
    work = proof.fresh("wandb")
    make = made_series.make_series(work / "series")
    train = Training(
        work,
        make,
        [
            "tracking.wandb=offline",
            "tracking.name=a name",
            "tracking.tags=[first, second]",
            "training.epochs=6",
            f"data.features=https://me:{SECRETS[0]}@store.example/x?token={SECRETS[1]}",
        ],
    )
    with environment(WANDB_API_KEY=SECRETS[2], AWS_SECRET_ACCESS_KEY=SECRETS[3]):
        whole = train.finish("whole")
        killed = train.broken("killed", [(signal.SIGKILL, 2 * EPOCH + 4), (signal.SIGKILL, 4 * EPOCH + 9)])
        told = track_directly(work / "direct")
    checks = {}
    for run in (whole, killed):
        checks |= {f"{run.folder.name}: {name}": is_so for name, is_so in _mirror(run).items()}
    checks |= {f"Track with secrets in its config: {name}": is_so for name, is_so in told.items()}
    checks["rows after a kill equal those of the whole run"] = _untimed(whole.rows()) == _untimed(killed.rows())
    checks |= _broken_trackers(work, make)
    for name, is_so in checks.items():
        print(f"  {'yes' if is_so else 'NO':<4}{name}")
    return f"{sum(checks.values())} of {len(checks)} truths about the offline files", all(checks.values())


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for a while."""
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def same_runs(whole: Run, other: Run, what: str = "") -> bool:
    """Whether two finished runs are equal to the last bit: weights, state, rows, report."""
    weights, report = (whole.folder / name for name in ("model/weights.safetensors", "report.json"))
    equal = {
        "weights": weights.read_bytes() == (other.folder / "model/weights.safetensors").read_bytes(),
        "state": _flat(whole.state) == _flat(other.state),
        "metrics.jsonl": _untimed(whole.rows()) == _untimed(other.rows()),
        "report": report.read_bytes() == (other.folder / "report.json").read_bytes(),
    }
    print(
        f"  {what or other.folder.name}: "
        + ", ".join(f"{name} {'equal' if is_so else 'differ'}" for name, is_so in equal.items()),
        flush=True,
    )
    return all(equal.values())


def _untimed(rows: Rows) -> Rows:
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def _flat(value: Any) -> Any:
    """Nested containers with the bytes of their tensors: == is then equality to the last bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {k: _flat(v) for k, v in value.items()}
    return [_flat(v) for v in value] if isinstance(value, list | tuple) else value


def _two_processes(work: Path, manifest: Path) -> Answer:
    """Torchrun against one process; without dropout, for each rank draws masks of its own."""
    settings = [*NO_DROPOUT, "core.recurrent_dropout=0", "tracking.wandb=off"]
    one = Training(work / "one", manifest, settings).finish("whole")
    training = Training(work / "two", manifest, settings, start=TWO)
    result = proof.command(*training.command(work / "two/whole"), env=environment_here())
    two = Run(work / "two/whole")
    replicas = "2 processes ended with equal weights" in result.stderr
    pairs = list(zip(*([r for r in run.rows() if "loss" in r] for run in (one, two)), strict=True))
    gap = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
    alike = all((a["step"], a["part"]) == (b["step"], b["part"]) for a, b in pairs)
    print(
        f"torchrun, 2 processes, dropout 0 (masks differ by rank): {len(pairs)} rows with a loss, largest difference from one process "
        f"{gap:.1e}; replicas {'equal' if replicas else 'NOT SAID TO BE EQUAL'} (digest of all weights, gathered)",
        flush=True,
    )
    settings = ["tracking.wandb=off", "training.epochs=8"]
    dropped = Training(work / "two_dropout", manifest, settings, start=TWO)
    whole = dropped.finish("whole")
    same = same_runs(
        whole,
        dropped.broken("killed", [(signal.SIGKILL, EPOCH + 4), (signal.SIGTERM, 4 * EPOCH + 9)]),
        "2 processes, dropout, killed",
    )
    return (
        f"torchrun: losses within {gap:.1e} (bar 1e-4), replicas equal: {replicas}, resumed bit-equal: {same}",
        gap < 1e-4 and alike and replicas and same,
    )


SECRETS = (
    "hunter2-in-a-url",
    "qv81-token-in-a-query",
    "local-0123456789abcdef0123456789abcdef01234567",
    "aws-Zk3-environment",
    "sk-made-up-key",
    "hf_made_up_token",
    "pa55-made-up",
    "deep-made-up",
    "9076543210",
)


def track_directly(folder: Path) -> dict[str, bool]:
    """A Track whose config is full of secrets."""
    from pipeline.training.track import Track

    folder.mkdir(parents=True)
    config = {
        "api_key": SECRETS[4],
        "nested": [{"hf_token": SECRETS[5]}],
        "db": {"password": SECRETS[6], "port": 5432},
        "credentials": {"user": "me", "value": [SECRETS[7]]},
        "accessToken": int(SECRETS[8]),
        "hidden": 128,
        "max_tokens": 30,
        "path": f"s3://me:{SECRETS[0]}@bucket/videos?X-Amz-Signature={SECRETS[1]}&part=2",
    }
    said: list[str] = []
    with Track(
        folder, config, mode="offline", project="made", name=None, tags=(), from_step=None, say=said.append
    ) as track:
        track.log({"step": 1, "epoch": 0, "part": "train", "loss": 0.5})
    told = wandb_file.read(_only_file(folder))
    kept = {"hidden": 128, "max_tokens": 30, "path": "s3://[redacted]@bucket/videos?X-Amz-Signature=[redacted]&part=2"}
    return {
        "no secret in any byte under wandb/": not _leaks(folder),
        "what is no secret is kept": kept.items() <= told.config.items()
        and told.config["db"] == {"password": "[redacted]", "port": 5432},
        "the row is there": _steps(told) == {(1, "train"): 1},
    }


def _only_file(folder: Path) -> Path:
    found = list(folder.glob("wandb/offline-run-*/*.wandb"))
    if len(found) != 1:
        raise SystemExit(f"{len(found)} offline files in '{folder}', not 1: {found}")
    return found[0]


def _leaks(folder: Path) -> list[str]:
    """Files under wandb/ that hold a secret, and which."""
    files = [p for p in (folder / "wandb").rglob("*") if p.is_file()]
    found = [f"{p}: {secret}" for p in files for secret in SECRETS if secret.encode() in p.read_bytes()]
    print(*found, sep="\n", end="\n" if found else "")
    return found


def _steps(told: wandb_file.Told) -> Counter[tuple[int, str]]:
    """How often each (step, part) was told."""
    return Counter(
        (row["step"], part) for row in told.history for part in sorted({k.split("/")[0] for k in row if "/" in k})
    )


def _mirror(run: Run) -> dict[str, bool]:
    """What has to be true of the one offline file of a finished run."""
    told, rows = wandb_file.read(_only_file(run.folder)), run.rows()
    wanted = []
    for row in rows:
        place = "/".join([row["part"], *([row["head"]] if "head" in row else [])])
        wanted.append(
            {k if k in ("step", "epoch") else f"{place}/{k}": v for k, v in row.items() if not isinstance(v, str)}
        )
    found = [
        {k: v for k, v in row.items() if not k.startswith("_")} for row in told.history if "confusion.path" not in row
    ]
    config, last = told.config, wanted[-1]
    print(
        f"{run.folder.name}: {len(rows)} rows in metrics.jsonl, {len(found)} in {_only_file(run.folder).name}; artifacts: {told.artifacts}"
    )
    tables = [
        json.loads((_only_file(run.folder).parent / "files" / f).read_text())
        for f in told.files
        if f.endswith(".table.json")
    ]
    report = json.loads((run.folder / "report.json").read_text())
    names, matrix = report["classes"]["action"], report["rows"][0]["confusion"]
    cells = [[t, p, matrix[i][j]] for i, t in enumerate(names) for j, p in enumerate(names)]
    return {
        "config is held": config["core"]["hidden"] == 32 and config["training"]["epochs"] == 6,
        "secrets in it are redacted": config["data"]["features"]
        == "https://[redacted]@store.example/x?token=[redacted]",
        "name and tags": told.name == "a name" and set(told.tags) == {"first", "second"},
        "every row of metrics.jsonl once, in order, each number equal": found == wanted,
        "each (step, part) once": set(_steps(told).values()) == {1} and len(_steps(told)) == len(rows),
        "final metrics (summary) equal the last rows": all(told.summary.get(k) == v for k, v in last.items())
        and all(told.summary.get(k) == v for row in wanted for k, v in row.items() if k.startswith("test")),
        "confusion table with every cell": any(t["data"] == cells for t in tables),
        "the model is an artifact": any(kind == "model" for _, kind in told.artifacts),
        "it ended well": told.exit_code == 0,
        "no secret in any byte under wandb/": not _leaks(run.folder),
    }


def _broken_trackers(work: Path, manifest: Path) -> dict[str, bool]:
    """A tracker that cannot start, one that breaks at its first row, one whose service is killed: the run goes on."""
    fakes = {"init raises": "raise RuntimeError('no tracker today')", "log raises": "return Run()"}
    found = {}
    for number, (what, body) in enumerate(fakes.items()):
        folder = work / f"fake{number}"
        folder.mkdir()
        (folder / "wandb.py").write_text(
            "class Run:\n    def define_metric(self, *a, **k): pass\n    def log(self, row): raise OSError('disk "
            f"full')\ndef Settings(**k): pass\ndef init(**k): {body}\n"
        )
        settings = ["tracking.wandb=offline", "training.epochs=2"]
        training = Training(folder, manifest, settings)
        here = environment_here()
        result = proof.command(
            *training.command(folder / "run"), env={**here, "PYTHONPATH": f"{folder}{os.pathsep}{here['PYTHONPATH']}"}
        )
        said = result.stderr.count("Weights & Biases stopped")
        found[f"wandb whose {what}: exit 0, said once, all rows"] = (
            said == 1 and len(Run(folder / "run").rows("train")) == 2 * EPOCH
        )
    blocked = Training(work, manifest, ["tracking.wandb=offline", "training.epochs=2"])
    (work / "blocked").mkdir()
    (work / "blocked/wandb").write_text("a file where wandb wants its folder")
    result = proof.command(*blocked.command(work / "blocked"), env=environment_here())
    print(*(line for line in result.stderr.splitlines() if "Biases" in line), sep="\n")
    found["a file in the place of wandb/: exit 0, said once, all rows"] = (
        result.stderr.count("Weights & Biases stopped") == 1 and len(Run(work / "blocked").rows("train")) == 2 * EPOCH
    )
    return found
