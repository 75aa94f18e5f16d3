"""minGRU and minLSTM: cells whose gates depend on the input alone, so the recurrence over time is linear.

In: the input projection of a layer (B, T, gates * H) and the state before it. Out: the states (B, T, H). Knows nothing
of layers, directions or dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCKS = {"mingru": ("update", "candidate"), "minlstm": ("input", "forget", "candidate")}
"""The blocks of a cell's projection, in order."""


def run_minimal(cell: str, projected: Tensor, mask: Tensor | None, h_0: Tensor) -> Tensor:
    """One layer of minGRU or minLSTM: h_t = a_t * h_{t-1} + (1 - a_t) * g(v_t).

    The blocks of W_ih x_t + b_ih are, in order:

        mingru:   k_t (update), v_t (candidate);            a_t = 1 - sigmoid(k_t)
        minlstm:  i_t (input), f_t (forget), v_t (candidate);
                  a_t = sigmoid(f_t) / (sigmoid(f_t) + sigmoid(i_t))
        both:     g(v) = v + 1/2 where v >= 0, else sigmoid(v)

    Source: Feng et al. 2024, "Were RNNs All We Needed?", with the positive candidate g of its appendix. Padding keeps
    the state to the last bit.

    projected: (B, T, gates * H). mask: (B, T), True where a step is real; None where all are. h_0: (B, H), of any sign.

    Returns (B, T, H). On the CPU step by step, on other devices by a parallel scan; the two agree up to rounding.
    """
    keep_logit, candidate = keep_logit_and_candidate(cell, projected)
    keep, new = keep_logit.sigmoid(), (-keep_logit).sigmoid() * candidate
    if mask is not None:
        keep = torch.where(mask[:, :, None], keep, torch.ones_like(keep))
        new = torch.where(mask[:, :, None], new, torch.zeros_like(new))
    return (sequential_scan if projected.device.type == "cpu" else parallel_scan)(keep, new, h_0)


def keep_logit_and_candidate(cell: str, projected: Tensor) -> tuple[Tensor, Tensor]:
    """log(a_t / (1 - a_t)), the log-odds of keeping the state, and g(v_t); each (B, T, H)."""
    *gates, v = projected.chunk(len(BLOCKS[cell]), dim=-1)
    # minLSTM: f / (f + i) = sigmoid(log f - log i)
    keep_logit = -gates[0] if cell == "mingru" else F.logsigmoid(gates[1]) - F.logsigmoid(gates[0])
    return keep_logit, torch.where(v >= 0, v + 0.5, v.sigmoid())


def minimal_gates(cell: str, projected: Tensor) -> dict[str, Tensor]:
    """The activations of each gate, (B, T, H). `keep` is a_t of minLSTM, the share of the state that a step keeps."""
    blocks = dict(zip(BLOCKS[cell], projected.chunk(len(BLOCKS[cell]), dim=-1), strict=True))
    gates = {name: block.sigmoid() for name, block in blocks.items() if name != "candidate"}
    return gates if cell == "mingru" else gates | {"keep": keep_logit_and_candidate(cell, projected)[0].sigmoid()}


def sequential_scan(keep: Tensor, new: Tensor, h_0: Tensor) -> Tensor:
    """h_t = keep_t * h_{t-1} + new_t, one step after another. keep, new: (B, T, H). h_0: (B, H)."""
    h, states = h_0, []
    for keep_t, new_t in zip(keep.unbind(1), new.unbind(1), strict=True):
        h = torch.addcmul(new_t, keep_t, h)
        states.append(h)
    return torch.stack(states, dim=1)


def parallel_scan(keep: Tensor, new: Tensor, h_0: Tensor) -> Tensor:
    """The same states in log2(T) parallel passes (Hillis & Steele 1986).

    A pair (keep, new) stands for the map h -> keep * h + new. Each pass composes every map with the one `span` steps
    before it, (k1, n1) then (k2, n2) = (k2 k1, k2 n1 + n2), which doubles the number of steps that a pair covers. What
    is kept for the gradient, `keep` and the states, does not grow with the number of passes.

    The scan does not run in log space, as in the paper: there the sum of log(keep) grows with T, and its rounding error
    with it (measured on 4,096 steps in float32: an error of 9e-4, here 4e-7). Here every product lies in [0, 1], and
    states may have any sign.
    """
    new = torch.cat([torch.addcmul(new[:, :1], keep[:, :1], h_0[:, None]), new[:, 1:]], dim=1)
    return _scan_from_zero(keep, new)


def _scan_from_zero(keep: Tensor, new: Tensor) -> Tensor:
    states = ParallelScan.apply(keep, new)
    assert isinstance(states, Tensor)
    return states


class ParallelScan(torch.autograd.Function):
    """The recurrence h_t = keep_t * h_{t-1} + new_t from h_0 = 0, and its gradients.

    With g_t the gradient of h_t through all steps:

        g_t = gradient_t + keep_{t+1} * g_{t+1},   d new_t = g_t,   d keep_t = g_t * h_{t-1}

    which is the same recurrence from the last step back. It has gradients of gradients.
    """

    @staticmethod
    def forward(ctx: Any, keep: Tensor, new: Tensor) -> Tensor:
        """Tensors keep, new (B, T, H) -> the states (B, T, H)."""
        states = _compose(keep, new)
        ctx.save_for_backward(keep, states)
        return states

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradients of keep and new."""
        keep, states = ctx.saved_tensors
        following = F.pad(keep[:, 1:], (0, 0, 0, 1)).flip(1)
        of_new = _scan_from_zero(following, gradients[0].flip(1)).flip(1)
        return of_new * F.pad(states[:, :-1], (0, 0, 1, 0)), of_new


def _compose(keep: Tensor, new: Tensor) -> Tensor:
    """The states from a state of 0, by composing maps."""
    span, steps = 1, new.shape[1]
    while span < steps:
        composed = torch.addcmul(new[:, span:], keep[:, span:], new[:, :-span])
        new = torch.cat([new[:, :span], composed], dim=1)
        keep = torch.cat([keep[:, :span], keep[:, span:] * keep[:, :-span]], dim=1)
        span *= 2
    return new
