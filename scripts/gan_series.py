"""Sequences with their rows: real ones, drawn few of a class, and what can be added to them to learn from.

In: a folder with manifest.jsonl and .npy files, a trained generator. Out: `Clips`, manifests. Not part of the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.checkpoint import load_model
from pipeline.data.manifest import Row, read_manifest, write_manifest
from pipeline.inference.create import make_sequences

FEW, MORE = 5, 10  # clips a class to learn from, sequences a class that are added
STRENGTH = 0.3  # of the noise on copies, in standard deviations of each channel

Series = list[np.ndarray]


@dataclass(frozen=True)
class Clips:
    """Sequences (T, D) of one part, with their rows."""

    values: Series
    rows: list[Row]

    @property
    def labels(self) -> list[str]:
        """The class of each."""
        return [row.label or "" for row in self.rows]

    @property
    def groups(self) -> list[str]:
        """Whom or what each was taken of."""
        return [row.group or "" for row in self.rows]

    def some(self, places: Sequence[int]) -> Clips:
        """Those at some places."""
        return Clips([self.values[i] for i in places], [self.rows[i] for i in places])

    def like(self, values: Series) -> Clips:
        """Others in their place, one for each."""
        assert len(values) == len(self.rows)
        return Clips(values, self.rows)

    @classmethod
    def read(cls, folder: Path, test: bool) -> Clips:
        """The test part of a folder's manifest, or the rest."""
        rows = [row for row in read_manifest(folder / "manifest.jsonl").rows if (row.split == "test") == test]
        return cls([np.load(folder / row.path).astype(np.float32) for row in rows], rows)


def made_like(run: Path, labels: Sequence[str], lengths: Sequence[int], seed: int = 11) -> Series:
    """A sequence made for each label, of its length."""
    checkpoint, found = load_model(run), dict[int, np.ndarray]()
    for label in sorted(set(labels)):
        wanted = [i for i, one in enumerate(labels) if one == label]
        longest = max(lengths[i] for i in wanted)
        several = make_sequences(
            checkpoint, torch.device("cpu"), label=label, count=len(wanted), length=longest, seed=seed
        )
        for i, one in zip(wanted, several, strict=True):
            assert isinstance(one.values, np.ndarray)
            found[i] = one.values[: lengths[i]].astype(np.float32)
    return [found[i] for i in range(len(labels))]


def alike(like: Clips, among: Clips, random: np.random.Generator) -> Clips:
    """As many clips of each class as `like` has (or all there are), drawn without replacement."""
    places: list[int] = []
    for label in sorted(set(like.labels)):
        known = [i for i, one in enumerate(among.labels) if one == label]
        places += random.permutation(known)[: like.labels.count(label)].tolist()
    return among.some(places)


def halves(clips: Clips, random: np.random.Generator) -> tuple[Clips, Clips]:
    """Two parts of whole groups."""
    groups = sorted(set(clips.groups))
    first = {groups[i] for i in random.permutation(len(groups))[::2]}
    parts = ([i for i, g in enumerate(clips.groups) if (g in first) == side] for side in (True, False))
    one, other = (clips.some(part) for part in parts)
    return one, other


@dataclass(frozen=True)
class Draw:
    """`FEW` clips a class, each of another group, and `MORE` of groups that are not theirs."""

    few: Clips
    more: Clips

    @classmethod
    def of(cls, train: Clips, seed: int) -> Draw:
        """Raises SystemExit where a class has too few groups."""
        random, few, more = np.random.default_rng([7, seed]), list[int](), list[int]()
        for label in sorted(set(train.labels)):
            known = [i for i in random.permutation(len(train.rows)).tolist() if train.labels[i] == label]
            one_each = list({train.groups[i]: i for i in known}.values())
            if len(one_each) < FEW + MORE:
                raise SystemExit(f"'{label}' has clips of {len(one_each)} groups; {FEW + MORE} are needed.")
            few += one_each[:FEW]
            more += one_each[FEW : FEW + MORE]
        return cls(train.some(few), train.some(more))


def noisy(few: Clips, random: np.random.Generator) -> Clips:
    """`MORE` copies a class, each moved by noise that stays the same over a clip: what a mean over time cannot take away."""
    steps = np.concatenate(few.values)
    return _from_pairs(few, random, lambda a, b: a + STRENGTH * steps.std(0) * random.normal(size=a.shape[1]))


def mixed(few: Clips, random: np.random.Generator) -> Clips:
    """`MORE` mixtures a class of two clips of it, step by step (mixup, Zhang et al. 2018, arXiv 1710.09412, within a class)."""

    def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        share, steps = random.uniform(), min(len(a), len(b))
        return share * a[:steps] + (1 - share) * b[:steps]

    return _from_pairs(few, random, mix)


def _from_pairs(few: Clips, random: np.random.Generator, join: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Clips:
    values: Series = []
    rows = []
    for label in sorted(set(few.labels)):
        known = [i for i, one in enumerate(few.labels) if one == label]
        for _ in range(MORE):
            a, b = random.choice(known, size=2, replace=False)
            values.append(join(few.values[a], few.values[b]).astype(np.float32))
            rows.append(few.rows[a])
    return Clips(values, rows)


def generated(few: Clips, run: Path, random: np.random.Generator) -> Clips:
    """`MORE` a class by a generator that saw these few alone, as long as they are."""
    like = _from_pairs(few, random, lambda a, b: a)
    return Clips(made_like(run, like.labels, [len(v) for v in like.values]), like.rows)


def write_part(folder: Path, name: str, few: Clips, added: Clips | None, test: Clips) -> Path:
    """A manifest in `folder` whose training rows are the few clips and what was added to them, its files beside it."""
    rows = [Row(r.path, "train", r.group, r.label) for r in few.rows]
    if added is not None:
        (folder / name).mkdir(exist_ok=True)
        for number, (value, row) in enumerate(zip(added.values, added.rows, strict=True)):
            np.save(folder / name / f"{number:04d}.npy", value)
            rows.append(Row(f"{name}/{number:04d}.npy", "train", None, row.label))
    write_manifest([*rows, *test.rows], folder / f"{name}.jsonl")
    return folder / f"{name}.jsonl"
