"""The recurrent core: the one thing in this project that knows about time.

In: a `Padded` sequence (B, T, D) and a `State`. Out: its outputs (B, T, H) and the state after each row's last valid
step. State goes in and comes out; the module remembers nothing, so windows one after another equal the whole:

    state = core.initial_state(batch)
    for window in windows:
        steps, state = core(window, state)

Knows nothing of videos, words, losses or generation.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.loop import Gates, Weights, run_loop
from pipeline.models.minimal import minimal, minimal_gates
from pipeline.padded import Padded

State = tuple[Tensor, ...]
"""Each (B, layers * directions, H), batch first: two (h, c) for LSTM, one tensor for all other cells."""

Cell = Literal["rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "minlstm"]
GATES: dict[Cell, int] = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3, "mingru": 2, "minlstm": 3}
MINIMAL: tuple[Cell, ...] = ("mingru", "minlstm")
"""Without W_hh: their gates see x_t alone."""
GATED: tuple[Cell, ...] = ("lstm", "gru", *MINIMAL)
DropMask = Literal["batch", "sequence"]
_HOLD = 200.0  # sigmoid(-200) is 0 in float32: the cell keeps its state to the last bit


class Watcher(Protocol):
    """What the model needs of a core. `Core` and `MeanCore` fulfil it."""

    output_size: int
    is_causal: bool

    def initial_state(self, batch: int) -> State:
        """The state before anything was seen."""
        ...

    def __call__(self, x: Padded, state: State | None = None) -> tuple[Padded, State]:
        """Outputs for every step and the state after the last valid one."""
        ...


class Core(nn.Module):
    """RNN, LSTM, GRU, minGRU or minLSTM over ragged batches, on torch's fused kernels and without packing.

    Elman RNN: h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). LSTM after Hochreiter & Schmidhuber 1997 with forget
    gates (Gers et al. 2000), GRU after Cho et al. 2014, both with torch's gate order, so `state_dict` entries equal
    those of torch.nn's layers. minGRU and minLSTM after Feng et al. 2024, see `minimal`. Recurrent weights start
    orthogonal per gate block, the forget bias at 1 (Jozefowicz et al. 2015; see memory_steps).

    Dropout is variational (Gal & Ghahramani 2016): on the input of each layer one mask a sequence; on h_{t-1} one mask
    shared by the batch, as masked columns of W_hh, so it stays on the fused kernel and costs next to nothing, or one
    mask a sequence, which needs a loop in Python while training: 1.4 times the fused time of an LSTM on the CPU, 1.0 to
    1.3 of the others, and more on a GPU (`make show P=dropout-cost`).

    Garbage in the padding (NaN too) changes neither outputs nor gradients; outputs in the padding are zero; length 0
    is legal and returns the old state.

    Args:
        cell: which recurrence. input_size: D of x. hidden: H of one direction. layers: stacked layers.
        bidirectional: a second pass reads each row's valid part backwards; such a core cannot go on from a state.
        residual: add a layer's input to its output where their widths are equal.
        layer_norm: normalise what goes into each layer but the first (Ba et al. 2016), inside the residual branch.
        input_dropout: on each layer's input. recurrent_dropout: on h_{t-1}. Both are probabilities of zero.
        recurrent_mask: which of the two masks on h_{t-1}.
        memory_steps: a gated cell starts out remembering up to so many steps, each unit its own share of them (chrono
        initialisation, Tallec & Ollivier 2018); 0: the forget bias starts at 1. For signals far apart.
    """

    def __init__(
        self,
        *,
        cell: Cell,
        input_size: int,
        hidden: int,
        layers: int = 1,
        bidirectional: bool = False,
        residual: bool = False,
        layer_norm: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        recurrent_mask: DropMask = "batch",
        memory_steps: int = 0,
    ) -> None:
        super().__init__()
        assert not (cell in MINIMAL and recurrent_dropout), "the minimal cells have no W_hh to drop from"
        assert memory_steps == 0 or (memory_steps > 2 and cell in GATED), "a plain RNN has no gate that remembers"
        self.cell: Cell = cell
        self.hidden, self.layers, self.residual = hidden, layers, residual
        self.directions = 2 if bidirectional else 1
        self.input_dropout, self.recurrent_dropout = input_dropout, recurrent_dropout
        self.recurrent_mask: DropMask = recurrent_mask
        self.memory_steps = memory_steps
        self.output_size = hidden * self.directions
        self.is_causal = not bidirectional
        for layer in range(layers):
            width = input_size if layer == 0 else self.output_size
            for suffix in self._suffixes(layer):
                for name, shape in self._shapes(width).items():
                    self.register_parameter(f"{name}{suffix}", nn.Parameter(torch.empty(GATES[cell] * hidden, *shape)))
        self.norms = nn.ModuleList(nn.LayerNorm(self.output_size) for _ in range(layers - 1 if layer_norm else 0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal recurrent blocks, Xavier input blocks, zero biases but the forget bias of 1."""
        for name, parameter in self.named_parameters(recurse=False):
            with torch.no_grad():
                if name.startswith("weight"):
                    init = nn.init.orthogonal_ if "_hh" in name else nn.init.xavier_uniform_
                    for block in parameter.chunk(GATES[self.cell]):
                        init(block)
                else:
                    parameter.zero_()
                    if "_ih" in name:
                        self._remember(parameter.view(GATES[self.cell], self.hidden))
        for norm in self.norms:
            norm.reset_parameters()  # type: ignore[operator]

    def _remember(self, bias: Tensor) -> None:
        """Set the biases of what keeps the state. bias: (gates, H), of zeros."""
        if self.memory_steps:  # with u in [1, memory - 1] a step keeps u / (1 + u) of the state and writes 1 / (1 + u)
            odds = torch.empty_like(bias[0]).uniform_(1.0, self.memory_steps - 1.0).log()
            if self.cell in ("lstm", "minlstm"):  # input, forget
                bias[0], bias[1] = -odds, odds
            elif self.cell == "gru":  # reset, update: torch's z keeps
                bias[1] = odds
            else:  # update: minGRU's z writes
                bias[0] = -odds
        elif self.cell in ("lstm", "minlstm"):
            bias[1] = 1.0

    def initial_state(self, batch: int) -> State:
        """Zeros, on the device and in the dtype of the weights."""
        weight = self.get_parameter("weight_ih_l0")
        count = 2 if self.cell == "lstm" else 1
        return tuple(weight.new_zeros((batch, self.layers * self.directions, self.hidden)) for _ in range(count))

    def forward(self, x: Padded, state: State | None = None) -> tuple[Padded, State]:
        """x: (B, T, D). Returns outputs (B, T, H * directions) and the new state. Raises ValueError when a
        bidirectional core is given a state: it would have to know the future. Truncated back-propagation cuts the graph
        between two windows: tuple(s.detach() for s in state).
        """
        return self._watch(x, state, None)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """One step for every row: x_t (B, D) -> (y_t (B, H), state)."""
        one = Padded(x_t[:, None], torch.ones(x_t.shape[0], dtype=torch.int64))
        y, state = self(one, state)
        return y.data[:, 0], state

    def gates(self, x: Padded, state: State | None = None) -> list[tuple[str, Tensor]]:
        """The activations of every gate over a batch, without dropout: (name, (valid steps of the batch, H)) for each
        layer and direction. Step by step in Python.
        """
        found: list[tuple[str, Tensor]] = []
        self._watch(x, state, found)
        return found

    def _watch(self, x: Padded, old: State | None, gates: list[tuple[str, Tensor]] | None) -> tuple[Padded, State]:
        """All layers, in the dtype of the weights: rounding would add up over the steps, and the fused kernels refuse
        mixed types. Gates are appended to `gates` when it is given.
        """
        if old is not None and not self.is_causal:
            raise ValueError(
                "This core is bidirectional, so it cannot go on from a state: it reads the end of a "
                "sequence first. Give it whole sequences, or train with core.bidirectional=false."
            )
        kept = self.get_parameter("weight_ih_l0").dtype
        old = tuple(s.to(kept) for s in old) if old is not None else self.initial_state(x.data.shape[0])
        x = x.map(lambda d: d.to(kept))
        if x.data.shape[1] == 0:
            return x.map(lambda d: d.new_zeros((*d.shape[:2], self.output_size))), old
        mask = x.mask if bool((x.lengths < x.data.shape[1]).any()) else None  # no padding, nothing to guard against
        kind = x.data.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            ended: list[State] = []
            x = x if mask is None else x.zeroed()
            for layer in range(self.layers):
                x, ends = self._layer(layer, x, mask, old, gates)
                ended += ends
        return x, tuple(torch.stack(parts, dim=1) for parts in zip(*ended, strict=True))

    def _layer(
        self, layer: int, x: Padded, mask: Tensor | None, old: State, gates: list[tuple[str, Tensor]] | None
    ) -> tuple[Padded, list[State]]:
        """One layer over zero-padded sequences: its zero-padded outputs and the last state of each direction."""
        inner = x.map(self.norms[layer - 1]) if layer > 0 and len(self.norms) else x
        inner = inner if gates is not None else inner.map(self._drop_input)
        outs: list[Tensor] = []
        ends: list[State] = []
        for direction, suffix in enumerate(self._suffixes(layer)):
            before = tuple(s[:, layer * self.directions + direction] for s in old)
            is_backward = direction == 1
            data = _reversed(inner) if is_backward else inner.data
            if gates is not None:
                y, last = self._look(data, x.lengths, mask, before, suffix, gates)
            else:
                y, last = self._run(data, x.lengths, mask, before, suffix)
            outs.append(_reversed(Padded(y, x.lengths)) if is_backward else y)
            ends.append(last)
        y = torch.cat(outs, dim=-1) if len(outs) > 1 else outs[0]
        if self.residual and y.shape == x.data.shape:
            y = y + x.data
        return (Padded(y, x.lengths) if mask is None else Padded(y, x.lengths).zeroed()), ends

    def _run(self, data: Tensor, lengths: Tensor, mask: Tensor | None, old: State, suffix: str) -> tuple[Tensor, State]:
        """One layer in one direction, as fast as it goes. data: (B, T, D), its padding behind. old: each (B, H).
        Returns (B, T, H), anything in the padding, and the last valid state, each (B, H).
        """
        if self.cell in MINIMAL:
            y = minimal(self.cell, self._project(data, suffix), mask, old[0])
            return y, (y[:, -1],)
        weights = self._weights(suffix)
        if self.training and self.recurrent_dropout > 0.0:
            if self.recurrent_mask == "sequence":
                return run_loop(self.cell, data, mask, old, weights, dropped=self._drop(old[0], data.shape[0]))
            weights = weights._replace(hh=weights.hh * self._drop(weights.hh, 1))
        if self.cell == "lstm":
            return _lstm(data, lengths, mask, old, weights, self.training)
        kernel = getattr(torch._VF, self.cell)  # type: ignore[attr-defined]
        y, h = kernel(data, old[0][None].contiguous(), list(weights), True, 1, 0.0, self.training, False, True)
        return y, (h[0] if mask is None else _at_end(y, lengths, old[0]),)

    def _look(
        self,
        data: Tensor,
        lengths: Tensor,
        mask: Tensor | None,
        old: State,
        suffix: str,
        found: list[tuple[str, Tensor]],
    ) -> tuple[Tensor, State]:
        """As `_run` without dropout, on the slow path; every gate's activations at valid steps go to `found`."""
        if self.cell in MINIMAL:
            projected = self._project(data, suffix)
            y = minimal(self.cell, projected, mask, old[0])
            last: State = (y[:, -1],)
            seen = minimal_gates(self.cell, projected)
        else:
            steps: list[Gates] = []
            y, last = run_loop(self.cell, data, mask, old, self._weights(suffix), see=steps.append)
            seen = {name: torch.stack([step[name] for step in steps], dim=1) for name in steps[0]}
        found += [(name, v.flatten(0, 1) if mask is None else v[mask]) for name, v in seen.items()]
        return y, last

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """A layer's parameters, all but their first axis: in torch's order, as the generator draws them."""
        if self.cell in MINIMAL:
            return {"weight_ih": (width,), "bias_ih": ()}
        return {"weight_ih": (width,), "weight_hh": (self.hidden,), "bias_ih": (), "bias_hh": ()}

    def _weights(self, suffix: str) -> Weights:
        return Weights(
            *(self.get_parameter(f"{name}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        )

    def _project(self, data: Tensor, suffix: str) -> Tensor:
        return F.linear(data, self.get_parameter(f"weight_ih{suffix}"), self.get_parameter(f"bias_ih{suffix}"))

    def _drop_input(self, x: Tensor) -> Tensor:
        if not self.training or self.input_dropout == 0.0:
            return x
        keep = 1.0 - self.input_dropout
        return x * (x.new_empty((x.shape[0], 1, x.shape[2])).bernoulli_(keep) / keep)

    def _drop(self, like: Tensor, rows: int) -> Tensor:
        """What h_{t-1} is multiplied with, (rows, H): zeros, and 1 / keep elsewhere."""
        keep = 1.0 - self.recurrent_dropout
        return like.new_empty((rows, self.hidden)).bernoulli_(keep) / keep


def _lstm(
    data: Tensor, lengths: Tensor, mask: Tensor | None, old: State, weights: Weights, training: bool
) -> tuple[Tensor, State]:
    if data.shape[1] == 1:  # oneDNN packs the weights at each call: 2.3 ms a step of 512 units, 0.7 without it
        new = torch._VF.lstm_cell(data[:, 0], list(old), *weights)  # type: ignore[attr-defined]
        if mask is not None:
            new = tuple(torch.where(mask, n, o) for n, o in zip(new, old, strict=True))
        return new[0][:, None], tuple(new)
    if mask is not None:  # a column that flags padding shuts the input gate and opens the forget gate
        data = torch.cat([data, (~mask)[:, :, None].to(data.dtype)], dim=2)
        hold = weights.ih.new_zeros((4, weights.hh.shape[1]))
        hold[0], hold[1] = -_HOLD, _HOLD
        weights = weights._replace(ih=torch.cat([weights.ih, hold.reshape(-1, 1)], dim=1))
    start = [s[None].contiguous() for s in old]
    y, h, c = torch._VF.lstm(  # type: ignore[attr-defined]
        data, start, list(weights), True, 1, 0.0, training, False, True
    )
    return y, (h[0] if mask is None else _at_end(y, lengths, old[0]), c[0])


def _reversed(x: Padded) -> Tensor:
    """Each row's valid part backwards, its padding where it was: step t reads from length - 1 - t."""
    steps = torch.arange(x.data.shape[1], device=x.data.device)[None, :]
    lengths = x.lengths.to(x.data.device)[:, None]
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.data.gather(1, index[:, :, None].expand(x.data.shape))


def _at_end(y: Tensor, lengths: Tensor, old: Tensor) -> Tensor:
    """Y (B, T, H) at each row's last valid step; the old state where the length is 0."""
    lengths = lengths.to(y.device)
    index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, y.shape[2])
    return torch.where((lengths > 0)[:, None], y.gather(1, index)[:, 0], old)
