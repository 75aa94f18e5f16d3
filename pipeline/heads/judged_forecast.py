"""What comes next, judged: forecasts that a critic cannot tell from what came.

In and out as `Forecast`. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.heads.forecast import Forecast
from pipeline.models.adversary import Game, Side, critics_turn, generator_loss, held, verdict
from pipeline.models.critic import Critic
from pipeline.models.directions import Directions
from pipeline.models.film import grey
from pipeline.models.seen import Seen


class JudgedForecast(Forecast):
    """A forecast that learns by its error and by a critic (after Mathieu et al. 2016, arXiv 1511.05440).

    The least squared error is that of the mean of all that may come, which moves less than any of it. The critic sees the `context`
    values before and the `steps` values behind a place, real or foretold, so a forecast must also go on as real ones do.

    Args:
        critic: judges windows (N, context + steps, K). directions: the numbers that it sees. weight: of what it says, beside the error.
        game, gamma, penalty_share: as of `Generate`. more: of `Forecast`.
    """

    is_blind = False

    def __init__(
        self,
        *,
        critic: Critic,
        directions: Directions,
        weight: float,
        game: Game = "hinge",
        gamma: float = 0.0,
        penalty_share: float = 0.25,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.opponent = critic
        self.directions, self.weight = directions, weight
        self.game: Game = game
        self.gamma, self.penalty_share = gamma, penalty_share
        self.alone, self.is_playing = 0.0, True
        self._shown = torch.zeros(0, self.context + self.steps, 1)

    def fit(self, sequences: Iterable[Tensor]) -> None:
        """Before training: what the training values are like, each sequence (T, D)."""
        found = [s.float() for s in sequences]
        longest, needed = max(map(len, found), default=0), self.context + self.steps
        if longest < needed:
            raise ValueError(
                f"The longest row of the training part has {longest} steps, and a forecast with what is before it has {self.context} + "
                f"{self.steps}. Give longer rows, or a smaller context or steps."
            )
        self.directions.fit(found)

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """Of the forecast for the player "model", of the critic for the player of this head's name."""
        if player == self.name:
            with torch.no_grad():
                real, made = self._windows(seen)
            return self._critics_turn(real, made)
        terms = super().loss(seen, batch, player)
        real, made = self._windows(seen)
        with held(self._critic):
            said = self._said(made)
            with torch.no_grad():
                other = self._said(real)
        paid = generator_loss(self.game, other, said) if len(said) else made.sum()
        return {**terms, f"{self.name}_judged": self.weight * paid}

    def _windows(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """As many places as rows, drawn: what came before and behind each, real and foretold (N, context + steps, K)."""
        row, step, now, behind = self._where(seen)
        drawn = torch.randperm(len(row))[: len(seen.steps.lengths)].to(row.device)
        row, step, now, behind = (index[drawn] for index in (row, step, now, behind))
        values = self._values(seen)
        before = values[row[:, None], now[:, None] - torch.arange(self.context, device=row.device).flip(0)]
        point, _ = self.forecast(seen.steps.zeroed().data[row, step], values[row, now])
        real = torch.cat([before, values[row[:, None], behind]], dim=1)
        return self.directions(real), self.directions(torch.cat([before, point], dim=1))

    def _critics_turn(self, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        if not len(real):
            nothing = 0.0 * torch.stack([p.sum() for p in self._critic.parameters()]).sum()
            return {f"{self.name}_critic": nothing} | (
                {f"{self.name}_penalty": nothing} if self.gamma and self.training else {}
            )
        self._shown = torch.cat([torch.stack([r, m]) for r, m in zip(real[:4], made[:4], strict=True)])
        return critics_turn(
            self.name, self.game, lambda side: [self._said(side.sequences)], (Side(real.float(), None), Side(made.float(), None)),
            gamma=self.gamma, share=self.penalty_share, is_training=self.training, is_recurrent=self._critic.core is not None,
        )  # fmt: skip

    @property
    def _critic(self) -> Critic:
        assert isinstance(self.opponent, Critic)
        return self.opponent

    def _said(self, x: Tensor) -> Tensor:
        """The critic's scores (N,) of windows."""
        lengths = torch.full((len(x),), x.shape[1])
        return self._critic(x, lengths, torch.zeros(len(x), dtype=torch.int64, device=x.device))

    def verdict(self, means: Mapping[str, float]) -> str:
        """Why to go on makes no sense; empty while both players are in the game."""
        return verdict(self.name, self.game, means[f"loss/{self.name}_critic"])

    def picture(self, batch: Batch) -> np.ndarray:
        """Windows that were judged last, each real one above the same with what was foretold, as grey values: uint8 (H, W, 3)."""
        return grey(self._shown)
