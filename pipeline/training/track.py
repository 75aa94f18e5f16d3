"""What a run says while it runs: metrics.jsonl, which is the truth, and Weights & Biases, which mirrors it.

In: rows of numbers. Out: lines in the run's folder, and the same in W&B. An error of the tracker never ends a run: it
is said once, and the rows stay. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from pipeline.whole import write_whole

WandbMode = Literal["auto", "online", "offline", "off"]
Row = Mapping[str, Any]

_SECRET = re.compile(
    r"(?i)(^|[_.-])((api|access|auth|private)_?(keys?|tokens?)|key|token|secrets?|pass(word|wd|phrase)s?|pwd|"
    r"credentials?|auth(orization)?|bearer)([_.-]|$)"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_IN_URL = re.compile(r"(?<=://)[^/?#\s]+@")
_TOKEN_IN_URL = re.compile(
    r"(?i)([?&#;](?:[\w-]*(?:key|token|secret|password|signature|credential)[\w-]*|sig|auth|pwd)=)[^&#;\s]+"
)
_REDACTED = "[redacted]"


def redact(value: Any, key: str = "", *, is_secret: bool = False) -> Any:
    """The same structure with secrets replaced: all texts and numbers under a key that names one, however deep;
    credentials and tokens inside URLs anywhere.
    """
    is_secret = is_secret or bool(_SECRET.search(_CAMEL.sub("_", key)))
    if isinstance(value, Mapping):
        return {k: redact(v, str(k), is_secret=is_secret) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(v, is_secret=is_secret) for v in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret:
        return _REDACTED
    return (
        _TOKEN_IN_URL.sub(rf"\1{_REDACTED}", _IN_URL.sub(f"{_REDACTED}@", value)) if isinstance(value, str) else value
    )


class Track:
    """The rows of one run.

    Each row is {"step", "epoch", "part", numbers...}; times stand in fields that begin with "time/". On a resume, rows
    after `from_step` are cut off and written again by the loop, so that an interrupted run's file equals an
    uninterrupted one's, time fields aside.
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
        say: Callable[[str], None],
        is_active: bool = True,
    ) -> None:
        self.say, self.path, self.is_active, self.folder = say, folder / "metrics.jsonl", is_active, folder
        self._wandb: Any = None
        if not is_active:
            return
        old = _kept(self.path, from_step) if from_step is not None else []
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in old), encoding="utf-8")
        os.replace(partial, self.path)
        self._file = open(self.path, "a", encoding="utf-8")
        if mode != "off":
            try:
                self._start_wandb(folder, config, mode, project, name, tags, old)
            except Exception as error:
                self._give_up(error)

    def log(self, row: Row) -> None:
        """Write one row at once."""
        if not self.is_active:
            return
        self._file.write(json.dumps(dict(row)) + "\n")
        self._file.flush()
        self._guard(lambda run: run.log(_mirrored(row)))

    def sync(self) -> None:
        """Put the rows on the disk, before a state that counts on them."""
        if self.is_active:
            self._file.flush()
            os.fsync(self._file.fileno())

    def confusion(self, names: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
        """A table of the confusion matrix, rows the truth."""

        def send(run: Any) -> None:
            import wandb

            rows = [[t, p, matrix[i][j]] for i, t in enumerate(names) for j, p in enumerate(names)]
            run.log({"confusion": wandb.Table(columns=["truth", "predicted", "count"], data=rows)})

        self._guard(send)

    def sample(self, name: str, made: np.ndarray | list[str], step: int) -> None:
        """Something that a model made while it learns: samples/NAME_STEP.png, or .txt for texts; W&B gets the same."""
        if not self.is_active:
            return
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}_{step:07d}.{'txt' if isinstance(made, list) else 'png'}"
        if isinstance(made, list):
            write_whole(path, "".join(f"{text}\n" for text in made))
        else:
            write_whole(path, cv2.imencode(".png", np.ascontiguousarray(made[..., ::-1]))[1].tobytes())

        def send(run: Any) -> None:
            import wandb

            shown = wandb.Html("<br>".join(map(escape, made))) if isinstance(made, list) else wandb.Image(str(path))
            run.log({f"samples/{name}": shown, "step": step})

        self._guard(send)

    def artifact(self, folder: Path, name: str) -> None:
        """The model's folder as an artifact."""

        def send(run: Any) -> None:
            import wandb

            artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type="model")
            artifact.add_dir(str(folder), policy="immutable")  # no second copy of the weights in the user's home
            run.log_artifact(artifact)

        self._guard(send)

    def __enter__(self) -> Track:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close(exit_code=0 if kind is None else 1)

    def close(self, exit_code: int = 0) -> None:
        """End the run in the tracker."""
        if not self.is_active:
            return
        self._file.close()

        def finish(run: Any) -> None:
            run.finish(exit_code=exit_code)

        self._guard(finish)

    def _guard(self, act: Callable[[Any], None]) -> None:
        """Do something with the W&B run, if there is one."""
        if self._wandb is None:
            return
        try:
            act(self._wandb)
        except Exception as error:  # whatever a tracker does, the run goes on
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._wandb = None
        self.say(
            f"Weights & Biases stopped ({type(error).__name__}: {error}). The run goes on; every row stands in "
            f"{self.path.name}."
        )

    def _start_wandb(
        self,
        folder: Path,
        config: Mapping[str, Any],
        mode: Literal["auto", "online", "offline"],
        project: str,
        name: str | None,
        tags: Sequence[str],
        old: Sequence[Row],
    ) -> None:
        if mode == "auto" and os.environ.get("WANDB_MODE", "").lower() in ("disabled", "dryrun", "offline"):
            if os.environ["WANDB_MODE"].lower() == "disabled":
                return
            mode = "offline"
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        logging.getLogger("wandb").setLevel(logging.ERROR)
        import wandb

        if mode == "auto":
            mode = "online" if os.environ.get("WANDB_API_KEY") or _is_logged_in(wandb.login) else "offline"
        identity = _identity(folder)
        if mode == "offline":
            _drop_unsynced(folder / "wandb", identity)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            program="unreel",
        )
        self._wandb = wandb.init(
            dir=str(folder),
            project=project,
            name=redact(name or folder.name),
            id=identity,
            mode=mode,
            tags=redact(tags),
            resume="allow",
            config=redact(config),
            settings=settings,
        )
        self._wandb.define_metric("step")
        self._wandb.define_metric("*", step_metric="step")
        if mode == "offline":  # the file of the killed process may lack its last block: tell everything again
            for row in old:
                self._wandb.log(_mirrored(row))
        self.say(
            f"Weights & Biases: {mode}, run {identity}" + (f", in {folder / 'wandb'}." if mode == "offline" else ".")
        )


def _mirrored(row: Row) -> dict[str, float]:
    place = f"{row['part']}/{row['head']}" if "head" in row else row["part"]  # heads have metrics of the same names
    return {
        k if k in ("step", "epoch") else f"{place}/{k}": v
        for k, v in row.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }


def _is_logged_in(login: Callable[..., bool]) -> bool:
    """Whether W&B finds credentials that its server takes; a server that cannot be asked is no reason to stop a run."""
    try:
        return login(prompt=False)
    except Exception:  # each of its transports has errors of its own
        return False


def _identity(folder: Path) -> str:
    path = folder / "wandb_id"
    if not path.exists():
        path.write_text(secrets.token_hex(4))
    return path.read_text().strip()


def _drop_unsynced(folder: Path, identity: str) -> None:
    """An offline run that was never sent is written anew from metrics.jsonl, so that nothing is there twice."""
    for run in folder.glob(f"offline-run-*-{identity}"):
        if not any(run.glob("*.synced")):
            shutil.rmtree(run, ignore_errors=True)


def _kept(path: Path, from_step: int) -> list[dict[str, Any]]:
    """The rows of a killed run up to a step; a half-written last line is not a row."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] > from_step or row["part"] not in ("train", "gates", "val"):  # tests are measured again
            break
        rows.append(row)
    return rows


def say_to_stderr(text: str) -> None:
    """The default listener."""
    print(text, file=sys.stderr)
