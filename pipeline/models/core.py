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

from pipeline.padded import Padded

State = tuple[Tensor, ...]
"""Each (B, layers * directions, H), batch first: one tensor for RNN and GRU, two (h, c) for LSTM."""

Cell = Literal["rnn_tanh", "rnn_relu", "lstm", "gru"]
GATES: dict[Cell, int] = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}
_HOLD = 50.0  # sigmoid(50) is 1 and sigmoid(-50) is 2e-22 in float32: the cell keeps its state to the last bit


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
    """RNN, LSTM or GRU over ragged batches, on torch's fused kernels and without packing.

    Elman RNN: h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). LSTM after Hochreiter & Schmidhuber 1997 with forget
    gates (Gers et al. 2000), GRU after Cho et al. 2014, both with torch's gate order, so `state_dict` entries equal
    those of torch.nn's layers. Recurrent weights start orthogonal per gate block, the forget bias at 1 (Jozefowicz et
    al. 2015). Dropout is variational (Gal & Ghahramani 2016): on the input of each layer one mask a sequence, on
    h_{t-1} one mask shared by the batch, as masked columns of W_hh, so both stay on the fused kernel.

    Garbage in the padding (NaN too) changes neither outputs nor gradients; outputs in the padding are zero; length 0
    is legal and returns the old state.

    Args:
        cell: which recurrence. input_size: D of x. hidden: H of one direction. layers: stacked layers.
        bidirectional: a second pass reads each row's valid part backwards; such a core cannot go on from a state.
        residual: add a layer's input to its output where their widths are equal.
        input_dropout: on each layer's input. recurrent_dropout: on h_{t-1}. Both are probabilities of zero.
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
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cell: Cell = cell
        self.hidden, self.layers, self.residual = hidden, layers, residual
        self.directions = 2 if bidirectional else 1
        self.input_dropout, self.recurrent_dropout = input_dropout, recurrent_dropout
        self.output_size = hidden * self.directions
        self.is_causal = not bidirectional
        for layer in range(layers):
            width = input_size if layer == 0 else self.output_size
            for suffix in self._suffixes(layer):
                self.register_parameter(f"weight_ih{suffix}", nn.Parameter(torch.empty(GATES[cell] * hidden, width)))
                self.register_parameter(f"weight_hh{suffix}", nn.Parameter(torch.empty(GATES[cell] * hidden, hidden)))
                self.register_parameter(f"bias_ih{suffix}", nn.Parameter(torch.empty(GATES[cell] * hidden)))
                self.register_parameter(f"bias_hh{suffix}", nn.Parameter(torch.empty(GATES[cell] * hidden)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal recurrent blocks, Xavier input blocks, zero biases but the LSTM's forget bias of 1."""
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                if name.startswith("weight"):
                    init = nn.init.orthogonal_ if "_hh" in name else nn.init.xavier_uniform_
                    for block in parameter.chunk(GATES[self.cell]):
                        init(block)
                else:
                    parameter.zero_()
                    if self.cell == "lstm" and "_ih" in name:
                        parameter[self.hidden : 2 * self.hidden] = 1.0

    def initial_state(self, batch: int) -> State:
        """Zeros, on the device and in the dtype of the weights."""
        weight = self.get_parameter("weight_hh_l0")
        count = 2 if self.cell == "lstm" else 1
        return tuple(weight.new_zeros((batch, self.layers * self.directions, self.hidden)) for _ in range(count))

    def forward(self, x: Padded, state: State | None = None) -> tuple[Padded, State]:
        """x: (B, T, D). Returns outputs (B, T, H * directions) and the new state. Raises ValueError when a
        bidirectional core is given a state: it would have to know the future.
        """
        if state is not None and not self.is_causal:
            raise ValueError(
                "This core is bidirectional, so it cannot go on from a state: it reads the end of a "
                "sequence first. Give it whole sequences, or train with core.bidirectional=false."
            )
        old = state if state is not None else self.initial_state(x.data.shape[0])
        x = x.map(lambda d: d.to(old[0].dtype)).zeroed()
        if x.data.shape[1] == 0:
            return x.map(lambda d: d.new_zeros((*d.shape[:2], self.output_size))), old
        kind = x.data.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            return self._watch(x, old)

    def _watch(self, x: Padded, old: State) -> tuple[Padded, State]:
        """All layers over zero-padded sequences, in the dtype of the weights: rounding would add up over the steps, and
        the fused kernels refuse mixed types.
        """
        ended: list[State] = []
        for layer in range(self.layers):
            inner = x.map(self._drop_input)
            outs: list[Tensor] = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                row = layer * self.directions + direction
                y, last = self._run(inner, tuple(s[:, row] for s in old), suffix)
                outs.append(y)
                ended.append(last)
            y = torch.cat(outs, dim=-1)
            if self.residual and y.shape == x.data.shape:
                y = y + x.data
            x = Padded(y, x.lengths).zeroed()
        return x, tuple(torch.stack(parts, dim=1) for parts in zip(*ended, strict=True))

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """One step for every row: x_t (B, D) -> (y_t (B, H), state)."""
        one = Padded(x_t[:, None], torch.ones(x_t.shape[0], dtype=torch.int64))
        y, state = self(one, state)
        return y.data[:, 0], state

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _drop_input(self, x: Tensor) -> Tensor:
        if not self.training or self.input_dropout == 0.0:
            return x
        keep = 1.0 - self.input_dropout
        return x * (x.new_empty((x.shape[0], 1, x.shape[2])).bernoulli_(keep) / keep)

    def _run(self, x: Padded, old: State, suffix: str) -> tuple[Tensor, State]:
        """One layer in one direction. old: each (B, H). Returns (B, T, H) and the last state, each (B, H)."""
        w_ih, w_hh, b_ih, b_hh = (
            self.get_parameter(f"{n}{suffix}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if self.training and self.recurrent_dropout > 0.0:
            keep = 1.0 - self.recurrent_dropout
            w_hh = w_hh * (w_hh.new_empty((1, self.hidden)).bernoulli_(keep) / keep)
        is_backward = suffix.endswith("_reverse")
        data = _reversed(x) if is_backward else x.data
        is_ragged = bool((x.lengths < data.shape[1]).any())
        h0 = old[0][None].contiguous()
        if self.cell == "lstm":
            if is_ragged:  # a column that flags padding shuts the input gate and opens the forget gate
                data = torch.cat([data, (~x.mask)[:, :, None].to(data.dtype)], dim=2)
                hold = w_ih.new_zeros((4, self.hidden))
                hold[0], hold[1] = -_HOLD, _HOLD
                w_ih = torch.cat([w_ih, hold.reshape(-1, 1)], dim=1)
            y, h, c = torch._VF.lstm(
                data,
                (h0, old[1][None].contiguous()),
                [w_ih, w_hh, b_ih, b_hh],  # type: ignore[attr-defined]
                True,
                1,
                0.0,
                self.training,
                False,
                True,
            )
            last = (_at_end(y, x.lengths, old[0]) if is_ragged else h[0], c[0])
        else:
            kernel = getattr(torch._VF, self.cell)  # type: ignore[attr-defined]
            y, h = kernel(data, h0, [w_ih, w_hh, b_ih, b_hh], True, 1, 0.0, self.training, False, True)
            last = (_at_end(y, x.lengths, old[0]) if is_ragged else h[0],)
        return (_reversed(Padded(y, x.lengths)) if is_backward else y), last


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
