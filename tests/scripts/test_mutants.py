"""The promise mutants: its list fits the tree, and its runner tells killed, survived and broken apart, in a copy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mutants
import proof_tools
import pytest
import yaml
from conftest import REPOSITORY
from mutants import Mutation, Verdict

LIST = mutants.read_mutations()
ONE, OTHER = "pipeline/one.py", "tests/test_one.py"
DOUBLE = Mutation("double", "data", ONE, "2 * x", "3 * x", (OTHER,), "reversed rows")


@pytest.mark.parametrize("mutation", LIST, ids=lambda mutation: mutation.name)
def test_a_mutation_of_the_list_is_found_exactly_once_and_has_its_tests(mutation: Mutation) -> None:
    assert mutants.problems_of([mutation], REPOSITORY) == []


def test_the_list_is_whole() -> None:
    assert mutants.problems_of(LIST, REPOSITORY) == [] and mutants.gaps_of(LIST) == []
    assert len({(one.file, one.old, one.new) for one in LIST}) == len(LIST)
    areas = {"evaluation": "pipeline/evaluation/", "heads": "pipeline/heads/", "metrics": "pipeline/metrics/"}
    areas |= {"data": "pipeline/data/", "scripts": "scripts/"}
    assert all(one.file.startswith(areas.get(one.area, "pipeline/")) for one in LIST)


def test_gaps_and_problems_are_named(tree: Path) -> None:
    some = LIST[1:]
    first = LIST[0]
    assert mutants.gaps_of([one for one in LIST if one.area != "heads"])[0] == "0 in heads, not 8"
    assert f"none for '{first.clause}'" in mutants.gaps_of([one for one in some if one.clause != first.clause])
    assert f"{len(LIST[:59])}, not 60" in mutants.gaps_of(LIST[:59])

    def problem(**changes: object) -> str:
        (text,) = mutants.problems_of([DOUBLE._replace(**changes)], tree)  # type: ignore[arg-type]
        return text

    assert mutants.problems_of([DOUBLE], tree) == []
    assert problem(old="4 * x") == "double: '4 * x' is found 0 times in pipeline/one.py, not once"
    assert problem(old="x") == "double: 'x' is found 2 times in pipeline/one.py, not once"
    assert problem(new="2 * x") == "double: it changes nothing"
    assert problem(tests=("tests/gone.py",)) == "double: there is no tests/gone.py"
    assert problem(clause="other") == "double: 'other' is no clause"
    assert mutants.problems_of([DOUBLE, DOUBLE], tree) == ["double: 2 mutations have this name"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small repository with a package, a test, and a file that git ignores."""
    root = tmp_path / "repository"
    files = {
        "pipeline/__init__.py": "",
        ONE: "def f(x):\n    return 2 * x\n\n\ndef unused():\n    return 1\n",
        OTHER: "from pipeline.one import f\n\n\ndef test_f():\n    assert f(2) == 4\n",
        "tests/test_slow.py": "import time\n\n\ndef test_hangs():\n    time.sleep(0 if __debug__ else 1)\n",
        ".gitignore": "kept/\n",
        "kept/large.bin": "x",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def test_a_copy_holds_what_git_knows_and_its_package_is_imported(tree: Path, tmp_path: Path) -> None:
    copy = mutants.copy_tree(tree, tmp_path / "copy")
    assert (copy / ONE).read_text() == (tree / ONE).read_text() and not (copy / "kept").exists()
    assert mutants.environment(copy)["PYTHONPATH"] == str(copy)


def test_killed_survived_broken_and_hanging_are_told_apart(tree: Path, tmp_path: Path) -> None:
    copy = mutants.copy_tree(tree, tmp_path / "copy")
    assert mutants.run_tests(copy, [OTHER], 60) == "survived"
    mutations = {
        "killed": DOUBLE,
        "survived": DOUBLE._replace(old="return 1", new="return 0"),
        "broken": DOUBLE._replace(old="def f(x):", new="def g(x)"),
    }
    for expected, mutation in mutations.items():
        with mutants.mutated(copy, mutation):
            assert mutants.run_tests(copy, [OTHER], 60) == expected
        assert (copy / ONE).read_text() == (tree / ONE).read_text(), "it is undone"
    hang = DOUBLE._replace(file="tests/test_slow.py", old="0 if", new="99 if", tests=("tests/test_slow.py",))
    with mutants.mutated(copy, hang):
        assert mutants.run_tests(copy, hang.tests, 2) == "killed"


def test_verdicts_are_kept_until_the_mutation_or_a_test_changes(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def run_tests(copy: Path, tests: tuple[str, ...], seconds: float) -> Verdict:
        asked.append((copy / ONE).read_text())
        return "broken" if "9 * x" in asked[-1] else "killed"

    monkeypatch.setattr(mutants, "run_tests", run_tests)
    kept, watch = tmp_path / "verdicts.jsonl", proof_tools.Stopwatch()
    for _ in range(2):
        assert mutants.run_all([tree], [DOUBLE], kept, watch) == ["killed"]
    assert len(asked) == 1 and "3 * x" in asked[0] and "REUSED: 1 verdicts of" in capsys.readouterr().out
    (tree / OTHER).write_text((tree / OTHER).read_text() + "\n")
    mutants.run_all([tree], [DOUBLE], kept, watch)
    mutants.run_all([tree], [DOUBLE._replace(new="4 * x")], kept, watch)
    assert len(asked) == 3
    for _ in range(2):
        assert mutants.run_all([tree], [DOUBLE._replace(new="9 * x")], kept, watch) == ["broken"]
    assert len(asked) == 5, "what could not run is tried again"
    monkeypatch.setattr(mutants, "ALL_SECONDS", -1)
    assert mutants.run_all([tree], [DOUBLE, DOUBLE._replace(new="5 * x")], kept, watch) == ["killed", "not run"]


def test_tests_that_fail_without_a_mutation_are_named(tree: Path, tmp_path: Path) -> None:
    copies = [mutants.copy_tree(tree, tmp_path / f"copy{n}") for n in range(2)]
    slow = DOUBLE._replace(tests=("tests/test_slow.py",))
    assert mutants.tests_failing_before(copies, [DOUBLE, slow]) == []
    for copy in copies:
        (copy / OTHER).write_text("def test_f():\n    assert False\n")
    for some in (copies, copies[:1]):
        (failing,) = mutants.tests_failing_before(some, [DOUBLE, slow])
        assert failing.startswith(f"FAILED {OTHER}::test_f")


def test_the_bar_needs_enough_killed_and_all_that_once_survived() -> None:
    plain = [DOUBLE._replace(clause=None)] * 59
    mutations = [DOUBLE, *plain]

    def holds(*verdicts: Verdict) -> bool:
        rest: list[Verdict] = ["killed"] * (len(mutations) - len(verdicts))
        return mutants.summary(mutations, [*verdicts, *rest], 60)[1]

    assert holds() and holds("killed", "survived", "survived")
    assert not holds("survived"), "it is one that once survived"
    assert not holds("killed", "survived", "survived", "survived")
    assert not holds("killed", "broken") and not holds("killed", "not run")
    assert not mutants.summary([DOUBLE], ["killed"], 60)[1], "too few"
    text = mutants.summary(mutations, ["killed", "survived", *["killed"] * 58], 120)[0]
    assert text == "59 of 60 mutations killed, 1 of the 1 that once survived, in 2 minutes"


def test_the_list_is_plain_yaml_and_each_entry_has_the_same_keys() -> None:
    entries = yaml.safe_load(mutants.LIST.read_text(encoding="utf-8"))
    assert all(set(entry) - {"clause"} == {"name", "area", "file", "old", "new", "tests"} for entry in entries)
