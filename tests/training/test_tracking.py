"""Tracking: rows of metrics.jsonl, secrets, the mirror in W&B, and errors of W&B."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb_file

from pipeline.training.tracking import Tracker, WandbMode, redact


def start(
    folder: Path,
    mode: WandbMode = "off",
    *,
    from_step: int | None = None,
    messages: list[str] | None = None,
    config: Any = None,
    **changes: Any,
) -> Tracker:
    options: dict[str, Any] = {"project": "made", "name": None, "tags": (), **changes}
    return Tracker(
        folder,
        config or {},
        mode=mode,
        from_step=from_step,
        log=(messages if messages is not None else []).append,
        **options,
    )


def row(step: int, split: str = "train", **extra: Any) -> dict[str, Any]:
    return {"step": step, "epoch": step // 10, "split": split, "loss": 1 / (step + 1), **extra}


def file_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the only offline file, without the keys that W&B adds."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return [{k: v for k, v in row.items() if k[0] != "_"} for row in wandb_file.read(file).history]


# ---- rows


def test_a_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    with start(tmp_path) as tracker:
        for step in range(3):
            tracker.log(row(step))
            assert file_rows(tmp_path) == [row(s) for s in range(step + 1)]


@pytest.mark.parametrize(("from_step", "num_left"), [(None, 0), (0, 0), (3, 3), (5, 6), (99, 10)])
def test_a_resume_removes_the_rows_after_its_step(tmp_path: Path, from_step: int | None, num_left: int) -> None:
    rows = [
        row(1),
        row(2),
        row(3),
        row(4),
        row(5),
        row(5, "val"),
        row(6),
        row(7),
        row(8),
        row(9),
        row(9, "test", head="action"),
        row(9, "test_reversed"),
    ]
    whole = "".join(json.dumps(one) + "\n" for one in rows)
    (tmp_path / "metrics.jsonl").write_text(whole)
    with start(tmp_path, from_step=from_step):
        assert file_rows(tmp_path) == rows[:num_left], "rows up to the step, without the test"


def test_a_half_written_row_is_removed(tmp_path: Path) -> None:
    whole = json.dumps(row(1)) + "\n" + json.dumps(row(2)) + "\n"
    (tmp_path / "metrics.jsonl").write_text(whole[:-9])
    with start(tmp_path, from_step=2) as tracker:
        tracker.log(row(2))
    assert file_rows(tmp_path) == [row(1), row(2)]


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    with start(tmp_path, "offline", is_active=False) as tracker:
        tracker.log(row(1))
        tracker.sync()
        tracker.log_confusion(["a"], [[1]])
        tracker.log_artifact(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


# ---- secrets


@pytest.mark.parametrize(
    "key",
    [
        "api_key",
        "apikey",
        "apiKey",
        "API-KEY",
        "key",
        "token",
        "hf_token",
        "accessToken",
        "auth_tokens",
        "api_keys",
        "secret",
        "client_secret",
        "AWS_SECRET_ACCESS_KEY",
        "password",
        "db.passwd",
        "pwd",
        "passphrase",
        "credentials",
        "Authorization",
        "bearer",
    ],
)
def test_values_below_a_secret_name_are_redacted(key: str) -> None:
    assert redact({"a": {key: "s3cr3t"}}) == {"a": {key: "[redacted]"}}
    assert redact({key: ["s3cr3t", {"user": "me"}, 1234, None, True]}) == {
        key: ["[redacted]", {"user": "[redacted]"}, "[redacted]", None, True]
    }


@pytest.mark.parametrize(
    "key", ["max_tokens", "keyboard", "monkey", "tokens", "author", "hidden", "passes", "compass", "secretary"]
)
def test_values_below_similar_names_are_kept(key: str) -> None:
    assert redact({key: "word", "n": {key: 3}}) == {key: "word", "n": {key: 3}}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:pw@host/x", "https://[redacted]@host/x"),
        ("s3://id:p@ss:w0rd@bucket/a@b", "s3://[redacted]@bucket/a@b"),
        ("https://host/x?token=abc&part=2", "https://host/x?token=[redacted]&part=2"),
        (
            "https://host/x?X-Amz-Signature=abc&X-Amz-Credential=def#access_token=ghi",
            "https://host/x?X-Amz-Signature=[redacted]&X-Amz-Credential=[redacted]#access_token=[redacted]",
        ),
        ("https://host/x?sv=1&sig=abc", "https://host/x?sv=1&sig=[redacted]"),
        ("https://host/search?q=me@home", "https://host/search?q=me@home"),
        ("videos/me@home/key=3", "videos/me@home/key=3"),
    ],
)
def test_credentials_and_tokens_in_urls_are_redacted(text: str, clean: str) -> None:
    assert redact({"data": {"path": text}, "tags": (text, 7)}) == {"data": {"path": clean}, "tags": [clean, 7]}


# ---- W&B


def test_a_killed_and_resumed_offline_run_has_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ["local-0123456789abcdef0123456789abcdef01234567", "made-token-1", "made-password-2", "made-query-3"]
    monkeypatch.setenv("WANDB_API_KEY", secrets[0])
    config = {"hidden": 128, "hf_token": secrets[1], "path": f"s3://me:{secrets[2]}@bucket/x?sig={secrets[3]}"}
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.safetensors").write_bytes(b"weights")

    def start_run(from_step: int | None) -> Tracker:
        return start(
            tmp_path,
            "offline",
            from_step=from_step,
            config=config,
            name="a name",
            tags=("x", f"https://{secrets[2]}@host"),
        )

    first = start_run(None)
    for step in range(1, 8):
        first.log(row(step))
    first.close(exit_code=1)  # it had saved its state at step 5
    rows = [row(step) for step in range(1, 8)] + [
        row(7, "test", head="action"),
        row(7, "test", head="other", paired=True),
    ]
    with start_run(5) as tracker:
        for one in rows[5:]:
            tracker.log(one)
        tracker.log_confusion(["a", "b"], [[3, 1], [0, 2]])
        tracker.log_artifact(tmp_path / "model", "a model!")
    assert file_rows(tmp_path) == rows
    *steps, action, other, _ = wandb_rows(tmp_path)
    assert steps == [{"step": s, "epoch": s // 10, "train/loss": 1 / (s + 1)} for s in range(1, 8)]
    assert action == {"step": 7, "epoch": 0, "test/action/loss": 1 / 8} and other == {
        "step": 7,
        "epoch": 0,
        "test/other/loss": 1 / 8,
    }
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    run = wandb_file.read(file)
    assert {k: v for k, v in run.config.items() if k[0] != "_"} == {
        "hidden": 128,
        "hf_token": "[redacted]",
        "path": "s3://[redacted]@bucket/x?sig=[redacted]",
    }
    assert (run.name, run.project, set(run.tags), run.exit_code) == (
        "a name",
        "made",
        {"x", "https://[redacted]@host"},
        0,
    )
    assert ("a-model-", "model") in run.artifacts and any(kind == "run_table" for _, kind in run.artifacts)
    (table,) = file.parent.glob("files/media/table/*.json")
    assert json.loads(table.read_text())["data"] == [["a", "a", 3], ["a", "b", 1], ["b", "a", 0], ["b", "b", 2]]
    files = [p for p in (tmp_path / "wandb").rglob("*") if p.is_file()]
    assert file in files and not [p for p in files for secret in secrets if secret.encode() in p.read_bytes()]


def test_the_reader_of_offline_files_detects_damage(tmp_path: Path) -> None:
    with start(tmp_path, "offline") as tracker:
        for step in range(400):  # more than one block of 32 KiB
            tracker.log(row(step))
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert len(wandb_rows(tmp_path)) == 400 and file.stat().st_size > 3 * 32_768
    data = bytearray(file.read_bytes())
    data[40_000] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        wandb_rows(tmp_path)


class FakeRun:
    """A W&B run that raises an error in one method."""

    def __init__(self, broken: str) -> None:
        self.broken, self.rows = broken, 0

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, row: Any) -> None:
        self.rows += 1
        if self.broken == "log" and self.rows == 2:
            raise OSError("no space left")

    def finish(self, exit_code: int) -> None:
        if self.broken == "finish":
            raise TimeoutError("no answer")

    def log_artifact(self, artifact: Any) -> None:
        raise KeyError("artifact")


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("init", "RuntimeError: refused"),
        ("log", "OSError: no space left"),
        ("finish", "TimeoutError: no answer"),
        ("artifact", "AttributeError"),
        ("import", "ModuleNotFoundError"),
    ],
)
def test_an_error_of_wandb_is_reported_once_and_the_rows_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, kind: str
) -> None:
    run = FakeRun(broken)

    def init(**_: Any) -> FakeRun:
        if broken == "init":
            raise RuntimeError("refused")
        return run

    fake = SimpleNamespace(init=init, Settings=dict, setup=dict)
    monkeypatch.setitem(sys.modules, "wandb", None if broken == "import" else fake)
    messages: list[str] = []
    with start(tmp_path, "offline", messages=messages) as tracker:
        for step in range(5):
            tracker.log(row(step))
        if broken == "artifact":
            tracker.log_artifact(tmp_path, "model")
            tracker.log_confusion(["a"], [[1]])
    assert [
        kind in text and "The run continues. All rows are in metrics.jsonl." in text
        for text in messages
        if "stopped" in text
    ] == [True]
    assert file_rows(tmp_path) == [row(step) for step in range(5)]
    assert run.rows == {"init": 0, "import": 0, "log": 2}.get(broken, 5)


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        ("auto", {"WANDB_API_KEY": "x"}, "online"),
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_API_KEY": "x", "WANDB_MODE": "disabled"}, None),
        ("online", {"WANDB_MODE": "offline"}, "online"),
        ("off", {"WANDB_API_KEY": "x", "WANDB_MODE": "online"}, None),
    ],
)
def test_mode_and_environment_choose_where_rows_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: WandbMode, environment: dict[str, str], expected: str | None
) -> None:
    modes = []

    def init(**options: Any) -> FakeRun:
        modes.append(options["mode"])
        return FakeRun("")

    fake = SimpleNamespace(init=init, Settings=dict, setup=dict, login=lambda **_: False)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    start(tmp_path, mode).close()
    assert modes == ([expected] if expected else [])


WITHOUT_NETWORK = """
import sys
from pathlib import Path
from test_tracking import row, start
with start(Path(sys.argv[1]), "auto", messages=(messages := [])) as tracker:
    print(*messages, sep="\\n")
    for step in range(20):
        tracker.log(row(step))
"""


@pytest.mark.slow
def test_with_a_key_and_no_network_a_run_says_that_it_waits_and_loses_nothing(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a network namespace")
    root = Path(__file__).parents[2]
    paths = [root, root / "tests/training", root / "tests/support", root / "scripts/proofs"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "HOME": str(tmp_path / "home")}
    environment |= {"WANDB_API_KEY": "f" * 40, "WANDB_INIT_TIMEOUT": "3"}
    command = ["unshare", "-rn", sys.executable, "-c", WITHOUT_NETWORK, str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    result = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr
    waits, reason, offline = result.stdout.splitlines()
    assert waits == "Weights & Biases: waiting for an answer of the server, at most 3 s"
    assert "Nothing is lost: an offline run waits for `wandb sync " in reason
    assert offline.startswith("Weights & Biases: offline, run ")
    assert file_rows(tmp_path / "run") == [row(step) for step in range(20)]
    assert [one["step"] for one in wandb_rows(tmp_path / "run")] == [*range(20)]
    assert not list(tmp_path.glob("run/wandb/run-*")), "the run that did not start leaves no second copy"


def test_an_online_run_that_follows_an_offline_one_logs_its_rows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[FakeRun] = []

    def init(**_: Any) -> FakeRun:
        runs.append(FakeRun(""))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict, setup=dict))
    with start(tmp_path, "offline") as tracker:
        for step in range(3):
            tracker.log(row(step))
    folder = tmp_path / "wandb" / f"offline-run-1-{(tmp_path / 'wandb_id').read_text()}"
    folder.mkdir(parents=True)
    for _ in range(2):
        start(tmp_path, "online", from_step=2).close()
    assert [run.rows for run in runs] == [3, 3, 0] and not folder.exists()
