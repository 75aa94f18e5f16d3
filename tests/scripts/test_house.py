"""The proof `house`: each rule fails on a small repository that breaks it, and passes on one that keeps it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import house
import pytest
from repository_files import Repository

CLEAN = {
    "pipeline/__init__.py": '"""The package. It has two modules."""\n',
    "pipeline/atomic.py": '"""A file that is written as a whole.\n\nMore."""\n\nimport os\n',
    "pipeline/data/__init__.py": '"""Data."""\n',
    "pipeline/data/rows_of.py": '"""Rows."""\n\nfrom pipeline import atomic\n\nfrom ..atomic import os\n',
    "pipeline/models/rows.py": '"""Rows of models."""\n\nimport pipeline.atomic\nimport pipeline.data.rows_of\n',
    "README.md": "A `Clip` has a start. The core has directions.\n",
}


def repository(root: Path, files: dict[str, str]) -> Path:
    """A small repository: the clean files and these."""
    for name, text in {**CLEAN, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def broken(root: Path, files: dict[str, str]) -> dict[str, list[str]]:
    """The rules that a small repository breaks."""
    return {rule: places for rule, places in house.check(repository(root, files)).items() if places}


def function(lines: int, name: str = "f") -> str:
    """A function of so many lines."""
    return f"def {name}():\n" + '    """Text."""\n' + "    x = 1\n" * (lines - 2)


def module(body: str) -> str:
    """A module with a docstring."""
    return f'"""A module."""\n\n{body}'


LINE = "x = " + "1" * 117  # 121 characters
STUB = '"""Text."""\n\nclass A:\n    """A."""\n\n    @overload\n    def f(self, x: int) -> int: ...\n'

BROKEN = [
    ("files that Python cannot read", {"scripts/a.py": "def :\n"}, "scripts/a.py: has a syntax error"),
    ("files that are too long", {"tests/test_a.py": "x = 1\n" * 401}, "tests/test_a.py: 401 lines, at most 400"),
    ("functions that are too long", {"scripts/a.py": function(61)}, "scripts/a.py:1: f has 61 lines, at most 60"),
    ("lines that are too long", {"tests/a.py": f"{LINE}\n"}, "tests/a.py:1: 121 characters, at most 120"),
    ("lines that are too long", {"p.toml": f"\n{LINE}\n"}, "p.toml:2: 121 characters, at most 120"),
    ("lines that are too long", {"configs/a.yaml": f"# {LINE}\n"}, "configs/a.yaml:1: 123 characters, at most 120"),
    (
        "formatter switched off",
        {"scripts/a.py": "x = 1  # fmt: skip\n"},
        "scripts/a.py:1: the formatter is switched off",
    ),
    ("formatter switched off", {"tests/a.py": "\n# fmt:off\n"}, "tests/a.py:2: the formatter is switched off"),
    (
        "too many files at the top of pipeline/",
        {f"pipeline/m{i}.py": module("") for i in range(7)},
        "pipeline/: 9 files, at most 8: __init__.py, atomic.py, m0.py, m1.py, m2.py, m3.py, m4.py, m5.py, m6.py",
    ),
    (
        "modules of one name",
        {"pipeline/writers/rows.py": module("")},
        "pipeline/models/rows.py, pipeline/writers/rows.py: modules of one name",
    ),
    ("missing docstrings", {"pipeline/a.py": "x = 1\n"}, "pipeline/a.py:1: the module has no docstring"),
    ("missing docstrings", {"pipeline/models/__init__.py": ""}, "pipeline/models/__init__.py:1: the module has no"),
    ("missing docstrings", {"pipeline/a.py": module("class A: ...\n")}, "pipeline/a.py:3: A has no docstring"),
    ("missing docstrings", {"pipeline/a.py": module("def f(): ...\n")}, "pipeline/a.py:3: f has no docstring"),
    ("missing docstrings", {"pipeline/a.py": STUB}, "pipeline/a.py:7: A.f has no docstring"),
    (
        "missing docstrings",
        {"pipeline/a.py": module("if x:\n    def f(): ...\n")},
        "pipeline/a.py:4: f has no docstring",
    ),
]


@pytest.mark.parametrize(("rule", "files", "place"), BROKEN)
def test_a_rule_that_is_broken_fails_alone_and_names_the_place(
    tmp_path: Path, rule: str, files: dict[str, str], place: str
) -> None:
    found = broken(tmp_path, files)
    assert list(found) == [rule]
    assert len(found[rule]) == 1 and found[rule][0].startswith(place)


KEPT = [
    {},
    {"scripts/a.py": "x = 1\n" * 400},
    {"scripts/a.py": function(60)},
    {"tests/test_a.py": function(90)},
    {"scripts/a.py": LINE[:-1] + "\n", "docs/a.md": f"{LINE}\n"},
    {"scripts/a.py": '"""fmt: skip is not used."""\n\ny = "# fmt: off"\n'},
    {f"pipeline/m{i}.py": module("") for i in range(6)},
    {"pipeline/config/rows.py": module(""), "pipeline/commands/rows.py": module("")},
    {"pipeline/metrics/__init__.py": module("")},
    {"pipeline/a.py": module("class _A:\n    def f(self): ...\n")},
    {"pipeline/a.py": module('class A:\n    """A."""\n\n    def __init__(self): ...\n\n    def _f(self): ...\n')},
    {"pipeline/a.py": module("def _f():\n    def g(): ...\n")},
    {"scripts/a.py": "def f(): ...\n"},
]


@pytest.mark.parametrize("files", KEPT, ids=range(len(KEPT)))
def test_a_repository_that_keeps_the_rules_passes(tmp_path: Path, files: dict[str, str]) -> None:
    assert not broken(tmp_path, files)


YAML = "heads:\n  english:\n    kind: {}\n    {}\n"

RETIRED = [
    # settings
    ("configs/a.yaml", "training:\n  start: x\n", "2: training.start is called training.init_from"),
    (
        "configs/a.yaml",
        YAML.format("caption", "watch: bleu_4"),
        "4: heads.english.watch is called heads.english.monitor",
    ),
    ("configs/a.yaml", "encoder:\n  fit: crop\n", "2: encoder.fit is called encoder.resize"),
    (
        "configs/a.yaml",
        "encoder: {kind: tokens, level: piece}\n",
        "1: encoder.level=piece is called encoder.level=subword",
    ),
    ("configs/a.yaml", "# a cell with memory_steps of 9\nrun: x\n", "1: memory_steps is called chrono_steps"),
    ("scripts/a.py", 'X = ["data.test=0.5"]\n', "1: data.test is called data.test_share"),
    ("scripts/a.py", 'X = f"heads.{name}.labels=false"\n', "1: heads.{}.labels is called heads.{}.class_conditional"),
    ("scripts/a.py", 'X = "encoder={kind: tokens, cut: spaces}"\n', "1: encoder.cut is called encoder.pre_tokenizer"),
    ("scripts/a.py", 'X = "encoder.level=piece"\n', "1: encoder.level=piece is called encoder.level=subword"),
    ("scripts/a.py", 'X = "data: {path: a, failed: stop}"\n', "1: data.failed is called data.on_error"),
    ("scripts/a.py", 'X = {"core": {"memory_steps": 9}}\n', "1: core.memory_steps is called core.chrono_steps"),
    (
        "scripts/a.py",
        'X = {"a": {"kind": "forecast", "steps": 3}}\n',
        "1: heads.*.steps is called heads.*.horizon",
    ),
    ("scripts/a.py", '"""It needs training.carry."""\n', "1: training.carry is called training.tbptt"),
    ("scripts/a.py", "# see evaluation.orders\n", "1: evaluation.orders is called evaluation.order_controls"),
    ("scripts/a.py", 'X = f"memory_steps is {n}"\n', "1: memory_steps is called chrono_steps"),
    ("README.md", "    unreel train x training.clip=1\n", "1: training.clip is called training.grad_clip"),
    ("README.md", "```yaml\ncore:\n  memory_steps: 5\n```\n", "3: core.memory_steps is called core.chrono_steps"),
    (
        "README.md",
        "`heads.load.adversary.weight`\n",
        "1: heads.load.adversary is called heads.load.adversarial",
    ),
    # keys
    ("scripts/a.py", 'X = row["closeness"]\n', '1: "closeness" is called frechet_change_score'),
    ("scripts/a.py", 'X = {"part": 1}\n', '1: "part" is called split'),
    ("scripts/a.py", 'X = "early" in row\n', '1: "early" is called early_accuracy'),
    ("scripts/a.py", 'X = row.get("interval")\n', '1: "interval" is called confidence_interval'),
    ("scripts/a.py", 'X = k.startswith("saturated/")\n', '1: "saturated/" is called gate_saturation/*'),
    ("scripts/a.py", 'X = f"{name}_remake"\n', '1: "{}_remake" is called loss/*_reconstruction'),
    ("scripts/a.py", 'X = f"loss/{name}_penalty"\n', '1: "loss/{}_penalty" is called loss/*_gradient_penalty'),
    ("README.md", '`{"step": 3, "part": "val"}`\n', '1: "part" is called split'),
    # names
    ("scripts/a.py", "from pipeline.padded import Seen\n", "1: Seen is called CoreOutput"),
    ("scripts/a.py", "import pipeline.makings\n", "1: pipeline.makings is called pipeline.config.generative_heads"),
    ("scripts/a.py", "from pipeline import recipe\n", "1: pipeline.recipe is called pipeline.config.architecture and"),
    ("scripts/a.py", "import proof\n", "1: proof is called scripts.proofs.proof_tools"),
    ("scripts/a.py", 'X = "pipeline.run.train"\n', "1: pipeline.run is called pipeline.commands.train"),
    ("scripts/a.py", "# as in pipeline/config.py\n", "1: pipeline/config.py is called pipeline/config/run.py"),
    ("scripts/a.py", "x.watched_size = 3\n", "1: watched_size is called feature_size"),
    (
        "README.md",
        "See pipeline/models/seen.py.\n",
        "1: pipeline/models/seen.py is called pipeline/models/core_output.py",
    ),
    ("README.md", "A `Seen` of\n", "1: `Seen` is called CoreOutput"),
    ("pipeline/models/seen.py", module(""), "1: pipeline/models/seen.py is called pipeline.models.core_output"),
    ("pipeline/a.py", module('class Live:\n    """Text."""\n'), "3: Live is called LiveSource"),
    ("pipeline/heads/caption.py", module("Memory = int\n"), "3: Memory is called CaptionMemory"),
]


@pytest.mark.parametrize(("name", "text", "sentence"), RETIRED)
def test_a_retired_name_is_found(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    found = broken(tmp_path, {name: text})
    assert list(found) == ["retired names"]
    assert len(found["retired names"]) == 1
    assert found["retired names"][0].startswith(f"{name}:{sentence}")
    assert found["retired names"][0].endswith(" since 0.2")


LEGAL = [
    ("scripts/a.py", 'X = {"start": 1.0, "end": 2.0}\nspan.start = clip.start\n'),
    ("scripts/a.py", "class Clip:\n    directions = 2\n"),
    ("scripts/a.py", "from rich.live import Live\n\nX = Live()\n"),
    ("scripts/a.py", "import rich\n\nX = rich.live.Live()\n"),
    ("scripts/a.py", "class Source:\n    pass\n\n\nX = Source()\n"),
    ("scripts/a.py", 'X = answer["unknown"]\nY = "auroc_unknown"\nZ = "part"\n'),
    ("scripts/a.py", 'X = "log_likelihood"\nY = "gradient_penalty"\nZ = f"loss/{n}_gradient_penalty"\n'),
    ("scripts/a.py", 'X = {"kind": "segment", "start": 0.0}\n'),
    ("scripts/a.py", "X = batch.data.test()\nY = config.core.start\n"),
    ("scripts/a.py", 'X = "pipeline.training.fit"\nY = "pipeline.data.texts"\n'),
    ("scripts/a.py", 'X = "data.test_share=0.5"\nY = "training.epochs=3"\n'),
    ("README.md", "The start of a span, its part and its core. An interval of 3 s.\n"),
    ("configs/a.yaml", "heads:\n  a:\n    kind: segment\n    lag_seconds: 1\ntraining:\n  epochs: 3\n"),
    ("configs/a.yaml", "encoder:\n  kind: series\n  patch: 3\n"),
    ("pipeline/models/rows.py", module("Memory = int\n")),
    ("CHANGELOG.md", "`training.start` is `training.init_from` now; `Seen` is `CoreOutput`.\n"),
    ("docs/LOG.md", "training.start=x\n"),
    ("scripts/proofs/same_numbers_names.py", 'X = "training.start"\n'),
]


@pytest.mark.parametrize(("name", "text"), LEGAL)
def test_ordinary_words_and_exempt_files_are_legal(tmp_path: Path, name: str, text: str) -> None:
    assert not broken(tmp_path, {name: text})


def test_a_package_may_have_the_name_of_an_old_module(tmp_path: Path) -> None:
    files = {"pipeline/config/__init__.py": module(""), "scripts/a.py": "from pipeline.config import run\n"}
    assert not broken(tmp_path, files)


def test_the_exempt_file_of_the_names_exists_and_is_used() -> None:
    assert (house.ROOT / "pipeline/config/retired.py").is_file()


def test_the_shape_tells_folders_sizes_imports_and_purposes(tmp_path: Path) -> None:
    text = house.shape(repository(tmp_path, {"scripts/a.py": function(5)}))
    assert "pipeline/data                2        6" in text
    assert "functions outside tests: median 5 lines, largest 5 (f, scripts/a.py:1)" in text
    assert "   2  pipeline.atomic" in text and "   1  pipeline.data.rows_of" in text
    assert "at the top of pipeline/: __init__.py, atomic.py" in text
    purposes = [line.split(maxsplit=1) for line in text.split("purposes:\n")[1].splitlines()]
    assert ["pipeline/atomic.py", "A file that is written as a whole."] in purposes
    assert ["pipeline/__init__.py", "The package."] in purposes


def test_git_lists_the_files_that_it_does_not_ignore(tmp_path: Path) -> None:
    repository(tmp_path, {".gitignore": "runs/\n", "runs/a.py": "def :\n", "a.bin": "x"})
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe\x00")
    assert "runs/a.py" not in Repository(tmp_path).files
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "add", "pipeline", "README.md"], check=True)
    (tmp_path / "README.md").unlink()
    assert sorted(Repository(tmp_path).files) == sorted([*(set(CLEAN) - {"README.md"}), ".gitignore"])


def test_the_promise_counts_all_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(house, "ROOT", repository(tmp_path, {}))
    assert house.house(tmp_path, 1) == ("0 places in 6 files break a rule of the house", True)
    repository(tmp_path, {"tests/a.py": f"{LINE}\n{LINE}\n", "pipeline/a.py": "x = 1\n"})
    figure, holds = house.house(tmp_path, 1)
    assert not holds
    assert figure == ("3 places in 8 files break a rule of the house (2 lines that are too long, 1 missing docstrings)")
    said = capsys.readouterr().out
    assert "\nlines that are too long: 2\n  tests/a.py:1:" in said and "\nretired names: none" in said
