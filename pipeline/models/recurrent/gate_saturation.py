"""The share of saturated gates of a core: almost no gradient flows through a saturated gate.

In: a core and a batch. Out: one share for each kind of gate. Knows nothing of training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.recurrent.core import Core, State
from pipeline.padded import Padded

LOW, HIGH = 0.05, 0.95
"""A gate outside of these bounds is saturated: the slope of its sigmoid is below 0.0475 there, against 0.25 at best."""


@torch.no_grad()
def gate_saturation(core: Core, x: Padded, state: State | None = None) -> dict[str, float]:
    """The share of gate activations below 0.05 or above 0.95, pooled over layers, directions, units and valid steps.

    Keys by cell: lstm input, forget, output, state; gru reset, update, state; mingru update; minlstm input, forget,
    keep (f / (f + i)); rnn_tanh and rnn_relu state. `state` is the share of |tanh(c_t)| (LSTM) or |h_t| (GRU, tanh RNN)
    above 0.95, or of h_t = 0 (ReLU RNN). The state of the minimal cells is unbounded and has no such share. The result
    is empty where no step is valid. It runs without dropout and step by step in Python: for an occasional check, not
    for each training step.
    """
    saturated: dict[str, int] = {}
    total: dict[str, int] = {}
    for name, values in core.gates(x, state):
        saturated[name] = saturated.get(name, 0) + int(_is_saturated(core.cell, name, values).sum())
        total[name] = total.get(name, 0) + values.numel()
    return {name: saturated[name] / total[name] for name in total if total[name]}


def _is_saturated(cell: str, name: str, values: Tensor) -> Tensor:
    if name != "state":
        return (values < LOW) | (values > HIGH)
    return values == 0 if cell == "rnn_relu" else values.abs() > HIGH
