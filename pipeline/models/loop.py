"""The recurrences step by step in Python: what the fused kernels cannot do, and a look at every gate.

In: a layer's inputs, its weights and the state before it. Out: the states of every step, and each gate's activations.
Knows nothing of layers or directions. Slower than the fused kernels: `make show P=dropout-cost` measures by how much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Gates = dict[str, Tensor]
"""A gate's name -> its activations (B, H) of one step; `state` is what the cell shows, before the output gate."""
StateRow = tuple[Tensor, ...]


class Weights(NamedTuple):
    """One layer in one direction, with torch's names, shapes and order of gates."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


def run_loop(
    cell: str,
    data: Tensor,
    mask: Tensor | None,
    old: StateRow,
    weights: Weights,
    dropped: Tensor | None = None,
    see: Callable[[Gates], None] | None = None,
) -> tuple[Tensor, StateRow]:
    """RNN, LSTM or GRU with the input projection hoisted out of the loop.

    data: (B, T, D). mask: (B, T), True where a step is real; None where all are. old: each (B, H). dropped: what
    h_{t-1} is multiplied with before W_hh, (B, H), constant in time. see: gets each step's gates.

    Returns (B, T, H) and the state after each row's last real step.
    """
    h, out = old[0], []
    state = old
    for t, ahead in enumerate(F.linear(data, weights.ih, weights.bias_ih).unbind(1)):
        back = F.linear(h if dropped is None else h * dropped, weights.hh, weights.bias_hh)
        new, gates = advance(cell, ahead, back, state)
        if mask is not None:
            real = mask[:, t, None]
            new = tuple(torch.where(real, n, o) for n, o in zip(new, state, strict=True))
        if see is not None:
            see(gates)
        state, h = new, new[0]
        out.append(h)
    return torch.stack(out, dim=1), state


def advance(cell: str, ahead: Tensor, back: Tensor, state: StateRow) -> tuple[StateRow, Gates]:
    """One step. ahead: W_ih x_t + b_ih; back: W_hh h_{t-1} + b_hh; both (B, gates * H). The new state and the gates."""
    if cell == "lstm":
        i, f, g, o = (ahead + back).chunk(4, dim=1)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        c = f * state[1] + i * g.tanh()
        shown = c.tanh()
        return (o * shown, c), {"input": i, "forget": f, "output": o, "state": shown}
    if cell == "gru":
        (a_r, a_z, a_n), (b_r, b_z, b_n) = ahead.chunk(3, dim=1), back.chunk(3, dim=1)
        r, z = (a_r + b_r).sigmoid(), (a_z + b_z).sigmoid()
        n = torch.tanh(a_n + r * b_n)
        h = torch.lerp(n, state[0], z)
        return (h,), {"reset": r, "update": z, "state": h}
    h = torch.tanh(ahead + back) if cell == "rnn_tanh" else torch.relu(ahead + back)
    return (h,), {"state": h}
