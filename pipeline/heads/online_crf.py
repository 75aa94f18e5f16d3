"""A CRF on one endless stream: the label of each step with a fixed lag, and its probability.

In: emissions of one stream, window after window, and a memory of constant size. Out: labels and posteriors of the steps
that are `lag` steps old. Knows nothing of label names or seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.crf.crf import CRF
from pipeline.models.crf.fixed_lag import FixedLagViterbi, ViterbiMemory
from pipeline.models.crf.fixed_lag_marginals import FixedLagMarginals, MarginalsMemory
from pipeline.models.head import StreamMemory
from pipeline.padded import Padded


class OnlineCRF:
    """Fixed-lag Viterbi and fixed-lag marginals side by side, with one memory for both.

    The memory is a flat dictionary of tensors, so that it can be saved. lag: in steps.
    """

    def __init__(self, crf: CRF, lag: int) -> None:
        self.viterbi, self.marginals = FixedLagViterbi(crf, lag), FixedLagMarginals(crf, lag)

    def begin(self) -> StreamMemory:
        """The memory before the first step."""
        return _pack(self.viterbi.begin(1), self.marginals.begin(1))

    def observe(self, memory: StreamMemory, emissions: Tensor) -> tuple[StreamMemory, Tensor, Tensor]:
        """Emissions (1, T, C) -> the memory, labels (N,) and posteriors (N, C) of the N steps that are now final."""
        viterbi_memory, marginals_memory = _unpack(memory)
        window = Padded(emissions, torch.tensor([emissions.shape[1]]))
        viterbi_memory, labels = self.viterbi.observe(viterbi_memory, window)
        marginals_memory, posteriors = self.marginals.observe(marginals_memory, emissions)
        return _pack(viterbi_memory, marginals_memory), labels.unpad()[0], posteriors[0]

    def finish(self, memory: StreamMemory) -> tuple[Tensor, Tensor]:
        """Labels (N,) and posteriors (N, C) of the steps that still wait, if the stream ended here."""
        viterbi_memory, marginals_memory = _unpack(memory)
        return self.viterbi.finish(viterbi_memory).unpad()[0], self.marginals.finish(marginals_memory)[0]


def _pack(viterbi_memory: ViterbiMemory, marginals_memory: MarginalsMemory) -> StreamMemory:
    return {
        **{f"viterbi_{field}": value for field, value in viterbi_memory._asdict().items()},
        **{f"marginals_{field}": value for field, value in marginals_memory._asdict().items()},
    }


def _unpack(memory: StreamMemory) -> tuple[ViterbiMemory, MarginalsMemory]:
    """Both memories, with their counts of steps on the CPU, wherever the stream was loaded."""
    viterbi = ViterbiMemory._make(memory[f"viterbi_{field}"] for field in ViterbiMemory._fields)
    marginals = MarginalsMemory._make(memory[f"marginals_{field}"] for field in MarginalsMemory._fields)
    return viterbi._replace(num_steps=viterbi.num_steps.cpu()), marginals._replace(num_steps=marginals.num_steps.cpu())
