"""The tracking of a run: rows of numbers in metrics.jsonl, mirrored to Weights & Biases.

In: rows of numbers. Out: lines of metrics.jsonl in the folder of the run, and the same rows in W&B. metrics.jsonl is
the complete record. An error of W&B does not end a run: one message reports it, and the rows stay. It knows nothing of
the meaning of the numbers.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import cv2
import numpy as np

from pipeline.atomic import write_atomic
from pipeline.libraries import import_wandb

_INIT_SECONDS = 20.0
_FINISH_SECONDS = 300.0
"""How long W&B may take to start, and to send at the end what is left. By default it waits 90 s, and for ever."""
_SETTINGS = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "program": "unreel",
}
WandbMode = Literal["auto", "online", "offline", "off"]
MetricsRow = Mapping[str, Any]

_SECRET_NAME = re.compile(
    r"(?i)(^|[_.-])((api|access|auth|private)_?(keys?|tokens?)|key|token|secrets?|pass(word|wd|phrase)s?|pwd|"
    r"credentials?|auth(orization)?|bearer)([_.-]|$)"
)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_USER_IN_URL = re.compile(r"(?<=://)[^/?#\s]+@")
_TOKEN_IN_URL = re.compile(
    r"(?i)([?&#;](?:[\w-]*(?:key|token|secret|password|signature|credential)[\w-]*|sig|auth|pwd)=)[^&#;\s]+"
)
_REDACTED = "[redacted]"


def redact(value: Any, key: str = "", *, is_secret: bool = False) -> Any:
    """A copy of the structure without secrets.

    All texts and numbers below a key that names a secret are replaced, at any depth. In URLs, credentials and tokens
    are replaced everywhere.
    """
    is_secret = is_secret or bool(_SECRET_NAME.search(_CAMEL_CASE.sub("_", key)))
    if isinstance(value, Mapping):
        return {k: redact(v, str(k), is_secret=is_secret) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(v, is_secret=is_secret) for v in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret:
        return _REDACTED
    if isinstance(value, str):
        return _TOKEN_IN_URL.sub(rf"\1{_REDACTED}", _USER_IN_URL.sub(f"{_REDACTED}@", value))
    return value


class Tracker:
    """The rows of one run.

    Each row is {"step", "epoch", "split", numbers...}. Keys of durations begin with "time/". from_step: the step that a
    resumed run continues from; None for a new run. Rows after it are removed, and the loop writes them again. So the
    file of an interrupted run equals that of an uninterrupted one, but for the durations. log: gets messages for the
    user. is_active: whether this process writes; of several processes only one does.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        mode: WandbMode,
        project: str,
        name: str | None,
        tags: Sequence[str],
        from_step: int | None,
        log: Callable[[str], None],
        is_active: bool = True,
    ) -> None:
        self.folder, self.path, self.is_active = folder, folder / "metrics.jsonl", is_active
        self._message = log
        self._wandb: Any = None
        self._is_online = False
        if not is_active:
            return
        rows = _rows_until(self.path, from_step) if from_step is not None else []
        write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = open(self.path, "a", encoding="utf-8")
        if mode != "off":
            try:
                self._start_wandb(config, mode, project, name, tags, rows)
            except Exception as error:
                self._stop_wandb(error)

    def log(self, row: MetricsRow) -> None:
        """Write one row to the file at once."""
        if not self.is_active:
            return
        self._file.write(json.dumps(dict(row)) + "\n")
        self._file.flush()
        self._with_wandb(lambda run: run.log(_wandb_row(row)))

    def sync(self) -> None:
        """Sync the rows to the disk. A state to resume from is saved only after this."""
        if self.is_active:
            self._file.flush()
            os.fsync(self._file.fileno())

    def log_confusion(self, names: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
        """Log the confusion matrix as a table. Its rows are the true classes."""

        def send(run: Any) -> None:
            wandb = import_wandb()
            rows = [[t, p, matrix[i][j]] for i, t in enumerate(names) for j, p in enumerate(names)]
            run.log({"confusion": wandb.Table(columns=["truth", "predicted", "count"], data=rows)})

        self._with_wandb(send)

    def log_sample(self, name: str, sample: np.ndarray | list[str], step: int) -> None:
        """Write a sample that a model generated during training, and log it.

        sample: an image uint8 (H, W, 3), RGB, or texts. The file is samples/NAME_STEP.png, or .txt for texts.
        """
        if not self.is_active:
            return
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}_{step:07d}.{'txt' if isinstance(sample, list) else 'png'}"
        if isinstance(sample, list):
            write_atomic(path, "".join(f"{text}\n" for text in sample))
        else:
            write_atomic(path, cv2.imencode(".png", np.ascontiguousarray(sample[..., ::-1]))[1].tobytes())

        def send(run: Any) -> None:
            wandb = import_wandb()
            is_text = isinstance(sample, list)
            media = wandb.Html("<br>".join(map(escape, sample))) if is_text else wandb.Image(str(path))
            run.log({f"samples/{name}": media, "step": step})

        self._with_wandb(send)

    def log_artifact(self, folder: Path, name: str) -> None:
        """Log the folder of a model as an artifact."""

        def send(run: Any) -> None:
            wandb = import_wandb()
            artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type="model")
            artifact.add_dir(str(folder), policy="immutable")  # no second copy of the weights in the user's home
            run.log_artifact(artifact)

        self._with_wandb(send)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close(exit_code=0 if kind is None else 1)

    def close(self, exit_code: int = 0) -> None:
        """Close the file and end the run in W&B."""
        if not self.is_active:
            return
        self._file.close()

        if self._is_online and self._wandb is not None:
            self._message(f"Weights & Biases: sending what is left, at most {_FINISH_SECONDS:g} s")

        def finish(run: Any) -> None:
            run.finish(exit_code=exit_code)

        self._with_wandb(finish)

    def _with_wandb(self, action: Callable[[Any], None]) -> None:
        """Call `action` with the W&B run, if there is one. An error stops W&B and not the training."""
        if self._wandb is None:
            return
        try:
            action(self._wandb)
        except Exception as error:
            self._stop_wandb(error)

    def _stop_wandb(self, error: Exception) -> None:
        self._wandb = None
        runs = sorted(self.folder.glob("wandb/*run-*"), key=lambda run: run.name.partition("run-")[2])
        sync = f" `wandb sync {runs[-1]}` sends what W&B has kept of them." if runs else ""
        self._message(
            f"Weights & Biases stopped ({type(error).__name__}: {error}). The run continues. All rows are in "
            f"{self.path.name}.{sync}"
        )

    def _start_wandb(
        self,
        config: Mapping[str, Any],
        mode: Literal["auto", "online", "offline"],
        project: str,
        name: str | None,
        tags: Sequence[str],
        rows: Sequence[MetricsRow],
    ) -> None:
        if mode == "auto" and os.environ.get("WANDB_MODE", "").lower() in ("disabled", "dryrun", "offline"):
            if os.environ["WANDB_MODE"].lower() == "disabled":
                return
            mode = "offline"
        logging.getLogger("wandb").setLevel(logging.ERROR)
        wandb = import_wandb()
        if mode == "auto":
            mode = "online" if os.environ.get("WANDB_API_KEY") or _is_logged_in(wandb.login) else "offline"
        run_id = _run_id(self.folder)
        options: dict[str, Any] = {
            "dir": str(self.folder),
            "project": project,
            "name": redact(name or self.folder.name),
            "id": run_id,
            "tags": redact(tags),
            "resume": "allow",
            "config": redact(config),
        }
        if mode == "online" and not self._init_online(wandb, options):
            mode = "offline"
        was_unsynced = _remove_unsynced(self.folder / "wandb", run_id)
        if mode == "offline":
            wandb.setup(wandb.Settings(mode="offline"))  # else `init` opens a session for its telemetry first
            self._wandb = wandb.init(mode="offline", settings=wandb.Settings(**_SETTINGS), **options)
        self._wandb.define_metric("step")
        self._wandb.define_metric("*", step_metric="step")
        if mode == "offline" or was_unsynced:  # a killed process may not have written its last block
            for row in rows:
                self._wandb.log(_wandb_row(row))
        where = f", in {self.folder / 'wandb'}." if mode == "offline" else "."
        self._message(f"Weights & Biases: {mode}, run {run_id}{where}")

    def _init_online(self, wandb: ModuleType, options: Mapping[str, Any]) -> bool:
        """Start the online run. Where the server does not answer in time, or refuses, the user learns it: false."""
        seconds = float(os.environ.get("WANDB_INIT_TIMEOUT") or _INIT_SECONDS)
        self._message(f"Weights & Biases: waiting for an answer of the server, at most {seconds:g} s")
        before = {*(self.folder / "wandb").glob("*")}
        settings = wandb.Settings(
            **_SETTINGS, init_timeout=seconds, finish_timeout=_FINISH_SECONDS, finish_timeout_raises=True
        )
        try:
            self._wandb = wandb.init(mode="online", settings=settings, **options)
        except Exception as error:  # of wandb, of its service process, or of the network
            wandb.teardown()  # its service process still holds the run, also one that it has from its parent
            os.environ.pop("WANDB_SERVICE", None)
            for folder in {*(self.folder / "wandb").glob("run-*")} - before:
                shutil.rmtree(folder, ignore_errors=True)
            self._message(
                f"Weights & Biases: no run on the server ({type(error).__name__}: {_first_line(error)}). Nothing is "
                f"lost: an offline run waits for `wandb sync {self.folder / 'wandb'}/offline-run-*`."
            )
        self._is_online = self._wandb is not None
        return self._is_online


def _wandb_row(row: MetricsRow) -> dict[str, float]:
    """The numbers of a row, with the split (and the head, as heads have metrics of the same names) before each key."""
    prefix = f"{row['split']}/{row['head']}" if "head" in row else row["split"]
    return {
        k if k in ("step", "epoch") else f"{prefix}/{k}": v
        for k, v in row.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }


def _is_logged_in(login: Callable[..., bool]) -> bool:
    """Whether W&B finds credentials, in the user's home or in the environment. The server is not asked."""
    try:
        return login(prompt=False, verify=False)
    except Exception:  # a broken file of credentials must not stop a run
        return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _run_id(folder: Path) -> str:
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    return path.read_text().strip()


def _remove_unsynced(folder: Path, run_id: str) -> bool:
    """Remove offline runs that were never sent. The new run logs all their rows again, so no row is there twice.

    Returns whether there were any.
    """
    unsynced = [run for run in folder.glob(f"offline-run-*-{run_id}") if not any(run.glob("*.synced"))]
    for run in unsynced:
        shutil.rmtree(run, ignore_errors=True)
    return bool(unsynced)


def _rows_until(path: Path, step: int) -> list[dict[str, Any]]:
    """The rows of an interrupted run up to a step, without rows of the test. A half-written last line is no row."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] > step or row["split"] not in ("train", "gates", "val"):  # tests are measured again
            break
        rows.append(row)
    return rows
