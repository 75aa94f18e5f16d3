"""What heads copy to a GPU and read from it, on one that is not there; and that it counts what it should."""

from __future__ import annotations

import fake_cuda
import pytest
import torch
from fake_device import CUDA, Traffic
from fake_device import fake_cuda as within_fake_cuda
from torch import nn

HEADS, OPTIONS = list(fake_cuda._heads()), list(fake_cuda._options())


def assert_within_budget(case: fake_cuda.Case) -> None:
    step, watching, answer = fake_cuda.costs(case)
    assert step.holds(case.training), step.places
    assert watching.holds(fake_cuda.Budget()), watching.places
    assert answer.holds(case.answer), answer.places


@pytest.mark.parametrize("case", HEADS, ids=lambda case: case.name)
def test_a_head_keeps_its_budget_of_copies_and_reads(case: fake_cuda.Case) -> None:
    assert_within_budget(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", OPTIONS, ids=lambda case: case.name)
def test_options_and_cores_keep_it_too(case: fake_cuda.Case) -> None:
    assert_within_budget(case)


def test_a_budget_of_its_own_has_a_reason() -> None:
    for case in [*HEADS, *OPTIONS]:
        for budget in (case.training, case.answer):
            is_usual = budget.copies <= 3 and budget.reads == 0
            assert is_usual or budget.why, case.name


def traffic_of(code: str) -> Traffic:
    """What crosses while `code` runs with x (4, 3) on the device, y (4, 3) on the CPU and mask (4, 3) on the device."""
    with within_fake_cuda() as mode:
        names = {"torch": torch, "CUDA": CUDA, "y": torch.ones(4, 3)}
        names["x"], names["mask"] = torch.ones(4, 3, device=CUDA), torch.ones(4, 3, device=CUDA) > 0
        mode.traffic = Traffic()
        exec(code, names)
        return mode.traffic


@pytest.mark.parametrize(
    ("code", "copies", "reads", "strays"),
    [
        ("x * 2 + x.sum(); (x @ x.T)[0, 1:]; torch.zeros(2, device=CUDA)", 0, 0, 0),
        ("y.to(CUDA)", 1, 0, 0),
        ("torch.tensor([1, 2], device=CUDA)", 1, 0, 0),
        ("x.copy_(y)", 1, 0, 0),
        ("x.sum().item()", 0, 1, 0),
        ("int(x[0, 0])", 0, 1, 0),
        ("bool(mask.any())", 0, 1, 0),
        ("x.tolist()", 0, 1, 0),
        ("x.cpu()", 0, 1, 0),
        ("mask.nonzero()", 0, 1, 0),
        ("x[mask]", 0, 1, 0),
        ("x.masked_select(mask)", 0, 1, 0),
        ("x[:, 0].unique()", 0, 1, 0),
        ("mask.nonzero_static(size=5)", 0, 0, 0),
        ("x + y", 0, 0, 1),
        ("x[torch.arange(4)]", 0, 0, 1),
        ("x * torch.tensor(2.0)", 0, 0, 0),
        ("y.nonzero(); y.tolist(); y[y > 0]; int(y.sum())", 0, 0, 0),
    ],
)
def test_the_counts_are_those_of_a_device(code: str, copies: int, reads: int, strays: int) -> None:
    traffic = traffic_of(code)
    assert (len(traffic.copies), len(traffic.reads), len(traffic.strays)) == (copies, reads, strays)


def test_what_lies_on_the_cpu_has_its_values_and_gradients_lie_on_the_device() -> None:
    with within_fake_cuda():
        assert torch.arange(4).sum().item() == 6
        weight = nn.Parameter(torch.ones(3, device=CUDA))
        (weight * 2).sum().backward()
        assert weight.grad is not None and weight.grad.device == CUDA
