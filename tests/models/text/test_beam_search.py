"""Beam search against a list of all sequences, against greedy search, and against itself row by row."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_language_model import END, ToyLanguageModel, random_states, sequences_of

from pipeline.models.recurrent.core import Cell, Core, State
from pipeline.models.text.beam_search import Hypotheses, beam_search
from pipeline.padded import stack


def all_sequences(vocabulary: int, max_length: int, no_repeat_ngram: int | None = None) -> list[tuple[int, ...]]:
    words = [token for token in range(vocabulary) if token != END]
    sequences = []
    for length in range(max_length):
        for sequence in itertools.product(words, repeat=length):
            order = no_repeat_ngram or length + 1
            ngrams = [sequence[i : i + order] for i in range(length - order + 1)]
            if len(set(ngrams)) == len(ngrams):
                sequences.append((*sequence, END))
    return sequences


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(
    ("vocabulary", "max_length", "no_repeat_ngram"), [(4, 4, None), (3, 5, None), (3, 6, 2), (2, 4, 1)]
)
def test_a_wide_beam_finds_every_sequence_in_order(
    vocabulary: int, max_length: int, no_repeat_ngram: int | None, length_penalty: float
) -> None:
    model = ToyLanguageModel(vocabulary, seed=vocabulary)
    state, start = random_states(3)
    sequences = all_sequences(vocabulary, max_length, no_repeat_ngram)
    width = len(all_sequences(vocabulary, max_length))
    hypotheses = beam_search(
        model,
        state,
        start,
        end=END,
        width=width,
        max_length=max_length,
        length_penalty=length_penalty,
        no_repeat_ngram=no_repeat_ngram,
    )
    for row in range(3):
        log_probabilities = {s: model.log_probability(list(s), 0, state[0][row]) for s in sequences}
        ranked = sorted(sequences, key=lambda s: -log_probabilities[s] / len(s) ** length_penalty)
        assert sequences_of(hypotheses, row) == ranked
        expected = torch.tensor([log_probabilities[s] for s in ranked], dtype=torch.float64)
        torch.testing.assert_close(hypotheses.log_probability[row, : len(ranked)], expected)
        lengths = hypotheses.lengths[row, : len(ranked)]
        torch.testing.assert_close(hypotheses.score[row, : len(ranked)], expected / lengths**length_penalty)
        assert (hypotheses.score[row, len(ranked) :] == -torch.inf).all()
        assert (hypotheses.lengths[row, len(ranked) :] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_width_one_is_greedy(seed: int) -> None:
    model = ToyLanguageModel(7, seed)
    state, start = random_states(4)
    hypotheses = beam_search(model, state, start, end=END, width=1, max_length=9, length_penalty=0.7)
    for row in range(4):
        hidden, last, sequence = (state[0][row : row + 1],), 0, []
        while last != END:
            scores, hidden = model(torch.tensor([last]), hidden)
            last = int(scores.argmax()) if len(sequence) < 8 else END
            sequence.append(last)
        assert sequences_of(hypotheses, row) == [tuple(sequence)]


def slow_search(
    model: ToyLanguageModel, hidden: Tensor, width: int, max_length: int, length_penalty: float
) -> list[tuple[int, ...]]:
    """The search with lists, which reads every prefix again from its first token."""
    beam: list[tuple[int, ...]] = [()]
    finished: list[tuple[int, ...]] = []

    def score(sequence: tuple[int, ...]) -> float:
        return model.log_probability(list(sequence), 0, hidden)

    def normalised(sequence: tuple[int, ...]) -> float:
        return score(sequence) / len(sequence) ** length_penalty

    for length in range(1, max_length + 1):
        words = [END] if length == max_length else range(model.out.out_features)
        extensions = sorted([(*sequence, word) for sequence in beam for word in words], key=score, reverse=True)
        finished += [sequence for sequence in extensions[:width] if sequence[-1] == END]
        beam = [sequence for sequence in extensions if sequence[-1] != END][:width]
        finished = sorted(finished, key=normalised, reverse=True)[:width]
        best_possible = max((score(sequence) / (length + 1) ** length_penalty for sequence in beam), default=-math.inf)
        if len(finished) == width and (width == 1 or normalised(finished[-1]) >= best_possible):
            break
    return sorted(finished, key=normalised, reverse=True)[:width]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [2, 3, 4])
def test_every_width_equals_the_search_with_lists(width: int, seed: int) -> None:
    model = ToyLanguageModel(6, seed, sharpness=1.5)
    with torch.no_grad():  # the end token is likelier
        model.out.bias[END] += 0.5
    state, start = random_states(4, seed)
    hypotheses = beam_search(model, state, start, end=END, width=width, max_length=6, length_penalty=0.7)
    assert [sequences_of(hypotheses, row) for row in range(4)] == [
        slow_search(model, h, width, 6, 0.7) for h in state[0]
    ]


A, B, SURE = 2, 3, 1 - 1e-12
TABLE = {(): {END: 0.5, A: 0.3, B: 0.2}, (A,): {END: 0.55, A: 0.45}, (B,): {END: 0.9, B: 0.1}, (A, A): {END: SURE}}
"""The probabilities of the next token, by the tokens so far; a sequence that is not listed ends."""


def search_by_table(
    table: dict[tuple[int, ...], dict[int, float]], **settings: float
) -> tuple[list[tuple[int, ...]], int]:
    """The sequences that a search finds, best first, and how many steps it took."""
    lengths: list[int] = []

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        so_far = torch.cat([state[0], tokens[:, None]], dim=1)
        scores = torch.full((len(tokens), 4), -torch.inf, dtype=torch.float64)
        for row, words in zip(scores, so_far[:, 1:].tolist(), strict=True):
            for token, probability in table.get(tuple(words), {END: SURE}).items():
                row[token] = math.log(probability)
        lengths.append(so_far.shape[1])
        return scores, (so_far,)

    start = torch.zeros(1, dtype=torch.int64)
    no_tokens = start.new_empty((1, 0))
    rules: dict[str, Any] = {"end": END, "max_length": 5, **settings}
    hypotheses = beam_search(step, (no_tokens,), start, **rules)
    return sequences_of(hypotheses, 0), len(lengths)


def test_with_length_normalisation_a_longer_prefix_that_may_still_win_is_followed() -> None:
    """After two steps two sequences have ended, the worse with log(0.2 * 0.9) / 2 = -0.857. The prefix A A has
    log(0.3 * 0.45) = -2.00: less by its own length of 2, more by the length of 3 with which it would end."""
    found, steps = search_by_table(TABLE, width=2, length_penalty=1.0)
    assert found == [(A, A, END), (END,)] and steps == 3
    found, steps = search_by_table(TABLE, width=2, length_penalty=0.0)
    assert found == [(END,), (B, END)] and steps == 2, "without it no longer sequence can win"


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0])
def test_width_one_stops_at_its_first_end_although_a_longer_sequence_scores_higher(length_penalty: float) -> None:
    table = {(): {END: 0.5, A: 0.49, B: 0.01}}
    assert search_by_table(table, width=1, length_penalty=length_penalty) == ([(END,)], 1)
    best = [(END,), (A, END)] if length_penalty == 0 else [(A, END), (END,)]
    assert search_by_table(table, width=2, length_penalty=length_penalty) == (best, 2)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("no_repeat_ngram", [None, 1, 3])
def test_a_batch_equals_its_rows_one_by_one(width: int, no_repeat_ngram: int | None) -> None:
    model = ToyLanguageModel(9, seed=3, sharpness=2.0)
    (hidden,), start = random_states(8)
    start = torch.arange(8) + 1
    rules = {"end": END, "width": width, "max_length": 10, "length_penalty": 0.7, "no_repeat_ngram": no_repeat_ngram}
    batch = beam_search(model, (hidden,), start, **rules)
    for row in range(8):
        single = beam_search(model, (hidden[row : row + 1],), start[row : row + 1], **rules)
        assert sequences_of(batch, row) == sequences_of(single, 0)
        torch.testing.assert_close(batch.score[row], single.score[0])
    assert len({tuple(sequences_of(batch, row)) for row in range(8)}) > 1


@pytest.mark.parametrize("width", [1, 3, 6])
def test_the_log_probability_is_that_of_the_model(width: int) -> None:
    model = ToyLanguageModel(12, seed=1, sharpness=1.5)
    state, start = random_states(5)
    hypotheses = beam_search(model, state, start, end=END, width=width, max_length=7)
    for row in range(5):
        sequences = sequences_of(hypotheses, row)
        assert len(set(sequences)) == len(sequences) and all(s.index(END) == len(s) - 1 for s in sequences)
        assert (hypotheses.tokens[row][torch.arange(7) >= hypotheses.lengths[row][:, None]] == END).all()
        expected = [model.log_probability(list(s), 0, state[0][row]) for s in sequences]
        assert hypotheses.log_probability[row, : len(sequences)].tolist() == pytest.approx(expected)
        assert hypotheses.score[row].tolist() == sorted(hypotheses.score[row].tolist(), reverse=True)


def test_each_time_step_is_one_call_and_no_token_is_read_twice() -> None:
    model = ToyLanguageModel(9, seed=2)
    state, start = random_states(4)
    with torch.no_grad():  # the end token is never likely
        model.out.bias[END] = -50.0
    beam_search(model, state, start, end=END, width=3, max_length=6)
    assert model.rows == [4, 12, 12, 12, 12, 12]


def test_the_search_stops_when_every_row_is_done() -> None:
    model = ToyLanguageModel(9, seed=2)
    with torch.no_grad():  # the end token always comes first
        model.out.bias[END] = 50.0
    state, start = random_states(4)
    hypotheses = beam_search(model, state, start, end=END, width=1, max_length=6)
    assert model.rows == [4] and hypotheses.lengths.tolist() == [[1]] * 4


def test_every_tensor_of_the_state_is_carried_and_rows_stay_in_order() -> None:
    """The second tensor of the state holds the tokens; what the hypotheses of a row share is read without a copy."""
    model = ToyLanguageModel(6, seed=4, sharpness=1.0)
    (hidden,), start = random_states(3)
    shared = torch.randn(3, 6, dtype=torch.float64)

    def step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        inner, tokens_so_far = state
        tokens_so_far = torch.cat([tokens_so_far, tokens[:, None]], dim=1)
        scores, (inner,) = model(tokens, (inner,))
        by_row = scores.reshape(3, -1, 6) + shared[:, None]
        return by_row.log_softmax(-1).flatten(0, 1), (inner, tokens_so_far)

    def slow(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same without a recurrent state: it reads all tokens again; the state holds the number of the row."""
        row, tokens_so_far = state
        tokens_so_far = torch.cat([tokens_so_far, tokens[:, None]], dim=1)
        inner: tuple[Tensor, ...] = (hidden[row],)
        scores = torch.empty(0)
        for word in tokens_so_far.unbind(1):
            scores, inner = model(word, inner)
        return (scores + shared[row]).log_softmax(-1), (row, tokens_so_far)

    no_tokens = start.new_empty((3, 0))
    fast = beam_search(step, (hidden, no_tokens), start, end=END, width=4, max_length=6)
    expected = beam_search(slow, (torch.arange(3), no_tokens), start, end=END, width=4, max_length=6)
    assert fast.tokens.tolist() == expected.tokens.tolist()
    torch.testing.assert_close(fast.score, expected.score)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_beam_search_over_a_core(cell: Cell) -> None:
    torch.manual_seed(0)
    core = Core(cell=cell, input_size=6, hidden=6, layers=2).double().eval()
    words = torch.randn(9, 6, dtype=torch.float64)  # embeddings, shared with the output
    state = tuple(torch.randn(5, *part.shape[1:], dtype=torch.float64) for part in core.initial_state(5))
    start = torch.arange(5) + 2

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        steps, state = core.step(words[tokens], state)
        return (3 * steps @ words.t()).log_softmax(-1), state

    hypotheses = beam_search(step, state, start, end=END, width=3, max_length=8)
    for row in range(5):
        for number, sequence in enumerate(sequences_of(hypotheses, row)):
            tokens_so_far = words[torch.tensor([int(start[row]), *sequence[:-1]])]
            steps, _ = core(stack([tokens_so_far]), tuple(part[row : row + 1] for part in state))
            scores = (3 * steps.data[0] @ words.t()).log_softmax(-1)
            expected = scores.gather(1, torch.tensor(sequence)[:, None]).sum()
            torch.testing.assert_close(hypotheses.log_probability[row, number], expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_no_ngram_is_repeated(order: int) -> None:
    model = ToyLanguageModel(5, seed=6)
    with torch.no_grad():  # token 2 is always likely, the end token never
        model.out.bias[2] = 3.0
        model.out.bias[END] = -9.0
    state, start = random_states(4)
    rules = {"end": END, "width": 3, "max_length": 12}

    def repeats(hypotheses: Hypotheses) -> int:
        all_hypotheses = [sequences_of(hypotheses, row) for row in range(4)]
        count = 0
        for sequence in itertools.chain(*all_hypotheses):
            words = sequence[:-1]
            ngrams = [words[i : i + order] for i in range(len(words) - order + 1)]
            count += len(ngrams) - len(set(ngrams))
        return count

    assert repeats(beam_search(model, state, start, **rules)) > 0
    assert repeats(beam_search(model, state, start, **rules, no_repeat_ngram=order)) == 0


def test_length_normalisation_prefers_longer_sequences() -> None:
    model = ToyLanguageModel(6, seed=8, sharpness=1.0)
    state, start = random_states(6)
    width = len(all_sequences(6, 4))
    short, long = (
        beam_search(model, state, start, end=END, width=width, max_length=4, length_penalty=length_penalty)
        for length_penalty in (0, 1)
    )
    assert (long.lengths[:, 0] >= short.lengths[:, 0]).all() and (long.lengths[:, 0] > short.lengths[:, 0]).any()


def test_the_search_keeps_no_graph() -> None:
    state, start = random_states(2)
    assert not beam_search(
        ToyLanguageModel(5), state, start, end=END, width=2, max_length=3
    ).log_probability.requires_grad


def test_invalid_arguments_are_refused() -> None:
    state, start = random_states(2)
    model = ToyLanguageModel(5)
    for invalid in ({"width": 0}, {"max_length": 0}, {"no_repeat_ngram": 0}):
        (name,) = invalid
        with pytest.raises(ValueError, match=f"{name}=0: it must be at least 1. Give 1 or more."):
            beam_search(model, state, start, **{"end": END, "width": 2, "max_length": 3, **invalid})
    with pytest.raises(ValueError, match=r"end=5 is not in the vocabulary: tokens are 0\.\.4."):
        beam_search(model, state, start, end=5, width=2, max_length=3)
