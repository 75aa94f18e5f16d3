"""Connectionist temporal classification: from a distribution a step to the words that were said.

In: log-probabilities (T, C) of one sequence; the last class is the blank. Out: label sequences, their probability, where each
label stands. Knows nothing of words, cores, losses or videos. NumPy only.

A path says one class a step; it means what is left when repeats are joined and blanks go (Graves et al. 2006, "Connectionist
temporal classification"). Many paths mean the same, and their probabilities add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Labels = tuple[int, ...]


class LanguageModel(Protocol):
    """What comes next, over labels 0 .. L - 1 and an end. State goes in, state comes out."""

    def begin(self) -> Any:
        """The state before the first label."""
        ...

    def after(self, state: Any, label: int) -> Any:
        """The state behind one more label."""
        ...

    def row(self, state: Any) -> np.ndarray:
        """(L + 1,): log-probabilities of each label, and last of the end."""
        ...


@dataclass(frozen=True)
class Bigrams:
    """A language model that is a table (L + 1, L + 1): the column's log-probability behind the row's; the last row is the
    beginning, the last column the end (`NgramModel.table`).
    """

    log_probabilities: np.ndarray

    def begin(self) -> int:
        """The last row."""
        return len(self.log_probabilities) - 1

    def after(self, state: int, label: int) -> int:
        """The label's row."""
        return label

    def row(self, state: int) -> np.ndarray:
        """(L + 1,)."""
        return self.log_probabilities[state]


@dataclass(frozen=True)
class Decoded:
    """log_probability: of the paths that the search kept; all of them where the width had room. score: with the language
    model and the bonus.
    """

    labels: Labels
    log_probability: float
    score: float


def collapsed(path: Sequence[int] | np.ndarray, blank: int) -> Labels:
    """What a path means: repeats joined, then blanks gone."""
    steps = np.asarray(path, dtype=np.int64)
    is_new = np.diff(steps, prepend=-1) != 0
    return tuple(steps[is_new & (steps != blank)].tolist())


def greedy(log_probabilities: np.ndarray) -> Labels:
    """What the most probable path means. It need not be the most probable labelling: many less probable paths may mean another."""
    return collapsed(log_probabilities.argmax(axis=1), log_probabilities.shape[1] - 1)


def prefix_beam_search(
    log_probabilities: np.ndarray,
    *,
    width: int,
    language_model: LanguageModel | None = None,
    weight: float = 0.0,
    bonus: float = 0.0,
) -> list[Decoded]:
    """The best labellings, best first, at most `width` (Graves 2012, "Supervised sequence labelling", section 7.5; as a search
    over the steps: Hannun et al. 2014, arXiv 1408.2873, algorithm 1).

    A prefix has two probabilities: of the paths that mean it and end in a blank, and of those that end in its last label. Each
    step it may stay or become longer by a label. `width` prefixes go on; a prefix is a node that knows its parent, so that a step
    costs the same however long the prefixes are. Ranked by log p + weight * log p_language + bonus * labels (Amodei et
    al. 2016, arXiv 1512.02595, equation 12), and behind the last step the language model also tells the end.

    Args:
        log_probabilities: (T, C); classes 0 .. C - 2 are labels, C - 1 is the blank. T may be 0.
        width: prefixes that go on. One is not `greedy`: it goes by the sum over paths, but sees one prefix only.
        language_model: over C - 1 labels and an end.
        weight: of its log-probability.
        bonus: added a label; above 0 it makes up for the language model's taste for few words.

    Raises ValueError for a width below 1 and where no path has a probability.
    """
    if width < 1:
        raise ValueError(f"width={width}: the search goes on with at least 1 prefix. Give 1 or more.")
    scores = np.asarray(log_probabilities, dtype=np.float64)
    beam = _Beam(scores.shape[1] - 1, language_model, weight, bonus)
    for step, frame in enumerate(scores):
        if np.isnan(frame).any() or not beam.move(frame, width):
            raise ValueError(
                f"At step {step} no path has a probability: its log-probabilities are nan or all minus infinity. They would be "
                "a log-softmax. Look for a training that has gone astray."
            )
    return beam.found()


class _Beam:
    """W prefixes and what goes with each: nodes (W,) of the tree; in_blank, in_label (W,), log-probabilities of the paths so
    far that end so; extra (W,), what language model and bonus say of it; ahead (W, L), what they would add for each label.
    """

    def __init__(self, num_labels: int, language_model: LanguageModel | None, weight: float, bonus: float) -> None:
        self.num_labels, self.model, self.weight, self.bonus = num_labels, language_model, weight, bonus
        self.parents, self.last = [-1], [-1]  # of every node there ever was; node 0 is the empty prefix
        self.children: dict[tuple[int, int], int] = {}
        self.states: list[Any] = [None if language_model is None else language_model.begin()]  # of the beam's prefixes
        self.nodes, self.in_blank, self.in_label = [0], np.zeros(1), np.full(1, -np.inf)
        self.extra, self.ahead, self.end = np.zeros(1), *self._asked(self.states)

    def _asked(self, states: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """What each label (W, L) and the end (W,) would add."""
        if self.model is None:
            return np.full((len(states), self.num_labels), self.bonus), np.zeros(len(states))
        rows = np.reshape([self.model.row(state) for state in states], (len(states), self.num_labels + 1))
        return self.weight * rows[:, :-1] + self.bonus, self.weight * rows[:, -1]

    def move(self, frame: np.ndarray, width: int) -> bool:
        """One step on; False where nothing is possible any more."""
        count, places = len(self.nodes), {node: i for i, node in enumerate(self.nodes)}
        last = np.array([self.last[node] for node in self.nodes])
        total = np.logaddexp(self.in_blank, self.in_label)
        in_blank = total + frame[-1]
        in_label = self.in_label + frame[last]  # the empty prefix has no last label, and stays at minus infinity
        longer = total[:, None] + frame[:-1]  # (W, L)
        longer[last >= 0, last[last >= 0]] = (self.in_blank + frame[last])[last >= 0]  # a repeat needs a blank between
        for i, node in enumerate(self.nodes):
            parent = places.get(self.parents[node])
            if parent is not None:  # its parent grows into it: two roads to one prefix
                in_label[i] = np.logaddexp(in_label[i], longer[parent, last[i]])
                longer[parent, last[i]] = -np.inf
        stays = np.logaddexp(in_blank, in_label) + self.extra
        ranked = np.concatenate([stays, (longer + self.ahead + self.extra[:, None]).ravel()])
        best = _largest(ranked, width)
        stay, grow = best[best < count], best[best >= count] - count
        parents, labels = np.divmod(grow, max(1, self.num_labels))
        self._keep(stay, parents, labels)
        self.in_blank = np.concatenate([in_blank[stay], np.full(len(grow), -np.inf)])
        self.in_label = np.concatenate([in_label[stay], longer[parents, labels]])
        return len(best) > 0

    def _keep(self, stay: np.ndarray, parents: np.ndarray, labels: np.ndarray) -> None:
        """The prefixes of the next step: places that stay, and places that grow by a label each."""
        grown = list(zip(parents.tolist(), labels.tolist(), strict=True))
        states = [self.states[i] if self.model is None else self.model.after(self.states[i], c) for i, c in grown]
        ahead, end = self._asked(states)
        self.extra = np.concatenate([self.extra[stay], self.extra[parents] + self.ahead[parents, labels]])
        self.ahead, self.end = np.concatenate([self.ahead[stay], ahead]), np.concatenate([self.end[stay], end])
        self.states = [self.states[i] for i in stay] + states
        self.nodes = [self.nodes[i] for i in stay] + [self._child(self.nodes[i], c) for i, c in grown]

    def _child(self, node: int, label: int) -> int:
        """The same prefix is the same node, also where it comes back."""
        child = self.children.setdefault((node, label), len(self.last))
        if child == len(self.last):
            self.parents.append(node)
            self.last.append(label)
        return child

    def found(self) -> list[Decoded]:
        """The prefixes as labellings, best first."""
        total = np.logaddexp(self.in_blank, self.in_label)
        scores = total + self.extra + self.end
        order = np.argsort(-scores, kind="stable")
        return [Decoded(self._labels(self.nodes[i]), float(total[i]), float(scores[i])) for i in order]

    def _labels(self, node: int) -> Labels:
        labels = []
        while node:
            labels.append(self.last[node])
            node = self.parents[node]
        return tuple(reversed(labels))


def log_probability(log_probabilities: np.ndarray, labels: Sequence[int]) -> float:
    """The log-probability of a labelling: the sum over all paths that mean it (Graves et al. 2006, equations 5 to 8)."""
    frames, can_skip = _lattice(log_probabilities, labels)
    if not len(frames):
        return -np.inf if len(labels) else 0.0
    alpha = np.where(np.arange(frames.shape[1]) < 2, frames[0], -np.inf)
    for frame in frames[1:]:
        alpha = np.logaddexp.reduce(_ways(alpha, can_skip), axis=0) + frame
    return float(np.logaddexp.reduce(alpha[-2:]))


def align(log_probabilities: np.ndarray, labels: Sequence[int]) -> list[tuple[int, int]]:
    """Where each label stands in the most probable path that means the labels: (first step, step behind the last).

    Raises ValueError where there are too few steps for the labels, which need one each and a blank between equal ones.
    """
    frames, can_skip = _lattice(log_probabilities, labels)
    needed = len(labels) + num_repeats(labels)
    if len(frames) < needed:
        raise ValueError(
            f"{len(labels)} labels need {needed} steps, and there are {len(frames)}. Give a longer sequence or fewer labels."
        )
    if not len(labels):
        return []
    score = np.where(np.arange(frames.shape[1]) < 2, frames[0], -np.inf)
    came = np.zeros(frames.shape, dtype=np.int8)  # how many places back the best way came from
    for step in range(1, len(frames)):
        ways = _ways(score, can_skip)
        came[step] = ways.argmax(axis=0)
        score = ways.max(axis=0) + frames[step]
    place = frames.shape[1] - (1 if score[-1] > score[-2] else 2)
    spans = [(0, 0)] * len(labels)
    for step in range(len(frames) - 1, -1, -1):
        if place % 2:
            label = place // 2
            spans[label] = (step, spans[label][1] or step + 1)
        place -= int(came[step, place])
    return spans


def num_repeats(labels: Sequence[int]) -> int:
    """How many labels are equal to the one before: each needs a blank before it."""
    return sum(a == b for a, b in zip(labels, labels[1:], strict=False))


def _lattice(log_probabilities: np.ndarray, labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Blanks between, before and behind the labels: scores (T, 2 L + 1), and which of these places (2 L + 1,) may be
    entered past the blank before.
    """
    blank = log_probabilities.shape[1] - 1
    places = np.full(2 * len(labels) + 1, blank)
    places[1::2] = labels
    can_skip = np.zeros(len(places), dtype=bool)
    can_skip[3::2] = places[3::2] != places[1:-2:2]
    return np.asarray(log_probabilities, dtype=np.float64)[:, places], can_skip


def _ways(score: np.ndarray, can_skip: np.ndarray) -> np.ndarray:
    """(3, S): the scores of those who may come into each place: itself, the one before, the one before that."""
    padded = np.concatenate([np.full(2, -np.inf), score])
    return np.stack([score, padded[1:-1], np.where(can_skip, padded[:-2], -np.inf)])


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest values, largest first; those without a probability are none."""
    if len(values) > count:
        places = np.argpartition(-values, count - 1)[:count]
        places = places[np.argsort(-values[places], kind="stable")]
    else:
        places = np.argsort(-values, kind="stable")
    return places[values[places] > -np.inf]
