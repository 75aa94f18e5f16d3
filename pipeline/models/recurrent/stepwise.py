"""RNN, LSTM and GRU step by step in Python: for what the fused kernels cannot do, such as returning every gate.

In: a layer's inputs, its weights and the state before it. Out: the states of every step, and each gate's activations.
Knows nothing of layers or directions. It is slower than the fused kernels; `make show P=dropout-cost` measures by how
much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GateActivations = dict[str, Tensor]
"""A gate's name -> its activations (B, H) at one step; `state` is tanh(c_t) of an LSTM and h_t of the other cells."""
LayerState = tuple[Tensor, ...]
"""The state of one layer in one direction: h, or h and c; each (B, H)."""


class Weights(NamedTuple):
    """One layer in one direction, with the names, shapes and gate order of torch."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def in_one_buffer(self) -> Weights:
        """The same weights as views of one tensor, one behind the other, as cuDNN reads them. Gradients pass."""
        joined = torch.cat([weight.reshape(-1) for weight in self])
        parts = joined.split([weight.numel() for weight in self])
        return Weights(*(part.view(weight.shape) for part, weight in zip(parts, self, strict=True)))

    def for_kernel(self) -> list[Tensor]:
        """The weights for a fused kernel. cuDNN copies weights that lie apart, each by itself, at every call. Those of
        the module lie in one buffer (`Core.flatten_parameters`); masked ones are new tensors, and are joined here.
        """
        is_masked = not all(isinstance(weight, nn.Parameter) for weight in self)
        return list(self.in_one_buffer() if is_masked and self.ih.device.type == "cuda" else self)


def run_loop(
    cell: str,
    data: Tensor,
    mask: Tensor | None,
    state: LayerState,
    weights: Weights,
    h_mask: Tensor | None = None,
    on_gates: Callable[[GateActivations], None] | None = None,
) -> tuple[Tensor, LayerState]:
    """One layer in one direction; the input projection of all steps is computed before the loop.

    data: (B, T, D). mask: (B, T), True where a step is real; None where all are. state: each (B, H), before the first
    step. h_mask: (B, H), the dropout mask that h_{t-1} is multiplied with before W_hh, constant in time. on_gates: is
    called with the gate activations of each step.

    Returns (B, T, H) and the state after the last valid step of each row.
    """
    h, outputs = state[0], []
    for t, from_input in enumerate(F.linear(data, weights.ih, weights.bias_ih).unbind(1)):
        from_state = F.linear(h if h_mask is None else h * h_mask, weights.hh, weights.bias_hh)
        new, gates = cell_step(cell, from_input, from_state, state)
        if mask is not None:
            is_valid = mask[:, t, None]
            new = tuple(torch.where(is_valid, n, o) for n, o in zip(new, state, strict=True))
        if on_gates is not None:
            on_gates(gates)
        state, h = new, new[0]
        outputs.append(h)
    return torch.stack(outputs, dim=1), state


def cell_step(
    cell: str, from_input: Tensor, from_state: Tensor, state: LayerState
) -> tuple[LayerState, GateActivations]:
    """One step of a cell; its equations stand at `core.Core`.

    from_input: W_ih x_t + b_ih. from_state: W_hh h_{t-1} + b_hh. Both (B, gates * H). state: each (B, H), at step t-1.

    Returns the state of step t and the gate activations.
    """
    if cell == "lstm":
        i, f, g, o = (from_input + from_state).chunk(4, dim=1)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        c = f * state[1] + i * g.tanh()
        tanh_c = c.tanh()
        return (o * tanh_c, c), {"input": i, "forget": f, "output": o, "state": tanh_c}
    if cell == "gru":
        (in_r, in_z, in_n), (rec_r, rec_z, rec_n) = from_input.chunk(3, dim=1), from_state.chunk(3, dim=1)
        r, z = (in_r + rec_r).sigmoid(), (in_z + rec_z).sigmoid()
        n = torch.tanh(in_n + r * rec_n)
        h = torch.lerp(n, state[0], z)
        return (h,), {"reset": r, "update": z, "state": h}
    h = torch.tanh(from_input + from_state) if cell == "rnn_tanh" else torch.relu(from_input + from_state)
    return (h,), {"state": h}
