"""Connectionist temporal classification (CTC): from a distribution per step to a sequence of labels.

In: log-probabilities (T, C) of one sequence; the last class is the blank. Out: label sequences, their probability, and
the steps of each label. Knows nothing of words, cores, losses or videos. NumPy only.

A path has one class per step. It collapses to a label sequence: repeats are merged, then blanks are removed (Graves et
al. 2006, "Connectionist temporal classification"). Many paths collapse to one label sequence, and their probabilities
add up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Labels = tuple[int, ...]


class LanguageModel(Protocol):
    """A distribution of the next label, over labels 0 .. L - 1 and the end. The state is an argument and a result."""

    def initial_state(self) -> Any:
        """The state before the first label."""
        ...

    def next_state(self, state: Any, label: int) -> Any:
        """The state after one more label."""
        ...

    def next_log_probabilities(self, state: Any) -> np.ndarray:
        """(L + 1,): the log-probability of each label, and last that of the end."""
        ...


@dataclass(frozen=True)
class BigramModel:
    """A language model as a table (L + 1, L + 1) of the column's log-probability after the row's label. The last row is
    the start of a sequence, the last column its end (`NgramModel.bigram_table`).
    """

    log_probabilities: np.ndarray

    def initial_state(self) -> int:
        """The last row."""
        return len(self.log_probabilities) - 1

    def next_state(self, state: int, label: int) -> int:
        """The row of the label."""
        return label

    def next_log_probabilities(self, state: int) -> np.ndarray:
        """(L + 1,): one row of the table."""
        return self.log_probabilities[state]


@dataclass(frozen=True)
class CTCHypothesis:
    """One label sequence. log_probability: summed over the paths that the search has kept, which are all paths if the
    beam was wide enough. score: log_probability with the language model and the bonus.
    """

    labels: Labels
    log_probability: float
    score: float


def collapse(path: Sequence[int] | np.ndarray, blank: int) -> Labels:
    """The label sequence of a path: repeats are merged, then blanks are removed."""
    steps = np.asarray(path, dtype=np.int64)
    is_new = np.diff(steps, prepend=-1) != 0
    return tuple(steps[is_new & (steps != blank)].tolist())


def greedy(log_probabilities: np.ndarray) -> Labels:
    """The label sequence of the most probable path. It need not be the most probable label sequence: many less probable
    paths may share another one.
    """
    return collapse(log_probabilities.argmax(axis=1), log_probabilities.shape[1] - 1)


def prefix_beam_search(
    log_probabilities: np.ndarray,
    *,
    width: int,
    language_model: LanguageModel | None = None,
    weight: float = 0.0,
    bonus: float = 0.0,
) -> list[CTCHypothesis]:
    """The best label sequences, best first, at most `width`.

    A prefix l has two probabilities: p_b, of the paths that collapse to it and end in a blank, and p_l, of those that
    end in its last label. With y(c) the probability of class c at a step, a prefix stays or grows by a label c:

        p_b(l)     <- (p_b(l) + p_l(l)) * y(blank)
        p_l(l)     <- p_l(l) * y(last label of l)  +  what its parent gives by growing into l
        p_l(l + c) <- y(c) * (p_b(l) if c is the last label of l, else p_b(l) + p_l(l))

    After each step the `width` best prefixes are kept, ranked by log(p_b + p_l) + weight * log p_language + bonus *
    number of labels (Amodei et al. 2016, arXiv 1512.02595, equation 12). After the last step the language model also
    rates the end. A prefix is a node that stores its parent, so a step costs the same for long and short prefixes.

    Sources: Graves 2012, "Supervised sequence labelling", section 7.5; as a search over the steps Hannun et al. 2014,
    arXiv 1408.2873, algorithm 1.

    Args:
        log_probabilities: (T, C); classes 0 .. C - 2 are labels, C - 1 is the blank. T may be 0.
        width: number of prefixes that are kept. Width 1 differs from `greedy`: it uses the sum over paths, but of one
            prefix only.
        language_model: over C - 1 labels and an end.
        weight: of the language model's log-probability.
        bonus: added per label. A bonus above 0 compensates that a language model prefers short sequences.

    Raises ValueError for a width below 1, and at a step where no path has a probability above 0.
    """
    if width < 1:
        raise ValueError(f"width={width}: the search keeps at least 1 prefix. Give 1 or more.")
    scores = np.asarray(log_probabilities, dtype=np.float64)
    beam = _Beam(scores.shape[1] - 1, language_model, weight, bonus)
    for step, frame in enumerate(scores):
        if np.isnan(frame).any() or not beam.extend(frame, width):
            raise ValueError(
                f"At step {step} no path has a probability above 0: the log-probabilities are nan or all minus "
                "infinity. They must be a log-softmax. Check whether the training has diverged."
            )
    return beam.hypotheses()


class _Beam:
    """W prefixes and what belongs to each.

    nodes: their W nodes in the tree of all prefixes. blank_score, label_score: (W,), log p_b and log p_l. extra: (W,),
    the score of language model and bonus so far. label_extra: (W, L), what each label would add to it. end_extra: (W,),
    what the end would add.
    """

    def __init__(self, num_labels: int, language_model: LanguageModel | None, weight: float, bonus: float) -> None:
        self.num_labels, self.language_model, self.weight, self.bonus = num_labels, language_model, weight, bonus
        self.parents, self.last_labels = [-1], [-1]  # of all nodes of the tree; node 0 is the empty prefix
        self.children: dict[tuple[int, int], int] = {}
        self.states: list[Any] = [None if language_model is None else language_model.initial_state()]  # of the W nodes
        self.nodes, self.blank_score, self.label_score = [0], np.zeros(1), np.full(1, -np.inf)
        self.extra, self.label_extra, self.end_extra = np.zeros(1), *self._extras(self.states)

    def _extras(self, states: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """What each label (W, L) and the end (W,) would add to the score."""
        if self.language_model is None:
            return np.full((len(states), self.num_labels), self.bonus), np.zeros(len(states))
        rows = [self.language_model.next_log_probabilities(state) for state in states]
        table = np.reshape(rows, (len(states), self.num_labels + 1))
        return self.weight * table[:, :-1] + self.bonus, self.weight * table[:, -1]

    def extend(self, frame: np.ndarray, width: int) -> bool:
        """Process one step, log-probabilities (C,). Returns False where no prefix has a probability above 0."""
        count, positions = len(self.nodes), {node: i for i, node in enumerate(self.nodes)}
        last = np.array([self.last_labels[node] for node in self.nodes])
        total = np.logaddexp(self.blank_score, self.label_score)
        blank_score = total + frame[-1]
        label_score = self.label_score + frame[last]  # the empty prefix has no last label, and stays at minus infinity
        grown_score = total[:, None] + frame[:-1]  # (W, L)
        repeated = last >= 0  # a repeat of the last label needs a blank before it
        grown_score[repeated, last[repeated]] = (self.blank_score + frame[last])[repeated]
        for i, node in enumerate(self.nodes):
            parent = positions.get(self.parents[node])
            if parent is not None:  # the parent grows into this prefix: both ways lead to one prefix
                label_score[i] = np.logaddexp(label_score[i], grown_score[parent, last[i]])
                grown_score[parent, last[i]] = -np.inf
        stay_rank = np.logaddexp(blank_score, label_score) + self.extra
        grow_rank = grown_score + self.label_extra + self.extra[:, None]
        best = _largest(np.concatenate([stay_rank, grow_rank.ravel()]), width)
        stay, grow = best[best < count], best[best >= count] - count
        parents, labels = np.divmod(grow, max(1, self.num_labels))
        self._keep(stay, parents, labels)
        self.blank_score = np.concatenate([blank_score[stay], np.full(len(grow), -np.inf)])
        self.label_score = np.concatenate([label_score[stay], grown_score[parents, labels]])
        return len(best) > 0

    def _keep(self, stay: np.ndarray, parents: np.ndarray, labels: np.ndarray) -> None:
        """Set the prefixes of the next step: positions in the beam that stay, and positions that grow by a label."""
        grown = list(zip(parents.tolist(), labels.tolist(), strict=True))
        model = self.language_model
        states = [self.states[i] if model is None else model.next_state(self.states[i], label) for i, label in grown]
        label_extra, end_extra = self._extras(states)
        self.extra = np.concatenate([self.extra[stay], self.extra[parents] + self.label_extra[parents, labels]])
        self.label_extra = np.concatenate([self.label_extra[stay], label_extra])
        self.end_extra = np.concatenate([self.end_extra[stay], end_extra])
        self.states = [self.states[i] for i in stay] + states
        self.nodes = [self.nodes[i] for i in stay] + [self._child(self.nodes[i], label) for i, label in grown]

    def _child(self, node: int, label: int) -> int:
        """The node of a longer prefix. The same prefix has the same node, also when it left the beam and returns."""
        child = self.children.setdefault((node, label), len(self.last_labels))
        if child == len(self.last_labels):
            self.parents.append(node)
            self.last_labels.append(label)
        return child

    def hypotheses(self) -> list[CTCHypothesis]:
        """The prefixes as finished label sequences, best first."""
        total = np.logaddexp(self.blank_score, self.label_score)
        scores = total + self.extra + self.end_extra
        order = np.argsort(-scores, kind="stable")
        return [CTCHypothesis(self._labels(self.nodes[i]), float(total[i]), float(scores[i])) for i in order]

    def _labels(self, node: int) -> Labels:
        labels = []
        while node:
            labels.append(self.last_labels[node])
            node = self.parents[node]
        return tuple(reversed(labels))


def log_probability(log_probabilities: np.ndarray, labels: Sequence[int]) -> float:
    """The log-probability of a label sequence: the sum over all paths that collapse to it.

    With l' the labels with blanks before, between and after them (S = 2 L + 1 positions) and y_t the classes of step t:

        alpha_1(s) = y_1(l'_s) for the first two positions, else 0
        alpha_t(s) = y_t(l'_s) * (alpha_{t-1}(s) + alpha_{t-1}(s-1) + alpha_{t-1}(s-2) if l'_s may skip a blank)
        p          = alpha_T(S) + alpha_T(S-1)

    A label may skip the blank before it if it differs from the label before that blank (Graves et al. 2006, equations 5
    to 8).
    """
    frames, can_skip = _expanded(log_probabilities, labels)
    if not len(frames):
        return -np.inf if len(labels) else 0.0
    alpha = np.where(np.arange(frames.shape[1]) < 2, frames[0], -np.inf)
    for frame in frames[1:]:
        alpha = np.logaddexp.reduce(_predecessors(alpha, can_skip), axis=0) + frame
    return float(np.logaddexp.reduce(alpha[-2:]))


def align(log_probabilities: np.ndarray, labels: Sequence[int]) -> list[tuple[int, int]]:
    """Forced alignment: (first step, last step + 1) of each label, on the most probable path that collapses to them.

    Raises ValueError where there are too few steps: each label needs one, and equal neighbours need a blank between.
    """
    frames, can_skip = _expanded(log_probabilities, labels)
    needed = len(labels) + num_repeats(labels)
    if len(frames) < needed:
        raise ValueError(
            f"{len(labels)} labels need {needed} steps, and there are {len(frames)}. Give a longer sequence or fewer "
            "labels."
        )
    if not len(labels):
        return []
    score = np.where(np.arange(frames.shape[1]) < 2, frames[0], -np.inf)
    offsets = np.zeros(frames.shape, dtype=np.int8)  # how many positions back the best predecessor is
    for step in range(1, len(frames)):
        candidates = _predecessors(score, can_skip)
        offsets[step] = candidates.argmax(axis=0)
        score = candidates.max(axis=0) + frames[step]
    position = frames.shape[1] - (1 if score[-1] > score[-2] else 2)
    spans = [(0, 0)] * len(labels)
    for step in range(len(frames) - 1, -1, -1):
        if position % 2:
            label = position // 2
            spans[label] = (step, spans[label][1] or step + 1)
        position -= int(offsets[step, position])
    return spans


def num_repeats(labels: Sequence[int]) -> int:
    """The number of labels that equal the label before: each needs a blank before it."""
    return sum(a == b for a, b in itertools.pairwise(labels))


def _expanded(log_probabilities: np.ndarray, labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The labels with blanks before, between and after them: log-probabilities (T, 2 L + 1) of these positions, and
    (2 L + 1,) whether a position may be entered by skipping the blank before it.
    """
    blank = log_probabilities.shape[1] - 1
    positions = np.full(2 * len(labels) + 1, blank)
    positions[1::2] = labels
    can_skip = np.zeros(len(positions), dtype=bool)
    can_skip[3::2] = positions[3::2] != positions[1:-2:2]
    return np.asarray(log_probabilities, dtype=np.float64)[:, positions], can_skip


def _predecessors(score: np.ndarray, can_skip: np.ndarray) -> np.ndarray:
    """(3, S): the scores of the positions from which each position may be entered: itself, one before, two before."""
    padded = np.concatenate([np.full(2, -np.inf), score])
    return np.stack([score, padded[1:-1], np.where(can_skip, padded[:-2], -np.inf)])


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """The indices of the largest values, largest first, without those of minus infinity."""
    if len(values) > count:
        indices = np.argpartition(-values, count - 1)[:count]
        indices = indices[np.argsort(-values[indices], kind="stable")]
    else:
        indices = np.argsort(-values, kind="stable")
    return indices[values[indices] > -np.inf]
