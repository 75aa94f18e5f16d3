"""CTC decoding against a list of all paths, and against torch's loss."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models.text.ctc import (
    BigramModel,
    Labels,
    LanguageModel,
    align,
    collapse,
    greedy,
    log_probability,
    prefix_beam_search,
)
from pipeline.models.text.ngram import NgramLabels, NgramModel

SHAPES = [(1, 2), (2, 3), (3, 4), (4, 3), (5, 2), (5, 4), (4, 4), (5, 3)]
each_shape = pytest.mark.parametrize(("steps", "classes"), SHAPES)


def scores(steps: int, classes: int, seed: int, sharpness: float = 1.0) -> np.ndarray:
    x = sharpness * np.random.default_rng(seed).standard_normal((steps, classes))
    return x - np.logaddexp.reduce(x, axis=1, keepdims=True)


def collapse_by_hand(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def all_label_sequences(x: np.ndarray) -> dict[tuple[int, ...], float]:
    """Every label sequence with its log-probability: the sum over all paths."""
    paths: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        paths[collapse_by_hand(path, x.shape[1] - 1)].append(sum(x[t, c] for t, c in enumerate(path)))
    return {labels: float(np.logaddexp.reduce(scores)) for labels, scores in paths.items()}


def bigrams(classes: int, seed: int) -> BigramModel:
    table = 2 * np.random.default_rng(seed).standard_normal((classes, classes))
    return BigramModel(table - np.logaddexp.reduce(table, axis=1, keepdims=True))


def language_model_score(model: LanguageModel, labels: tuple[int, ...]) -> float:
    state, total = model.initial_state(), 0.0
    for label in labels:
        total, state = total + model.next_log_probabilities(state)[label], model.next_state(state, label)
    return float(total + model.next_log_probabilities(state)[-1])


@each_shape
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_every_label_sequence_in_order(steps: int, classes: int, seed: int) -> None:
    x = scores(steps, classes, seed)
    truth = all_label_sequences(x)
    hypotheses = prefix_beam_search(x, width=len(truth) + 5)
    assert {h.labels: h.log_probability for h in hypotheses} == pytest.approx(truth, abs=1e-12)
    assert [h.labels for h in hypotheses] == sorted(truth, key=truth.__getitem__, reverse=True)
    assert [h.score for h in hypotheses] == [h.log_probability for h in hypotheses]
    assert np.logaddexp.reduce([h.log_probability for h in hypotheses]) == pytest.approx(0.0, abs=1e-12)


@each_shape
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_with_a_language_model_finds_every_label_sequence_in_order(
    steps: int, classes: int, seed: int
) -> None:
    x, model = scores(steps, classes, seed), bigrams(classes, seed)
    rules = {"weight": 0.7, "bonus": 0.9}
    truth = {
        labels: p + 0.7 * language_model_score(model, labels) + 0.9 * len(labels)
        for labels, p in all_label_sequences(x).items()
    }
    hypotheses = prefix_beam_search(x, width=1000, language_model=model, **rules)
    assert {h.labels: h.score for h in hypotheses} == pytest.approx(truth, abs=1e-12)
    assert [h.labels for h in hypotheses] == sorted(truth, key=truth.__getitem__, reverse=True)
    assert {h.labels: h.log_probability for h in hypotheses} == pytest.approx(all_label_sequences(x), abs=1e-12)


@each_shape
def test_the_probability_equals_the_loss_of_torch(steps: int, classes: int) -> None:
    x = scores(steps, classes, 7)
    for labels, expected in all_label_sequences(x).items():
        assert log_probability(x, labels) == pytest.approx(expected, abs=1e-12)
        if labels:
            loss = torch.nn.functional.ctc_loss(
                torch.from_numpy(x)[:, None],
                torch.tensor([labels]),
                torch.tensor([steps]),
                torch.tensor([len(labels)]),
                blank=classes - 1,
                reduction="none",
            )
            assert log_probability(x, labels) == pytest.approx(-float(loss), abs=1e-9)
    assert log_probability(x, (0,) * (steps + 1)) == -math.inf
    assert log_probability(x[:0], ()) == 0.0 and log_probability(x[:0], (0,)) == -math.inf


@pytest.mark.parametrize("seed", range(8))
def test_the_probability_of_a_longer_sequence_equals_the_loss_of_torch(seed: int) -> None:
    x = scores(60, 9, seed, sharpness=3.0)
    best = prefix_beam_search(x, width=8)[0]
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(x)[:, None],
        torch.tensor([best.labels]),
        torch.tensor([60]),
        torch.tensor([len(best.labels)]),
        blank=8,
        reduction="sum",
    )
    assert log_probability(x, best.labels) == pytest.approx(-float(loss), abs=1e-9)
    assert best.log_probability <= log_probability(x, best.labels) + 1e-12
    assert log_probability(x, best.labels) >= log_probability(x, greedy(x)) - 1e-12


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_a_narrow_beam_gives_lower_bounds_and_no_duplicates(width: int, seed: int) -> None:
    x = scores(12, 4, seed, sharpness=2.0)
    options: list[dict[str, Any]] = [{}, {"language_model": bigrams(4, seed), "weight": 0.5, "bonus": 0.4}]
    for option in options:
        hypotheses = prefix_beam_search(x, width=width, **option)
        assert 1 <= len(hypotheses) <= width and len({h.labels for h in hypotheses}) == len(hypotheses)
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for h in hypotheses:
            assert h.log_probability <= log_probability(x, h.labels) + 1e-12


def slow_search(x: np.ndarray, width: int, extra: Callable[[Labels], float]) -> list[Labels]:
    """Hannun's algorithm as published, with dictionaries of whole prefixes and plain probabilities."""
    blank = x.shape[1] - 1
    beam: dict[Labels, list[float]] = {(): [1.0, 0.0]}
    for frame in np.exp(x).tolist():
        new: dict[Labels, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (in_blank, in_label) in beam.items():
            total = in_blank + in_label
            new[prefix][0] += total * frame[blank]
            if prefix:
                new[prefix][1] += in_label * frame[prefix[-1]]
            for c in range(blank):
                new[(*prefix, c)][1] += (in_blank if prefix and prefix[-1] == c else total) * frame[c]
        candidates = [p for p in new if sum(new[p]) > 0.0]
        best = sorted(candidates, key=lambda p: math.log(sum(new[p])) + extra(p), reverse=True)[:width]
        beam = {p: new[p] for p in best}
    return list(beam)


@pytest.mark.parametrize("width", [1, 2, 4, 9])
@pytest.mark.parametrize("seed", range(5))
def test_every_width_equals_the_published_algorithm(width: int, seed: int) -> None:
    x = scores(15, 5, seed, sharpness=1.5)
    hypotheses = [h.labels for h in prefix_beam_search(x, width=width, bonus=0.3)]
    assert hypotheses == slow_search(x, width, lambda prefix: 0.3 * len(prefix))


@pytest.mark.parametrize("seed", range(5))
def test_for_confident_steps_greedy_and_all_widths_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = rng.integers(5, size=30)
    x = np.full((30, 5), -9.0)
    x[np.arange(30), path] = 0.0
    x -= np.logaddexp.reduce(x, axis=1, keepdims=True)
    assert greedy(x) == collapse_by_hand(tuple(path.tolist()), 4)
    assert {prefix_beam_search(x, width=w)[0].labels for w in (1, 2, 20)} == {greedy(x)}


def test_the_sum_over_paths_beats_the_best_path() -> None:
    x = np.log([[0.4, 0.6], [0.4, 0.6]])  # the best path is two blanks, 0.36; but one label has 0.64
    assert greedy(x) == () and prefix_beam_search(x, width=4)[0].labels == (0,)
    assert math.exp(prefix_beam_search(x, width=4)[0].log_probability) == pytest.approx(0.64)


def test_a_language_model_and_a_bonus_change_the_result() -> None:
    x = np.log(np.full((4, 3), 1 / 3))
    table = np.log([[0.01, 0.98, 0.01], [0.01, 0.01, 0.98], [0.98, 0.01, 0.01]])  # 0, then 1, then the end
    hypotheses = prefix_beam_search(x, width=50, language_model=BigramModel(table), weight=2.0)
    assert hypotheses[0].labels == (0, 1)
    assert max(len(prefix_beam_search(x, width=50, bonus=b)[0].labels) for b in (0.0, 5.0)) == 4


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_ngram_model_of_any_order_as_the_language_model(order: int) -> None:
    names = ["b", "a", "c"]
    model = NgramModel.fit([s.split() for s in ("a b a c", "a b", "c a b a", "b")], order=order)
    x, labels = scores(5, 4, 3), NgramLabels(model, names)
    hypotheses = prefix_beam_search(x, width=1000, language_model=labels, weight=1.3, bonus=0.2)
    truth = {}
    for sequence, p in all_label_sequences(x).items():
        nats, _ = model.negative_log_likelihood([[names[i] for i in sequence]])
        truth[sequence] = p - 1.3 * nats + 0.2 * len(sequence)
    assert {h.labels: h.score for h in hypotheses} == pytest.approx(truth, abs=1e-9)
    if order <= 2:
        table = prefix_beam_search(
            x, width=7, language_model=BigramModel(model.bigram_table(names)), weight=1.3, bonus=0.2
        )
        assert [h.labels for h in table] == [
            h.labels for h in prefix_beam_search(x, width=7, language_model=labels, weight=1.3, bonus=0.2)
        ]


def test_the_language_model_is_called_once_per_grown_prefix() -> None:
    class Counting(BigramModel):
        rows, next_states = 0, 0

        def next_log_probabilities(self, state: int) -> np.ndarray:
            Counting.rows += 1
            return super().next_log_probabilities(state)

        def next_state(self, state: int, label: int) -> int:
            Counting.next_states += 1
            return super().next_state(state, label)

    model = Counting(bigrams(5, 1).log_probabilities)
    prefix_beam_search(scores(200, 5, 1), width=4, language_model=model, weight=0.5, bonus=1.0)
    assert Counting.rows <= 1 + 4 * 200 and Counting.next_states == Counting.rows - 1


@each_shape
def test_the_alignment_is_the_best_path_that_collapses_to_the_labels(steps: int, classes: int) -> None:
    x = scores(steps, classes, 11)
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in itertools.product(range(classes), repeat=steps):
        labels, score = collapse_by_hand(path, classes - 1), sum(x[t, c] for t, c in enumerate(path))
        best[labels] = max(best.get(labels, (-math.inf, ())), (score, path))
    for labels, (_, path) in best.items():
        aligned = [classes - 1] * steps
        for label, (start, stop) in zip(labels, align(x, labels), strict=True):
            assert 0 <= start < stop <= steps
            aligned[start:stop] = [label] * (stop - start)
        assert tuple(aligned) == path
    assert align(x[:0], ()) == []


def test_collapse() -> None:
    assert collapse([0, 0, 3, 0, 1, 1, 3, 3], 3) == (0, 0, 1)
    assert collapse([], 3) == () and collapse([3, 3], 3) == ()
    assert prefix_beam_search(np.zeros((0, 3)), width=2)[0].labels == () and greedy(np.zeros((0, 3))) == ()
    assert prefix_beam_search(np.zeros((4, 1)), width=2)[0].labels == ()  # the blank is the only class


def test_impossible_classes_are_never_predicted() -> None:
    with np.errstate(divide="ignore"):
        x = np.log([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert {h.labels: round(math.exp(h.log_probability), 6) for h in prefix_beam_search(x, width=9)} == {
        (0,): 0.5,
        (0, 0): 0.5,
    }


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="width=0: the search keeps at least 1 prefix. Give 1 or more."):
        prefix_beam_search(np.zeros((3, 3)), width=0)
    x = scores(3, 3, 0)
    x[1] = np.nan
    with pytest.raises(ValueError, match="At step 1 no path has a probability above 0: .* must be a log-softmax."):
        prefix_beam_search(x, width=3)
    with pytest.raises(
        ValueError, match="2 labels need 3 steps, and there are 2. Give a longer sequence or fewer labels."
    ):
        align(scores(2, 3, 0), (1, 1))
