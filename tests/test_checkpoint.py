"""Model folders: a loaded model answers as the saved one, and a damaged folder is refused with the part that is wrong.

No code of a folder runs.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.checkpoint import Checkpoint, ModelError, find_model, load_model, save_model
from pipeline.cli import main
from pipeline.config.architecture import Architecture
from pipeline.config.core import CoreSection
from pipeline.config.encoders import FramesSection, SeriesSection
from pipeline.config.heads import ClassifySection
from pipeline.data.vocabulary import Vocabulary
from pipeline.padded import stack

NAMES = Vocabulary(("bend", "clap", "wave"))


def random_checkpoint(architecture: Architecture, input_size: int | None = None) -> Checkpoint:
    torch.manual_seed(0)
    vocabularies = dict.fromkeys(architecture.heads, NAMES)
    model = architecture.build(vocabularies, input_size=input_size).eval()
    return Checkpoint(model, architecture, vocabularies, input_size, {"seed": 7, "data": "x"})


@pytest.fixture
def folder(tmp_path) -> Path:
    save_model(
        tmp_path / "m",
        random_checkpoint(Architecture(encoder=SeriesSection(project=8), core=CoreSection(cell="lstm", hidden=9)), 5),
    )
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("architecture", "width"),
    [
        (
            Architecture(
                encoder=SeriesSection(project=8, normalise="fitted"),
                core=CoreSection(cell="lstm", hidden=9, layers=2, bidirectional=True),
            ),
            5,
        ),
        (
            Architecture(
                encoder=SeriesSection(project=0, normalise="none"), core=CoreSection(cell="mean", hidden=9, layers=1)
            ),
            5,
        ),
        (
            Architecture(
                encoder=FramesSection(size=64, project=8, train_blocks=1),
                heads={"a": ClassifySection(pool="attention"), "b": ClassifySection()},
            ),
            None,
        ),
    ],
    ids=["series", "mean", "frames"],
)
def test_a_loaded_model_gives_the_same_bits_as_the_saved_one(architecture, width, tmp_path):
    saved = random_checkpoint(architecture, width)
    if "mean" in dict(saved.model.encoder.adapter.named_buffers()):  # type: ignore[union-attr]
        saved.model.encoder.adapter.fit([torch.randn(9, 5) * 3 + 2])  # type: ignore[union-attr]
    save_model(tmp_path / "run" / "model", saved)
    loaded = load_model(tmp_path / "run")  # the folder of the run is enough
    assert loaded.architecture == saved.architecture and loaded.vocabularies == saved.vocabularies
    assert loaded.input_size == width and loaded.notes == {"seed": 7, "data": "x"} and not loaded.model.training
    x = (
        stack([torch.randn(7, 5), torch.randn(3, 5)])
        if width
        else stack([torch.randint(0, 255, (n, 64, 64, 3), dtype=torch.uint8) for n in (3, 1)])
    )
    raw = {"series" if width else "frames": x}
    one, other = saved.model.watch(raw), loaded.model.watch(raw)
    assert torch.equal(one.steps.data, other.steps.data) and all(map(torch.equal, one.state, other.state))
    for head in saved.architecture.heads:
        first, second = saved.model.head(head), loaded.model.head(head)
        assert first.answer(first.observe(one)) == second.answer(second.observe(other))


def test_saving_a_loaded_model_writes_the_same_files(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    save_model(folder, load_model(folder))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert set(before) == {"weights.safetensors", "model.json"}


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Damage to model.json: `change` edits the object; if it returns another one, that is written."""

    def damage(folder: Path) -> None:
        description = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(change(description) or description))

    return damage


def reshape(name: str, *shape: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "weights.safetensors")
        save_file({**weights, name: torch.zeros(shape)}, folder / "weights.safetensors")

    return damage


def without(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "weights.safetensors")
        del weights[name]
        save_file(weights, folder / "weights.safetensors")

    return damage


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def cut(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle in place of safetensors": (
        lambda f: (f / "weights.safetensors").write_bytes(pickle.dumps({"a": Bomb()})),
        "weights.safetensors' cannot be read",
    ),
    "torch pickle in place of safetensors": (
        lambda f: torch.save({"a": Bomb()}, f / "weights.safetensors"),
        "weights.safetensors' cannot be read",
    ),
    "pickle in place of json": (
        lambda f: (f / "model.json").write_bytes(pickle.dumps(Bomb())),
        "model.json' cannot be read",
    ),
    "truncated safetensors": (cut, "weights.safetensors' cannot be read"),
    "empty safetensors": (
        lambda f: (f / "weights.safetensors").write_bytes(b""),
        "weights.safetensors' cannot be read",
    ),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors' cannot be read"),
    "truncated json": (lambda f: (f / "model.json").write_text('{"format": 1, "rec'), "model.json' cannot be read"),
    "json is a list": (edit(lambda d: [d]), "model.json' cannot be read: it is not an object"),
    "deep json": (lambda f: (f / "model.json").write_text("[" * 100_000), "model.json' cannot be read"),
    "later format": (edit(lambda d: d.update(format=4)), "has format 4; this version reads 3"),
    "no format": (edit(lambda d: d.pop("format") and None), "has format None; this version reads 3"),
    "no architecture": (edit(lambda d: d.pop("architecture") and None), "the architecture in "),
    "unknown cell": (
        edit(lambda d: d["architecture"]["core"].update(cell="gru2")),
        "core.cell = 'gru2' is not known. Did you mean 'gru'?",
    ),
    "unknown setting": (
        edit(lambda d: d["architecture"]["core"].update(code="import os")),
        "core.code is not a setting",
    ),
    "wrong class count": (
        edit(lambda d: d["vocabularies"]["action"].append("jump")),
        "disagree: 'heads.action.logits.weight' has shape (3, 9), the architecture wants (4, 9)",
    ),
    "class twice": (
        edit(lambda d: d["vocabularies"].update(action=["bend", "bend", "wave"])),
        "vocabularies.action is no list of different names",
    ),
    "classes are text": (
        edit(lambda d: d["vocabularies"].update(action="abc")),
        "vocabularies.action is no list of different names",
    ),
    "missing head vocabulary": (
        edit(lambda d: d.update(vocabularies={"other": ["a"]})),
        "vocabularies.action is no list of different names",
    ),
    "no vocabularies": (
        edit(lambda d: d.pop("vocabularies") and None),
        "vocabularies.action is no list of different names",
    ),
    "another width": (
        edit(lambda d: d["architecture"]["core"].update(hidden=10)),
        "disagree: 'core.weight_ih_l0' has shape (36, 8), the architecture wants (40, 8)",
    ),
    "another depth": (
        edit(lambda d: d["architecture"]["core"].update(layers=2)),
        "disagree: 'core.weight_ih_l1' is missing",
    ),
    "another input": (
        edit(lambda d: d.update(input_size=6)),
        "disagree: 'encoder.adapter.mean' has shape (5,), the architecture wants (6,)",
    ),
    "negative input": (edit(lambda d: d.update(input_size=-6)), "model.json' is damaged"),
    "input is text": (edit(lambda d: d.update(input_size="five")), "model.json' is damaged"),
    "no input": (edit(lambda d: d.update(input_size=None)), "model.json' is damaged: series have a width"),
    "absurd input": (edit(lambda d: d.update(input_size=10**15)), "model.json' is damaged"),
    "one tensor too many": (
        reshape("core.weight_ih_l7", 2, 2),
        "disagree: 'core.weight_ih_l7' is not part of the architecture",
    ),
    "one tensor too few": (without("core.bias_hh_l0"), "disagree: 'core.bias_hh_l0' is missing"),
    "one tensor of another shape": (
        reshape("encoder.adapter.project.bias", 7),
        "'encoder.adapter.project.bias' has shape (7,), the architecture wants (8,)",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_sentence_that_names_the_part_and_no_code_runs(name, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    damage, sentence = DAMAGE[name]
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert sentence in str(caught.value), str(caught.value)
    np.save(tmp_path / "x.npy", np.zeros((4, 5), np.float32))
    assert main(["predict", str(tmp_path / "x.npy"), "--model", str(folder), "--out", str(tmp_path / "out")]) == 3
    printed = capsys.readouterr()
    assert sentence in printed.err and "Traceback" not in printed.err and not printed.out
    assert not (tmp_path / "exploded").exists() and not (tmp_path / "out").exists()


def test_the_undamaged_folder_predicts(folder, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((4, 5), np.float32))
    assert main(["predict", str(tmp_path / "x.npy"), "--model", str(folder), "--out", str(tmp_path / "out")]) == 0


def test_a_folder_that_is_no_model_says_what_would_be(tmp_path, folder):
    assert find_model(folder) == folder
    with pytest.raises(ModelError, match="is no model: it holds no model.json. Give the folder of a finished run"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="is no model"):
        load_model(tmp_path / "nothing")
    shutil.copytree(folder, tmp_path / "run" / "model")
    assert find_model(tmp_path / "run") == tmp_path / "run" / "model"
