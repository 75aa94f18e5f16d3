"""Labels while a sequence goes on: the rule of fixed lag by hand, windows, memory."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch
from made_crfs import emissions, make, scores_of
from torch import Tensor

from pipeline.models.crf import Crf
from pipeline.models.fixed_lag import FixedLag, Memory
from pipeline.padded import Padded, stack

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from brute_crf import Brute, is_legal, runs


def test_a_negative_lag_says_so():
    with pytest.raises(ValueError, match="The lag is -1 steps. It must be 0"):
        FixedLag(Crf(2), -1)


def followed(decoder: FixedLag, x: Padded, cuts: list[int]) -> tuple[list[Tensor], Memory]:
    """The committed labels of each row over windows, and the memory at the end."""
    memory, found = decoder.begin(len(x.lengths)), [[] for _ in x.lengths]
    for a, b in itertools.pairwise([0, *cuts, x.data.shape[1]]):
        memory, labels = decoder.observe(memory, Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)))
        for row, new in zip(found, labels.unpad(), strict=True):
            row.append(new)
    return [torch.cat(row) for row in found], memory


def by_hand(crf: Crf, data: Tensor, lag: int) -> list[int]:
    """The rule of fixed lag for one row, with lists: the survivors of every (label, age), then what may be committed."""
    transitions, start, _ = (s.detach() for s in crf._scores(torch.float64))
    oldest, committed, alive = crf.minimum_steps, [], {}
    for t, e in enumerate(data):
        new = {}
        for (label, age), (score, path) in alive.items():
            for to in range(crf.num_labels):
                if to != label and age < oldest:
                    continue
                # with a minimum of 1 there is one age, and staying is one of the transitions
                key = (to, min(age + 1, oldest)) if to == label else (to, 1)
                value = score + transitions[label, to] + e[to]
                if key not in new or value > new[key][0]:
                    new[key] = (value, [*path, to])
        alive = new if t else {(k, 1): (start[k] + e[k], [k]) for k in range(crf.num_labels)}
        if t >= lag:
            ways = [
                (score, path[t - lag]) for score, path in alive.values() if may_follow(crf, committed, path[t - lag])
            ]
            committed.append(max(ways)[1] if ways else committed[-1])
    return committed


def may_follow(crf: Crf, committed: list[int], label: int) -> bool:
    if not committed:
        return True
    if crf.allowed is not None and not crf.allowed[committed[-1], label]:
        return False
    return label == committed[-1] or runs(committed)[-1] >= crf.minimum_steps


@pytest.mark.parametrize("minimum", [1, 2, 3])
@pytest.mark.parametrize("lag", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("seed", range(3))
def test_committed_labels_are_those_of_the_rule_and_windows_change_nothing(minimum, lag, seed):
    crf = make(3, minimum_steps=minimum, allowed=torch.ones(3, 3).tril(1).bool() if seed == 2 else None)
    x = emissions(3, (37, 12, 0, 1, 30), seed=seed)
    decoder = FixedLag(crf, lag)
    whole, end = followed(decoder, x, [])
    for row, data in enumerate(x.unpad()):
        assert whole[row].tolist() == by_hand(crf, data, lag)
    generator = torch.Generator().manual_seed(seed)
    for count in (3, 36):
        cuts = sorted(torch.randint(0, 38, (count,), generator=generator).tolist())  # empty windows too
        parts, memory = followed(decoder, x, cuts)
        assert all(map(torch.equal, parts, whole)) and all(map(torch.equal, memory, end))
    rest = decoder.finish(end)
    assert [len(c) + n for c, n in zip(whole, rest.lengths.tolist(), strict=True)] == x.lengths.tolist()


@pytest.mark.parametrize("minimum", [1, 2, 4])
@pytest.mark.parametrize("lag", [9, 30])
def test_a_lag_of_the_whole_length_equals_viterbi(minimum, lag):
    for seed in range(5):
        crf = make(4, minimum_steps=minimum, allowed=torch.ones(4, 4).tril(1).bool())
        x = emissions(4, (9, 3, 0, 8, 1), seed=seed)
        committed, memory = followed(FixedLag(crf, lag), x, [2, 5])
        assert not any(len(c) for c in committed)
        assert all(map(torch.equal, FixedLag(crf, lag).finish(memory).unpad(), crf.decode(x).unpad()))


def test_ties_are_broken_as_viterbi_breaks_them():
    crf = Crf(3, minimum_steps=2)
    x = Padded(torch.zeros(2, 8, 3), torch.tensor([8, 5]))
    _, memory = followed(FixedLag(crf, 8), x, [])
    assert all(map(torch.equal, FixedLag(crf, 8).finish(memory).unpad(), crf.decode(x).unpad()))


def test_pending_labels_are_the_best_prefix_and_a_row_goes_its_own_pace():
    crf, decoder = make(3), FixedLag(make(3), 30)
    x = emissions(3, (5, 2, 4))
    _, memory = followed(decoder, x, [])
    no_end = make(3)
    torch.nn.init.zeros_(no_end.end_transitions)
    assert all(map(torch.equal, decoder.pending(memory).unpad(), no_end.decode(x).unpad()))
    picked = Memory(*(m[[2, 0]] for m in memory))
    more = emissions(3, (3, 0), seed=7)
    picked, _ = decoder.observe(picked, more)
    joined = stack([torch.cat([x.unpad()[2], more.unpad()[0]]), x.unpad()[0]])
    assert all(map(torch.equal, decoder.finish(picked).unpad(), crf.decode(joined).unpad()))


@pytest.mark.parametrize("lag", [0, 2, 3, 8])
@pytest.mark.parametrize("minimum", [2, 4])
def test_everything_committed_is_one_path_that_obeys_the_rules(lag, minimum):
    allowed = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool()
    for seed in range(10):
        crf, x = make(3, minimum_steps=minimum, allowed=allowed), emissions(3, (60, 45), seed=seed)
        committed, memory = followed(FixedLag(crf, lag), x, [7, 20])
        for first, rest in zip(committed, FixedLag(crf, lag).finish(memory).unpad(), strict=True):
            path = torch.cat([first, rest]).tolist()
            assert is_legal(path, allowed) and min(runs(path)[:-1], default=minimum) >= minimum


def test_without_rules_a_committed_label_is_that_of_the_best_prefix():
    crf = make(3)
    no_end = make(3)
    torch.nn.init.zeros_(no_end.end_transitions)
    for lag in (0, 2):
        for data in emissions(3, (9, 6)).unpad():
            committed, _ = followed(FixedLag(crf, lag), stack([data]), [])
            prefixes = [Brute(data[: t + 1], *scores_of(no_end)).best() for t in range(lag, len(data))]
            assert committed[0].tolist() == [p[len(p) - 1 - lag] for p in prefixes]


def test_hours_need_no_more_memory_than_a_moment_and_stay_in_range():
    crf = Crf(3, allowed=torch.eye(3, dtype=torch.bool))  # three ways that never meet: their scores drift apart
    crf, other = crf.float(), make(3).float()
    for field in (crf, other):
        decoder = FixedLag(field, 16)
        memory = decoder.begin(1)
        sizes = [m.shape for m in memory]
        torch.manual_seed(0)
        x = Padded(torch.randn(1, 4000, 3) * 30, torch.tensor([4000]))
        memory, committed = decoder.observe(memory, x)
        assert [m.shape for m in memory] == sizes
        assert memory.scores.amax() <= 30 * 6 * 16 and not memory.scores.isnan().any()
        exact = field.double().decode(x).data[0]
        field.float()
        if field is other:  # what lies 16 steps back is settled by evidence of this strength
            assert torch.equal(committed.unpad()[0], exact[:-16])
