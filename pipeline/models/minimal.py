"""minGRU and minLSTM: cells whose gates see the input alone, so that time is one linear recurrence.

In: the input projection of a layer (B, T, gates * H) and the state before it. Out: the states (B, T, H). Knows nothing
of layers, directions or dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_GATES = {"mingru": ("update", "candidate"), "minlstm": ("input", "forget", "candidate")}
"""The blocks of a cell's projection, in order."""


def minimal(cell: str, projected: Tensor, mask: Tensor | None, h_0: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + (1 - a_t) g(candidate_t) after Feng et al. 2024, "Were RNNs All We Needed?".

    minGRU: a = 1 - sigmoid(update). minLSTM: a = f / (f + i) of its two sigmoids. g(v) = v + 1/2 above 0, sigmoid(v)
    below (the positive candidate of the paper's appendix). Padding keeps the state to the last bit.

    projected: (B, T, gates * H). mask: (B, T), True where a step is real; None where all are. h_0: (B, H), of any sign.

    Returns (B, T, H). On the CPU step by step, elsewhere by a parallel scan; the two agree to rounding.
    """
    odds, value = retention(cell, projected)
    keep, new = odds.sigmoid(), (-odds).sigmoid() * value
    if mask is not None:
        keep = torch.where(mask[:, :, None], keep, torch.ones_like(keep))
        new = torch.where(mask[:, :, None], new, torch.zeros_like(new))
    return (recur if projected.device.type == "cpu" else scan)(keep, new, h_0)


def retention(cell: str, projected: Tensor) -> tuple[Tensor, Tensor]:
    """The log-odds of keeping the state, and the candidate g(v), each (B, T, H)."""
    *gates, candidate = projected.chunk(len(MIN_GATES[cell]), dim=-1)
    if cell == "mingru":
        odds = -gates[0]
    else:  # f / (f + i) = sigmoid(log f - log i)
        odds = F.logsigmoid(gates[1]) - F.logsigmoid(gates[0])
    return odds, torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())


def minimal_gates(cell: str, projected: Tensor) -> dict[str, Tensor]:
    """The activations of each gate, (B, T, H): `keep` is what is left of the state in a step."""
    blocks = dict(zip(MIN_GATES[cell], projected.chunk(len(MIN_GATES[cell]), dim=-1), strict=True))
    gates = {name: block.sigmoid() for name, block in blocks.items() if name != "candidate"}
    return gates if cell == "mingru" else gates | {"keep": retention(cell, projected)[0].sigmoid()}


def recur(keep: Tensor, new: Tensor, h_0: Tensor) -> Tensor:
    """h_t = keep_t h_{t-1} + new_t, one step after another."""
    h, out = h_0, []
    for keep_t, new_t in zip(keep.unbind(1), new.unbind(1), strict=True):
        h = torch.addcmul(new_t, keep_t, h)
        out.append(h)
    return torch.stack(out, dim=1)


def scan(keep: Tensor, new: Tensor, h_0: Tensor) -> Tensor:
    """The same in log2(T) parallel passes (Hillis & Steele 1986): each doubles the stretch that (keep, new) spans.

    Not in log space, as in the paper: there the sum of log(keep) grows with T and its rounding with it (measured on
    4,096 steps in float32: off by 9e-4, this 4e-7). Here every product lies in [0, 1], and states may have any sign.
    """
    new = torch.cat([torch.addcmul(new[:, :1], keep[:, :1], h_0[:, None]), new[:, 1:]], dim=1)
    reach, steps = 1, new.shape[1]
    while reach < steps:
        joined = torch.addcmul(new[:, reach:], keep[:, reach:], new[:, :-reach])
        new = torch.cat([new[:, :reach], joined], dim=1)
        keep = torch.cat([keep[:, :reach], keep[:, reach:] * keep[:, :-reach]], dim=1)
        reach *= 2
    return new
