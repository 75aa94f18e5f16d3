"""The promises resume and wandb.

Each function trains synthetic series with real `unreel train` commands, interrupts them, and returns (result as text,
whether the bar holds). It compares only files that the runs wrote.
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
import proof_tools
import torch
import wandb_file
from interrupted_trainings import EPOCH_STEPS, MAX_EPOCHS, TWO_PROCESSES, Rows, Run, Training, cpu_environment

ProofResult = tuple[str, bool]
NO_DROPOUT = ("encoder.dropout=0", "core.input_dropout=0", "heads.action.dropout=0")
MAX_STEPS = MAX_EPOCHS * EPOCH_STEPS
EPOCHS = proof_tools.SIZE.pick(6, 4)


def resume(data: Path, seeds: int) -> ProofResult:
    """Interrupted runs beside uninterrupted ones, with one process and with two."""
    work = proof_tools.fresh_folder("resume")
    manifest = made_series.make_series(work / "series")
    print(
        f"200 sequences of 5 to 40 steps, label = order of two bumps; {EPOCH_STEPS} steps an epoch, with dropout and "
        "early stopping on validation; a saved state every 7 steps",
        flush=True,
    )
    is_equal, interrupted = [], 0
    for seed in range(seeds):
        settings = [f"training.seed={seed}", "tracking.wandb=off"]
        training = Training(work / f"seed{seed}", manifest, settings)
        whole = training.train("whole")
        steps = whole.rows("train")[-1]["step"]
        end = f"early stop after epoch {steps // EPOCH_STEPS} of {MAX_EPOCHS}" if steps < MAX_STEPS else "NO EARLY STOP"
        best = whole.progress["best_epoch"] + 1
        print(f"seed {seed}: uninterrupted: {steps} steps, {end}, best epoch {best}", flush=True)
        with_workers = Training(training.work, manifest, [*settings, "data.workers=2"])
        kills = (4, EPOCH_STEPS + 4, 2 * EPOCH_STEPS + 8, steps - EPOCH_STEPS - 4)
        runs = [
            training.train_interrupted("killed", [(signal.SIGKILL, step) for step in proof_tools.SIZE.some(kills)]),
            with_workers.train_interrupted("Ctrl-C, 2 workers", [(signal.SIGINT, EPOCH_STEPS + 6)], to_group=True),
        ]
        if not proof_tools.SIZE.toy:
            runs.append(training.train_interrupted("terminated", [(signal.SIGTERM, 3 * EPOCH_STEPS + 5)]))
        is_equal += [steps < MAX_STEPS, *(same_runs(whole, run) for run in runs)]
        is_equal.append(any(stop % EPOCH_STEPS for stop in runs[0].stops))
        interrupted += len(runs)
        other_settings = [f"training.seed={seed + 1000}", "tracking.wandb=off"]
        other = Training(work / f"other{seed}", manifest, other_settings).train("whole")
        is_equal.append(not same_runs(whole, other, "another seed (must differ)"))
    text, holds = _two_processes(work, manifest)
    return f"{interrupted} interrupted runs bit-equal to whole ones: {all(is_equal)}; {text}", all(is_equal) and holds


def wandb_offline(data: Path, seeds: int) -> ProofResult:
    """Real offline runs, read from their binary files by independent code."""
    work = proof_tools.fresh_folder("wandb")
    manifest = made_series.make_series(work / "series")
    training = Training(
        work,
        manifest,
        [
            "tracking.wandb=offline",
            "tracking.upload_model=true",
            "tracking.name=a name",
            "tracking.tags=[first, second]",
            f"training.epochs={EPOCHS}",
            f"data.feature_store=https://me:{SECRETS[0]}@store.example/x?token={SECRETS[1]}",
        ],
    )
    with environment(WANDB_API_KEY=SECRETS[2], AWS_SECRET_ACCESS_KEY=SECRETS[3]):
        whole = training.train("whole")
        stops = [(signal.SIGKILL, 2 * EPOCH_STEPS + 4), (signal.SIGKILL, 4 * EPOCH_STEPS + 9)]
        killed = training.train_interrupted("killed", proof_tools.SIZE.some(stops))
        tracker_checks = check_tracker(work / "direct")
    checks = {}
    for run in (whole, killed):
        checks |= {f"{run.folder.name}: {name}": is_true for name, is_true in _check_mirror(run).items()}
    checks |= {f"Tracker with secrets in its config: {name}": is_true for name, is_true in tracker_checks.items()}
    checks["rows after a kill equal those of the whole run"] = _untimed(whole.rows()) == _untimed(killed.rows())
    checks |= _check_wandb_errors(work, manifest)
    for name, is_true in checks.items():
        print(f"  {'yes' if is_true else 'NO':<4}{name}")
    return f"{sum(checks.values())} of {len(checks)} checks of the offline files hold", all(checks.values())


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables for the block."""
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def same_runs(whole: Run, other: Run, name: str = "") -> bool:
    """Whether two finished runs are bit-equal: weights, state, rows, report. Prints a line with this name."""
    weights, report = (whole.folder / path for path in ("model/weights.safetensors", "report.json"))
    equal = {
        "weights": weights.read_bytes() == (other.folder / "model/weights.safetensors").read_bytes(),
        "state": _with_bytes(whole.state) == _with_bytes(other.state),
        "metrics.jsonl": _untimed(whole.rows()) == _untimed(other.rows()),
        "report": report.read_bytes() == (other.folder / "report.json").read_bytes(),
    }
    texts = [f"{part} {'equal' if is_equal else 'differ'}" for part, is_equal in equal.items()]
    print(f"  {name or other.folder.name}: {', '.join(texts)}", flush=True)
    return all(equal.values())


def _untimed(rows: Rows) -> Rows:
    """The rows without durations."""
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def _with_bytes(value: Any) -> Any:
    """Nested containers with bytes instead of tensors, so that == means bit-equal."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _with_bytes(inner) for key, inner in value.items()}
    return [_with_bytes(inner) for inner in value] if isinstance(value, list | tuple) else value


def _two_processes(work: Path, manifest: Path) -> ProofResult:
    """Two processes of torchrun beside one process, without dropout, because each rank draws its own masks."""
    settings = [*NO_DROPOUT, "core.recurrent_dropout=0", "tracking.wandb=off"]
    one = Training(work / "one", manifest, settings).train("whole")
    training = Training(work / "two", manifest, settings, launcher=TWO_PROCESSES)
    result = proof_tools.run_command(*training.command(work / "two/whole"), env=cpu_environment())
    two = Run(work / "two/whole")
    replicas = "2 processes ended with equal weights" in result.stderr
    pairs = list(zip(*([row for row in run.rows() if "loss" in row] for run in (one, two)), strict=True))
    difference = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
    same_rows = all((a["step"], a["split"]) == (b["step"], b["split"]) for a, b in pairs)
    print(
        f"torchrun, 2 processes, dropout 0 (masks differ by rank): {len(pairs)} rows with a loss, largest difference "
        f"from one process {difference:.1e}; replicas {'equal' if replicas else 'NOT REPORTED AS EQUAL'} (digest of "
        "all weights)",
        flush=True,
    )
    settings = ["tracking.wandb=off", f"training.epochs={proof_tools.SIZE.pick(8, 4)}"]
    training = Training(work / "two_dropout", manifest, settings, launcher=TWO_PROCESSES)
    whole = training.train("whole")
    stops = [(signal.SIGKILL, EPOCH_STEPS + 4), (signal.SIGTERM, 4 * EPOCH_STEPS + 9)]
    stopped = training.train_interrupted("killed", proof_tools.SIZE.some(stops))
    resumed = same_runs(whole, stopped, "2 processes, dropout, killed")
    return (
        f"torchrun: losses within {difference:.1e} (bar 1e-4), replicas equal: {replicas}, resumed bit-equal: "
        f"{resumed}",
        difference < 1e-4 and same_rows and replicas and resumed,
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


def check_tracker(folder: Path) -> dict[str, bool]:
    """Checks of a `Tracker` whose config is full of secrets."""
    from pipeline.training.tracking import Tracker

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
    with Tracker(
        folder, config, mode="offline", project="made", name=None, tags=(), from_step=None, log=lambda text: None
    ) as tracker:
        tracker.log({"step": 1, "epoch": 0, "split": "train", "loss": 0.5})
    run = wandb_file.read(_offline_file(folder))
    path = "s3://[redacted]@bucket/videos?X-Amz-Signature=[redacted]&part=2"
    kept = {"hidden": 128, "max_tokens": 30, "path": path, "db": {"password": "[redacted]", "port": 5432}}
    return {
        "no secret in any byte below wandb/": not _leaks(folder),
        "values that are no secrets are kept": kept.items() <= run.config.items(),
        "the row is there": _count_rows(run) == {(1, "train"): 1},
    }


def _offline_file(folder: Path) -> Path:
    """The one offline file of a run. Raises SystemExit where there is not exactly one."""
    files = list(folder.glob("wandb/offline-run-*/*.wandb"))
    if len(files) != 1:
        raise SystemExit(f"{len(files)} offline files in '{folder}', not 1: {files}")
    return files[0]


def _leaks(folder: Path) -> list[str]:
    """The files below wandb/ that contain a secret, with the secret."""
    files = [path for path in (folder / "wandb").rglob("*") if path.is_file()]
    leaks = [f"{path}: {secret}" for path in files for secret in SECRETS if secret.encode() in path.read_bytes()]
    print(*leaks, sep="\n", end="\n" if leaks else "")
    return leaks


def _count_rows(run: wandb_file.WandbRun) -> Counter[tuple[int, str]]:
    """How often each (step, split) was logged."""
    splits = [(row["step"], sorted({key.split("/")[0] for key in row if "/" in key})) for row in run.history]
    return Counter((step, split) for step, row_splits in splits for split in row_splits)


def _expected_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics.jsonl with the keys that it has in W&B."""
    prefix = "/".join([row["split"], *([row["head"]] if "head" in row else [])])
    numbers = {key: value for key, value in row.items() if not isinstance(value, str)}
    return {key if key in ("step", "epoch") else f"{prefix}/{key}": value for key, value in numbers.items()}


def _check_mirror(run: Run) -> dict[str, bool]:
    """Checks of the one offline file of a finished run."""
    file, rows = _offline_file(run.folder), run.rows()
    mirror = wandb_file.read(file)
    expected = [_expected_row(row) for row in rows]
    history = [row for row in mirror.history if "confusion.path" not in row]
    logged = [{key: value for key, value in row.items() if not key.startswith("_")} for row in history]
    counts = f"{len(rows)} rows in metrics.jsonl, {len(logged)} in {file.name}"
    print(f"{run.folder.name}: {counts}; artifacts: {mirror.artifacts}")
    tables = [json.loads((file.parent / "files" / f).read_text()) for f in mirror.files if f.endswith(".table.json")]
    report = proof_tools.read_report(run.folder)
    names, matrix = report["classes"]["action"], report["rows"][0]["confusion"]
    cells = [[t, p, matrix[i][j]] for i, t in enumerate(names) for j, p in enumerate(names)]
    test_numbers = [(key, value) for row in expected for key, value in row.items() if key.startswith("test")]
    final_numbers = [*expected[-1].items(), *test_numbers]
    config, url = mirror.config, "https://[redacted]@store.example/x?token=[redacted]"
    return {
        "the config is there": config["core"]["hidden"] == 32 and config["training"]["epochs"] == EPOCHS,
        "secrets in it are redacted": config["data"]["feature_store"] == url,
        "name and tags": mirror.name == "a name" and set(mirror.tags) == {"first", "second"},
        "every row of metrics.jsonl once, in order, each number equal": logged == expected,
        "each (step, split) once": set(_count_rows(mirror).values()) == {1} and len(_count_rows(mirror)) == len(rows),
        "final metrics (summary) equal the last rows": all(mirror.summary.get(k) == v for k, v in final_numbers),
        "confusion table with every cell": any(table["data"] == cells for table in tables),
        "the model is an artifact": any(kind == "model" for _, kind in mirror.artifacts),
        "exit code 0": mirror.exit_code == 0,
        "no secret in any byte below wandb/": not _leaks(run.folder),
    }


def _check_wandb_errors(work: Path, manifest: Path) -> dict[str, bool]:
    """Checks of runs whose W&B cannot start, fails at its first row, or cannot create its folder: the run continues."""
    fakes = {"init raises": "raise RuntimeError('no tracker today')", "log raises": "return Run()"}
    checks = {}
    for number, (name, body) in enumerate(fakes.items()):
        folder = work / f"fake{number}"
        folder.mkdir()
        (folder / "wandb.py").write_text(
            "class Run:\n    def define_metric(self, *a, **k): pass\n    def log(self, row): raise OSError('disk "
            f"full')\ndef Settings(**k): pass\ndef init(**k): {body}\n"
        )
        path = f"{folder}{os.pathsep}{cpu_environment()['PYTHONPATH']}"
        check = f"wandb whose {name}: exit 0, reported once, all rows"
        checks[check] = _reports_once(Training(folder, manifest, _OFFLINE), folder / "run", PYTHONPATH=path)
    (work / "blocked").mkdir()
    (work / "blocked/wandb").write_text("a file where wandb needs a folder")
    check = "a file in the place of wandb/: exit 0, reported once, all rows"
    checks[check] = _reports_once(Training(work, manifest, _OFFLINE), work / "blocked")
    return checks


_OFFLINE = ("tracking.wandb=offline", "training.epochs=2")


def _reports_once(training: Training, folder: Path, **variables: str) -> bool:
    """Whether a run ends with exit code 0, reports the error of W&B once, and writes all rows."""
    result = proof_tools.run_command(*training.command(folder), env={**cpu_environment(), **variables})
    print(*(line for line in result.stderr.splitlines() if "Biases" in line), sep="\n")
    is_once = result.stderr.count("Weights & Biases stopped") == 1
    return is_once and len(Run(folder).rows("train")) == 2 * EPOCH_STEPS
