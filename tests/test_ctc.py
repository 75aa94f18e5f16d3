"""CTC decoding against all paths there are, and against torch's loss."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models.ctc import (
    Bigrams,
    Labels,
    LanguageModel,
    align,
    collapsed,
    greedy,
    log_probability,
    prefix_beam_search,
)
from pipeline.models.ngram import NgramLabels, NgramModel

SHAPES = [(1, 2), (2, 3), (3, 4), (4, 3), (5, 2), (5, 4), (4, 4), (5, 3)]
each_shape = pytest.mark.parametrize(("steps", "classes"), SHAPES)


def scores(steps: int, classes: int, seed: int, sharpness: float = 1.0) -> np.ndarray:
    x = sharpness * np.random.default_rng(seed).standard_normal((steps, classes))
    return x - np.logaddexp.reduce(x, axis=1, keepdims=True)


def meaning(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def brute(x: np.ndarray) -> dict[tuple[int, ...], float]:
    """Every labelling with its log-probability: the sum over all paths."""
    found: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        found[meaning(path, x.shape[1] - 1)].append(sum(x[t, c] for t, c in enumerate(path)))
    return {labels: float(np.logaddexp.reduce(paths)) for labels, paths in found.items()}


def bigrams(classes: int, seed: int) -> Bigrams:
    table = 2 * np.random.default_rng(seed).standard_normal((classes, classes))
    return Bigrams(table - np.logaddexp.reduce(table, axis=1, keepdims=True))


def told(model: LanguageModel, labels: tuple[int, ...]) -> float:
    state, total = model.begin(), 0.0
    for label in labels:
        total, state = total + model.row(state)[label], model.after(state, label)
    return float(total + model.row(state)[-1])


@each_shape
@pytest.mark.parametrize("seed", range(3))
def test_with_room_for_all_it_finds_every_labelling_in_order(steps: int, classes: int, seed: int) -> None:
    x = scores(steps, classes, seed)
    truth = brute(x)
    found = prefix_beam_search(x, width=len(truth) + 5)
    assert {d.labels: d.log_probability for d in found} == pytest.approx(truth, abs=1e-12)
    assert [d.labels for d in found] == sorted(truth, key=truth.__getitem__, reverse=True)
    assert [d.score for d in found] == [d.log_probability for d in found]
    assert np.logaddexp.reduce([d.log_probability for d in found]) == pytest.approx(0.0, abs=1e-12)


@each_shape
@pytest.mark.parametrize("seed", range(3))
def test_with_a_language_model_the_best_is_the_best_of_all(steps: int, classes: int, seed: int) -> None:
    x, model = scores(steps, classes, seed), bigrams(classes, seed)
    rules = {"weight": 0.7, "bonus": 0.9}
    truth = {labels: p + 0.7 * told(model, labels) + 0.9 * len(labels) for labels, p in brute(x).items()}
    found = prefix_beam_search(x, width=1000, language_model=model, **rules)
    assert {d.labels: d.score for d in found} == pytest.approx(truth, abs=1e-12)
    assert [d.labels for d in found] == sorted(truth, key=truth.__getitem__, reverse=True)
    assert {d.labels: d.log_probability for d in found} == pytest.approx(brute(x), abs=1e-12)


@each_shape
def test_the_probability_is_that_of_torchs_loss(steps: int, classes: int) -> None:
    x = scores(steps, classes, 7)
    for labels, probability in brute(x).items():
        assert log_probability(x, labels) == pytest.approx(probability, abs=1e-12)
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
def test_a_longer_one_agrees_with_torch_as_well(seed: int) -> None:
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
def test_a_narrow_search_never_says_more_than_is_true_and_no_labelling_twice(width: int, seed: int) -> None:
    x = scores(12, 4, seed, sharpness=2.0)
    every: list[dict[str, Any]] = [{}, {"language_model": bigrams(4, seed), "weight": 0.5, "bonus": 0.4}]
    for rules in every:
        found = prefix_beam_search(x, width=width, **rules)
        assert 1 <= len(found) <= width and len({d.labels for d in found}) == len(found)
        assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
        for d in found:
            assert d.log_probability <= log_probability(x, d.labels) + 1e-12


def slow_search(x: np.ndarray, width: int, extra: Callable[[Labels], float]) -> list[Labels]:
    """Hannun's algorithm as it is told, with dictionaries of whole prefixes and plain probabilities."""
    blank = x.shape[1] - 1
    live: dict[Labels, list[float]] = {(): [1.0, 0.0]}
    for frame in np.exp(x).tolist():
        new: dict[Labels, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (in_blank, in_label) in live.items():
            total = in_blank + in_label
            new[prefix][0] += total * frame[blank]
            if prefix:
                new[prefix][1] += in_label * frame[prefix[-1]]
            for c in range(blank):
                new[(*prefix, c)][1] += (in_blank if prefix and prefix[-1] == c else total) * frame[c]
        possible = [p for p in new if sum(new[p]) > 0.0]
        best = sorted(possible, key=lambda p: math.log(sum(new[p])) + extra(p), reverse=True)[:width]
        live = {p: new[p] for p in best}
    return list(live)


@pytest.mark.parametrize("width", [1, 2, 4, 9])
@pytest.mark.parametrize("seed", range(5))
def test_between_it_is_the_search_told_in_words(width: int, seed: int) -> None:
    x = scores(15, 5, seed, sharpness=1.5)
    found = [d.labels for d in prefix_beam_search(x, width=width, bonus=0.3)]
    assert found == slow_search(x, width, lambda prefix: 0.3 * len(prefix))


@pytest.mark.parametrize("seed", range(5))
def test_where_the_steps_are_sure_width_one_and_greedy_and_wide_say_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = rng.integers(5, size=30)
    x = np.full((30, 5), -9.0)
    x[np.arange(30), path] = 0.0
    x -= np.logaddexp.reduce(x, axis=1, keepdims=True)
    assert greedy(x) == meaning(tuple(path.tolist()), 4)
    assert {prefix_beam_search(x, width=w)[0].labels for w in (1, 2, 20)} == {greedy(x)}


def test_the_sum_over_paths_beats_the_best_path() -> None:
    x = np.log([[0.4, 0.6], [0.4, 0.6]])  # blank, blank is the best path, 0.36; but one label has 0.64
    assert greedy(x) == () and prefix_beam_search(x, width=4)[0].labels == (0,)
    assert math.exp(prefix_beam_search(x, width=4)[0].log_probability) == pytest.approx(0.64)


def test_a_language_model_and_a_bonus_move_the_answer() -> None:
    x = np.log(np.full((4, 3), 1 / 3))
    table = np.log([[0.01, 0.98, 0.01], [0.01, 0.01, 0.98], [0.98, 0.01, 0.01]])  # 0, then 1, then the end
    found = prefix_beam_search(x, width=50, language_model=Bigrams(table), weight=2.0)
    assert found[0].labels == (0, 1)
    assert max(len(prefix_beam_search(x, width=50, bonus=b)[0].labels) for b in (0.0, 5.0)) == 4


@pytest.mark.parametrize("order", [1, 2, 3])
def test_it_asks_an_ngram_model_of_any_order(order: int) -> None:
    names = ["b", "a", "c"]
    model = NgramModel.fit([s.split() for s in ("a b a c", "a b", "c a b a", "b")], order=order)
    x, labels = scores(5, 4, 3), NgramLabels(model, names)
    found = prefix_beam_search(x, width=1000, language_model=labels, weight=1.3, bonus=0.2)
    truth = {}
    for sequence, p in brute(x).items():
        nats, _ = model.nats([[names[i] for i in sequence]])
        truth[sequence] = p - 1.3 * nats + 0.2 * len(sequence)
    assert {d.labels: d.score for d in found} == pytest.approx(truth, abs=1e-9)
    if order <= 2:
        table = prefix_beam_search(x, width=7, language_model=Bigrams(model.table(names)), weight=1.3, bonus=0.2)
        assert [d.labels for d in table] == [
            d.labels for d in prefix_beam_search(x, width=7, language_model=labels, weight=1.3, bonus=0.2)
        ]


def test_the_language_model_is_asked_once_a_prefix_that_grew_and_told_one_label_more() -> None:
    class Counting(Bigrams):
        rows, afters = 0, 0

        def row(self, state: int) -> np.ndarray:
            Counting.rows += 1
            return super().row(state)

        def after(self, state: int, label: int) -> int:
            Counting.afters += 1
            return super().after(state, label)

    model = Counting(bigrams(5, 1).log_probabilities)
    prefix_beam_search(scores(200, 5, 1), width=4, language_model=model, weight=0.5, bonus=1.0)
    assert Counting.rows <= 1 + 4 * 200 and Counting.afters == Counting.rows - 1


@each_shape
def test_the_alignment_is_the_best_path_that_means_the_labels(steps: int, classes: int) -> None:
    x = scores(steps, classes, 11)
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in itertools.product(range(classes), repeat=steps):
        labels, score = meaning(path, classes - 1), sum(x[t, c] for t, c in enumerate(path))
        best[labels] = max(best.get(labels, (-math.inf, ())), (score, path))
    for labels, (_, path) in best.items():
        again = [classes - 1] * steps
        for label, (start, stop) in zip(labels, align(x, labels), strict=True):
            assert 0 <= start < stop <= steps
            again[start:stop] = [label] * (stop - start)
        assert tuple(again) == path
    assert align(x[:0], ()) == []


def test_what_a_path_means() -> None:
    assert collapsed([0, 0, 3, 0, 1, 1, 3, 3], 3) == (0, 0, 1)
    assert collapsed([], 3) == () and collapsed([3, 3], 3) == ()
    assert prefix_beam_search(np.zeros((0, 3)), width=2)[0].labels == () and greedy(np.zeros((0, 3))) == ()
    assert prefix_beam_search(np.zeros((4, 1)), width=2)[0].labels == ()  # a blank and nothing to say


def test_impossible_classes_are_never_said() -> None:
    with np.errstate(divide="ignore"):
        x = np.log([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert {d.labels: round(math.exp(d.log_probability), 6) for d in prefix_beam_search(x, width=9)} == {
        (0,): 0.5,
        (0, 0): 0.5,
    }


def test_they_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="width=0: the search goes on with at least 1 prefix. Give 1 or more."):
        prefix_beam_search(np.zeros((3, 3)), width=0)
    x = scores(3, 3, 0)
    x[1] = np.nan
    with pytest.raises(ValueError, match="At step 1 no path has a probability: .* would be a log-softmax."):
        prefix_beam_search(x, width=3)
    with pytest.raises(
        ValueError, match="2 labels need 3 steps, and there are 2. Give a longer sequence or fewer labels."
    ):
        align(scores(2, 3, 0), (1, 1))
