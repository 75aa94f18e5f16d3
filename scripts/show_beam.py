"""The promise `beam`: the search is the one that can be written down, and reads no word twice.

It needs no data: small random GRUs speak (tests/toy_speaker.py), in float64, over tiny vocabularies. The truth is every sentence
there is, with the probability that the speaker gives it word by word from the start.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import proof
import torch
from torch import Tensor

from pipeline.models.beam import Sentences, beam_search
from pipeline.models.core import State

sys.path.insert(0, str(proof.REPOSITORY / "tests"))

CLOSE = 1e-9
"""Of log-probabilities in float64; sentences have to be equal."""
BATCH = 3
POWERS = (0.0, 0.7, 1.0)


class Case(NamedTuple):
    """A random speaker, the states of `BATCH` rows, and the rules of a search (all but its width)."""

    speaker: Any
    state: tuple[Tensor, ...]
    start: Tensor
    rules: dict[str, Any]


class Found(NamedTuple):
    """Of one case: the largest difference of a log-probability or score, and rows whose sentences differ."""

    gap: float
    wrong: int


def beam(data: Path, seeds: int) -> tuple[str, bool]:
    """Four parts, each over all cases; `seeds` times 5 speakers for each vocabulary, length and length normalisation."""
    torch.set_num_threads(1)
    parts: list[tuple[str, Callable[[Case], Found]]] = [
        ("full width = every sentence there is", exhaustive),
        ("width 1 = the likeliest word each time", greedy),
        ("a batch = its rows one by one", one_by_one),
        ("states carried = all words read anew", without_memory),
    ]
    print(f"\nrandom speakers of 2 to 5 words, sentences of 1 to 5, {BATCH} rows each, length powers {POWERS}")
    print(f"  {'':<40} {'cases':>6} {'rows':>6} {'rows that differ':>17} {'largest difference':>19}")
    count, gap, wrong = 0, 0.0, 0
    with torch.no_grad():
        for name, part in parts:
            found = [part(case) for case in cases(5 * max(1, seeds))]
            count, gap = len(found), max(gap, *(f.gap for f in found))
            wrong += sum(f.wrong for f in found)
            print(
                f"  {name:<40} {count:>6} {count * BATCH:>6} {sum(f.wrong for f in found):>17} "
                f"{max(f.gap for f in found):>19.1e}",
                flush=True,
            )
        twice = counted(5 * max(1, seeds))
    holds = wrong == 0 and gap <= CLOSE and twice == 0
    return (
        f"{count} cases a part, rows that differ {wrong}, largest difference {gap:.1e} (bar {CLOSE}), "
        f"searches that read a word twice {twice}"
    ), holds


def cases(seeds: int) -> Iterator[Case]:
    """The same for every part."""
    from toy_speaker import END, Speaker, beginnings

    for vocabulary, max_length, power, seed in itertools.product((2, 3, 4, 5), (1, 2, 3, 4, 5), POWERS, range(seeds)):
        if vocabulary == 5 and max_length == 5:
            continue  # 341 sentences, each read word by word: the minutes would buy nothing
        speaker = Speaker(vocabulary, seed=1000 * vocabulary + 100 * max_length + seed, sharpness=1.0 + seed % 3)
        state, start = beginnings(BATCH, seed)
        yield Case(speaker, state, start, {"end": END, "max_length": max_length, "length_power": power})


def exhaustive(case: Case) -> Found:
    """With room for all beginnings: all sentences, in the order of their scores, at their own probabilities."""
    from toy_speaker import listed

    sentences, power = every_sentence(case), case.rules["length_power"]
    found = beam_search(case.speaker, case.state, case.start, width=len(sentences), **case.rules)
    gap, wrong = 0.0, 0
    for row in range(BATCH):
        hidden = case.state[0][row]
        truth = {s: case.speaker.probability(list(s), int(case.start[row]), hidden) for s in sentences}
        ranked = sorted(sentences, key=lambda s: truth[s] / len(s) ** power, reverse=True)
        wrong += listed(found, row) != ranked
        said = [(truth[s], truth[s] / len(s) ** power) for s in listed(found, row)]
        both = torch.stack([found.log_probability[row], found.score[row]], dim=1)[: len(said)]
        gap = max(gap, _gap(both, torch.tensor(said, dtype=both.dtype)))
    return Found(gap, wrong)


def greedy(case: Case) -> Found:
    """At width 1: the likeliest word each time, and the end where the length is used up."""
    from toy_speaker import listed

    found = beam_search(case.speaker, case.state, case.start, width=1, **case.rules)
    end, max_length, gap, wrong = case.rules["end"], case.rules["max_length"], 0.0, 0
    for row in range(BATCH):
        state, last, sentence, total = (case.state[0][row : row + 1],), case.start[row : row + 1], [], 0.0
        while not sentence or sentence[-1] != end:
            scores, state = case.speaker(last, state)
            word = int(scores.argmax()) if len(sentence) < max_length - 1 else end
            sentence.append(word)
            total, last = total + float(scores[0, word]), torch.tensor([word])
        wrong += listed(found, row) != [tuple(sentence)]
        gap = max(gap, abs(float(found.log_probability[row, 0]) - total))
    return Found(gap, wrong)


def one_by_one(case: Case) -> Found:
    """Widths 1 to 4: each row of a batch as if it were alone."""
    results = []
    for width in (1, 2, 3, 4):
        together = beam_search(case.speaker, case.state, case.start, width=width, **case.rules)
        for row in range(BATCH):
            alone = tuple(part[row : row + 1] for part in case.state)
            single = beam_search(case.speaker, alone, case.start[row : row + 1], width=width, **case.rules)
            results.append((row, *_compared(together, row, single, 0)))
    return _worst(results)


def without_memory(case: Case) -> Found:
    """Width 3: the search with carried states against one whose step knows only the words, and reads all of them anew."""

    def anew(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        row, said = state
        said = torch.cat([said, tokens[:, None]], dim=1)
        inner, scores = (case.state[0][row],), tokens
        for word in said.unbind(1):
            scores, inner = case.speaker(word, inner)
        return scores, (row, said)

    nothing = (torch.arange(BATCH), case.start.new_empty((BATCH, 0)))
    carried = beam_search(case.speaker, case.state, case.start, width=3, **case.rules)
    again = beam_search(anew, nothing, case.start, width=3, **case.rules)
    return _worst([(row, *_compared(carried, row, again, row)) for row in range(BATCH)])


def counted(seeds: int) -> int:
    """Prints what the speaker was asked at width 3, beside what reading each beginning anew would take. Returns how many
    searches asked more than once a time step, for more than `width` beginnings a row, or for the same beginning twice.
    """
    width, wrong, calls, steps, words, anew, idle = 3, 0, 0, 0, 0, 0, 0
    for case in cases(seeds):
        read: list[list[tuple[int, ...]]] = []  # of each call, what every row has read by then, and which row it is

        def step(tokens: Tensor, state: State, case: Case = case, read: list[Any] = read) -> tuple[Tensor, State]:
            hidden, said = state
            said = torch.cat([said, tokens[:, None]], dim=1)
            read.append([tuple(row) for row in said.tolist()])
            scores, (hidden,) = case.speaker(tokens, (hidden,))
            return scores, (hidden, said)

        state = (*case.state, torch.arange(BATCH)[:, None])  # the number of the row goes before its words
        beam_search(step, state, case.start, width=width, **case.rules)
        every = list(itertools.chain(*read))
        is_often = len(read) > case.rules["max_length"] or any(len(rows) > BATCH * width for rows in read)
        wrong += is_often or len(set(every)) < len(every)
        calls, steps, words = calls + len(read), steps + case.rules["max_length"], words + len(every)
        anew += sum(len(beginning) - 1 for beginning in every)
        idle += sum(case.rules["end"] in beginning[2:] for beginning in every)
    print(
        f"\nwidth {width}: {calls} step calls of {steps} time steps (fewer where all rows are done), {words} words read,"
    )
    print(f"{anew} if each beginning were read anew; {idle} of them in places of a batch whose sentence had ended;")
    print(f"searches that called twice a time step or read a beginning twice: {wrong}")
    return wrong


def every_sentence(case: Case) -> list[tuple[int, ...]]:
    """All of at most max_length words, the end included."""
    end, vocabulary = case.rules["end"], case.speaker.out.out_features
    words = [word for word in range(vocabulary) if word != end]
    lengths = range(case.rules["max_length"])
    return [(*s, end) for length in lengths for s in itertools.product(words, repeat=length)]


def _compared(one: Sentences, row: int, other: Sentences, other_row: int) -> tuple[float, bool]:
    """Largest difference of what is said of the sentences, and whether they differ."""
    from toy_speaker import listed

    differ = listed(one, row) != listed(other, other_row)
    n = min(len(listed(one, row)), len(listed(other, other_row)))
    pairs = [
        (x[row, :n], y[other_row, :n])
        for x, y in ((one.log_probability, other.log_probability), (one.score, other.score))
    ]
    return max(_gap(x, y) for x, y in pairs), differ


def _worst(results: list[tuple[int, float, bool]]) -> Found:
    return Found(max(gap for _, gap, _ in results), len({row for row, _, differ in results if differ}))


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) if a.numel() else 0.0
