"""A head that forecasts a sequence: its next values, as numbers.

In: the output of the core (B, S, H) and the raw sequence (B, T, D). Out: the next K values, with quantiles. Knows
nothing of what the numbers mean, nor of how they were scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.heads.targets import NoTarget
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.quantile_loss import pinball
from pipeline.models.choices import Mode, Point
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Prediction, SeriesForecast
from pipeline.models.process_mean import mean_over_processes
from pipeline.models.recurrent.core import Core
from pipeline.padded import Padded, map_lengths

ForecastMemory = tuple[Tensor, Tensor, Tensor]
"""(last output of the core (B, H), last value (B, D), how many values there were (B,))."""


class Forecast(nn.Module):
    """The next `horizon` values after any step of the core.

    A step from which a forecast starts is its origin.

    Args:
        name: of the head.
        input_size: H.
        width: D of the raw sequence.
        horizon: K, in steps of the raw sequence.
        sense: which raw sequence.
        patch: steps of the raw sequence in one step of the core.
        context: the least number of values before an origin in training and evaluation.
        rate: steps of the raw sequence a second.
        mode: `direct` predicts all values at once, by a linear layer on the core's output. `recursive` predicts
            `segment_steps` values by that layer, feeds them to a GRU whose first state is the core's output, and
            repeats this up to the horizon. With segment_steps = horizon both are the same function.
        segment_steps: of the recursive mode; None is `patch`.
        subtract_last: the layer predicts the difference from the last value (after NLinear, Zeng et al. 2023, arXiv
            2205.13504), so that a shift of the series shifts the forecast without being learned.
        point: `mean` is trained by the squared error, `median` by the absolute error.
        quantiles: levels of further outputs, trained by the pinball loss. They are sorted, so that they never cross;
            sorting never raises that loss (Chernozhukov et al. 2010).
        dropout: on the core's output.
    """

    opponent: nn.Module | None
    is_per_step = False
    monitor = "skill"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        width: int,
        horizon: int,
        sense: str = "series",
        patch: int = 1,
        context: int = 1,
        rate: float = 1.0,
        mode: Mode = "direct",
        segment_steps: int | None = None,
        subtract_last: bool = True,
        point: Point = "mean",
        quantiles: Sequence[float] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.target = NoTarget()
        self.name, self.sense, self.width, self.horizon = name, sense, width, horizon
        self.patch, self.context, self.rate, self.subtract_last = patch, context, rate, subtract_last
        self.point: Point = point
        self.quantiles = tuple(quantiles)
        self.segment_steps = horizon if mode == "direct" else min(segment_steps or patch, horizon)
        self.dropout = nn.Dropout(dropout)
        self.output_layer = nn.Linear(input_size, self.segment_steps * width * (1 + len(self.quantiles)))
        is_one_segment = self.segment_steps >= horizon
        self.decoder_core = (
            None if is_one_segment else Core(cell="gru", input_size=self.segment_steps * width, hidden=input_size)
        )
        self.register_buffer("levels", torch.tensor(self.quantiles), persistent=False)

    def forecast(self, step_output: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the core (N, H), last values (N, D) -> points (N, K, D) and sorted quantiles (N, K, D, Q)."""
        state, base = step_output, last
        segments: list[Tensor] = []
        while True:
            changes = self.output_layer(self.dropout(state))
            changes = changes.unflatten(1, (self.segment_steps, self.width, 1 + len(self.quantiles)))
            segments.append(changes + base[:, None, :, None] if self.subtract_last else changes)
            if len(segments) * self.segment_steps >= self.horizon:
                break
            assert self.decoder_core is not None
            state, _ = self.decoder_core.step(changes[..., 0].flatten(1), (state[:, None],))
            base = segments[-1][:, -1, :, 0]
        values = torch.cat(segments, dim=1)[:, : self.horizon]
        return values[..., 0], values[..., 1:].sort(dim=-1).values

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """The mean error over all origins in the batch that have `context` values before them and `horizon` values
        after them; 0 without any.
        """
        step_output, last, target, _ = self._origins(output)
        point, quantiles = self.forecast(step_output, last)
        error = F.mse_loss if self.point == "mean" else F.l1_loss
        count = target.numel()
        terms = {self.name: mean_over_processes(error(point, target, reduction="sum"), count, self.training)}
        if self.quantiles:
            levels = self.get_buffer("levels")
            total = pinball(quantiles, target, levels).sum()
            terms[f"{self.name}_quantiles"] = mean_over_processes(total, count * len(levels), self.training)
        return terms

    def observe(self, output: CoreOutput, memory: ForecastMemory | None = None) -> ForecastMemory:
        """Keep the last output of the core and the last value. A window holds whole patches: an incomplete one at its
        end does not count.
        """
        values, steps = self._values(output), output.steps
        lengths = steps.device_lengths
        if memory is None:
            no_output = steps.data.new_zeros((len(lengths), steps.data.shape[2]))
            memory = no_output, values.new_zeros((len(lengths), self.width)), torch.zeros_like(lengths)
        if not min(steps.data.shape[1], values.shape[1]):
            return memory
        last_output, last_value, count = memory
        is_new = (lengths > 0)[:, None]
        new_value = Padded(values, map_lengths(steps.lengths, lambda n: n * self.patch)).last()
        return (
            torch.where(is_new, steps.last(), last_output),
            torch.where(is_new, new_value, last_value),
            count + lengths * self.patch,
        )

    @torch.no_grad()
    def answer(self, memory: ForecastMemory) -> list[Prediction]:
        """The next values of each row with their times in seconds; empty for a row without values."""
        step_output, last, counts = memory
        point, quantiles = (x.float().cpu() for x in self.forecast(step_output, last))
        ahead = np.arange(self.horizon)
        return [
            SeriesForecast(
                times=tuple(((count + ahead) / self.rate).tolist()),
                values=tuple(map(tuple, values.tolist())),
                quantiles={
                    level: tuple(map(tuple, row_quantiles[..., i].tolist())) for i, level in enumerate(self.quantiles)
                },
            )
            if count
            else SeriesForecast((), (), {})
            for values, row_quantiles, count in zip(point, quantiles, counts.tolist(), strict=True)
        ]

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[Tensor]:
        """For each sample sums over its origins and channels, (K, 5 + 2 Q): count, squared and absolute error, both of
        the last value repeated, then for each quantile the pinball loss, then for each quantile how many targets are at
        or below it.
        """
        step_output, last, target, row = self._origins(output)
        point, quantiles = self.forecast(step_output, last)
        naive = last[:, None] - target
        errors = [torch.ones_like(target), (point - target) ** 2, (point - target).abs(), naive**2, naive.abs()]
        values = torch.stack(errors, dim=-1)
        if self.quantiles:
            below = (target[..., None] <= quantiles).to(values.dtype)
            values = torch.cat([values, pinball(quantiles, target, self.get_buffer("levels")), below], dim=-1)
        sums = values.new_zeros((output.steps.data.shape[0], self.horizon, values.shape[-1]))
        return list(sums.index_add_(0, row, values.sum(2)).cpu())

    def metrics(self, results: Sequence[Tensor]) -> dict[str, Any]:
        """Errors over all forecasts of all samples, those of the last value repeated, and the share of the targets at
        or below each quantile. skill: 1 - error / error of the last value repeated, both squared (mean) or absolute
        (median). Raises ValueError where no sample was long enough.
        """
        by_step = torch.stack(list(results)).double().sum(0)  # (K, 5 + 2 Q)
        if not by_step[0, 0]:
            raise ValueError(
                f"No sequence is long enough to evaluate the head '{self.name}': it needs {self.context} steps before "
                f"a forecast and {self.horizon} after it. Give longer sequences, or lower the head's context or "
                "horizon."
            )
        means = by_step.sum(0) / by_step[:, 0].sum()
        names = ("mse", "mae", "repeat_last_mse", "repeat_last_mae")
        metrics: dict[str, Any] = {"count": int(by_step[0, 0]) // self.width}
        metrics |= {name: float(value) for name, value in zip(names, means[1:5], strict=True)}
        error = "mse" if self.point == "mean" else "mae"
        metrics["skill"] = 1.0 - metrics[error] / max(metrics[f"repeat_last_{error}"], 1e-12)
        metrics["mse_first_step"] = float(by_step[0, 1] / by_step[0, 0])
        metrics["mse_last_step"] = float(by_step[-1, 1] / by_step[-1, 0])
        if self.quantiles:
            losses, below = means[5:].chunk(2)
            metrics["pinball"] = float(losses.mean())
            metrics |= {f"below_{q:g}": float(b) for q, b in zip(self.quantiles, below, strict=True)}
        return metrics

    def confidence_interval(self, results: Sequence[Tensor], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the skill, resampled by group."""
        error = 1 if self.point == "mean" else 2
        sums = torch.stack(list(results)).double().sum(1)  # (N, 5 + 2 Q)
        low, high = ratio_interval(sums[:, error], sums[:, error + 2], groups, is_share=False)
        return 1.0 - high, 1.0 - low

    def _values(self, output: CoreOutput) -> Tensor:
        """(B, T, D) of the sense, with zeros in the padding. Truth is never rounded to half precision."""
        raw = output.raw[self.sense]
        if not raw.data.is_floating_point() or raw.data.ndim != 3:
            raise ValueError(
                f"The head '{self.name}' forecasts numbers (B, T, D), and '{self.sense}' is {raw.data.dtype} of shape "
                f"{tuple(raw.data.shape)}. Use stored features (data.read: features) or a series."
            )
        return raw.zeroed().data.to(torch.promote_types(output.steps.data.dtype, torch.float32))

    def _origins(self, output: CoreOutput) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All N origins: outputs of the core (N, H), last values (N, D), targets (N, K, D) and rows (N,)."""
        row, step, now, future = self._origin_indices(output)
        values, outputs = self._values(output), output.steps.zeroed().data
        return outputs[row, step], values[row, now], values[row[:, None], future], row

    def _origin_indices(self, output: CoreOutput) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All N origins: rows, steps of the core and steps of the raw sequence (N,), and the following K steps of the
        raw sequence (N, K).
        """
        steps, values = output.steps, output.raw[self.sense]
        count = int(self._are_origins(steps.data.shape[1], steps.lengths, values.lengths).sum())  # asks no device
        are_origins = self._are_origins(steps.data.shape[1], steps.device_lengths, values.device_lengths)
        row, step = are_origins.nonzero_static(size=count).unbind(1)
        now = (step + 1) * self.patch - 1
        return row, step, now, now[:, None] + 1 + torch.arange(self.horizon, device=now.device)

    def _are_origins(self, num_steps: int, lengths: Tensor, num_values: Tensor) -> Tensor:
        """(B, T) bool: the steps with a whole context and a whole future. lengths and num_values: (B,), of the core's
        outputs and of the raw sequence.
        """
        last = (torch.arange(num_steps, device=lengths.device) + 1) * self.patch - 1  # that the output depends on
        has_context, has_future = last >= self.context - 1, last + self.horizon < num_values[:, None]
        return has_context & has_future & (last < lengths[:, None] * self.patch)
