"""Marginals of a CRF with a fixed lag: the posterior of a step's label, given all steps up to a fixed lag after it.

In: the emissions of one window after another, and a memory. Out: posteriors of the steps that have left the lag, and a
memory of the same size. `fixed_lag` decodes the labels to which these posteriors belong. Knows nothing of videos or
names.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.crf.crf import CRF


class MarginalsMemory(NamedTuple):
    """What is kept between windows.

    predicted: (B, C), log sum_a alpha_{t-1}(a) * exp(transitions[a, b]) up to a constant per row, with t the oldest
    pending step: log alpha_t without the emission of t.
    emissions: (B, lag + 1, C) of the last steps; the newest one is the last.
    num_steps: () int64 on the CPU, steps so far.
    """

    predicted: Tensor
    emissions: Tensor
    num_steps: Tensor


class FixedLagMarginals:
    """p(y_t | x_1 .. x_{t + lag}) for every t: fixed-lag smoothing.

    alpha_t (see `forward_backward`) runs forward over the whole sequence. beta_t runs backward over the lag only, from
    beta_{t + lag} = 1, or from exp(end) at the end of the sequence (Rabiner 1989, section III.B, over a window). Both
    are in log space. With a lag of the whole length the result is `CRF.marginals`. The way a sequence is cut into
    windows changes nothing. All rows have the same length. As in `CRF.marginals`, a minimum duration is ignored.
    """

    def __init__(self, crf: CRF, lag: int) -> None:
        assert lag >= 0, "FixedLagViterbi has checked the lag"
        self.crf, self.lag = crf, lag

    def begin(self, batch: int) -> MarginalsMemory:
        """The memory before the first step."""
        start = self._scores()[1]
        emissions = start.new_zeros((batch, self.lag + 1, len(start)))
        return MarginalsMemory(start.expand(batch, -1), emissions, torch.tensor(0))

    @torch.no_grad()
    def observe(self, memory: MarginalsMemory, emissions: Tensor) -> tuple[MarginalsMemory, Tensor]:
        """Process a window. emissions: (B, T, C).

        Returns the memory and the posteriors of the steps that have left the lag, (B, at most T, C).
        """
        predicted, window, num_steps = memory
        transitions, _, end = self._scores()
        posteriors = [predicted.new_zeros((len(predicted), 0, len(end)))]
        for emission in emissions.to(predicted.dtype).unbind(1):
            window = torch.cat([window[:, 1:], emission[:, None]], dim=1)
            if num_steps >= self.lag:
                posteriors.append(_posterior(predicted, window, transitions, torch.zeros_like(end)))
                predicted = _predict(predicted, window[:, 0], transitions)
            num_steps = num_steps + 1
        return MarginalsMemory(predicted, window, num_steps), torch.cat(posteriors, dim=1)

    @torch.no_grad()
    def finish(self, memory: MarginalsMemory) -> Tensor:
        """The posteriors of the pending steps at the end of the sequence, (B, at most lag, C)."""
        predicted, window, num_steps = memory
        transitions, _, end = self._scores()
        pending = window[:, self.lag + 1 - min(int(num_steps), self.lag) :]
        posteriors = [pending[:, :0]]
        for step in range(pending.shape[1]):
            posteriors.append(_posterior(predicted, pending[:, step:], transitions, end))
            predicted = _predict(predicted, pending[:, step], transitions)
        return torch.cat(posteriors, dim=1)

    def _scores(self) -> tuple[Tensor, Tensor, Tensor]:
        lattice = self.crf.lattice(self.crf.compute_dtype(self.crf.transitions.dtype))
        return lattice.transitions, lattice.start, lattice.end


def _predict(predicted: Tensor, emission: Tensor, transitions: Tensor) -> Tensor:
    """`predicted` (B, C) of the next step, its maximum set to 0: hours fit into float32."""
    following = ((predicted + emission)[:, :, None] + transitions).logsumexp(dim=1)
    return following - following.amax(dim=1, keepdim=True)


def _posterior(predicted: Tensor, emissions: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """(B, 1, C): the posterior of the first of these steps (B, n, C), given all of them. end: (C,), log beta of the
    last step.
    """
    log_beta = end.expand_as(predicted)
    for emission in reversed(emissions[:, 1:].unbind(1)):
        log_beta = (transitions + (emission + log_beta)[:, None]).logsumexp(dim=2)
    return (predicted + emissions[:, 0] + log_beta).softmax(-1)[:, None]
