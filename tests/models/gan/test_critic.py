"""The critic: it does not see padding, and spectral norm bounds all its layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.config.core import CoreSection
from pipeline.config.critic import CriticSection
from pipeline.padded import Padded


@pytest.mark.parametrize("core", [None, CoreSection(hidden=6), CoreSection(cell="lstm", hidden=6, bidirectional=True)])
def test_a_critic_does_not_see_padding(core: CoreSection | None) -> None:
    critic = CriticSection(core=core, hidden=12).build(5, 0, 2).eval()
    x, lengths, labels = torch.randn(3, 8, 5), torch.tensor([8, 3, 5]), torch.tensor([0, 1, 1])
    zeroed = Padded(x, lengths).zeroed().data
    short = [critic(zeroed[i : i + 1, : int(lengths[i])], lengths[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert torch.allclose(torch.cat(short), critic(zeroed, lengths, labels), atol=1e-5)
    score_of_nothing = critic(torch.zeros(1, 4, 5), torch.tensor([0]), labels[:1])
    assert float(score_of_nothing.abs()) < 100, "a sequence of length 0 has a usual score"


def test_spectral_norm_bounds_every_layer_of_the_critic() -> None:
    critic = CriticSection(hidden=12).build(5, 16, 2)
    critic.train()
    x, lengths, labels = torch.randn(2, 4, 5), torch.tensor([4, 4]), torch.tensor([0, 1])
    with torch.no_grad():
        for _ in range(60):
            critic(x, lengths, labels)
            critic.score_images(torch.randn(2, 3, 16, 16), labels)
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    largest = [float(torch.linalg.matrix_norm(m.weight.flatten(1), 2)) for m in layers]
    assert len(layers) > 8 and max(largest) < 1.1
