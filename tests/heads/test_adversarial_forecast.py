"""A forecast with a critic: which term trains which weights, what the critic sees, and that forecasts move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.architecture import Architecture
from pipeline.config.base import ConfigError, validate
from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.adversarial_forecast import AdversarialForecast
from pipeline.heads.forecast import Forecast
from pipeline.models.head import AdversarialHead
from pipeline.models.model import Model
from pipeline.padded import Padded


def make_model(width: int = 4, **adversarial: Any) -> Model:
    torch.manual_seed(0)
    settings = {
        "encoder": {"kind": "series", "project": 0, "normalise": "none", "dropout": 0},
        "core": {"hidden": 16, "input_dropout": 0},
        "heads": {"next": {"kind": "forecast", "horizon": 3, "context": 2, "adversarial": adversarial}},
    }
    return validate(Architecture, settings, "x").build({"next": Vocabulary(())}, input_size=width).train()


def head_of(model: Model) -> AdversarialForecast:
    head = model.head("next")
    assert isinstance(head, AdversarialForecast)
    return head


def make_batch(lengths: tuple[int, ...] = (9, 5, 7), width: int = 4) -> Batch:
    x = torch.randn(len(lengths), max(lengths), width).cumsum(1)
    return Batch(
        {"series": Padded(x, torch.tensor(lengths))}, {"next": torch.zeros(len(lengths))}, ("x",) * len(lengths)
    )


def test_only_a_forecast_with_a_critic_has_two_players_and_it_needs_the_core() -> None:
    model = make_model()
    assert isinstance(head_of(model), AdversarialHead) and not head_of(model).skips_core
    settings = {"encoder": {"kind": "series"}, "heads": {"next": {"kind": "forecast", "horizon": 3}}}
    plain = validate(Architecture, settings, "x").build({"next": Vocabulary(())}, input_size=4)
    assert isinstance(plain.head("next"), Forecast) and not isinstance(plain.head("next"), AdversarialHead)
    assert set(plain.players()) == {"model"} and set(model.players()) == {"model", "next"}


@pytest.mark.parametrize(
    "adversarial",
    [
        {},
        {"gan_loss": "relativistic", "gradient_penalty": 1.0, "critic": {"spectral_norm": False}},
        {"pca_components": 2},
    ],
)
def test_each_player_trains_its_own_weights(adversarial: Any) -> None:
    model = make_model(**adversarial)
    players = model.players()
    has_penalty = "gradient_penalty" in adversarial
    wanted = {
        "model": {"next", "next_adversarial"},
        "next": {"next_critic"} | ({"next_gradient_penalty"} if has_penalty else set()),
    }
    for player, other in (("model", "next"), ("next", "model")):
        model.zero_grad(set_to_none=True)
        terms, _ = model(make_batch(), player)
        assert set(terms) == wanted[player]
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None for p in players[other])
        has_gradient = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in players[player]]
        assert sum(has_gradient) > 0.8 * len(has_gradient)


def test_the_critic_sees_the_values_before_and_behind_a_place() -> None:
    model, batch = make_model(), make_batch((9,))
    head = head_of(model)
    output = model.watch(batch.raw)
    x = batch.raw["series"].data[0]
    for seed in range(8):
        torch.manual_seed(seed)
        real, forecast = head._windows(output)
        assert real.shape == forecast.shape == (1, 5, 4)
        places = [t for t in range(1, 6) if torch.equal(real[0], x[t - 1 : t + 4])]
        assert len(places) == 1, "a real window is a piece of the row"
        assert torch.equal(forecast[0, :2], real[0, :2])
        point, _ = head.forecast(output.steps.data[:1, places[0]], x[None, places[0]])
        assert torch.allclose(forecast[0, 2:], point[0], atol=1e-6)


def test_training_rows_that_are_all_too_short_are_refused() -> None:
    head = head_of(make_model())
    head.fit_sequences([torch.randn(5, 4), torch.randn(2, 4)])
    with pytest.raises(ValueError, match=r"The longest row of the training part has 4 steps, .* 2 \+ 3"):
        head.fit_sequences([torch.randn(4, 4), torch.randn(2, 4)])
    with pytest.raises(ValueError, match="Sequence 1 of the training part .* not finite"):
        head.fit_sequences([torch.randn(9, 4), torch.full((9, 4), torch.nan)])


def test_a_batch_of_rows_that_are_too_short_costs_nothing() -> None:
    model = make_model(gradient_penalty=1.0)
    of_critic = {"next_critic", "next_gradient_penalty"}
    for player, wanted in (("model", {"next", "next_adversarial"}), ("next", of_critic)):
        terms, _ = model(make_batch((4, 2)), player)
        assert set(terms) == wanted, "the terms of a process that has windows: the means of both are averaged"
        assert all(float(value.detach()) == 0 for value in terms.values())
        torch.stack(list(terms.values())).sum().backward()


def test_the_preview_shows_the_last_windows_of_the_critic() -> None:
    model = make_model(width=4)
    head = head_of(model)
    assert head.preview(make_batch()).shape == (0, 1, 3)
    model(make_batch(), "next")
    image = head.preview(make_batch())
    assert image.shape == (2 * 3 * 5, 4, 3) and image.dtype == np.uint8
    assert (image[:2] == image[5:7]).all() and not (image[2:5] == image[7:10]).all()


def test_stop_reasons_and_a_critic_that_nothing_bounds() -> None:
    head = head_of(make_model())
    assert head.stop_reason({"loss/next_critic": 1.0}) == ""
    assert "has won" in head.stop_reason({"loss/next_critic": 0.0})
    with pytest.raises(ConfigError, match="nothing bounds the critic's gradient; set critic.spectral_norm: true, or"):
        make_model(critic={"spectral_norm": False})


def test_with_a_critic_forecasts_of_unpredictable_steps_still_move() -> None:
    """Steps have independent signs, so the mean of the future does not move."""

    def draw_batch(count: int = 16) -> Batch:
        x = (torch.randint(0, 2, (count, 12, 2)) * 2.0 - 1.0).cumsum(1)
        return Batch({"series": Padded(x, torch.full((count,), 12))}, {"next": torch.zeros(count)}, ("x",) * count)

    motion = {}
    for weight in (1e-6, 1.0):
        model = make_model(width=2, weight=weight)
        optimizers = {p: torch.optim.Adam(w, 5e-3, betas=(0.5, 0.99)) for p, w in model.players().items()}
        for _ in range(100):
            for player, optimizer in optimizers.items():
                optimizer.zero_grad()
                torch.stack(list(model(draw_batch(), player)[0].values())).sum().backward()
                optimizer.step()
        head = head_of(model.eval())
        with torch.no_grad():
            _, forecast = head._windows(model.watch(draw_batch().raw))
        motion[weight] = float(forecast[:, 1:].diff(dim=1).square().mean())
    assert motion[1e-6] < 0.1 and motion[1.0] > 5 * motion[1e-6]
