"""The list of promises: names are unique, and each names a function of scripts/proofs that takes data and seeds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import show

PROOFS = Path(show.__file__).parent / "proofs"


@pytest.mark.parametrize("promise", show.PROMISES, ids=lambda promise: promise.name)
def test_a_promise_names_a_function_that_takes_data_and_seeds(promise: show.Promise) -> None:
    module, function = promise.where.split(":")
    tree = ast.parse((PROOFS / f"{module}.py").read_text(encoding="utf-8"))
    arguments = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert arguments[function] == ["data", "seeds"]


def test_names_are_unique_and_an_unknown_name_is_refused() -> None:
    names = [promise.name for promise in show.PROMISES]
    assert len(set(names)) == len(names)
    result = subprocess.run([sys.executable, show.__file__, "nothing"], capture_output=True, text=True)
    assert result.returncode == 2 and "'nothing' is no promise. Use one of: fresh-clone, house" in result.stderr
