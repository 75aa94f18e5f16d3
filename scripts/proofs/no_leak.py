"""Ways to train on the test set, each through the command line: all must be refused or named.

Four controls show that honest commands go through: a start with the same split, a start from other data, an evaluation
on other data, and a training that goes on. It is not part of the product.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import numpy as np
import proof_tools

from pipeline.cli import main
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row, Span, Split

LABELS = ("heads", "tails")
TRAIN, TEST = ("ann", "bob", "cid", "dee"), ("eve", "fay")
SETTINGS = (
    "encoder.kind=series",
    "clock.rate=10",
    "core.hidden=32",
    "training.epochs=2",
    "data.window=null",
    "training.device=cpu",
    "training.keep_state=true",
    "tracking.wandb=off",
    "evaluation.baselines=false",
    "evaluation.order_controls=false",
)
HEADS = (
    "heads={action: {kind: classify}, timeline: {kind: segment}, told: {kind: caption, hidden: 16, embedding: 16, "
    "max_length: 8}}"
)
Result = CompletedProcess[str]


class Way(NamedTuple):
    """A way to train on the test set. expected: what the program must say. code: 2 where it refuses, 0 where it says so
    and goes on.
    """

    name: str
    attempt: Callable[[Bench], Result]
    code: int
    expected: str


class Bench:
    """A folder of data, and one of runs."""

    def __init__(self, data: Path, runs: Path) -> None:
        self.data, self.runs = data, runs

    def manifest(self, name: str, rows: list[Row]) -> Path:
        """Write a manifest, and noise for its files that are not there yet."""
        for row in rows:
            path = self.data / row.path
            if row.text is None and not path.exists():
                seed = int.from_bytes(row.path.encode(), "big") % 2**63
                np.save(path, np.random.default_rng(seed).normal(size=(16, 6)).astype(np.float32))
        write_manifest(rows, self.data / f"{name}.jsonl")
        return self.data / f"{name}.jsonl"

    def train(self, name: str, rows: list[Row], *settings: str, code: int | None = None) -> Result:
        """Train a run on rows. code: the exit code that it must have."""
        run = f"run={self.runs / name}"
        options = (
            ("data.validation_share=0", *settings) if "data.validation_share" not in " ".join(settings) else settings
        )
        return _unreel("train", self.manifest(name, rows), *SETTINGS, *options, run, code=code)

    def start(self, name: str, start: str, rows: list[Row], *settings: str, code: int | None = None) -> Result:
        """Train a run from the weights of another one."""
        return self.train(name, rows, f"training.init_from={self.runs / start}", *settings, code=code)

    def evaluate(self, run: str, *settings: str | Path) -> Result:
        """Evaluate a run."""
        return _unreel("evaluate", self.runs / run, *settings)

    def resume(self, name: str, rows: list[Row], *settings: str) -> Result:
        """Go on with a run that was killed before its report, on other rows."""
        (self.runs / name / "report.json").unlink(missing_ok=True)
        return self.train(name, rows, *settings)


def _unreel(*arguments: str | Path, code: int | None = None) -> Result:
    """Run the command in this process, which is faster. Raises SystemExit for another exit code than `code`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        returned = main([str(argument) for argument in arguments])
    if code is not None and returned != code:
        raise SystemExit(f"unreel {' '.join(map(str, arguments))}\nexit code {returned}, not {code}\n{err.getvalue()}")
    return CompletedProcess(arguments, returned, out.getvalue(), err.getvalue())


def rows_of(groups: tuple[str, ...], split: Split | None, first: int = 0) -> list[Row]:
    """Four rows of each group, from number `first` on, with labels, spans and captions by lot."""
    rng = np.random.default_rng([first, *map(ord, "".join(groups))])
    rows = []
    for group in groups:
        for number, label in enumerate(rng.permutation([0, 0, 1, 1])):
            name = LABELS[label]
            spans = (Span(0.0, 0.8, name), Span(0.8, 1.6, LABELS[1 - label]))
            rows.append(Row(f"{group}{first + number}.npy", split, group, name, spans, (f"the coin shows {name}",)))
    return rows


HONEST = [*rows_of(TRAIN, "train"), *rows_of(TEST, "test")]
TURNED = [replace(row, split="test" if row.split == "train" else "train") for row in HONEST]
FOREIGN = [*rows_of(("gus", "hal"), "train"), *rows_of(("ida",), "test")]


def _chain(bench: Bench) -> Result:
    bench.start("link1", "honest", FOREIGN, code=0)
    bench.start("link2", "link1", FOREIGN, code=0)
    return bench.start("chain", "link2", TURNED)


def _copies_in_start(bench: Bench) -> Result:
    copies = [replace(row, path=f"copy_of_{row.path}", group="new", split="test") for row in HONEST[:4]]
    for row, copy in zip(HONEST, copies, strict=False):
        shutil.copy(bench.data / row.path, bench.data / copy.path)
    return bench.start("copies", "honest", [*rows_of(("gus",), "train"), *copies])


def _renamed_folders(bench: Bench) -> Result:
    shutil.copytree(bench.runs / "honest" / "model", bench.runs / "pretrained")
    shutil.copytree(bench.data, bench.data.with_name("holiday"))
    return Bench(bench.data.with_name("holiday"), bench.runs).start("renamed", "pretrained", TURNED)


def _chosen_rows(bench: Bench) -> Result:
    rows = [*rows_of(TRAIN, "train"), *rows_of(TEST, "val")]
    bench.train("chosen", rows, "data.split=manifest", "data.validation_share=0.2", code=0)
    return bench.start("chooses", "chosen", HONEST)


def _validation_rows(bench: Bench) -> Result:
    rows = [replace(row, split="val") if row.group == TRAIN[0] else row for row in HONEST]
    return bench.start("validation", "honest", rows, "data.validation_share=0.2")


def _held_out_class(bench: Bench) -> Result:
    edge = [replace(row, label="edge") for row in (*rows_of(("jon",), "train"), *rows_of(("kim",), "test"))]
    bench.train("knows", [*HONEST, *edge], code=0)
    return bench.start("held_out", "knows", [*HONEST, *edge], "evaluation.unknown_classes=[edge]")


def _same_texts(bench: Bench) -> Result:
    texts = [replace(row, path=row.path.removesuffix(".npy"), text=f"{row.path} falls", spans=()) for row in HONEST]
    settings = ("encoder.kind=tokens", "encoder.min_count=1", "clock.rate=1")
    bench.train("texts", texts, *settings, code=0)
    others = [
        replace(row, path=f"{row.path}_b", group=None, text=row.text.replace(" ", "  ")) for row in texts if row.text
    ]
    turned = [replace(row, split="test" if row.split == "train" else "train") for row in others]
    return bench.start("same_texts", "texts", turned, *settings)


def _copies_in_drawn_split(bench: Bench) -> Result:
    """Each file twice, under two names: a split that is drawn must not part them, and must say that they exist."""
    rows = [replace(row, split=None, group=None, spans=(), captions=()) for row in HONEST[:12]]
    copies = [replace(row, path=f"again_{row.path}") for row in rows]
    bench.manifest("once", rows)
    for row, copy in zip(rows, copies, strict=True):
        shutil.copy(bench.data / row.path, bench.data / copy.path)
    result = bench.train("twice", [*rows, *copies], "data.split=random", code=0)
    parted = "files are in two splits" in result.stderr
    return CompletedProcess(result.args, 1 if parted else 0, result.stdout, result.stderr)


def _copies_in_split_column(bench: Bench) -> Result:
    copies = [replace(row, path=f"twin_{row.path}", group=None, split="test") for row in HONEST[:4]]
    for row, copy in zip(HONEST, copies, strict=False):
        shutil.copy(bench.data / row.path, bench.data / copy.path)
    return bench.train("twins", [*HONEST, *copies])


def _exchanged_files(bench: Bench) -> Result:
    one, two = (bench.data / HONEST[number].path for number in _two_labels())
    contents = one.read_bytes(), two.read_bytes()
    one.write_bytes(contents[1])
    two.write_bytes(contents[0])
    result = bench.resume("resumed", HONEST, HEADS)
    one.write_bytes(contents[0])
    two.write_bytes(contents[1])
    return result


def _two_labels() -> tuple[int, int]:
    """The places of two training rows of different labels."""
    return 0, next(number for number, row in enumerate(HONEST) if row.label != HONEST[0].label)


def _changed(change: Callable[[Row], Row]) -> Callable[[Bench], Result]:
    """Go on with a run after a change of its training rows."""
    rows = [change(row) if row.split == "train" else row for row in HONEST]
    return lambda bench: bench.resume("resumed", rows, HEADS)


def _other_label(row: Row) -> Row:
    return replace(row, label=LABELS[1 - LABELS.index(row.label or "")])


def _other_spans(row: Row) -> Row:
    return replace(row, spans=(replace(row.spans[0], end=0.7), replace(row.spans[1], start=0.7)))


def _other_captions(row: Row) -> Row:
    return replace(row, captions=("the coin shows heads",))


def _other_rows(bench: Bench) -> Result:
    return bench.resume("resumed", TURNED, HEADS)


OTHER_ROWS = "was saved by a training on other rows"
WAYS = (
    Way("start from another fold", lambda b: b.start("fold", "honest", TURNED), 2, "of the 16 test rows: 'ann0.npy'"),
    Way("a chain of two more starts", _chain, 2, "of the 16 test rows: 'ann0.npy'"),
    Way("start, test rows are copies", _copies_in_start, 2, "of the 4 test rows: 'copy_of_ann0.npy'"),
    Way("start, run and data renamed", _renamed_folders, 2, "of the 16 test rows: 'ann0.npy'"),
    Way(
        "start, other rows of its groups",
        lambda b: b.start("groups", "honest", [*rows_of(("gus",), "train"), *rows_of(TRAIN[:2], "test", first=10)]),
        2,
        "other rows of 2 test groups: 'ann', 'bob'",
    ),
    Way("start that was chosen on the test", _chosen_rows, 2, "chosen on 8 of the 8 test rows: 'eve0.npy'"),
    Way("start, its rows as validation", _validation_rows, 2, "of the 4 validation rows: 'ann0.npy'"),
    Way("start that knows the unknown class", _held_out_class, 2, "trained on edge, which evaluation.unknown_classes"),
    Way("start, the same texts", _same_texts, 2, "of the 16 test rows: 'ann0_b'"),
    Way(
        "random split of groups", lambda b: b.train("random", HONEST, "data.split=random"), 2, "A random split of these"
    ),
    Way("split column parts a group", lambda b: b.train("part", _parted()), 0, "groups are in both train and test"),
    Way("split column parts copies", _copies_in_split_column, 0, "twin_ann0.npy"),
    Way("drawn split of copies", _copies_in_drawn_split, 0, "again_"),
    Way("resume with other rows", _other_rows, 2, OTHER_ROWS),
    Way("resume, other labels", _changed(_other_label), 2, OTHER_ROWS),
    Way("resume, other spans", _changed(_other_spans), 2, OTHER_ROWS),
    Way("resume, other captions", _changed(_other_captions), 2, OTHER_ROWS),
    Way("resume, files exchanged", _exchanged_files, 2, OTHER_ROWS),
    Way(
        "evaluate on training rows",
        lambda b: b.evaluate("honest", f"data.path={b.manifest('mine', rows_of(TRAIN, None))}"),
        0,
        "the model was trained on 16 of the 16 test rows: 'ann0.npy'",
    ),
    Way(
        "evaluate with another split",
        lambda b: b.evaluate("honest", "data.split=folds", "data.folds=2"),
        0,
        "the model was trained on",
    ),
)


def _parted() -> list[Row]:
    """The honest rows, with one row of each training group in the test."""
    seen: set[str | None] = set()
    rows = []
    for row in HONEST:
        rows.append(row if row.group in seen else replace(row, split="test"))
        seen.add(row.group)
    return rows


def no_leak(data: Path, seeds: int) -> tuple[str, bool]:
    """Try all ways and the controls. It uses no data sets and no seeds."""
    folder = proof_tools.fresh_folder("no-leak").resolve()
    bench = Bench(folder / "data", folder / "runs")
    bench.data.mkdir()
    bench.train("honest", HONEST, code=0)
    bench.train("resumed", HONEST, HEADS, code=0)
    caught = 0
    print(f"\n{'way to train on the test set':<36}{'exit':>5}   what the program says")
    for way in WAYS:
        result = way.attempt(bench)
        lines = [line for line in (result.stderr + result.stdout).splitlines() if way.expected in line]
        is_caught = result.returncode == way.code and bool(lines)
        caught += is_caught
        print(f"{way.name:<36}{result.returncode:>5}   {_shown(way, result, lines, is_caught=is_caught)}", flush=True)
    honest = _controls(bench)
    return (
        f"{caught} of {len(WAYS)} refused or named; {sum(honest)} of {len(honest)} honest trainings and evaluations "
        "pass",
        caught == len(WAYS) and all(honest),
    )


def _shown(way: Way, result: Result, lines: list[str], *, is_caught: bool) -> str:
    """What the program said, around the expected words; all of it where something else was expected."""
    if not is_caught:
        return f"NOT CAUGHT: {result.stderr[-3000:]}"
    start = max(0, lines[0].find(way.expected) - 40)
    return lines[0][start : start + 150]


def _controls(bench: Bench) -> list[bool]:
    """Whether honest commands go through, without a note about training rows."""
    foreign = bench.manifest("foreign", rows_of(("lea", "max"), None))
    results = {
        "start with the same split": bench.start("again", "honest", HONEST),
        "start from other data": bench.start("other", "honest", FOREIGN),
        "evaluate on other data": bench.evaluate("honest", f"data.path={foreign}"),
        "go on with the same rows": bench.resume("resumed", HONEST, HEADS),
    }
    passed = []
    for name, result in results.items():
        passed.append(result.returncode == 0 and "was trained on" not in result.stderr)
        print(f"control: {name:<27}{result.returncode:>5}   {'passes' if passed[-1] else result.stderr[-500:]}")
    return passed
