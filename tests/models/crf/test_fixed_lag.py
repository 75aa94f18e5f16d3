"""Viterbi decoding with a fixed lag: the rule by hand, windows, memory."""

from __future__ import annotations

import itertools

import pytest
import torch
from brute_crf import BruteForceCRF, is_legal, run_lengths
from made_crfs import emissions, make, scores_of
from torch import Tensor

from pipeline.models.crf.crf import CRF
from pipeline.models.crf.fixed_lag import FixedLagViterbi, ViterbiMemory
from pipeline.padded import Padded, stack


def test_a_negative_lag_is_refused():
    with pytest.raises(ValueError, match="The lag is -1 steps. It must be 0"):
        FixedLagViterbi(CRF(2), -1)


def run_windows(decoder: FixedLagViterbi, x: Padded, cuts: list[int]) -> tuple[list[Tensor], ViterbiMemory]:
    """The committed labels of each row over windows, and the memory at the end."""
    memory, labels_per_row = decoder.begin(len(x.lengths)), [[] for _ in x.lengths]
    for a, b in itertools.pairwise([0, *cuts, x.data.shape[1]]):
        memory, labels = decoder.observe(memory, Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)))
        for row, new in zip(labels_per_row, labels.unpad(), strict=True):
            row.append(new)
    return [torch.cat(row) for row in labels_per_row], memory


def by_hand(crf: CRF, data: Tensor, lag: int) -> list[int]:
    """The rule of fixed lag for one row, with lists: the best path into every (label, duration), then the label."""
    lattice = crf.lattice(torch.float64)
    transitions, start = lattice.transitions.detach(), lattice.start.detach()
    longest, committed, survivors = crf.min_steps, [], {}
    for t, e in enumerate(data):
        new = {}
        for (label, duration), (score, path) in survivors.items():
            for to in range(crf.num_labels):
                if to != label and duration < longest:
                    continue
                # with a minimum of 1 there is one duration, and staying is one of the transitions
                key = (to, min(duration + 1, longest)) if to == label else (to, 1)
                value = score + transitions[label, to] + e[to]
                if key not in new or value > new[key][0]:
                    new[key] = (value, [*path, to])
        survivors = new if t else {(k, 1): (start[k] + e[k], [k]) for k in range(crf.num_labels)}
        if t >= lag:
            candidates = [
                (score, path[t - lag])
                for score, path in survivors.values()
                if is_allowed_after(crf, committed, path[t - lag])
            ]
            committed.append(max(candidates)[1] if candidates else committed[-1])
    return committed


def is_allowed_after(crf: CRF, committed: list[int], label: int) -> bool:
    if not committed:
        return True
    if crf.allowed is not None and not crf.allowed[committed[-1], label]:
        return False
    return label == committed[-1] or run_lengths(committed)[-1] >= crf.min_steps


@pytest.mark.parametrize("minimum", [1, 2, 3])
@pytest.mark.parametrize("lag", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("seed", range(3))
def test_committed_labels_follow_the_rule_and_windows_change_nothing(minimum, lag, seed):
    crf = make(3, min_steps=minimum, allowed=torch.ones(3, 3).tril(1).bool() if seed == 2 else None)
    x = emissions(3, (37, 12, 0, 1, 30), seed=seed)
    decoder = FixedLagViterbi(crf, lag)
    whole, end = run_windows(decoder, x, [])
    for row, data in enumerate(x.unpad()):
        assert whole[row].tolist() == by_hand(crf, data, lag)
    generator = torch.Generator().manual_seed(seed)
    for count in (3, 36):
        cuts = sorted(torch.randint(0, 38, (count,), generator=generator).tolist())  # empty windows too
        parts, memory = run_windows(decoder, x, cuts)
        assert all(map(torch.equal, parts, whole)) and all(map(torch.equal, memory, end))
    rest = decoder.finish(end)
    assert [len(c) + n for c, n in zip(whole, rest.lengths.tolist(), strict=True)] == x.lengths.tolist()


@pytest.mark.parametrize("minimum", [1, 2, 4])
@pytest.mark.parametrize("lag", [9, 30])
def test_a_lag_of_the_whole_length_equals_viterbi(minimum, lag):
    for seed in range(5):
        crf = make(4, min_steps=minimum, allowed=torch.ones(4, 4).tril(1).bool())
        x = emissions(4, (9, 3, 0, 8, 1), seed=seed)
        committed, memory = run_windows(FixedLagViterbi(crf, lag), x, [2, 5])
        assert not any(len(c) for c in committed)
        assert all(map(torch.equal, FixedLagViterbi(crf, lag).finish(memory).unpad(), crf.decode(x).unpad()))


def test_ties_are_resolved_as_in_viterbi():
    crf = CRF(3, min_steps=2)
    x = Padded(torch.zeros(2, 8, 3), torch.tensor([8, 5]))
    _, memory = run_windows(FixedLagViterbi(crf, 8), x, [])
    assert all(map(torch.equal, FixedLagViterbi(crf, 8).finish(memory).unpad(), crf.decode(x).unpad()))


def test_pending_labels_are_the_best_prefix_and_rows_advance_independently():
    crf, decoder = make(3), FixedLagViterbi(make(3), 30)
    x = emissions(3, (5, 2, 4))
    _, memory = run_windows(decoder, x, [])
    no_end = make(3)
    torch.nn.init.zeros_(no_end.end_transitions)
    assert all(map(torch.equal, decoder.pending(memory).unpad(), no_end.decode(x).unpad()))
    selected = ViterbiMemory(*(m[[2, 0]] for m in memory))
    more = emissions(3, (3, 0), seed=7)
    selected, _ = decoder.observe(selected, more)
    joined = stack([torch.cat([x.unpad()[2], more.unpad()[0]]), x.unpad()[0]])
    assert all(map(torch.equal, decoder.finish(selected).unpad(), crf.decode(joined).unpad()))


@pytest.mark.parametrize("lag", [0, 2, 3, 8])
@pytest.mark.parametrize("minimum", [2, 4])
def test_all_committed_labels_form_one_path_that_obeys_the_constraints(lag, minimum):
    allowed = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool()
    for seed in range(10):
        crf, x = make(3, min_steps=minimum, allowed=allowed), emissions(3, (60, 45), seed=seed)
        committed, memory = run_windows(FixedLagViterbi(crf, lag), x, [7, 20])
        for first, rest in zip(committed, FixedLagViterbi(crf, lag).finish(memory).unpad(), strict=True):
            path = torch.cat([first, rest]).tolist()
            assert is_legal(path, allowed) and min(run_lengths(path)[:-1], default=minimum) >= minimum


def test_without_constraints_a_committed_label_is_that_of_the_best_prefix():
    crf = make(3)
    no_end = make(3)
    torch.nn.init.zeros_(no_end.end_transitions)
    for lag in (0, 2):
        for data in emissions(3, (9, 6)).unpad():
            committed, _ = run_windows(FixedLagViterbi(crf, lag), stack([data]), [])
            prefixes = [BruteForceCRF(data[: t + 1], *scores_of(no_end)).best() for t in range(lag, len(data))]
            assert committed[0].tolist() == [p[len(p) - 1 - lag] for p in prefixes]


def test_the_memory_does_not_grow_and_scores_stay_in_range():
    crf = CRF(3, allowed=torch.eye(3, dtype=torch.bool))  # three separate paths: their scores diverge
    crf, other = crf.float(), make(3).float()
    for field in (crf, other):
        decoder = FixedLagViterbi(field, 16)
        memory = decoder.begin(1)
        sizes = [m.shape for m in memory]
        torch.manual_seed(0)
        x = Padded(torch.randn(1, 4000, 3) * 30, torch.tensor([4000]))
        memory, committed = decoder.observe(memory, x)
        assert [m.shape for m in memory] == sizes
        assert memory.scores.amax() <= 30 * 6 * 16 and not memory.scores.isnan().any()
        exact = field.double().decode(x).data[0]
        field.float()
        if field is other:  # emissions of this scale decide a label within 16 steps
            assert torch.equal(committed.unpad()[0], exact[:-16])
