"""Runs one promise at its full size, or as a toy, and prints its verdict.

In: the name of a promise, its function, and what was asked for. Out: an exit code. It knows no promise.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

TOYS = Path("runs/toy")
Proof = tuple[str, bool | None]
"""The result as text, and whether the bar holds; None where it is only reported."""


class Promise(NamedTuple):
    """One promise.

    where: module:function in scripts/proofs. It is called with (data, seeds) and returns (result, whether the bar
    holds). The latter is None where the result is only reported. seeds: how many seeds it takes by default, as many as
    the table of docs/results.md has; None where it cannot use seeds.
    """

    name: str
    promise: str
    bar: str
    where: str
    seeds: int | None = None


class Asked(NamedTuple):
    """The options of the command. seeds: None where SEEDS was left out."""

    data: Path
    seeds: int | None
    toy: bool


def run_promise(name: str, where: str, seeds: int | None, asked: Asked) -> int:
    """Run the function `where` (module:function). seeds: its default. Returns the exit code."""
    problem = problem_with(name, seeds, asked)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    if asked.toy:
        result, _ = run_toy(name, where, asked.seeds or 1)
        print(f"\n[{name}] {result}: TOY")
        return 0
    result, holds = _call(where, asked.data, asked.seeds or seeds or 1)
    verdict = "REPORTED" if holds is None else "HOLDS" if holds else "DOES NOT HOLD"
    print(f"\n[{name}] {result}: {verdict}")
    return 1 if holds is False else 0


def problem_with(name: str, seeds: int | None, asked: Asked) -> str | None:
    """What is wrong with the options for a promise, as a sentence, or None. seeds: the default of the promise."""
    if asked.seeds is not None and seeds is None:
        return f"SEEDS is {asked.seeds}, but {name} has nothing that a seed changes. Leave SEEDS out."
    if asked.seeds is not None and asked.seeds < 1:
        return f"SEEDS is {asked.seeds}. It is the number of seeds and must be at least 1. Use 1 or more."
    if not asked.toy:
        return None
    from proof_size import reason_without_toy

    reason = reason_without_toy(name)
    return f"{name} has no toy size: {reason}. Leave TOY out." if reason else None


def run_toy(name: str, where: str, seeds: int) -> Proof:
    """Run a promise on toy data. The bar decides nothing; an error of the proof is an error."""
    from proof_size import VARIABLE
    from toy_data import make_toy_data

    folder = TOYS / name
    shutil.rmtree(folder, ignore_errors=True)
    os.environ[VARIABLE] = str(folder / "work")  # an environment variable, because proofs start processes
    result = _call(where, make_toy_data((folder / "data").resolve()), seeds)
    shutil.rmtree(folder)
    return result


def _call(where: str, data: Path, seeds: int) -> Proof:
    """The result of the function of a promise."""
    module, function = where.split(":")
    return getattr(importlib.import_module(module), function)(data, seeds)
