"""Mean pooling with the interface of a core: the baseline that knows no order.

In and out as `Core`. With zero layers the last output is the mean of the sequence, so a linear head on it is the linear
baseline. With one layer the mean goes through a small MLP. The baseline takes the same path as a recurrent core, so
their results compare.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from pipeline.models.recurrent.core import State
from pipeline.padded import Padded, without_autocast


class MeanPoolCore(nn.Module):
    """y_t = f((x_1 + ... + x_t) / t), f the identity (layers=0) or `layers` times Linear + ReLU + dropout.

    The state is (sum (B, 1, D), count (B, 1, 1)); consecutive windows equal the whole sequence.
    """

    is_causal = True

    def __init__(self, *, input_size: int, hidden: int, layers: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = hidden if layers else input_size
        widths = [input_size, *[hidden] * layers]
        parts: list[nn.Module] = []
        for in_features, out_features in pairwise(widths):
            parts += [nn.Linear(in_features, out_features), nn.ReLU(), nn.Dropout(dropout)]
        self.mlp = nn.Sequential(*parts)
        self.register_buffer("origin", torch.zeros(()), persistent=False)  # holds the device and the dtype

    def initial_state(self, batch: int) -> State:
        """A sum of 0 over a count of 0."""
        origin = self.get_buffer("origin")
        return origin.new_zeros((batch, 1, self.input_size)), origin.new_zeros((batch, 1, 1))

    def forward(self, x: Padded, state: State | None = None) -> tuple[Padded, State]:
        """x: (B, T, D) -> the running mean through the MLP (B, T, H), and the new state."""
        total, count = state if state is not None else self.initial_state(x.data.shape[0])
        if x.data.shape[1] == 0:
            return x.map(lambda d: d.new_zeros((*d.shape[:2], self.output_size))), (total, count)
        sums = _running_sums(x.zeroed().data, total)
        counts = count + x.mask[:, :, None].to(sums.dtype).cumsum(dim=1)
        means = sums / counts.clamp(min=1.0)
        with without_autocast(means.device):  # in full precision, as the recurrent cores
            steps = Padded(self.mlp(means), x.lengths).zeroed()
        return steps, (sums[:, -1:], counts[:, -1:])

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of every row: x_t (B, D) and the state before it -> (y_t (B, H), the state after it)."""
        y, state = self(Padded(x_t[:, None], torch.ones(x_t.shape[0], dtype=torch.int64)), state)
        return y.data[:, 0], state


def _running_sums(x: Tensor, total: Tensor) -> Tensor:
    """The sum up to each step (B, T, D), from x (B, T, D) and the sum before it (B, 1, D).

    On a CPU step by step, because cumsum over wide steps takes 4 times as long there; on a GPU each step would be a
    kernel of its own.
    """
    if x.device.type != "cpu":
        return total + x.cumsum(1)
    return torch.stack(list(accumulate(x.unbind(1), initial=total[:, 0]))[1:], dim=1)
