"""Truncated back-propagation with carried state: lanes read every row once and in order, the state goes on where a row
does, and a resumed run ends in the same bits.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import CPU, PLAN, SignalAt, Toy, make_series, make_toy

from pipeline.config import load_config
from pipeline.data.batch import collate
from pipeline.data.sampler import LaneSampler
from pipeline.padded import stack
from pipeline.section import ConfigError
from pipeline.training.fit import saved_step
from pipeline.training.runtime import Interrupted

LENGTHS = [0, *np.random.default_rng(0).integers(1, 60, 40).tolist()]
CARRY = replace(PLAN, carry=True, batch_size=4)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = make_toy(tmp_path_factory.mktemp("series"))
    toy.train.window = 4
    return toy


def lanes_of(sampler: LaneSampler) -> list[list[tuple[int, ...]]]:
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return [list(lane) for lane in zip(*batches, strict=True)]


@pytest.mark.parametrize("size", [1, 4, 64])
def test_every_row_is_read_once_window_after_window_in_one_lane(size: int) -> None:
    sampler = LaneSampler(LENGTHS, 7, size, seed=3)
    starts = defaultdict(list)
    for lane in lanes_of(sampler):
        real = [key for key in lane if key[2] >= 0]
        assert lane[: len(real)] == real, "a lane that has ended stays so"
        order = [index for _, index, _ in real]
        assert order == sorted(order, key=order.index), "one row after another"
        for _, index, start in real:
            starts[index].append(start)
    assert starts == {i: list(range(0, max(1, n), 7)) for i, n in enumerate(LENGTHS)}
    once = lanes_of(sampler)
    sampler.epoch = 1
    assert lanes_of(sampler) != once


def test_ranks_share_the_lanes_and_skipping_gives_the_rest() -> None:
    whole = list(LaneSampler(LENGTHS, 7, 4, 0))
    shares = [list(LaneSampler(LENGTHS, 7, 4, 0, rank, 2)) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]
    late = LaneSampler(LENGTHS, 7, 4, 0)
    late.skip = 3
    assert list(late) == whole[3:]
    with pytest.raises(ValueError, match="batch_size = 4 cannot be shared by 3 processes"):
        LaneSampler(LENGTHS, 7, 4, 0, 0, 3)


def test_the_carried_state_is_that_of_the_whole_row(toy: Toy) -> None:
    model = toy.model(dropout=0.0).eval()
    state, last = None, {}
    for keys in LaneSampler(toy.train.full_lengths, 4, 4, 0):
        batch = collate([toy.train[key] for key in keys])
        _, state = model(batch, "model", state)
        last |= {key[1]: state[0][lane] for lane, key in enumerate(keys) if key[2] >= 0}
    assert len(last) == len(toy.train)
    for index, after in last.items():
        seen = model.watch({"series": stack([toy.train.source.read(toy.train.rows[index], 0, 99)[0]])})
        assert torch.allclose(after, seen.state[0][0], atol=1e-5)


def test_it_learns_and_a_resumed_run_ends_in_the_same_bits(toy: Toy, tmp_path: Path) -> None:
    whole, broken = toy.model(), toy.model()
    toy.fit(whole, tmp_path / "whole", CARRY)
    with pytest.raises(Interrupted):
        toy.fit(broken, tmp_path / "broken", CARRY, train=SignalAt(toy.train, 50))
    step = saved_step(tmp_path / "broken")
    assert step and step % len(LaneSampler(toy.train.full_lengths, 4, 4, 0)) != 0, "in mid-epoch, with a state"
    again = toy.model(seed=9)
    toy.fit(again, tmp_path / "broken", CARRY, from_step=step)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    losses = [line for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines() if '"val"' in line]
    assert len(losses) == CARRY.epochs


def test_a_state_of_other_processes_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        toy.fit(toy.model(), tmp_path, CARRY, train=SignalAt(toy.train, 50))
    with pytest.raises(ValueError, match="holds the carried states of 1 processes, and this run has 2.*--fresh"):
        toy.fit(toy.model(), tmp_path, CARRY, place=replace(CPU, world=2))


def test_carrying_needs_windows_and_one_direction(tmp_path: Path) -> None:
    manifest = str(make_series(tmp_path, 8, noise=0.2, longest=12))
    base = {"data": {"path": manifest}, "encoder": {"kind": "series"}, "training": {"carry": True}}
    with pytest.raises(ConfigError, match=r"data\.window is null; set for example 256"):
        load_config(None, ["data.window=null"], base=base)
    with pytest.raises(ConfigError, match=r"set core\.bidirectional: false"):
        load_config(None, ["core.bidirectional=true"], base=base)
