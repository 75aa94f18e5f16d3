"""The optimizer of a player: its schedule, clipping, weight decay, and values that are not finite."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn
from toy_training import state_bytes

from pipeline.training.optimizer import PlayerOptimizer, schedule


def test_the_schedule_rises_linearly_and_falls_to_zero() -> None:
    factors = [schedule(step, 200, 0.1) for step in range(200)]
    assert factors[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert factors[20] == 1.0 and all(a > b for a, b in itertools.pairwise(factors[20:]))
    assert factors[110] == pytest.approx(0.5) and 0 < factors[-1] < 1e-3
    assert schedule(0, 100, 0.0) == 1.0 and schedule(0, 1, 0.5) == 1.0


def test_a_restart_gives_two_cycles() -> None:
    factors = [schedule(step, 200, 0.1, 80) for step in range(200)]
    assert factors == [schedule(s, 80, 0.1) for s in range(80)] + [schedule(s, 120, 0.1) for s in range(120)]


class TwoLayers(nn.Module):
    """A layer that counts as the CNN, and a layer with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2, 2)


def squares(model: nn.Module) -> torch.Tensor:
    return torch.stack([p.square().sum() for p in model.parameters()]).sum()


def make_optimizer(model: nn.Module) -> PlayerOptimizer:
    return PlayerOptimizer(
        model,
        model.parameters(),
        lr=0.1,
        backbone_lr_factor=0.5,
        weight_decay=0.3,
        warmup=0.0,
        grad_clip=1.0,
        total_steps=10,
    )


def test_gradients_are_clipped_and_the_norm_before_clipping_is_returned() -> None:
    model = TwoLayers()
    loss: Any = 1e4 * sum(p.sum() for p in model.parameters())
    norms, _ = make_optimizer(model).step(loss, 0)
    assert float(norms["grad_norm"]) == pytest.approx(1e4 * math.sqrt(10), rel=1e-5)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert float(gradient.norm()) == pytest.approx(1.0, rel=1e-4)


def test_weights_decay_and_biases_do_not_and_the_backbone_has_a_smaller_learning_rate() -> None:
    model = TwoLayers()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    loss: Any = sum(0.0 * p.sum() for p in model.parameters())
    make_optimizer(model).step(loss, 0)
    after = dict(model.named_parameters())
    assert torch.equal(after["head.bias"], before["head.bias"])
    assert torch.allclose(after["head.weight"], before["head.weight"] * (1 - 0.1 * 0.3))
    assert torch.allclose(after["backbone.weight"], before["backbone.weight"] * (1 - 0.05 * 0.3))


def test_the_numbers_of_the_cnn_have_keys_of_their_own() -> None:
    model = TwoLayers()
    loss: Any = 3.0 * model.backbone.weight.sum() + 4.0 * model.head.bias.sum()
    norms, rates = make_optimizer(model).step(loss, 0)
    assert (rates["lr"], rates["backbone_lr"]) == pytest.approx((0.1, 0.05))
    assert float(norms["backbone_grad_norm"]) == pytest.approx(3 * math.sqrt(4), rel=1e-5)
    assert float(norms["grad_norm"]) == pytest.approx(math.sqrt(9 * 4 + 16 * 2), rel=1e-5)


@pytest.mark.parametrize("name", ["loss", "norm of the gradient"])
def test_a_loss_or_gradient_that_is_not_finite_changes_no_weight(name: str) -> None:
    model = TwoLayers()
    before = state_bytes(model)
    total: Any = sum(p.sum() for p in model.parameters())
    loss = total * math.nan if name == "loss" else (0.0 * total).sqrt()
    optimizer = make_optimizer(model)
    optimizer.step(loss, 7)
    optimizer.step(squares(model), 8)  # finite, and too late
    assert state_bytes(model) == before
    with pytest.raises(
        FloatingPointError, match=rf"The {name} is nan at step 7\..*Lower training.lr or training.grad_clip"
    ):
        optimizer.check()


def test_finite_steps_pass_the_check() -> None:
    model = TwoLayers()
    optimizer, before = make_optimizer(model), state_bytes(model)
    optimizer.check()
    for step in range(3):
        optimizer.step(squares(model), step)
    optimizer.check()
    assert state_bytes(model) != before, "the steps were made"
