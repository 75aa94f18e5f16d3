"""What comes next: the following steps of a sequence, as numbers.

In: what the core has seen (B, S, H) and the raw sequence that it saw (B, T, D). Out: the next K steps, with quantiles.
Knows nothing of what the numbers mean, nor of how they were scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.quantile import pinball
from pipeline.models.core import Core
from pipeline.models.prediction import Prediction, SeriesForecast
from pipeline.models.seen import Seen

Mode = Literal["direct", "recursive"]
Point = Literal["mean", "median"]
Memory = tuple[Tensor, Tensor, Tensor]
"""(last output of the core (B, H), last value seen (B, D), how many values were seen (B,))."""


class Forecast(nn.Module):
    """The next `steps` values after any step of the core.

    mode: `direct` gives all steps at once, by a linear layer on the core's output. `recursive` gives `segment` steps by
    that layer, hands its own output to a GRU whose state began as the core's output, and goes on so to the end: with
    segment = steps both are the same function.
    from_last: the layer gives the change from the last value that was seen (after NLinear, Zeng et al. 2023,
    arXiv 2205.13504), so that a shifted level shifts the forecast and needs no learning.
    point: `mean` learns by the squared error, `median` by the absolute one. quantiles: further outputs by the pinball loss;
    they are sorted, so they never cross, and sorting never raises that loss (Chernozhukov et al. 2010).

    Args:
        name: of the head. input_size: H. width: D of the raw sequence. steps: K, in steps of the raw sequence.
        sense: which raw sequence. patch: its steps per step of the core. context: no forecast is learnt or judged from
        fewer values. rate: raw steps a second. segment: of the recursive mode; patch by default. dropout: on the
        core's output.
    """

    opponent: nn.Module | None
    stepwise = False
    watched = "skill"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        width: int,
        steps: int,
        sense: str = "series",
        patch: int = 1,
        context: int = 1,
        rate: float = 1.0,
        mode: Mode = "direct",
        segment: int | None = None,
        from_last: bool = True,
        point: Point = "mean",
        quantiles: Sequence[float] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.name, self.sense, self.width, self.steps = name, sense, width, steps
        self.patch, self.context, self.rate, self.from_last = patch, context, rate, from_last
        self.point: Point = point
        self.quantiles = tuple(quantiles)
        self.segment = steps if mode == "direct" else min(segment or patch, steps)
        self.dropout = nn.Dropout(dropout)
        self.change = nn.Linear(input_size, self.segment * width * (1 + len(self.quantiles)))
        is_one = self.segment >= steps
        self.again = None if is_one else Core(cell="gru", input_size=self.segment * width, hidden=input_size)
        self.register_buffer("levels", torch.tensor(self.quantiles), persistent=False)

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """Nothing to be looked up: the truth is the sequence itself. A placeholder, so that every row has a target."""
        return torch.zeros(())

    def forecast(self, output: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the core (N, H), last values (N, D) -> the point (N, K, D) and the quantiles (N, K, D, Q), rising."""
        state, anchor = output, last
        parts: list[Tensor] = []
        while True:
            part = self.change(self.dropout(state)).unflatten(1, (self.segment, self.width, 1 + len(self.quantiles)))
            ahead = part[..., 0]
            parts.append(part + anchor[:, None, :, None] if self.from_last else part)
            if len(parts) * self.segment >= self.steps:
                break
            assert self.again is not None
            state, _ = self.again.step(ahead.flatten(1), (state[:, None],))
            anchor = parts[-1][:, -1, :, 0]
        whole = torch.cat(parts, dim=1)[:, : self.steps]
        return whole[..., 0], whole[..., 1:].sort(dim=-1).values

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """The error over all places of the batch with `context` values before and `steps` values behind; 0 without any."""
        output, last, truth, _ = self._places(seen)
        point, quantiles = self.forecast(output, last)
        error = F.mse_loss if self.point == "mean" else F.l1_loss
        count = max(1, truth.numel())
        terms = {self.name: error(point, truth, reduction="sum") / count}
        if self.quantiles:
            levels = self.get_buffer("levels")
            terms[f"{self.name}_quantiles"] = pinball(quantiles, truth, levels).sum() / (count * len(levels))
        return terms

    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """Keep where the row stands now. A window holds whole patches; what is left at its end was not seen."""
        values, lengths = self._values(seen), seen.steps.lengths.to(seen.steps.data.device)
        if memory is None:
            nothing = seen.steps.data.new_zeros((len(lengths), seen.steps.data.shape[2]))
            memory = nothing, values.new_zeros((len(lengths), self.width)), torch.zeros_like(lengths)
        if not min(seen.steps.data.shape[1], values.shape[1]):
            return memory
        output, last, count = memory
        row = torch.arange(len(lengths), device=lengths.device)
        is_new = (lengths > 0)[:, None]
        now = seen.steps.data[row, (lengths - 1).clamp(min=0)]
        value = values[row, (lengths * self.patch - 1).clamp(min=0)]
        return torch.where(is_new, now, output), torch.where(is_new, value, last), count + lengths * self.patch

    @torch.no_grad()
    def answer(self, memory: Memory) -> list[Prediction]:
        """The next steps of each row, at their seconds; none where nothing was seen."""
        output, last, count = memory
        point, quantiles = (x.float().cpu() for x in self.forecast(output, last))
        ahead = np.arange(self.steps)
        return [
            SeriesForecast(
                times=tuple(((seen + ahead) / self.rate).tolist()),
                values=tuple(map(tuple, p.tolist())),
                quantiles={level: tuple(map(tuple, q[..., i].tolist())) for i, level in enumerate(self.quantiles)},
            )
            if seen
            else SeriesForecast((), (), {})
            for p, q, seen in zip(point, quantiles, count.tolist(), strict=True)
        ]

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Tensor]:
        """For each sample sums over its places and values, (K, 5 + 2 Q): count, squared and absolute error, both of
        the last value repeated, then for each quantile the pinball loss and how many truths lie at or below it.
        """
        output, last, truth, row = self._places(seen)
        point, quantiles = self.forecast(output, last)
        repeated = last[:, None] - truth
        kinds = [torch.ones_like(truth), (point - truth) ** 2, (point - truth).abs(), repeated**2, repeated.abs()]
        each = torch.stack(kinds, dim=-1)
        if self.quantiles:
            below = (truth[..., None] <= quantiles).to(each.dtype)
            each = torch.cat([each, pinball(quantiles, truth, self.get_buffer("levels")), below], dim=-1)
        sums = each.new_zeros((seen.steps.data.shape[0], self.steps, each.shape[-1]))
        return list(sums.index_add_(0, row, each.sum(2)).cpu())

    def metrics(self, evidence: Sequence[Tensor]) -> dict[str, Any]:
        """Errors over all forecasts of all samples, those of the last value repeated beside them, and how much of the
        truth lies below each quantile. skill: 1 - error / error of the last value repeated, in the point's own error.
        Raises ValueError where no sample was long enough.
        """
        by_step = torch.stack(list(evidence)).double().sum(0)  # (K, 5 + 2 Q)
        if not by_step[0, 0]:
            raise ValueError(
                f"No sequence holds a forecast for '{self.name}' to be judged by: it needs {self.context} steps before and "
                f"{self.steps} behind. Give longer sequences, or lower the head's context or steps."
            )
        means = by_step.sum(0) / by_step[:, 0].sum()
        names = ("mse", "mae", "repeat_last_mse", "repeat_last_mae")
        found: dict[str, Any] = {"count": int(by_step[0, 0]) // self.width}
        found |= {name: float(value) for name, value in zip(names, means[1:5], strict=True)}
        error = "mse" if self.point == "mean" else "mae"
        found["skill"] = 1.0 - found[error] / max(found[f"repeat_last_{error}"], 1e-12)
        found |= {"mse_first_step": float(by_step[0, 1] / by_step[0, 0])}
        found |= {"mse_last_step": float(by_step[-1, 1] / by_step[-1, 0])}
        if self.quantiles:
            losses, below = means[5:].chunk(2)
            found["pinball"] = float(losses.mean())
            found |= {f"below_{q:g}": float(b) for q, b in zip(self.quantiles, below, strict=True)}
        return found

    def interval(self, evidence: Sequence[Tensor], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the skill, drawn by groups."""
        error = 1 if self.point == "mean" else 2
        sums = torch.stack(list(evidence)).double().sum(1)  # (N, 5 + 2 Q)
        low, high = ratio_interval(sums[:, error], sums[:, error + 2], groups)
        return 1.0 - high, 1.0 - low

    def _values(self, seen: Seen) -> Tensor:
        """(B, T, D) of the sense, without its padding's garbage."""
        raw = seen.raw[self.sense]
        if not raw.data.is_floating_point() or raw.data.ndim != 3:
            raise ValueError(
                f"The head '{self.name}' forecasts numbers (B, T, D), and '{self.sense}' is {raw.data.dtype} of shape "
                f"{tuple(raw.data.shape)}. Use stored features (data.read: features) or a series."
            )
        return raw.zeroed().data.to(seen.steps.data.dtype)

    def _places(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All places to forecast from: outputs (N, H), last values (N, D), truths (N, K, D) and rows (N,)."""
        row, step, now, behind = self._where(seen)
        values, outputs = self._values(seen), seen.steps.zeroed().data
        return outputs[row, step], values[row, now], values[row[:, None], behind], row

    def _where(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All places to forecast from: rows, steps of the core and of the values (N,), and the values' steps behind (N, K)."""
        outputs = seen.steps.data
        at = (torch.arange(outputs.shape[1]) + 1) * self.patch - 1  # the value that each output has seen last
        known = seen.raw[self.sense].lengths[:, None]  # on the CPU, as all lengths: no device waits for this
        fits = (at >= self.context - 1) & (at + self.steps < known) & (at < seen.steps.lengths[:, None] * self.patch)
        row, step = fits.nonzero(as_tuple=True)
        behind = at[step][:, None] + 1 + torch.arange(self.steps)
        row, step, now, behind = (index.to(outputs.device) for index in (row, step, at[step], behind))
        return row, step, now, behind
