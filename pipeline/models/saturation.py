"""How many of a core's gates are stuck: where a gate is saturated, hardly any gradient goes through it.

In: a core and a batch. Out: one share for each kind of gate. Knows nothing of training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.core import Core, State
from pipeline.padded import Padded

LOW, HIGH = 0.05, 0.95


@torch.no_grad()
def gate_saturation(core: Core, x: Padded, state: State | None = None) -> dict[str, float]:
    """The share of gate activations below 0.05 or above 0.95, pooled over layers, directions, units and valid steps.

    Keys by cell: lstm input, forget, output, state; gru reset, update, state; mingru update; minlstm input, forget,
    keep (f / (f + i)); the plain RNNs state. `state` is the share of |tanh(c_t)| (LSTM) or |h_t| (GRU, tanh RNN) above
    0.95, or of h_t = 0 (ReLU RNN); the minimal cells' has no bounds. Empty where no step is valid. Without dropout, and
    step by step in Python: for a look now and then, not for each training step.
    """
    stuck: dict[str, int] = {}
    seen: dict[str, int] = {}
    for name, values in core.gates(x, state):
        stuck[name] = stuck.get(name, 0) + int(_is_saturated(core.cell, name, values).sum())
        seen[name] = seen.get(name, 0) + values.numel()
    return {name: stuck[name] / seen[name] for name in seen if seen[name]}


def _is_saturated(cell: str, name: str, values: Tensor) -> Tensor:
    if name != "state":
        return (values < LOW) | (values > HIGH)
    return values == 0 if cell == "rnn_relu" else values.abs() > HIGH
