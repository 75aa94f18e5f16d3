"""The list of promises: names are unique, and each names a function of scripts/proofs that takes data and seeds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gan_features
import proof_tools
import pytest
import show
from run_promise import Asked, Promise, run_promise

PROOFS = Path(show.__file__).parent / "proofs"
NOT_OF_THE_PACKAGE = {
    *("folder_job.py: stream", "loop_source.py: out", "loop_source.py: file", "loop_source.py: args"),  # PyAV, http
    *("folder_job.py: value", "resume_and_wandb.py: value", "wandb_file.py: messages"),  # JSON, tensors, W&B
    "wandb_file.py: items",
    "proof_tools.py: options",  # of subprocess
}
"""Values of type Any that are not of the package."""


@pytest.mark.parametrize("promise", show.PROMISES, ids=lambda promise: promise.name)
def test_a_promise_names_a_function_that_takes_data_and_seeds(promise: Promise) -> None:
    module, function = promise.where.split(":")
    tree = ast.parse((PROOFS / f"{module}.py").read_text(encoding="utf-8"))
    arguments = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert arguments[function] == ["data", "seeds"]


@pytest.mark.parametrize("promise", show.PROMISES, ids=lambda promise: promise.name)
def test_a_promise_has_a_default_of_seeds_exactly_where_its_function_reads_them(promise: Promise) -> None:
    module, function = promise.where.split(":")
    tree = ast.parse((PROOFS / f"{module}.py").read_text(encoding="utf-8"))
    (node,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    reads = any(isinstance(part, ast.Name) and part.id == "seeds" for part in ast.walk(node))
    assert reads == (promise.seeds is not None)


def test_seeds_are_refused_where_nothing_depends_on_them() -> None:
    result = subprocess.run([sys.executable, show.__file__, "stream", "--seeds", "3"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "SEEDS is 3, but stream has nothing that a seed changes. Leave SEEDS out." in result.stderr
    result = subprocess.run([sys.executable, show.__file__, "yoga6", "--seeds", "0"], capture_output=True, text=True)
    assert result.returncode == 2 and "SEEDS is 0. It is the number of seeds" in result.stderr


def test_a_mean_of_five_seeds_is_that_of_five_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    proof = ModuleType("a_proof")
    monkeypatch.setattr(proof, "prove", lambda data, seeds: (called.append(seeds) or "x", True), raising=False)
    monkeypatch.setitem(sys.modules, "a_proof", proof)
    (yoga6,) = [promise for promise in show.PROMISES if promise.name == "yoga6"]
    for asked in (None, 2):
        assert run_promise("yoga6", "a_proof:prove", yoga6.seeds, Asked(Path("data"), asked, False)) == 0
    assert called == [5, 2]


@pytest.mark.parametrize(
    ("holds", "verdict", "code"), [(True, "HOLDS", 0), (False, "DOES NOT HOLD", 1), (None, "REPORTED", 0)]
)
def test_the_exit_code_of_a_promise_says_whether_it_holds(
    holds: bool | None,
    verdict: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proof = ModuleType("a_proof")
    monkeypatch.setattr(proof, "prove", lambda data, seeds: ("a figure", holds), raising=False)
    monkeypatch.setitem(sys.modules, "a_proof", proof)
    assert run_promise("some", "a_proof:prove", None, Asked(Path("data"), None, False)) == code
    assert capsys.readouterr().out.endswith(f"[some] a figure: {verdict}\n")


def test_scripts_do_not_call_the_package_through_any() -> None:
    """A variable or an argument of type Any hides a wrong call from pyright, as it did in `stream` for four days."""
    found = {
        f"{path.name}: {node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)}"
        for path in [Path(show.__file__), *PROOFS.glob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.arg | ast.AnnAssign)
        and isinstance(node.annotation, ast.Name)
        and node.annotation.id == "Any"
    }
    assert {one for one in found if not one.startswith("same_numbers")} <= NOT_OF_THE_PACKAGE


def test_names_are_unique_and_an_unknown_name_is_refused() -> None:
    names = [promise.name for promise in show.PROMISES]
    assert len(set(names)) == len(names)
    result = subprocess.run([sys.executable, show.__file__, "nothing"], capture_output=True, text=True)
    assert result.returncode == 2 and "'nothing' is no promise. Use one of: fresh-clone, house" in result.stderr


def test_the_time_of_a_training_is_that_of_all_its_legs() -> None:
    legs = [1.0, 2.0, 3.5, 0.5, 4.0, 0.25]  # resumed twice: the clock starts again
    rows = [{"split": "train", "time/seconds": seconds} for seconds in legs]
    assert proof_tools.training_seconds(rows) == 3.5 + 4.0 + 0.25
    assert proof_tools.training_seconds([]) == 0


def test_generated_features_have_a_lower_bound_too() -> None:
    def holds(generated: float, nearest: float = 0.9) -> bool:
        scores = {"real": 0.08, "shuffled": 0.4, "noise": 0.48, "mean + noise": 0.48, "generated": generated}
        return gan_features.compare_with_bars(
            {"weak": scores, "strong": scores}, ["shuffled", "noise", "mean + noise"], nearest
        )[1]

    assert holds(0.3)
    assert not holds(0.45), "just below noise"
    assert not holds(0.02), "below real clips, which is chance"
    assert not holds(0.3, nearest=0.1), "copies of training clips"
