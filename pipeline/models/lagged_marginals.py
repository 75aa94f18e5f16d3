"""How sure a CRF is while a sequence goes on: the posterior of a step's label, given all up to a fixed lag behind it.

In: scores of labels at steps, window after window, and a memory. Out: posteriors of the steps that left the lag, and a new
memory of the same size. The companion of `fixed_lag`, which says the labels. Knows nothing of videos or names.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.crf import Crf


class Memory(NamedTuple):
    """before: (B, C), the log of the forward sum into the oldest step that waits, its own score left out. waiting: (B,
    lag + 1, C), the scores of the last steps, the present one last. seen: () int64 on the CPU, steps so far.
    """

    before: Tensor
    waiting: Tensor
    seen: Tensor


class LaggedMarginals:
    """p(y_t | x_1 .. x_{t + lag}) for every t: fixed-lag smoothing (Rabiner 1989, III.B, over a window).

    With a lag of the whole length it is `Crf.marginals`. How a sequence is cut into windows changes nothing. Rows go in
    step: all of one length. Like the marginals it does not know a minimum duration.
    """

    def __init__(self, crf: Crf, lag: int) -> None:
        assert lag >= 0, "FixedLag has said so already"
        self.crf, self.lag = crf, lag

    def begin(self, batch: int) -> Memory:
        """Nothing seen."""
        start = self._scores()[1]
        waiting = start.new_zeros((batch, self.lag + 1, len(start)))
        return Memory(start.expand(batch, -1), waiting, torch.tensor(0))

    @torch.no_grad()
    def observe(self, memory: Memory, emissions: Tensor) -> tuple[Memory, Tensor]:
        """emissions: (B, T, C). Returns the memory and the posteriors of the steps that left the lag, (B, at most T, C)."""
        before, waiting, seen = memory
        transitions, _, end = self._scores()
        left = [before.new_zeros((len(before), 0, len(end)))]
        for e in emissions.to(before.dtype).unbind(1):
            waiting = torch.cat([waiting[:, 1:], e[:, None]], dim=1)
            if seen >= self.lag:
                left.append(_posterior(before, waiting, transitions, torch.zeros_like(end)))
                before = _behind(before, waiting[:, 0], transitions)
            seen = seen + 1
        return Memory(before, waiting, seen), torch.cat(left, dim=1)

    @torch.no_grad()
    def finish(self, memory: Memory) -> Tensor:
        """The posteriors of the steps that still wait when nothing comes any more, (B, at most lag, C)."""
        before, waiting, seen = memory
        transitions, _, end = self._scores()
        rest = waiting[:, self.lag + 1 - min(int(seen), self.lag) :]
        found = [rest[:, :0]]
        for step in range(rest.shape[1]):
            found.append(_posterior(before, rest[:, step:], transitions, end))
            before = _behind(before, rest[:, step], transitions)
        return torch.cat(found, dim=1)

    def _scores(self) -> tuple[Tensor, Tensor, Tensor]:
        lattice = self.crf.lattice(self.crf.precision(self.crf.transitions.dtype))
        return lattice.transitions, lattice.start, lattice.end


def _behind(before: Tensor, emission: Tensor, transitions: Tensor) -> Tensor:
    """The log of the forward sum (B, C) one step further, its best set to 0: hours fit into float32."""
    further = ((before + emission)[:, :, None] + transitions).logsumexp(dim=1)
    return further - further.amax(dim=1, keepdim=True)


def _posterior(before: Tensor, emissions: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """(B, 1, C) of the first of these steps (B, n, C), given all of them; end: (C,) scores behind the last."""
    backward = end.expand_as(before)
    for e in reversed(emissions[:, 1:].unbind(1)):
        backward = (transitions + (e + backward)[:, None]).logsumexp(dim=2)
    return (before + emissions[:, 0] + backward).softmax(-1)[:, None]
