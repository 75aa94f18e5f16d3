"""GAN losses and gradient penalties, by hand and through a recurrent critic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.core import CoreSection
from pipeline.config.critic import CriticSection
from pipeline.models.gan.losses import CriticInput, critic_loss, critic_terms, generator_loss, gradient_penalty


def test_losses_of_both_players_by_hand() -> None:
    real, generated = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert critic_loss("hinge", real, generated) == pytest.approx((0 + 0.5) / 2 + (0 + 1.25) / 2)
    assert generator_loss("hinge", real, generated) == pytest.approx(-(-3.0 + 0.25) / 2)
    differences = np.array([-3.0 - 2.0, 0.25 - 0.5])
    assert critic_loss("relativistic", real, generated) == pytest.approx(np.log1p(np.exp(differences)).mean())
    assert generator_loss("relativistic", real, generated) == pytest.approx(np.log1p(np.exp(-differences)).mean())


def test_the_gradient_penalty_by_hand() -> None:
    x, w = torch.randn(4, 3, 2, requires_grad=True), torch.randn(3, 2)
    penalty = gradient_penalty((x * w).sum((1, 2)) + 7, x)
    assert penalty.item() == pytest.approx(0.5 * w.square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_gradient_penalty_passes_through_a_recurrent_critic(cell: Any) -> None:
    section = CriticSection(core=CoreSection(cell=cell, hidden=6), spectral_norm=False, hidden=12)
    critic = section.build(5, 0, 0).train()
    x, lengths, labels = torch.randn(3, 6, 5), torch.tensor([6, 6, 6]), torch.zeros(3, dtype=torch.int64)
    terms = critic_terms(
        "clip",
        "hinge",
        lambda side: [critic(side.sequences, lengths, labels)],
        CriticInput(x, None),
        CriticInput(x + 1, None),
        penalty_weight=1.0,
        penalty_share=1.0,
        draw=0.0,
        is_training=True,
        is_recurrent=True,
    )
    terms["clip_gradient_penalty"].backward()
    assert critic.core is not None
    assert all(p.grad is not None for name, p in critic.core.named_parameters() if "hh" in name)
