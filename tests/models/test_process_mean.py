"""Two processes whose rows have unequal numbers of steps and tokens learn as one process with all rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchrun import torchrun
from uneven_shares import HEADS, STEPS, gradients, write_series

from pipeline.models.process_mean import mean_over_processes, process_weight


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, dict[str, torch.Tensor]]]]:
    """The gradients of two processes, by head."""
    folder = tmp_path_factory.mktemp("shares")
    write_series(folder)
    torchrun("uneven_shares.py", folder)
    return folder, [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", HEADS)
def test_the_mean_gradient_of_two_processes_is_that_of_one_with_all_rows(
    name: str, ranks: tuple[Path, list[dict[str, dict[str, torch.Tensor]]]]
) -> None:
    folder, (first, second) = ranks
    whole = gradients(name, folder, range(len(STEPS)))
    assert {*first[name]} | {*second[name]} == {*whole}
    for key, expected in whole.items():
        zeros = torch.zeros_like(expected)
        mean = (first[name].get(key, zeros) + second[name].get(key, zeros)) / 2
        assert torch.allclose(mean, expected, rtol=1e-4, atol=1e-6), (key, mean, expected)


def test_in_one_process_the_own_items_count() -> None:
    total, device = torch.tensor(6.0), torch.device("cpu")
    assert mean_over_processes(total, 4, True) == mean_over_processes(total, torch.tensor(4), False) == 1.5
    assert mean_over_processes(torch.tensor(0.0), 0, True) == 0.0
    assert process_weight(0, device, True) == process_weight(3, device, False) == 1.0
