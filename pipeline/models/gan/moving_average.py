"""An exponential moving average of a generator's weights.

In: a generator, once a step. Out: a copy of it with averaged weights. Knows nothing of heads.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """A copy of the generator whose weights are an exponential moving average of its weights (Yaz et al. 2019, arXiv
    1806.04498). It gets no gradient.

    The average moves by 1 - decay of its distance to the weights, and by 9 / (10 + n) after n steps where that is more,
    so that a short training does not keep the initial weights. Its state has the names of torch's `AveragedModel`,
    which asks the device at every step how often it was updated.
    """

    def __init__(self, generator: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = deepcopy(generator).requires_grad_(False)
        self.decay, self._num_averaged = decay, 0
        self.register_buffer("n_averaged", torch.tensor(0))
        self.register_load_state_dict_post_hook(_count_again)

    def forward(self, *args: object, **kwargs: object) -> object:
        """What the generator with the averaged weights returns."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, generator: nn.Module) -> None:
        """Move towards the generator's weights. The first time they are copied, and its buffers always."""
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(generator.parameters())
        if self._num_averaged == 0:
            torch._foreach_copy_(averages, weights)
        else:
            kept = min(self.decay, (1 + self._num_averaged) / (10 + self._num_averaged))
            torch._foreach_lerp_(averages, weights, 1.0 - kept)
        for average, buffer in zip(self.module.buffers(), generator.buffers(), strict=True):
            average.copy_(buffer)
        self._num_averaged += 1
        self.get_buffer("n_averaged").add_(1)


def _count_again(average: MovingAverage, _: object) -> None:
    """Take the number of updates from the state that was loaded."""
    average._num_averaged = int(average.get_buffer("n_averaged"))
