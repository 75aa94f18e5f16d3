"""The head that generates features: its cores, its two players, the moving average, and its results."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_generate import features_batch, features_head, features_model

import pipeline.models.recurrent.core as core_file
from pipeline.config.core import CoreSection
from pipeline.config.critic import CriticSection
from pipeline.models.gan.critic import Critic
from pipeline.models.recurrent.core import Core


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn_tanh", "mingru"])
def test_generator_critic_and_recogniser_have_instances_of_one_core_class(cell: Any) -> None:
    critic = CriticSection(core=CoreSection(cell=cell, hidden=9, bidirectional=True))
    model = features_model(core=CoreSection(cell=cell, hidden=7), critic=critic)
    head = features_head(model)
    assert isinstance(head.opponent, Critic)
    cores = [model.core, head.generator.core, head.opponent.core]
    assert [type(core) for core in cores] == [Core, Core, Core]
    assert [core.hidden for core in cores if isinstance(core, Core)] == [8, 7, 9]


def test_the_core_class_knows_nothing_of_generators_and_critics() -> None:
    tree = ast.parse(inspect.getsource(core_file))
    names = {node.id.lower() for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not any(word in name for name in names for word in ("generat", "critic", "adversar", "codes", "condition"))
    imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not any(word in name for name in imports for word in ("gan", "generat", "critic", "adversar", "heads"))


def test_without_a_core_of_its_own_a_head_generates_by_one_like_the_models() -> None:
    assert features_head(features_model()).generator.core.hidden == 8


def test_in_training_the_critic_sees_later_windows_as_well() -> None:
    model = features_model(max_skip=3)
    model.train()
    lengths = set()
    generator = features_head(model).generator
    generator.register_forward_hook(lambda module, inputs, output: lengths.add(inputs[0].motion.shape[1]))
    for seed in range(30):
        torch.manual_seed(seed)
        assert model(features_batch(), "model")[0]["clip"].isfinite()
    assert lengths == {6, 12, 18, 24}


def test_players_share_no_weight_and_together_have_all_but_the_average() -> None:
    model = features_model()
    players = model.players()
    assert set(players) == {"model", "clip"}
    of_model, of_critic = ({id(p) for p in players[name]} for name in ("model", "clip"))
    assert not of_model & of_critic
    averaged = {id(p) for p in features_head(model).average.parameters()}
    assert of_model | of_critic | averaged == {id(p) for p in model.parameters()}
    assert not (of_model | of_critic) & averaged


@pytest.mark.parametrize(
    "settings",
    [
        {"gan_loss": "hinge"},
        {"gan_loss": "relativistic", "gradient_penalty": 1.0, "gradient_penalty_share": 1.0},
    ],
)
def test_each_player_trains_only_its_own_weights(settings: Any) -> None:
    model = features_model(**settings)
    model.train()
    players, terms = model.players(), {}
    for player, other in (("model", "clip"), ("clip", "model")):
        model.zero_grad(set_to_none=True)
        terms, _ = model(features_batch(), player)
        torch.stack(list(terms.values())).sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in players[player])
        assert all(p.grad is None for p in players[other])
        assert ("action" in terms) == (player == "model"), "the classifier beside it learns once, not twice"
    has_penalty = "gradient_penalty" in settings
    assert set(terms) == {"clip_critic"} | ({"clip_gradient_penalty"} if has_penalty else set())


def test_results_of_the_same_rows_are_the_same_and_those_of_others_are_no_copies() -> None:
    model = features_model().eval()
    head, batch = features_head(model), features_batch()
    output = model.watch(batch.raw)
    first, again, other = (
        [pair.generated for pair in head.results(output, replace(batch, sources=names))]
        for names in ("abc", "abc", "def")
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.allclose(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("ema_decay", [0.9, 0.25])
def test_the_moving_average_follows_its_rule(ema_decay: float) -> None:
    model = features_model(ema_decay=ema_decay)
    head = features_head(model)
    weight, average = head.generator.condition.to_state.weight, head.average.module.condition.to_state.weight
    model.train()
    expected: Tensor | None = None
    for count in range(12):
        now = weight.detach().clone()
        kept = min(ema_decay, (1 + count) / (10 + count))
        expected = now if expected is None else kept * expected + (1 - kept) * now
        head.loss(model.watch(features_batch().raw), features_batch(), "model")
        with torch.no_grad():
            weight.add_(1.0)
    assert expected is not None
    assert torch.allclose(average, expected, atol=1e-6)
    model.eval()
    head.loss(model.watch(features_batch().raw), features_batch(), "model")
    assert torch.allclose(average, expected, atol=1e-6), "a loss outside training changes nothing"


def test_a_stop_reason_says_which_player_failed_and_what_to_do() -> None:
    head = features_head(features_model())
    assert head.stop_reason({"loss/clip_critic": 1.2}) == ""
    won = head.stop_reason({"loss/clip_critic": 0.001})
    assert "has won: its loss is 0.0010, below 0.02" in won and "Lower training.critic_lr_factor" in won
    assert "has lost: its loss is 5.00, above 4" in head.stop_reason({"loss/clip_critic": 5.0})
