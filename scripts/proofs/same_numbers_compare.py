"""Two folders of numbers that the probe of same-numbers wrote -> what differs.

In: the folders. Out: a `Comparison`. What a tree of new names wrote is put into old names by the tables first. This
file knows nothing of how the numbers came about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from same_numbers_names import old_key, old_rows, old_weight

WEIGHTS = ("best", "last")
"""The weights that a model folder holds, and those behind the last step."""
Tensors = Mapping[str, np.ndarray]


@dataclass
class Comparison:
    """What was compared, and what differs.

    Args:
        differences: a sentence for each.
        hints: parts of the names of weights that no rule knows, new -> old.
        cases, trainings, tensors, numbers: how many of each were compared.
    """

    differences: list[str] = field(default_factory=list)
    hints: set[str] = field(default_factory=set)
    cases: int = 0
    trainings: int = 0
    tensors: int = 0
    numbers: int = 0

    def __str__(self) -> str:
        cases = f"{self.cases} cases ({self.trainings} trainings)"
        numbers = f"{self.tensors:,} tensors and {self.numbers:,} numbers compared"
        return f"{cases}, {numbers}, {len(self.differences)} differences"


def compare(old: Path, new: Path) -> Comparison:
    """Every case of both folders. A case that failed in either, or is missing in one, differs."""
    found = Comparison()
    cases = sorted({path.stem for where in (old, new) for path in where.glob("*.json")} - {"probe"})
    for case in cases:
        found.cases += 1
        sides: list[tuple[dict[str, Any], Tensors]] = []
        for where in (old, new):
            try:
                sides.append(_read(where, case))
            except ValueError as error:
                found.differences.append(f"{case} fails in {where.name}: {error}")
        if len(sides) == 2:
            (known, weights), (others, other_weights) = sides
            found.trainings += "report" in known
            _compare_documents(found, case, known, others)
            _compare_tensors(found, case, weights, other_weights)
    return found


def _read(where: Path, case: str) -> tuple[dict[str, Any], Tensors]:
    """What a case says and its tensors, in old names. Raises ValueError for a case that failed or was not run."""
    path = where / f"{case}.json"
    if not path.is_file():
        raise ValueError("it was not run")
    document = json.loads(path.read_text(encoding="utf-8"))
    if "error" in document:
        raise ValueError(document["error"])
    tensors = _tensors(path.with_suffix(".npz"))
    if json.loads((where / "probe.json").read_text(encoding="utf-8"))["names"] == "old":
        return document, tensors
    if "report" in document:
        report = {**document["report"], "rows": old_rows(document["report"]["rows"])}
        document |= {"report": report, "metrics": old_rows(document["metrics"])}
    return document, _renamed(tensors)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number and text of a document by its path. Lists and dictionaries say how long they are."""
    if isinstance(value, dict | list):
        yield (*path, "length"), len(value)
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, str(key)))
    else:
        yield path, value


def _compare_documents(found: Comparison, case: str, old: Any, new: Any) -> None:
    known, others = dict(_leaves(old)), dict(_leaves(new))
    for which, mine, theirs in (("old", known, others), ("new", others, known)):
        alone = [path for path in mine if path not in theirs]
        if alone:
            keys = dict.fromkeys(next((key for key in path[::-1] if not key.isdigit()), "") for path in alone)
            found.differences.append(f"{case}: {len(alone)} values are only in the {which} tree, of {', '.join(keys)}")
    for path in (path for path in known if path in others):
        one, other = known[path], others[path]
        found.numbers += 1
        is_equal = type(one) is type(other) and (one == other or (one != one and other != other))
        if not is_equal:
            what = f"{_short(one)} in the old tree and {_short(other)} in the new one"
            found.differences.append(f"{case}: {' > '.join(path)} is {what}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a case in the order in which they were written."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _old_name(name: str) -> str:
    """The path of a tensor in old names."""
    part, _, rest = name.partition("/")
    return f"{part}/{old_weight(rest)}" if part in WEIGHTS else "/".join(map(old_key, name.split("/")))


def _renamed(new: Tensors) -> Tensors:
    """Tensors under their old names. Raises ValueError where two names become one."""
    renamed: dict[str, np.ndarray] = {}
    for name, value in new.items():
        place = _old_name(name)
        if place in renamed:
            raise ValueError(f"two names of tensors become {place}, one of them {name}")
        renamed[place] = value
    return renamed


def _compare_tensors(found: Comparison, case: str, old: Tensors, new: Tensors) -> None:
    missing, unknown = [n for n in old if n not in new], [n for n in new if n not in old]
    for which, names in (("old", missing), ("new", unknown)):
        if names:
            found.differences.append(f"{case}: {len(names)} tensors are only in the {which} tree, the first {names[0]}")
    if missing or unknown:
        found.hints |= set(_hints(old, new))
    for name in (n for n in old if n in new):
        one, other = old[name], new[name]
        found.tensors += 1
        found.numbers += one.size
        if one.dtype != other.dtype or one.shape != other.shape:
            what = [f"{x.dtype} {x.shape}" for x in (one, other)]
            found.differences.append(f"{case}: {name} is {what[0]} in the old tree and {what[1]} in the new one")
        elif one.tobytes() != other.tobytes():
            found.differences.append(f"{case}: {name} {one.shape}: {_how_far(one, other)}")


def _how_far(one: np.ndarray, other: np.ndarray) -> str:
    """How two arrays of one kind and shape differ."""
    is_other = ~((one == other) | ((one != one) & (other != other)))
    if one.dtype.kind not in "fiu" or not is_other.any():
        return f"{int(is_other.sum())} of {one.size} differ, or their bits"
    most = np.abs(one.astype(np.float64) - other.astype(np.float64))[is_other].max()
    return f"{int(is_other.sum())} of {one.size} numbers differ, by up to {most:.3g}"


def _hints(old: Tensors, new: Tensors) -> Iterator[str]:
    """The parts of names for which a rule is missing.

    Weights are paired by their order in the state dicts where all shapes agree, else by equal bytes.
    """
    for part in WEIGHTS:
        known, others = ([n for n in names if n.startswith(f"{part}/")] for names in (old, new))
        pairs = list(zip(known, others, strict=False))
        if len(known) != len(others) or any(old[a].shape != new[b].shape for a, b in pairs):
            bytes_of = {new[name].tobytes(): name for name in others if name not in old}
            pairs = [(a, bytes_of[old[a].tobytes()]) for a in known if a not in new and old[a].tobytes() in bytes_of]
            how = "by equal bytes"
        else:
            how = "in order"
        for a, b in pairs:
            if a != b:
                is_equal = old[a].tobytes() == new[b].tobytes()
                yield f"{_differing(b, a)} ({how}, {'equal' if is_equal else 'NOT equal'})"


def _differing(new: str, old: str) -> str:
    """The middle of two dotted names without what they begin and end with alike."""
    ours, theirs = new.split("."), old.split(".")
    while ours and theirs and ours[0] == theirs[0]:
        ours, theirs = ours[1:], theirs[1:]
    while ours and theirs and ours[-1] == theirs[-1]:
        ours, theirs = ours[:-1], theirs[:-1]
    return f"{'.'.join(ours) or '(nothing)'} -> {'.'.join(theirs) or '(nothing)'}"
