"""A forecast with a critic: who learns by what, what the critic sees, and that it makes forecasts move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import ConfigError
from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.forecast import Forecast
from pipeline.heads.generate import Generate
from pipeline.heads.judged_forecast import JudgedForecast
from pipeline.models.head import Contest
from pipeline.models.model import Model
from pipeline.padded import Padded
from pipeline.recipe import Recipe
from pipeline.section import validate


def model(width: int = 4, **adversary: Any) -> Model:
    torch.manual_seed(0)
    settings = {
        "encoder": {"kind": "series", "project": 0, "normalise": "none", "dropout": 0},
        "core": {"hidden": 16, "input_dropout": 0},
        "heads": {"next": {"kind": "forecast", "steps": 3, "context": 2, "adversary": adversary}},
    }
    return validate(Recipe, settings, "x").build({"next": Vocabulary(())}, input_size=width).train()


def batch(lengths: tuple[int, ...] = (9, 5, 7), width: int = 4) -> Batch:
    x = torch.randn(len(lengths), max(lengths), width).cumsum(1)
    return Batch(
        {"series": Padded(x, torch.tensor(lengths))}, {"next": torch.zeros(len(lengths))}, ("x",) * len(lengths)
    )


def test_only_one_with_a_critic_has_two_players_and_it_is_not_blind() -> None:
    head = model().head("next")
    assert isinstance(head, JudgedForecast) and isinstance(head, Contest) and not head.is_blind
    plain = validate(
        Recipe, {"encoder": {"kind": "series"}, "heads": {"next": {"kind": "forecast", "steps": 3}}}, "x"
    ).build({"next": Vocabulary(())}, input_size=4)
    assert isinstance(plain.head("next"), Forecast) and not isinstance(plain.head("next"), Contest | Generate)
    assert set(plain.players()) == {"model"} and set(model().players()) == {"model", "next"}


@pytest.mark.parametrize(
    "adversary", [{}, {"game": "relativistic", "penalty": 1.0, "critic": {"spectral": False}}, {"directions": 2}]
)
def test_each_player_moves_its_own_weights(adversary: Any) -> None:
    one = model(**adversary)
    players = one.players()
    wanted = {
        "model": {"next", "next_judged"},
        "next": {"next_critic"} | ({"next_penalty"} if "penalty" in adversary else set()),
    }
    for player, other in (("model", "next"), ("next", "model")):
        one.zero_grad(set_to_none=True)
        terms, _ = one(batch(), player)
        assert set(terms) == wanted[player]
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None for p in players[other])
        assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in players[player]) > 0.8 * len(
            players[player]
        )


def test_the_critic_sees_the_values_before_and_behind_a_place() -> None:
    one, given = model(), batch((9,))
    head = one.head("next")
    assert isinstance(head, JudgedForecast)
    seen = one.watch(given.raw)
    x = given.raw["series"].data[0]
    for seed in range(8):
        torch.manual_seed(seed)
        real, made = head._windows(seen)
        assert real.shape == made.shape == (1, 5, 4)
        places = [t for t in range(1, 6) if torch.equal(real[0], x[t - 1 : t + 4])]
        assert len(places) == 1, "a real window is a piece of the row"
        assert torch.equal(made[0, :2], real[0, :2])
        point, _ = head.forecast(seen.steps.data[:1, places[0]], x[None, places[0]])
        assert torch.allclose(made[0, 2:], point[0], atol=1e-6)


def test_a_training_part_of_short_rows_is_refused() -> None:
    head = model().head("next")
    assert isinstance(head, JudgedForecast)
    head.fit([torch.randn(5, 4), torch.randn(2, 4)])
    with pytest.raises(ValueError, match=r"The longest row of the training part has 4 steps, .* 2 \+ 3"):
        head.fit([torch.randn(4, 4), torch.randn(2, 4)])
    with pytest.raises(ValueError, match="Sequence 1 of the training part .* not finite"):
        head.fit([torch.randn(9, 4), torch.full((9, 4), torch.nan)])


def test_rows_too_short_to_judge_cost_nothing() -> None:
    one = model(penalty=1.0)
    for player, wanted in (("model", {"next", "next_judged"}), ("next", {"next_critic", "next_penalty"})):
        terms, _ = one(batch((4, 2)), player)
        assert set(terms) == wanted, "the same as of a process that has windows: their means are taken together"
        assert all(float(value.detach()) == 0 for value in terms.values())
        torch.stack(list(terms.values())).sum().backward()


def test_what_it_shows_are_the_windows_judged_last() -> None:
    one = model(width=4)
    head = one.head("next")
    assert isinstance(head, JudgedForecast)
    assert head.picture(batch()).shape == (0, 1, 3)
    one(batch(), "next")
    found = head.picture(batch())
    assert found.shape == (2 * 3 * 5, 4, 3) and found.dtype == np.uint8
    assert (found[:2] == found[5:7]).all() and not (found[2:5] == found[7:10]).all()


def test_verdicts_and_a_critic_that_nothing_holds() -> None:
    head = model().head("next")
    assert isinstance(head, JudgedForecast)
    assert head.verdict({"loss/next_critic": 1.0}) == "" and "has won" in head.verdict({"loss/next_critic": 0.0})
    with pytest.raises(ConfigError, match="nothing holds the critic"):
        model(critic={"spectral": False})


def test_with_a_critic_forecasts_of_what_nobody_can_know_still_move() -> None:
    """Steps of independent signs: the mean of what may come is to stand still."""

    def rows(count: int = 16) -> Batch:
        x = (torch.randint(0, 2, (count, 12, 2)) * 2.0 - 1.0).cumsum(1)
        return Batch({"series": Padded(x, torch.full((count,), 12))}, {"next": torch.zeros(count)}, ("x",) * count)

    moved = {}
    for weight in (1e-6, 1.0):
        one = model(width=2, weight=weight)
        movers = {p: torch.optim.Adam(w, 5e-3, betas=(0.5, 0.99)) for p, w in one.players().items()}
        for _ in range(100):
            for player, mover in movers.items():
                mover.zero_grad()
                torch.stack(list(one(rows(), player)[0].values())).sum().backward()
                mover.step()
        head = one.eval().head("next")
        assert isinstance(head, JudgedForecast)
        with torch.no_grad():
            _, made = head._windows(one.watch(rows().raw))
        moved[weight] = float(made[:, 1:].diff(dim=1).square().mean())
    assert moved[1e-6] < 0.1 and moved[1.0] > 5 * moved[1e-6]
