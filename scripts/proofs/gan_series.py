"""Sequences of features with their rows: real ones, few of each class, and what can be added to them for training.

In: a folder with manifest.jsonl and .npy files, and a trained generator. Out: `Clips` and manifests. It is not part of
the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import proof_tools
import torch

from pipeline.checkpoint import load_model
from pipeline.data.manifest import read_manifest, write_manifest
from pipeline.data.manifest_rows import Row
from pipeline.inference.generate_sequences import generate_sequences

NUM_FEW, NUM_ADDED = proof_tools.SIZE.pick((5, 10), (2, 2))
"""Training clips of each class, and sequences of each class that are added."""
NOISE = 0.3  # on copies, in standard deviations of each channel

Series = list[np.ndarray]


@dataclass(frozen=True)
class Clips:
    """Sequences (T, D) of one split, with their rows."""

    values: Series
    rows: list[Row]

    @property
    def labels(self) -> list[str]:
        """The class of each sequence."""
        return [row.label or "" for row in self.rows]

    @property
    def groups(self) -> list[str]:
        """The person or video of each sequence."""
        return [row.group or "" for row in self.rows]

    def some(self, indices: Sequence[int]) -> Clips:
        """The sequences with these indices."""
        return Clips([self.values[i] for i in indices], [self.rows[i] for i in indices])

    def with_values(self, values: Series) -> Clips:
        """Other sequences with the same rows."""
        assert len(values) == len(self.rows)
        return Clips(values, self.rows)

    @classmethod
    def read(cls, folder: Path, test: bool) -> Clips:
        """The test split of a folder's manifest, or the other splits."""
        rows = [row for row in read_manifest(folder / "manifest.jsonl").rows if (row.split == "test") == test]
        return cls([np.load(folder / row.path).astype(np.float32) for row in rows], rows)


def generate_like(run: Path, labels: Sequence[str], lengths: Sequence[int], seed: int = 11) -> Series:
    """A generated sequence for each label, of its length."""
    checkpoint, values = load_model(run), dict[int, np.ndarray]()
    for label in sorted(set(labels)):
        indices = [i for i, other in enumerate(labels) if other == label]
        longest = max(lengths[i] for i in indices)
        sequences = generate_sequences(
            checkpoint, torch.device("cpu"), label=label, count=len(indices), length=longest, seed=seed
        )
        for i, sequence in zip(indices, sequences, strict=True):
            assert isinstance(sequence.values, np.ndarray)
            values[i] = sequence.values[: lengths[i]].astype(np.float32)
    return [values[i] for i in range(len(labels))]


def sample_like(like: Clips, among: Clips, random: np.random.Generator) -> Clips:
    """As many clips of each class as `like` has (or all there are), drawn without replacement."""
    indices: list[int] = []
    for label in sorted(set(like.labels)):
        members = [i for i, other in enumerate(among.labels) if other == label]
        indices += random.permutation(members)[: like.labels.count(label)].tolist()
    return among.some(indices)


def split_groups(clips: Clips, random: np.random.Generator) -> tuple[Clips, Clips]:
    """Two halves of whole groups."""
    groups = sorted(set(clips.groups))
    first = {groups[i] for i in random.permutation(len(groups))[::2]}
    halves = ([i for i, g in enumerate(clips.groups) if (g in first) == is_first] for is_first in (True, False))
    one, other = (clips.some(half) for half in halves)
    return one, other


@dataclass(frozen=True)
class FewClips:
    """`NUM_FEW` clips of each class, each of another group, and `NUM_ADDED` real clips of other groups."""

    few: Clips
    more: Clips

    @classmethod
    def draw(cls, train: Clips, seed: int) -> FewClips:
        """Raises SystemExit where a class has too few groups."""
        random, few, more = np.random.default_rng([7, seed]), list[int](), list[int]()
        for label in sorted(set(train.labels)):
            members = [i for i in random.permutation(len(train.rows)).tolist() if train.labels[i] == label]
            one_each = list({train.groups[i]: i for i in members}.values())
            if len(one_each) < NUM_FEW + NUM_ADDED:
                raise SystemExit(f"'{label}' has clips of {len(one_each)} groups; {NUM_FEW + NUM_ADDED} are needed.")
            few += one_each[:NUM_FEW]
            more += one_each[NUM_FEW : NUM_FEW + NUM_ADDED]
        return cls(train.some(few), train.some(more))


def add_noise(few: Clips, random: np.random.Generator) -> Clips:
    """`NUM_ADDED` copies of each class with noise that is constant over a clip, so that a mean over time keeps it."""
    steps = np.concatenate(few.values)
    return _from_pairs(few, random, lambda a, b: a + NOISE * steps.std(0) * random.normal(size=a.shape[1]))


def mix(few: Clips, random: np.random.Generator) -> Clips:
    """`NUM_ADDED` mixtures of two clips of each class, step by step (mixup, Zhang et al. 2018, arXiv 1710.09412)."""

    def mix_pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        share, steps = random.uniform(), min(len(a), len(b))
        return share * a[:steps] + (1 - share) * b[:steps]

    return _from_pairs(few, random, mix_pair)


def _from_pairs(
    few: Clips, random: np.random.Generator, combine: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Clips:
    """`NUM_ADDED` new clips of each class from two random clips of it."""
    values: Series = []
    rows = []
    for label in sorted(set(few.labels)):
        members = [i for i, other in enumerate(few.labels) if other == label]
        for _ in range(NUM_ADDED):
            a, b = random.choice(members, size=2, replace=False)
            values.append(combine(few.values[a], few.values[b]).astype(np.float32))
            rows.append(few.rows[a])
    return Clips(values, rows)


def generate_from_few(few: Clips, run: Path, random: np.random.Generator) -> Clips:
    """`NUM_ADDED` sequences of each class by a generator that was trained on these few clips, with their lengths."""
    like = _from_pairs(few, random, lambda a, b: a)
    return Clips(generate_like(run, like.labels, [len(v) for v in like.values]), like.rows)


def write_manifest_of(folder: Path, name: str, few: Clips, added: Clips | None, test: Clips) -> Path:
    """Write a manifest whose training rows are the few clips and what was added, with its files beside it."""
    rows = [Row(r.path, "train", r.group, r.label) for r in few.rows]
    if added is not None:
        (folder / name).mkdir(exist_ok=True)
        for number, (value, row) in enumerate(zip(added.values, added.rows, strict=True)):
            np.save(folder / name / f"{number:04d}.npy", value)
            rows.append(Row(f"{name}/{number:04d}.npy", "train", None, row.label))
    write_manifest([*rows, *test.rows], folder / f"{name}.jsonl")
    return folder / f"{name}.jsonl"
