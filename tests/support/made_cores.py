"""For the tests of cores: random weights, ragged random sequences, and the published equations step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.recurrent.core import MINIMAL_CELLS, NUM_GATES, Cell, Core, State
from pipeline.padded import Padded

CELLS = list(NUM_GATES)
FUSED_CELLS: list[Cell] = [c for c in CELLS if c not in MINIMAL_CELLS]  # cells that torch.nn has too
B, T, D, H = 5, 11, 6, 7


def make(cell: str, layers: int = 1, **settings) -> Core:
    """A core with random weights. Its biases are not zero, so a missing term would show."""
    torch.manual_seed(0)
    core = Core(cell=cell, **{"input_size": D, "hidden": H, "layers": layers, **settings})  # type: ignore[arg-type]
    with torch.no_grad():
        for p in core.parameters():
            p.add_((0.1 if cell == "rnn_relu" else 0.3) * torch.randn_like(p))  # relu is unbounded: 0.3 explodes
    return core


def sequences(lengths=(11, 4, 1, 0, 7), seed: int = 1) -> Padded:
    torch.manual_seed(seed)
    return Padded(torch.randn(len(lengths), max(1, *lengths), D), torch.tensor(lengths))


def random_state(core: Core, batch: int = B) -> State:
    torch.manual_seed(5)
    return tuple(torch.randn_like(s) for s in core.initial_state(batch))


def windows(x: Padded, cuts: list[int]) -> list[Padded]:
    """Cut x at these steps; a row may have length 0 in a window."""
    return [
        Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a))
        for a, b in itertools.pairwise([0, *cuts, x.data.shape[1]])
    ]


def run_windows(core: Core, x: Padded, cuts: list[int], state: State) -> tuple[Tensor, State]:
    outputs = []
    for window in windows(x, cuts):
        y, state = core(window, state)
        outputs.append(y.data)
    return torch.cat(outputs, dim=1), state


def run_steps(core: Core, x: Padded, state: State) -> tuple[Tensor, State]:
    outputs = []
    for x_t in x.data.unbind(1):
        y, state = core.step(x_t, state)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def torch_layer(core: Core, input_size: int = D) -> nn.RNNBase:
    """The layer of torch.nn with the same weights."""
    bidirectional = core.directions == 2
    settings = {"num_layers": core.layers, "batch_first": True, "bidirectional": bidirectional}
    if core.cell == "lstm":
        layer: nn.RNNBase = nn.LSTM(input_size, core.hidden, **settings)
    elif core.cell == "gru":
        layer = nn.GRU(input_size, core.hidden, **settings)
    else:
        layer = nn.RNN(input_size, core.hidden, nonlinearity=core.cell.removeprefix("rnn_"), **settings)
    layer.load_state_dict(core.state_dict())
    return layer


def weights_of(core: Core, suffix: str = "_l0") -> list[Tensor]:
    return [p for name, p in core.named_parameters() if name.endswith(suffix)]


def by_hand(
    cell: str, x: Tensor, state: State, weights: list[Tensor], mask: Tensor | float = 1.0
) -> tuple[Tensor, State]:
    """One row and one layer, step by step, by the published equations. x (T, D); state each (H,); mask on h_{t-1}."""
    h, c = state[0], state[-1]
    out = []
    for x_t in x:
        if cell in MINIMAL_CELLS:
            h = _minimal_by_hand(cell, weights[0] @ x_t + weights[1], h)
            out.append(h)
            continue
        w_ih, w_hh, b_ih, b_hh = weights
        a, r = w_ih @ x_t + b_ih, w_hh @ (h * mask) + b_hh
        if cell == "lstm":
            i, f, g, o = (a + r).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif cell == "gru":
            (a_r, a_z, a_n), (r_r, r_z, r_n) = a.chunk(3), r.chunk(3)
            z, n = (a_z + r_z).sigmoid(), (a_n + (a_r + r_r).sigmoid() * r_n).tanh()
            h = (1 - z) * n + z * h
        else:
            h = torch.tanh(a + r) if cell == "rnn_tanh" else torch.relu(a + r)
        out.append(h)
    return torch.stack(out), (h, c) if cell == "lstm" else (h,)


def _minimal_by_hand(cell: str, a: Tensor, h: Tensor) -> Tensor:
    """Feng et al. 2024, algorithms 2, 4 and the positive candidate of their appendix B."""
    *gates, v = a.chunk(2 if cell == "mingru" else 3)
    g = torch.stack([x + 0.5 if x >= 0 else 1 / (1 + (-x).exp()) for x in v])
    if cell == "mingru":
        z = gates[0].sigmoid()
        return (1 - z) * h + z * g
    i, f = gates[0].sigmoid(), gates[1].sigmoid()
    return f / (f + i) * h + i / (f + i) * g


def saved_bytes(run: Callable[[], Any]) -> int:
    """How many bytes autograd keeps for the backward pass of what `run` computes, with all that is kept twice."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.nbytes) or x, lambda x: x):
        run()
    return sum(saved)
