"""Beam search against every sentence there is, greedy search and itself row by row."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from toy_speaker import END, Speaker, beginnings, listed

from pipeline.models.beam import Sentences, beam_search
from pipeline.models.core import Cell, Core, State
from pipeline.padded import stack


def every_sentence(vocabulary: int, max_length: int, no_repeated: int | None = None) -> list[tuple[int, ...]]:
    words = [token for token in range(vocabulary) if token != END]
    found = []
    for length in range(max_length):
        for sentence in itertools.product(words, repeat=length):
            grams = [sentence[i : i + no_repeated] for i in range(length - no_repeated + 1)] if no_repeated else []
            if len(set(grams)) == len(grams):
                found.append((*sentence, END))
    return found


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
@pytest.mark.parametrize(
    ("vocabulary", "max_length", "no_repeated"), [(4, 4, None), (3, 5, None), (3, 6, 2), (2, 4, 1)]
)
def test_with_room_for_all_it_finds_every_sentence_in_order(
    vocabulary: int, max_length: int, no_repeated: int | None, power: float
) -> None:
    speaker = Speaker(vocabulary, seed=vocabulary)
    state, start = beginnings(3)
    sentences = every_sentence(vocabulary, max_length, no_repeated)
    room = len(every_sentence(vocabulary, max_length))
    found = beam_search(
        speaker,
        state,
        start,
        end=END,
        width=room,
        max_length=max_length,
        length_power=power,
        no_repeated=no_repeated,
    )
    for row in range(3):
        truth = {s: speaker.probability(list(s), 0, state[0][row]) for s in sentences}
        ranked = sorted(sentences, key=lambda s: -truth[s] / len(s) ** power)
        assert listed(found, row) == ranked
        expected = torch.tensor([truth[s] for s in ranked], dtype=torch.float64)
        torch.testing.assert_close(found.log_probability[row, : len(ranked)], expected)
        lengths = found.lengths[row, : len(ranked)]
        torch.testing.assert_close(found.score[row, : len(ranked)], expected / lengths**power)
        assert (found.score[row, len(ranked) :] == -torch.inf).all()
        assert (found.lengths[row, len(ranked) :] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_width_one_is_greedy(seed: int) -> None:
    speaker = Speaker(7, seed)
    state, start = beginnings(4)
    found = beam_search(speaker, state, start, end=END, width=1, max_length=9, length_power=0.7)
    for row in range(4):
        hidden, last, sentence = (state[0][row : row + 1],), 0, []
        while last != END:
            scores, hidden = speaker(torch.tensor([last]), hidden)
            last = int(scores.argmax()) if len(sentence) < 8 else END
            sentence.append(last)
        assert listed(found, row) == [tuple(sentence)]


def slow_search(speaker: Speaker, hidden: Tensor, width: int, max_length: int, power: float) -> list[tuple[int, ...]]:
    """The search as it is told in words, with lists, reading every beginning anew from its first word."""
    live: list[tuple[int, ...]] = [()]
    done: list[tuple[int, ...]] = []

    def score(sentence: tuple[int, ...]) -> float:
        return speaker.probability(list(sentence), 0, hidden)

    def rank(sentence: tuple[int, ...]) -> float:
        return score(sentence) / len(sentence) ** power

    for length in range(1, max_length + 1):
        words = [END] if length == max_length else range(speaker.out.out_features)
        on = sorted([(*sentence, word) for sentence in live for word in words], key=score, reverse=True)
        done += [sentence for sentence in on[:width] if sentence[-1] == END]
        live = [sentence for sentence in on if sentence[-1] != END][:width]
        done = sorted(done, key=rank, reverse=True)[:width]
        hope = max((score(sentence) / (length + 1) ** power for sentence in live), default=-math.inf)
        if len(done) == width and (width == 1 or rank(done[-1]) >= hope):
            break
    return sorted(done, key=rank, reverse=True)[:width]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [2, 3, 4])
def test_between_greedy_and_exhaustive_it_is_the_search_told_in_words(width: int, seed: int) -> None:
    speaker = Speaker(6, seed, sharpness=1.5)
    with torch.no_grad():  # ends now and then
        speaker.out.bias[END] += 0.5
    state, start = beginnings(4, seed)
    found = beam_search(speaker, state, start, end=END, width=width, max_length=6, length_power=0.7)
    assert [listed(found, row) for row in range(4)] == [slow_search(speaker, h, width, 6, 0.7) for h in state[0]]


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("no_repeated", [None, 1, 3])
def test_a_batch_is_its_rows_one_by_one(width: int, no_repeated: int | None) -> None:
    speaker = Speaker(9, seed=3, sharpness=2.0)
    (hidden,), start = beginnings(8)
    start = torch.arange(8) + 1
    rules = {"end": END, "width": width, "max_length": 10, "length_power": 0.7, "no_repeated": no_repeated}
    together = beam_search(speaker, (hidden,), start, **rules)
    for row in range(8):
        alone = beam_search(speaker, (hidden[row : row + 1],), start[row : row + 1], **rules)
        assert listed(together, row) == listed(alone, 0)
        torch.testing.assert_close(together.score[row], alone.score[0])
    assert len({tuple(listed(together, row)) for row in range(8)}) > 1


@pytest.mark.parametrize("width", [1, 3, 6])
def test_what_it_says_of_a_sentence_is_the_model_s_own_probability(width: int) -> None:
    speaker = Speaker(12, seed=1, sharpness=1.5)
    state, start = beginnings(5)
    found = beam_search(speaker, state, start, end=END, width=width, max_length=7)
    for row in range(5):
        sentences = listed(found, row)
        assert len(set(sentences)) == len(sentences) and all(s.index(END) == len(s) - 1 for s in sentences)
        assert (found.tokens[row][torch.arange(7) >= found.lengths[row][:, None]] == END).all()
        expected = [speaker.probability(list(s), 0, state[0][row]) for s in sentences]
        assert found.log_probability[row, : len(sentences)].tolist() == pytest.approx(expected)
        assert found.score[row].tolist() == sorted(found.score[row].tolist(), reverse=True)


def test_a_time_step_is_one_call_and_no_word_is_read_twice() -> None:
    speaker = Speaker(9, seed=2)
    state, start = beginnings(4)
    with torch.no_grad():  # never ends by itself
        speaker.out.bias[END] = -50.0
    beam_search(speaker, state, start, end=END, width=3, max_length=6)
    assert speaker.rows == [4, 12, 12, 12, 12, 12]


def test_it_stops_when_every_row_is_done() -> None:
    speaker = Speaker(9, seed=2)
    with torch.no_grad():  # ends at once
        speaker.out.bias[END] = 50.0
    state, start = beginnings(4)
    found = beam_search(speaker, state, start, end=END, width=1, max_length=6)
    assert speaker.rows == [4] and found.lengths.tolist() == [[1]] * 4


def test_it_carries_every_tensor_of_the_state_and_rows_stay_in_order() -> None:
    """The state's second tensor keeps the words themselves; what a video's rows share is seen without a copy."""
    speaker = Speaker(6, seed=4, sharpness=1.0)
    (hidden,), start = beginnings(3)
    shared = torch.randn(3, 6, dtype=torch.float64)

    def step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        inner, said = state
        said = torch.cat([said, tokens[:, None]], dim=1)
        scores, (inner,) = speaker(tokens, (inner,))
        by_video = scores.reshape(3, -1, 6) + shared[:, None]
        return by_video.log_softmax(-1).flatten(0, 1), (inner, said)

    def slow(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same without a memory: all words again from the first, the video named by the state."""
        video, said = state
        said = torch.cat([said, tokens[:, None]], dim=1)
        inner: tuple[Tensor, ...] = (hidden[video],)
        scores = torch.empty(0)
        for word in said.unbind(1):
            scores, inner = speaker(word, inner)
        return (scores + shared[video]).log_softmax(-1), (video, said)

    nothing = start.new_empty((3, 0))
    fast = beam_search(step, (hidden, nothing), start, end=END, width=4, max_length=6)
    again = beam_search(slow, (torch.arange(3), nothing), start, end=END, width=4, max_length=6)
    assert fast.tokens.tolist() == again.tokens.tolist()
    torch.testing.assert_close(fast.score, again.score)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_it_searches_over_the_core(cell: Cell) -> None:
    torch.manual_seed(0)
    core = Core(cell=cell, input_size=6, hidden=6, layers=2).double().eval()
    words = torch.randn(9, 6, dtype=torch.float64)  # of the way in and of the way out
    state = tuple(torch.randn(5, *part.shape[1:], dtype=torch.float64) for part in core.initial_state(5))
    start = torch.arange(5) + 2

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        steps, state = core.step(words[tokens], state)
        return (3 * steps @ words.t()).log_softmax(-1), state

    found = beam_search(step, state, start, end=END, width=3, max_length=8)
    for row in range(5):
        for number, sentence in enumerate(listed(found, row)):
            said = words[torch.tensor([int(start[row]), *sentence[:-1]])]
            steps, _ = core(stack([said]), tuple(part[row : row + 1] for part in state))
            scores = (3 * steps.data[0] @ words.t()).log_softmax(-1)
            expected = scores.gather(1, torch.tensor(sentence)[:, None]).sum()
            torch.testing.assert_close(found.log_probability[row, number], expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_no_ngram_is_said_twice(order: int) -> None:
    speaker = Speaker(5, seed=6)
    with torch.no_grad():  # loves to repeat itself, and never ends by itself
        speaker.out.bias[2] = 3.0
        speaker.out.bias[END] = -9.0
    state, start = beginnings(4)
    rules = {"end": END, "width": 3, "max_length": 12}

    def repeats(found: Sentences) -> int:
        every = [listed(found, row) for row in range(4)]
        counted = 0
        for sentence in itertools.chain(*every):
            words = sentence[:-1]
            grams = [words[i : i + order] for i in range(len(words) - order + 1)]
            counted += len(grams) - len(set(grams))
        return counted

    assert repeats(beam_search(speaker, state, start, **rules)) > 0
    assert repeats(beam_search(speaker, state, start, **rules, no_repeated=order)) == 0


def test_length_normalisation_prefers_longer_sentences() -> None:
    speaker = Speaker(6, seed=8, sharpness=1.0)
    state, start = beginnings(6)
    room = len(every_sentence(6, 4))
    short, long = (
        beam_search(speaker, state, start, end=END, width=room, max_length=4, length_power=power) for power in (0, 1)
    )
    assert (long.lengths[:, 0] >= short.lengths[:, 0]).all() and (long.lengths[:, 0] > short.lengths[:, 0]).any()


def test_the_search_keeps_no_graph() -> None:
    state, start = beginnings(2)
    assert not beam_search(Speaker(5), state, start, end=END, width=2, max_length=3).log_probability.requires_grad


def test_they_say_what_is_wrong() -> None:
    state, start = beginnings(2)
    speaker = Speaker(5)
    for wrong in ({"width": 0}, {"max_length": 0}, {"no_repeated": 0}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"{name}=0: the search for sentences needs at least 1 here."):
            beam_search(speaker, state, start, **{"end": END, "width": 2, "max_length": 3, **wrong})
    with pytest.raises(ValueError, match=r"end=5 is no token: the step knows tokens 0\.\.4."):
        beam_search(speaker, state, start, end=5, width=2, max_length=3)
