"""Sequences with padding: their valid steps, and what goes to a device together."""

from __future__ import annotations

import pytest
import torch

from pipeline.data.batch import Batch
from pipeline.padded import Padded, copy_together, keep_copy, lengths_on, map_lengths

META = torch.device("meta")


@pytest.mark.parametrize("lengths", [(3, 1, 0), (3, 3, 3), (0, 0, 0), (5, 2, 3)])
def test_valid_steps_are_those_of_the_mask(lengths: tuple[int, ...]) -> None:
    x = Padded(torch.randn(3, 3, 2), torch.tensor(lengths))
    expected = torch.arange(3) < torch.tensor(lengths)[:, None]
    assert torch.equal(x.mask, expected) and x.is_full == bool(expected.all())
    assert torch.equal(x.data[x.valid_steps], x.data[expected])


def test_lengths_are_copied_to_a_device_once_and_so_is_what_is_computed_from_them() -> None:
    lengths = torch.tensor([4, 2])
    assert lengths_on(lengths, torch.device("cpu")) is lengths
    copy = lengths_on(lengths, META)
    assert lengths_on(lengths, META) is copy and copy.device == META
    x = Padded(torch.empty(2, 5, device=META), lengths)
    assert x.device_lengths is copy and x.map(lambda d: d + 1).device_lengths is copy
    half = map_lengths(lengths, lambda n: n // 2)
    assert half.tolist() == [2, 1] and lengths_on(half, META) is lengths_on(half, META)
    assert not hasattr(map_lengths(torch.tensor([4]), lambda n: n // 2), "copy_on_device")
    keep_copy(lengths, lengths)
    assert lengths_on(lengths, META) is copy, "a tensor on the CPU is no copy"


def test_tensors_that_go_together_keep_their_shapes() -> None:
    parts = [torch.arange(6).reshape(2, 3), torch.tensor(5), torch.zeros(0, dtype=torch.int64)]
    assert all(a is b for a, b in zip(copy_together(parts, torch.device("cpu")), parts, strict=True))
    assert [tuple(x.shape) for x in copy_together(parts, META)] == [(2, 3), (), (0,)]


def test_a_batch_keeps_its_copy_on_the_cpu() -> None:
    lengths = torch.tensor([2, 1])
    batch = Batch(
        {"series": Padded(torch.ones(2, 2, 1), lengths), "tokens": Padded(torch.tensor([[1, 2], [3, 0]]), lengths)},
        {"label": torch.tensor([0, 1]), "score": torch.tensor([0.5, 1.5])},
        ("a", "b"),
        (0, 4),
    )
    moved = batch.to(META)
    assert batch.to(torch.device("cpu")).on_host is batch and moved.on_host is batch
    assert {x.data.device for x in moved.raw.values()} == {META}
    assert all(isinstance(x, torch.Tensor) and x.device == META for x in moved.targets.values())
    assert moved.raw["series"].lengths is lengths and moved.raw["series"].device_lengths.device == META
    assert (moved.sources, moved.starts) == (batch.sources, batch.starts)
    assert moved.raw["tokens"].data.dtype == torch.int64 and moved.raw["tokens"].data.shape == (2, 2)
