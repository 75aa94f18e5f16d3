"""Samplers: the order of an epoch, the shares of several processes, and the lanes of truncated BPTT."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from pipeline.data.sampler import EpochSampler, TbpttSampler, batches_by_length, epoch_batches

LENGTHS = np.random.default_rng(0).integers(1, 60, 203).tolist()
TBPTT_LENGTHS = [0, *np.random.default_rng(0).integers(1, 60, 40).tolist()]


def test_an_epoch_depends_only_on_seed_and_epoch() -> None:
    first = epoch_batches(LENGTHS, 8, seed=3, epoch=5)
    np.random.default_rng(1).random()
    torch.manual_seed(9)
    assert epoch_batches(LENGTHS, 8, seed=3, epoch=5) == first
    assert epoch_batches(LENGTHS, 8, seed=3, epoch=6) != first
    assert epoch_batches(LENGTHS, 8, seed=4, epoch=5) != first


@pytest.mark.parametrize(("count", "size"), [(203, 8), (8, 8), (3, 8), (1, 4), (64, 1)])
def test_an_epoch_contains_every_row_and_every_batch_is_full(count: int, size: int) -> None:
    batches = epoch_batches(LENGTHS[:count], size, seed=0, epoch=0)
    times = Counter(i for batch in batches for i in batch)
    assert {len(batch) for batch in batches} == {size} and len(batches) == math.ceil(count / size)
    assert set(times) == set(range(count)) and max(times.values()) <= math.ceil(size / count) + 1
    assert sum(times.values()) - count < size, "only the last batch is filled up"


def test_batches_hold_similar_lengths_in_a_random_order() -> None:
    batches = epoch_batches(LENGTHS, 8, seed=0, epoch=0)
    padding = sum(max(LENGTHS[i] for i in b) - LENGTHS[i] for b in batches for i in b)
    random_batches = np.random.default_rng(0).permutation(200).reshape(-1, 8)
    random_padding = sum(max(LENGTHS[i] for i in b) - LENGTHS[i] for b in random_batches for i in b)
    assert padding < random_padding / 3
    means = [np.mean([LENGTHS[i] for i in b]) for b in batches]
    assert means != sorted(means) and means != sorted(means, reverse=True)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_ranks_share_the_batches_of_one_process(world: int) -> None:
    def batches(rank: int, world: int) -> list[list[tuple[int, ...]]]:
        sampler = EpochSampler(LENGTHS, 8, 0, rank, world)
        sampler.epoch = 2
        assert len(list(sampler)) == len(sampler)
        return list(sampler)

    shares = [batches(rank, world) for rank in range(world)]
    assert {len(keys) for share in shares for keys in share} == {8 // world}
    joined = [sorted(key for keys in batch for key in keys) for batch in zip(*shares, strict=True)]
    assert joined == [sorted(batch) for batch in batches(0, 1)]


def test_skip_gives_the_rest_of_the_epoch_and_an_odd_number_of_processes_is_refused() -> None:
    sampler = EpochSampler(LENGTHS, 8, 0)
    whole = list(sampler)
    sampler.skip = 11
    assert list(sampler) == whole[11:]
    with pytest.raises(ValueError, match=r"batch_size = 8 cannot be divided among 3 processes.*multiple of 3"):
        EpochSampler(LENGTHS, 8, 0, 0, 3)


def test_batches_by_length_contain_every_index_once() -> None:
    batches = batches_by_length(LENGTHS, 8)
    assert sorted(key[1] for batch in batches for key in batch) == list(range(len(LENGTHS)))
    assert [LENGTHS[key[1]] for batch in batches for key in batch] == sorted(LENGTHS)


def lanes_of(sampler: TbpttSampler) -> list[list[tuple[int, ...]]]:
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return [list(lane) for lane in zip(*batches, strict=True)]


@pytest.mark.parametrize("size", [1, 4, 64])
def test_every_row_is_in_one_lane_once_and_window_after_window(size: int) -> None:
    sampler = TbpttSampler(TBPTT_LENGTHS, 7, size, seed=3)
    starts = defaultdict(list)
    for lane in lanes_of(sampler):
        windows = [key for key in lane if key[2] >= 0]
        assert lane[: len(windows)] == windows, "after its end a lane has only empty windows"
        order = [key[1] for key in windows]
        assert order == sorted(order, key=order.index), "one row after another"
        for _, index, start in windows:
            starts[index].append(start)
    assert starts == {i: list(range(0, max(1, n), 7)) for i, n in enumerate(TBPTT_LENGTHS)}
    first_epoch = lanes_of(sampler)
    sampler.epoch = 1
    assert lanes_of(sampler) != first_epoch


def test_ranks_share_the_lanes_and_skip_gives_the_rest() -> None:
    whole = list(TbpttSampler(TBPTT_LENGTHS, 7, 4, 0))
    shares = [list(TbpttSampler(TBPTT_LENGTHS, 7, 4, 0, rank, 2)) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]
    rest = TbpttSampler(TBPTT_LENGTHS, 7, 4, 0)
    rest.skip = 3
    assert list(rest) == whole[3:]
    with pytest.raises(ValueError, match="batch_size = 4 cannot be divided among 3 processes"):
        TbpttSampler(TBPTT_LENGTHS, 7, 4, 0, 0, 3)
