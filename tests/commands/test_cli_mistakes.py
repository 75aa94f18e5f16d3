"""Every mistake of a user is a sentence and an exit code, without a traceback."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from commands import call, unreel

from pipeline.cli import VERBS

MISTAKES: dict[str, tuple[str, int, str]] = {
    "missing config": ("train nothing.yaml", 2, "The config 'nothing.yaml' does not exist."),
    "near config": ("train cc.yaml", 2, "Did you mean 'c.yaml'?"),
    "missing folder": ("train nowhere", 2, "There is no config, manifest or folder 'nowhere'."),
    "unknown key": ("train c.yaml trainin.epochs=3", 2, "trainin is not a setting. Did you mean 'training'?"),
    "no value": ("train c.yaml epochs", 2, "'epochs' is no override. Write key=value"),
    "missing data": (
        "train c.yaml data.path=gone.jsonl",
        2,
        "data.path = 'gone.jsonl' does not exist. Give a manifest",
    ),
    "data of another kind": ("train notes.md", 2, "ends in '.md'. It must end in .jsonl or .csv."),
    "empty folder": ("train hollow", 2, "hollow"),
    "broken manifest": ("train broken.jsonl", 2, "line 1: "),
    "no labels": (
        "train c.yaml data.path=unlabelled.jsonl",
        2,
        "has no row with a label, and the head 'action' learns from them. Add labels",
    ),
    "no splits": ("train c.yaml data.path=unsplit.jsonl", 2, "No row has a split"),
    "leak": ("train c.yaml data.split=random", 2, "A random split of these 20 rows would put"),
    "too many folds": ("train c.yaml data.split=folds data.folds=50", 2, "50 folds of 10 groups are requested."),
    "class not in training": (
        "train c.yaml data.path=lonely.jsonl",
        2,
        "The class 'sideways' is in test ('19.npy') and not in training",
    ),
    "pairs": (
        "train c.yaml 'evaluation.pairs=[[up, dwn]]'",
        2,
        "evaluation.pairs names 'dwn', which is no class of the training rows. Did you mean 'down'?",
    ),
    "missing file": ("train c.yaml data.path=absent.jsonl", 2, "is not a stored series"),
    "device": (
        "train c.yaml training.device=quantum",
        2,
        "The device 'quantum' is no device. Use auto, cpu, cuda or cuda:1.",
    ),
    "backbone": (
        "train v.yaml encoder.backbone=resnet19",
        2,
        "The backbone 'resnet19' is not a timm model. Did you mean",
    ),
    "weights": ("train v.yaml encoder.weights=gone.pth", 2, "The weights 'gone.pth' are not a file."),
    "all broken": ("train v.yaml", 2, "is left to train on: 2 videos failed"),
    "stop at a broken one": (
        "train v.yaml data.on_error=stop",
        2,
        "2 videos cannot be read, and data.on_error = stop. The first: ",
    ),
    "stop, from pixels": (
        "train v.yaml data.on_error=stop data.read=pixels",
        2,
        "2 videos cannot be read, and data.on_error = stop.",
    ),
    "features of what learns": (
        "train v.yaml data.read=features encoder.train_blocks=1",
        2,
        "Use data.read: auto, or freeze the CNN",
    ),
    "run below a file": ("train c.yaml run=c.yaml/run", 4, "Not a directory"),
    "run where nobody may write": (
        "train c.yaml run=/proc/unreel",
        4,
        "Check that the disk has room and that the path is yours.",
    ),
    "evaluate no run": ("evaluate hollow", 2, "'hollow' is no run: it holds no config.yaml."),
    "evaluate unknown class": (
        "evaluate run data.path=lonely.jsonl",
        2,
        "has 1 class that the head 'action' of the model does not know: 'sideways' (1 row).",
    ),
    "predict with no model": (
        "predict 0.npy --model hollow --out o",
        3,
        "'hollow' is no model: it holds no model.json.",
    ),
    "predict with nothing": ("predict 0.npy --model gone --out o", 3, "'gone' is no model"),
    "predict below a file": ("predict 0.npy --model run --out c.yaml/out", 4, "Not a directory"),
    "predict on a device": ("predict 0.npy --model run --out o --device quantum", 2, "'quantum' is no device"),
    "predict times without any": (
        "predict 0.npy --model run --out o --format jsonl vtt",
        2,
        "Format vtt contains spans of time, and no head of this model",
    ),
    "extract series": ("extract c.yaml", 2, "encoder.kind is series, and features are extracted from frames."),
    "check nothing": ("check gone.jsonl", 2, "'gone.jsonl' does not exist."),
    "config of nothing": ("config gone.yaml", 2, "The config 'gone.yaml' does not exist."),
    "markdown of a config": (
        "config c.yaml --markdown",
        2,
        "--markdown lists all settings, and the config 'c.yaml' is given.",
    ),
}
"""By name, the arguments, the exit code and a part of the message."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with the files that the mistakes need. No mistake changes it."""
    folder = tmp_path_factory.mktemp("workplace")
    rows = []
    for n in range(20):
        np.save(folder / f"{n}.npy", np.random.default_rng(n).normal(size=(6, 3)))
        rows.append(
            {
                "path": f"{n}.npy",
                "split": "test" if n >= 14 else "train",
                "group": f"g{n // 2}",
                "label": "up" if n % 2 else "down",
            }
        )

    def write(name: str, rows) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("series.jsonl", rows)
    write("unlabelled.jsonl", [{**row, "label": None} for row in rows])
    write("unsplit.jsonl", [{**row, "split": None} for row in rows])
    write("lonely.jsonl", [*rows[:-1], {**rows[-1], "label": "sideways"}])
    write("absent.jsonl", [{**rows[0], "path": "absent.npy"}, *rows[1:]])
    write("videos.jsonl", [{"path": f"{n}.mp4", "split": "train", "label": "ab"[n]} for n in range(2)])
    for name, text in (("broken.jsonl", "{no json\n"), ("notes.md", "notes"), ("0.mp4", "no video"), ("1.mp4", "")):
        (folder / name).write_text(text)
    (folder / "c.yaml").write_text(f"data: {{path: series.jsonl}}\nencoder: {{kind: series}}\n{SMALL}")
    (folder / "v.yaml").write_text(
        "data: {path: videos.jsonl, feature_store: store, validation_share: 0}\n"
        f"encoder: {{size: 64, runtime: torch}}\n{SMALL}"
    )
    (folder / "hollow").mkdir()
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert call("train", "c.yaml", "run=run", "evaluation.baselines=false") == 0
    finally:
        os.chdir(here)
    return folder


SMALL = "core: {hidden: 8}\ntraining: {epochs: 1}\ntracking: {wandb: off}\n"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_a_sentence_and_an_exit_code(name, workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    arguments, code, sentence = MISTAKES[name]
    assert call(*shlex.split(arguments)) == code
    printed = capsys.readouterr()
    assert sentence in printed.err, printed.err
    assert "Traceback" not in printed.err + printed.out
    last = printed.err.strip().splitlines()[-1]
    assert last.endswith((".", "?")), last


def test_a_mistake_in_a_new_process_leaves_no_traceback(workplace):
    result = unreel("train", "c.yaml", "core.cell=lstn", cwd=workplace)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr == (
        "unreel: c.yaml: 1 mistake in the configuration.\n  core.cell = 'lstn' is not known. Did you mean 'lstm'? "
        "One of: rnn_tanh, rnn_relu, lstm, gru, mingru, minlstm, mean.\n"
    )


def test_control_characters_in_names_of_files_are_escaped(workplace, capsys, tmp_path):
    path = tmp_path / "\x1b[31mred\nline.npy"
    np.save(path, np.zeros((4, 9)))
    assert call("predict", path, "--model", workplace / "run", "--out", tmp_path / "o") == 1
    printed = capsys.readouterr().err
    assert "\x1b" not in printed and "\\x1b[31mred\\nline.npy" in printed


def test_a_bug_is_raised_and_not_reported_as_a_mistake_of_the_user(monkeypatch):
    def broken(options):
        raise KeyError("a bug")

    monkeypatch.setitem(VERBS, "config", broken)
    with pytest.raises(KeyError):
        call("config")
