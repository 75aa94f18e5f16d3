"""The promise mutants: each single mutation of mutations.yaml makes one of the tests fail that are named beside it.

In: the list of mutations. Out: how many are killed, and the names of those that survive. It works in copies of the
repository; the repository itself is never changed. Results are kept by a digest of the mutation, of its file and of
its tests, so a stopped measurement continues.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Literal, NamedTuple

import proof_size
import proof_tools
import yaml

LIST = Path(__file__).with_name("mutations.yaml")
AREAS = ("evaluation", "training", "data", "heads", "metrics", "scripts")
"""Each of them has at least MIN_IN_AREA mutations; others may stand in the list too."""
CLAUSES = (
    *("reversed rows", "shuffled rows", "baselines train as long", "beam stops, length normalisation"),
    *("beam stops, width 1", "running sum of attention", "intervals by group", "exit code of train"),
    *("exit code of evaluate", "groups of two", "common title frame", "relabelled rows", "long float32 Viterbi"),
    *("borders of ECE's bins", "bars of scripts", "is_done of scripts"),
)
"""Mutations that once survived. Each has at least one here, and all of these must be killed."""
MIN_MUTATIONS, MIN_IN_AREA, MIN_KILLED, MAX_SURVIVORS = 60, 8, 58, 2
PROCESSES = 2
TEST_SECONDS = 300
"""The most time of the tests of one mutation. Tests that hang have noticed it too."""
ALL_SECONDS = 90 * 60
Verdict = Literal["killed", "survived", "broken", "not run"]
"""broken: the tests could not run at all, which says nothing about them. not run: there was no time left."""


class Mutation(NamedTuple):
    """One change of one file: the text `old`, found exactly once, becomes `new`. tests: files, relative to the root."""

    name: str
    area: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    clause: str | None = None


def read_mutations(path: Path = LIST) -> list[Mutation]:
    """The mutations of a list."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Mutation(**{**entry, "tests": tuple(entry["tests"].split())}) for entry in entries]


def problems_of(mutations: Sequence[Mutation], root: Path) -> list[str]:
    """What is wrong with a list: a text that is not found exactly once, a test file that is not there."""
    problems = []
    for mutation in mutations:
        count = (root / mutation.file).read_text(encoding="utf-8").count(mutation.old)
        if count != 1:
            problems.append(f"{mutation.name}: '{mutation.old}' is found {count} times in {mutation.file}, not once")
        if mutation.old == mutation.new:
            problems.append(f"{mutation.name}: it changes nothing")
        problems += [f"{mutation.name}: there is no {test}" for test in mutation.tests if not (root / test).is_file()]
        if mutation.clause is not None and mutation.clause not in CLAUSES:
            problems.append(f"{mutation.name}: '{mutation.clause}' is no clause")
    names = Counter(mutation.name for mutation in mutations)
    return problems + [f"{name}: {count} mutations have this name" for name, count in names.items() if count > 1]


def gaps_of(mutations: Sequence[Mutation]) -> list[str]:
    """What a whole list lacks: mutations at all, in an area, or of a clause."""
    areas, clauses = Counter(one.area for one in mutations), {one.clause for one in mutations}
    gaps = [f"{areas[area]} in {area}, not {MIN_IN_AREA}" for area in AREAS if areas[area] < MIN_IN_AREA]
    gaps += [f"none for '{clause}'" for clause in CLAUSES if clause not in clauses]
    return gaps + ([f"{len(mutations)}, not {MIN_MUTATIONS}"] if len(mutations) < MIN_MUTATIONS else [])


def mutants(data: Path, seeds: int) -> tuple[str, bool]:
    """Each mutation in a copy of the repository, two at a time."""
    whole = read_mutations()
    problems = [*problems_of(whole, proof_tools.REPOSITORY), *gaps_of(whole)]
    if problems:
        print(*problems, sep="\n")
        return f"{len(problems)} problems of the list, the first: {problems[0]}", False
    mutations = proof_tools.SIZE.some(whole, 2)
    folder = proof_tools.kept_folder("mutants")
    folder.mkdir(parents=True, exist_ok=True)
    watch = proof_tools.Stopwatch()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        trees = [copy_tree(proof_tools.REPOSITORY, Path(name) / f"copy{n}") for n in range(PROCESSES)]
        if failing := tests_failing_before(trees, mutations):
            return f"without a mutation {len(failing)} tests fail already, the first: {failing[0]}", False
        verdicts = run_all(trees, mutations, folder / "verdicts.jsonl", watch)
    print_table(mutations, verdicts)
    return summary(mutations, verdicts, watch.seconds)


def summary(mutations: Sequence[Mutation], verdicts: Sequence[Verdict], seconds: float) -> tuple[str, bool]:
    """The figure, and whether the bar holds."""
    killed = [verdict == "killed" for verdict in verdicts]
    is_clause = [mutation.clause is not None for mutation in mutations]
    once_survived = [is_killed for is_killed, of_clause in zip(killed, is_clause, strict=True) if of_clause]
    figure = (
        f"{sum(killed)} of {len(killed)} mutations killed, {sum(once_survived)} of the {len(once_survived)} that once "
        f"survived, in {seconds / 60:.0f} minutes"
    )
    left = len(killed) - sum(killed)
    is_decided = not {"broken", "not run"} & set(verdicts)
    return figure, is_decided and sum(killed) >= MIN_KILLED and left <= MAX_SURVIVORS and all(once_survived)


def print_table(mutations: Sequence[Mutation], verdicts: Sequence[Verdict]) -> None:
    """Print the counts of each area, and by name whatever was not killed."""
    for area in dict.fromkeys(mutation.area for mutation in mutations):
        own = [verdict for mutation, verdict in zip(mutations, verdicts, strict=True) if mutation.area == area]
        print(f"  {area:<12} {own.count('killed'):>3} of {len(own)} killed")
    for mutation, verdict in zip(mutations, verdicts, strict=True):
        if verdict != "killed":
            print(f"  {verdict.upper()}: {mutation.name} ({mutation.file}: {mutation.old} -> {mutation.new})")


def copy_tree(root: Path, target: Path) -> Path:
    """A copy of the files that git tracks or would add. Python imports the package from there: this is asserted."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = proof_tools.run_command(*command).stdout.split("\0")
    for name in names:
        if name and (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    script = "import pipeline; print(pipeline.__file__)"
    imported = proof_tools.run_command(sys.executable, "-c", script, cwd=target, env=environment(target), timeout=60)
    assert Path(imported.stdout.strip()).resolve() == (target / "pipeline/__init__.py").resolve(), imported.stdout
    return target


def environment(tree: Path) -> dict[str, str]:
    """The variables with which `pipeline` is that of a copy. No bytecode: two mutations in a second would share it."""
    kept = {k: v for k, v in os.environ.items() if k not in ("FRESH", proof_size.VARIABLE, "PYTEST_XDIST_WORKER")}
    return {**kept, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def log_of(tree: Path) -> Path:
    """What the last tests in a copy have printed."""
    return tree.with_suffix(".log")


def run_tests(tree: Path, tests: Sequence[str], seconds: float, *, stops: bool = True) -> Verdict:
    """Run test files in a copy. killed: one failed, or they did not end in time. stops: at the first that fails."""
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tree.with_suffix('.temporary')}", *(["-x"] * stops)]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    with open(log_of(tree), "w") as output:
        process = subprocess.Popen(
            command, cwd=tree, env=environment(tree), stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that the tests have started
            process.wait()
            return "killed"
    if code not in (0, 1):
        print(log_of(tree).read_text(errors="replace")[-2000:])
    return "survived" if code == 0 else "killed" if code == 1 else "broken"


def tests_failing_before(trees: Sequence[Path], mutations: Sequence[Mutation]) -> list[str]:
    """The tests that do not pass where nothing is mutated."""
    tests = sorted({test for mutation in mutations for test in mutation.tests})
    shares = [share for n in range(len(trees)) if (share := tests[n :: len(trees)])]
    with ThreadPoolExecutor(len(trees)) as pool:
        runs = pool.map(lambda tree, share: run_tests(tree, share, ALL_SECONDS / 6, stops=False), trees, shares)
        verdicts = list(runs)
    print(f"  without a mutation: {len(tests)} test files, {' and '.join(verdicts)}", flush=True)
    if all(verdict == "survived" for verdict in verdicts):
        return []
    lines = [line for tree in trees[: len(shares)] for line in log_of(tree).read_text(errors="replace").splitlines()]
    failing = [line for line in lines if line.startswith(("FAILED ", "ERROR "))] or lines[-20:] or ["they did not end"]
    print(*failing, sep="\n", flush=True)
    return failing


def run_all(
    trees: Sequence[Path], mutations: Sequence[Mutation], kept: Path, watch: proof_tools.Stopwatch
) -> list[Verdict]:
    """The verdict on each mutation: as it was kept, or by its tests in one of the copies."""
    lines = proof_tools.read_json_lines(kept) if kept.is_file() else []
    known: dict[str, Verdict] = {line["digest"]: line["verdict"] for line in lines}
    free: Queue[Path] = Queue()
    for tree in trees:
        free.put(tree)

    def judge(mutation: Mutation) -> Verdict:
        key = digest(mutation, trees[0])
        if key in known:
            return known[key]
        if watch.seconds > ALL_SECONDS:
            return "not run"
        tree = free.get()
        with mutated(tree, mutation):
            verdict = run_tests(tree, mutation.tests, TEST_SECONDS)
        free.put(tree)
        print(f"  {verdict:<9} {mutation.name}", flush=True)
        if verdict != "broken":
            with open(kept, "a", encoding="utf-8") as file:
                file.write(json.dumps({"digest": key, "name": mutation.name, "verdict": verdict}) + "\n")
        return verdict

    keys = [digest(mutation, trees[0]) for mutation in mutations]
    if reused := sum(key in known for key in keys):
        print(f"  REUSED: {reused} verdicts of {kept}; FRESH=1 finds them again", flush=True)
    with ThreadPoolExecutor(len(trees)) as pool:
        return list(pool.map(judge, mutations))


def digest(mutation: Mutation, tree: Path) -> str:
    """A digest of a mutation, of the file that it changes and of its test files."""
    texts = [(tree / name).read_text(encoding="utf-8") for name in (mutation.file, *mutation.tests)]
    return hashlib.blake2b(json.dumps([mutation, texts]).encode(), digest_size=16).hexdigest()


@contextmanager
def mutated(tree: Path, mutation: Mutation) -> Iterator[None]:
    """The copy with the mutation, which is undone at the end."""
    path = tree / mutation.file
    text = path.read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
