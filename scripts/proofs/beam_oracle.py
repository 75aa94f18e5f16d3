"""The promise `beam`: beam search equals an exhaustive list of all sequences, and reads no token twice.

It needs no data. The models are small random GRUs in float64 over tiny vocabularies (see `toy_language_model` in
tests/support). The reference is a list of all sequences with their log-probabilities, computed token by token.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import proof_tools
import torch
from torch import Tensor

from pipeline.models.recurrent.core import State
from pipeline.models.text.beam_search import Hypotheses, beam_search

if TYPE_CHECKING:
    from toy_language_model import ToyLanguageModel

sys.path.insert(0, str(proof_tools.REPOSITORY / "tests/support"))

CLOSE = 1e-9
"""Largest accepted difference of log-probabilities in float64. Sequences must be equal."""
BATCH = 3
LENGTH_PENALTIES = (0.0, 0.7, 1.0)
NUM_MODELS = proof_tools.SIZE.pick(5, 1)
VOCABULARIES, LENGTHS = proof_tools.SIZE.pick(((2, 3, 4, 5), (1, 2, 3, 4, 5)), ((2, 3), (1, 2, 3)))


Prefixes = list[tuple[int, ...]]
"""For each row its number and its prefix."""


class Case(NamedTuple):
    """A random model, the states of `BATCH` rows, and the options of a search (all but its width)."""

    model: ToyLanguageModel
    state: tuple[Tensor, ...]
    start: Tensor
    options: dict[str, Any]


class Difference(NamedTuple):
    """Of one case: the largest difference of a log-probability or score, and how many rows have other sequences."""

    gap: float
    wrong_rows: int


def beam(data: Path, seeds: int) -> tuple[str, bool]:
    """Four comparisons over all cases: `seeds` times 5 models for each vocabulary, length and length penalty."""
    torch.set_num_threads(1)
    comparisons: list[tuple[str, Callable[[Case], Difference]]] = [
        ("full width = list of all sequences", compare_exhaustive),
        ("width 1 = greedy search", compare_greedy),
        ("a batch = its rows one by one", compare_rows),
        ("carried states = all tokens read again", compare_stateless),
    ]
    print(
        f"\nrandom models of 2 to 5 tokens, sequences of 1 to 5, {BATCH} rows each, length penalties {LENGTH_PENALTIES}"
    )
    print(f"  {'':<40} {'cases':>6} {'rows':>6} {'rows that differ':>17} {'largest difference':>19}")
    count, gap, wrong_rows = 0, 0.0, 0
    with torch.no_grad():
        for name, comparison in comparisons:
            differences = [comparison(case) for case in cases(NUM_MODELS * max(1, seeds))]
            wrong, worst = sum(d.wrong_rows for d in differences), max(d.gap for d in differences)
            count, gap, wrong_rows = len(differences), max(gap, worst), wrong_rows + wrong
            print(f"  {name:<40} {count:>6} {count * BATCH:>6} {wrong:>17} {worst:>19.1e}", flush=True)
        num_wasteful = count_repeated_reads(NUM_MODELS * max(1, seeds))
    holds = wrong_rows == 0 and gap <= CLOSE and num_wasteful == 0
    return (
        f"{count} cases per comparison, rows that differ {wrong_rows}, largest difference {gap:.1e} (bar {CLOSE}), "
        f"searches that read a token twice {num_wasteful}"
    ), holds


def cases(seeds: int) -> Iterator[Case]:
    """The cases, the same for every comparison."""
    from toy_language_model import END, ToyLanguageModel, random_states

    sizes = itertools.product(VOCABULARIES, LENGTHS, LENGTH_PENALTIES, range(seeds))
    for vocabulary_size, max_length, length_penalty, seed in sizes:
        if vocabulary_size == 5 and max_length == 5:
            continue  # 341 sequences, each read token by token: minutes for no new evidence
        model_seed = 1000 * vocabulary_size + 100 * max_length + seed
        model = ToyLanguageModel(vocabulary_size, seed=model_seed, sharpness=1.0 + seed % 3)
        state, start = random_states(BATCH, seed)
        yield Case(model, state, start, {"end": END, "max_length": max_length, "length_penalty": length_penalty})


def compare_exhaustive(case: Case) -> Difference:
    """With room for all prefixes: all sequences, in the order of their scores, with their log-probabilities."""
    from toy_language_model import sequences_of

    sequences, length_penalty = all_sequences(case), case.options["length_penalty"]
    hypotheses = beam_search(case.model, case.state, case.start, width=len(sequences), **case.options)
    gap, wrong = 0.0, 0
    for row in range(BATCH):
        hidden = case.state[0][row]
        truth = {s: case.model.log_probability(list(s), int(case.start[row]), hidden) for s in sequences}
        ranked = sorted(sequences, key=lambda s: truth[s] / len(s) ** length_penalty, reverse=True)
        output = sequences_of(hypotheses, row)
        wrong += output != ranked
        expected = [(truth[s], truth[s] / len(s) ** length_penalty) for s in output]
        values = torch.stack([hypotheses.log_probability[row], hypotheses.score[row]], dim=1)[: len(expected)]
        gap = max(gap, _gap(values, torch.tensor(expected, dtype=values.dtype)))
    return Difference(gap, wrong)


def compare_greedy(case: Case) -> Difference:
    """Width 1: the most probable token at each step, and the end token at the maximum length."""
    from toy_language_model import sequences_of

    hypotheses = beam_search(case.model, case.state, case.start, width=1, **case.options)
    end, max_length, gap, wrong = case.options["end"], case.options["max_length"], 0.0, 0
    for row in range(BATCH):
        state, last, sequence, total = (case.state[0][row : row + 1],), case.start[row : row + 1], [], 0.0
        while not sequence or sequence[-1] != end:
            scores, state = case.model(last, state)
            token = int(scores.argmax()) if len(sequence) < max_length - 1 else end
            sequence.append(token)
            total, last = total + float(scores[0, token]), torch.tensor([token])
        wrong += sequences_of(hypotheses, row) != [tuple(sequence)]
        gap = max(gap, abs(float(hypotheses.log_probability[row, 0]) - total))
    return Difference(gap, wrong)


def compare_rows(case: Case) -> Difference:
    """Widths 1 to 4: each row of a batch against a batch of that row alone."""
    differences = []
    for width in (1, 2, 3, 4):
        batch = beam_search(case.model, case.state, case.start, width=width, **case.options)
        for row in range(BATCH):
            state = tuple(part[row : row + 1] for part in case.state)
            single = beam_search(case.model, state, case.start[row : row + 1], width=width, **case.options)
            differences.append((row, *_compare_row(batch, row, single, 0)))
    return _worst(differences)


def compare_stateless(case: Case) -> Difference:
    """Width 3: the search with carried states against one whose step reads all tokens again."""

    def stateless_step(tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        row, prefix = state
        prefix = torch.cat([prefix, tokens[:, None]], dim=1)
        hidden, scores = (case.state[0][row],), tokens
        for token in prefix.unbind(1):
            scores, hidden = case.model(token, hidden)
        return scores, (row, prefix)

    no_tokens = (torch.arange(BATCH), case.start.new_empty((BATCH, 0)))
    carried = beam_search(case.model, case.state, case.start, width=3, **case.options)
    stateless = beam_search(stateless_step, no_tokens, case.start, width=3, **case.options)
    return _worst([(row, *_compare_row(carried, row, stateless, row)) for row in range(BATCH)])


def count_repeated_reads(seeds: int) -> int:
    """Print how many tokens the model reads at width 3, and how many without carried states.

    Returns the number of searches that called the step more than once per time step, or for more than `width` prefixes
    per row, or for the same prefix twice.
    """
    width, wrong, calls, steps, tokens_read, stateless, idle = 3, 0, 0, 0, 0, 0, 0
    for case in cases(seeds):
        read: list[Prefixes] = []  # for each call

        def step(tokens: Tensor, state: State, case: Case = case, read: list[Prefixes] = read) -> tuple[Tensor, State]:
            hidden, prefix = state
            prefix = torch.cat([prefix, tokens[:, None]], dim=1)
            read.append([tuple(row) for row in prefix.tolist()])
            scores, (hidden,) = case.model(tokens, (hidden,))
            return scores, (hidden, prefix)

        state = (*case.state, torch.arange(BATCH)[:, None])  # the number of the row stands before its tokens
        beam_search(step, state, case.start, width=width, **case.options)
        prefixes = list(itertools.chain(*read))
        is_too_often = len(read) > case.options["max_length"] or any(len(rows) > BATCH * width for rows in read)
        wrong += is_too_often or len(set(prefixes)) < len(prefixes)
        calls, steps = calls + len(read), steps + case.options["max_length"]
        tokens_read += len(prefixes)
        stateless += sum(len(prefix) - 1 for prefix in prefixes)
        idle += sum(case.options["end"] in prefix[2:] for prefix in prefixes)
    print(f"\nwidth {width}: {calls} calls in {steps} time steps (fewer where all rows are done)")
    print(f"tokens read: {tokens_read}, {idle} of them in rows whose sequence had ended; stateless: {stateless}")
    print(f"searches with two calls per time step or a prefix read twice: {wrong}")
    return wrong


def all_sequences(case: Case) -> list[tuple[int, ...]]:
    """All sequences of at most max_length tokens, with the end token."""
    end, vocabulary_size = case.options["end"], case.model.out.out_features
    tokens = [token for token in range(vocabulary_size) if token != end]
    lengths = range(case.options["max_length"])
    return [(*s, end) for length in lengths for s in itertools.product(tokens, repeat=length)]


def _compare_row(ours: Hypotheses, row: int, theirs: Hypotheses, their_row: int) -> tuple[float, bool]:
    """The largest difference of a log-probability or score, and whether the sequences differ."""
    from toy_language_model import sequences_of

    is_different = sequences_of(ours, row) != sequences_of(theirs, their_row)
    n = min(len(sequences_of(ours, row)), len(sequences_of(theirs, their_row)))
    pairs = [
        (a[row, :n], b[their_row, :n])
        for a, b in ((ours.log_probability, theirs.log_probability), (ours.score, theirs.score))
    ]
    return max(_gap(a, b) for a, b in pairs), is_different


def _worst(differences: list[tuple[int, float, bool]]) -> Difference:
    rows = {row for row, _, is_different in differences if is_different}
    return Difference(max(gap for _, gap, _ in differences), len(rows))


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) if a.numel() else 0.0
