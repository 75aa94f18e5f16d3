"""The recurrent core: a stack of recurrent layers over a batch of sequences of unequal length.

In: a `Padded` sequence (B, T, D) and a `State`. Out: the outputs (B, T, H) and the state after the last valid step of
each row. The state is an argument and a result. The module stores none, so consecutive windows equal the whole:

    state = core.initial_state(batch)
    for window in windows:
        steps, state = core(window, state)

Knows nothing of videos, words, losses or generation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.recurrent.min_gru import minimal_gates, run_minimal
from pipeline.models.recurrent.stepwise import GateActivations, Weights, run_loop
from pipeline.padded import Padded, dropout_mask, sequence_dropout

State = tuple[Tensor, ...]
"""Each (B, layers * directions, H), batch first: two (h, c) for LSTM, one tensor for all other cells."""

Cell = Literal["rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "minlstm"]
NUM_GATES: dict[Cell, int] = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3, "mingru": 2, "minlstm": 3}
"""Row blocks of H rows each in a layer's weights: the gates and the candidate."""
MINIMAL_CELLS: tuple[Cell, ...] = ("mingru", "minlstm")
"""Cells without W_hh: their gates depend on x_t alone."""
GATED_CELLS: tuple[Cell, ...] = ("lstm", "gru", *MINIMAL_CELLS)
RecurrentMask = Literal["batch", "sequence"]
_SATURATING_LOGIT = 200.0  # sigmoid(-200) is 0 in float32, so the cell keeps its state to the last bit


class CoreProtocol(Protocol):
    """What the model needs of a core. `Core` and `MeanPoolCore` implement it."""

    output_size: int
    is_causal: bool

    def initial_state(self, batch: int) -> State:
        """The state before the first step."""
        ...

    def __call__(self, x: Padded, state: State | None = None) -> tuple[Padded, State]:
        """The outputs of every step and the state after the last valid one."""
        ...


class Core(nn.Module):
    """RNN, LSTM, GRU, minGRU or minLSTM over padded batches, on the fused kernels of torch and without packing.

    What each cell computes. W_ih x_t + b_ih and W_hh h_{t-1} + b_hh are cut into one block of H rows per gate, in the
    order in which the gates stand here; in_g and rec_g are the blocks of gate g, and * is the elementwise product.

        rnn_tanh, rnn_relu  (Elman 1990)
            h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        lstm  (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000)
            i_t = sigmoid(in_i + rec_i)         input gate
            f_t = sigmoid(in_f + rec_f)         forget gate
            g_t = tanh(in_g + rec_g)            candidate
            o_t = sigmoid(in_o + rec_o)         output gate
            c_t = f_t * c_{t-1} + i_t * g_t
            h_t = o_t * tanh(c_t)
        gru  (Cho et al. 2014, in the variant of cuDNN and torch: the reset gate acts after W_hh)
            r_t = sigmoid(in_r + rec_r)         reset gate
            z_t = sigmoid(in_z + rec_z)         update gate
            n_t = tanh(in_n + r_t * rec_n)      candidate
            h_t = (1 - z_t) * n_t + z_t * h_{t-1}
        mingru, minlstm  (Feng et al. 2024): no W_hh, see `min_gru.run_minimal`

    The output of a layer is h_t; with `residual` it is h_t plus the layer's input. The order of gates is that of torch,
    so the entries of `state_dict` equal those of torch.nn.RNN, LSTM and GRU. Recurrent weights are initialised
    orthogonal per gate block and input weights Xavier uniform per block. Biases are 0, except the forget bias of lstm
    and minlstm: `_init_forget_bias` sets it to 1 (Gers et al. 2000; Jozefowicz et al. 2015), or by `chrono_steps`. It
    stands in `bias_ih`; `bias_hh` stays 0, because the cell adds the two.

    A bidirectional layer runs a second recurrence from the last valid step of a row back to the first, and concatenates
    both outputs. Its output at step t depends on all later steps, so no output is final before the sequence has ended:
    such a core cannot process a stream and cannot continue from a state.

    Dropout is variational (Gal & Ghahramani 2016): a mask is constant in time. The input of each layer has one mask per
    sequence. For h_{t-1} there are two kinds. `batch`: one mask for the whole batch, applied to the columns of W_hh, so
    the fused kernel still runs and the cost is close to zero. `sequence`: one mask per sequence, which needs a loop in
    Python while training: 1.4 times the fused time of an LSTM on the CPU, 1.0 to 1.3 times that of the others, more on
    a GPU (`make show P=dropout-cost`).

    Values in the padding (NaN too) change neither outputs nor gradients. Outputs in the padding are zero. Length 0 is
    legal and returns the old state.

    Args:
        cell: which recurrence. input_size: D of x. hidden: H of one direction. layers: stacked layers.
        bidirectional: add the backward direction.
        residual: add a layer's input to its output where their widths are equal.
        layer_norm: normalise the input of each layer but the first (Ba et al. 2016), inside the residual branch.
        input_dropout: on each layer's input. recurrent_dropout: on h_{t-1}. Both are probabilities of zero.
        recurrent_mask: which of the two masks on h_{t-1}.
        chrono_steps: the longest memory, in steps, with which a gated cell is initialised; each unit draws its own
        (chrono initialisation, Tallec & Ollivier 2018). 0: the forget bias is 1. For dependencies over many steps.

    Raises ValueError for an unknown cell, and for options that the cell does not have.
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
        recurrent_mask: RecurrentMask = "batch",
        chrono_steps: int = 0,
    ) -> None:
        super().__init__()
        _check_options(cell, recurrent_dropout, chrono_steps)
        self.cell: Cell = cell
        self.hidden, self.layers, self.residual = hidden, layers, residual
        self.directions = 2 if bidirectional else 1
        self.input_dropout, self.recurrent_dropout = input_dropout, recurrent_dropout
        self.recurrent_mask: RecurrentMask = recurrent_mask
        self.chrono_steps = chrono_steps
        self.output_size = hidden * self.directions
        self.is_causal = not bidirectional
        for layer in range(layers):
            width = input_size if layer == 0 else self.output_size
            for suffix in self._suffixes(layer):
                for name, shape in self._shapes(width).items():
                    weight = nn.Parameter(torch.empty(NUM_GATES[cell] * hidden, *shape))
                    self.register_parameter(f"{name}{suffix}", weight)
        self.norms = nn.ModuleList(nn.LayerNorm(self.output_size) for _ in range(layers - 1 if layer_norm else 0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise: orthogonal recurrent blocks, Xavier input blocks, zero biases except the forget bias."""
        for name, parameter in self.named_parameters(recurse=False):
            with torch.no_grad():
                if name.startswith("weight"):
                    init = nn.init.orthogonal_ if "_hh" in name else nn.init.xavier_uniform_
                    for block in parameter.chunk(NUM_GATES[self.cell]):
                        init(block)
                else:
                    parameter.zero_()
                    if "_ih" in name:
                        self._init_forget_bias(parameter.view(NUM_GATES[self.cell], self.hidden))
        for norm in self.norms:
            norm.reset_parameters()  # type: ignore[operator]

    def _init_forget_bias(self, bias: Tensor) -> None:
        """Set the biases of the gates that keep the state. bias: (gates, H), all zero.

        Chrono initialisation: with u uniform in [1, chrono_steps - 1] per unit, a step keeps u / (1 + u) of the state
        and writes 1 / (1 + u), because sigmoid(log u) = u / (1 + u). Its time constant is about u steps.
        """
        if self.chrono_steps:
            log_u = torch.empty_like(bias[0]).uniform_(1.0, self.chrono_steps - 1.0).log()
            if self.cell in ("lstm", "minlstm"):  # input gate, forget gate
                bias[0], bias[1] = -log_u, log_u
            elif self.cell == "gru":  # reset gate, update gate: z keeps the state in torch
                bias[1] = log_u
            else:  # update gate: z writes in minGRU
                bias[0] = -log_u
        elif self.cell in ("lstm", "minlstm"):
            bias[1] = 1.0

    def initial_state(self, batch: int) -> State:
        """Zeros, on the device and in the dtype of the weights."""
        weight = self.get_parameter("weight_ih_l0")
        count = 2 if self.cell == "lstm" else 1
        return tuple(weight.new_zeros((batch, self.layers * self.directions, self.hidden)) for _ in range(count))

    def forward(self, x: Padded, state: State | None = None) -> tuple[Padded, State]:
        """x: (B, T, D). Returns the outputs (B, T, H * directions) and the state after them.

        Truncated back-propagation cuts the graph between two windows: tuple(s.detach() for s in state).

        Raises ValueError when a bidirectional core gets a state, because its backward direction starts at the end, and
        for an input that is not a `Padded`.
        """
        if not isinstance(x, Padded):
            raise ValueError(
                f"The core got {type(x).__name__}, and it reads a Padded: data (B, T, D) with the length of each row. "
                "Make one with unreel.stack([...]) from rows (T, D), or with unreel.Padded(data, lengths)."
            )
        return self._run_layers(x, state, None)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of every row: x_t (B, D) and the state before it -> (y_t (B, H), the state after it)."""
        one = Padded(x_t[:, None], torch.ones(x_t.shape[0], dtype=torch.int64))
        y, state = self(one, state)
        return y.data[:, 0], state

    def flatten_parameters(self) -> None:
        """Keep the weights of each layer and direction in one buffer, see `Weights.for_kernel`."""
        for suffix in (suffix for layer in range(self.layers) for suffix in self._suffixes(layer)):
            weights = self._weights(suffix)
            for parameter, joined in zip(weights, weights.in_one_buffer(), strict=True):
                parameter.data = joined.detach()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Core:
        """Every move to a device ends here: on a GPU the kernels want the weights in one buffer."""
        super()._apply(fn, recurse)
        if self.cell not in MINIMAL_CELLS and self.get_parameter("weight_ih_l0").device.type == "cuda":
            self.flatten_parameters()
        return self

    def gates(self, x: Padded, state: State | None = None) -> list[tuple[str, Tensor]]:
        """The activations of every gate over a batch, without dropout: (name, (valid steps of the batch, H)) for each
        layer and direction. Computed step by step in Python.
        """
        activations: list[tuple[str, Tensor]] = []
        self._run_layers(x, state, activations)
        return activations

    def _run_layers(
        self, x: Padded, state: State | None, activations: list[tuple[str, Tensor]] | None
    ) -> tuple[Padded, State]:
        """All layers, in the dtype of the weights: rounding errors would accumulate over the steps, and the fused
        kernels refuse mixed types. Gate activations are appended to `activations` where it is a list.
        """
        if state is not None and not self.is_causal:
            raise ValueError(
                "This core is bidirectional, so it cannot continue from a state: its backward direction starts at the "
                "end of a sequence. Give it whole sequences, or train with core.bidirectional=false."
            )
        dtype = self.get_parameter("weight_ih_l0").dtype
        initial = tuple(s.to(dtype) for s in state) if state is not None else self.initial_state(x.data.shape[0])
        x = x.map(lambda d: d.to(dtype))
        if x.data.shape[1] == 0:
            return x.map(lambda d: d.new_zeros((*d.shape[:2], self.output_size))), initial
        mask = None if x.is_full else x.mask  # without padding no mask is needed
        device_type = x.data.device.type
        is_autocast = torch.amp.is_autocast_available(device_type)
        with torch.autocast(device_type, enabled=False) if is_autocast else nullcontext():
            final: list[State] = []
            x = x if mask is None else x.zeroed()
            for layer in range(self.layers):
                x, layer_states = self._run_layer(layer, x, mask, initial, activations)
                final += layer_states
        return x, tuple(torch.stack(parts, dim=1) for parts in zip(*final, strict=True))

    def _run_layer(
        self, layer: int, x: Padded, mask: Tensor | None, initial: State, activations: list[tuple[str, Tensor]] | None
    ) -> tuple[Padded, list[State]]:
        """One layer over zero-padded sequences: its zero-padded outputs and the last state of each direction."""
        inner = x.map(self.norms[layer - 1]) if layer > 0 and len(self.norms) else x
        inner = inner if activations is not None else inner.map(self._drop_input)
        outputs: list[Tensor] = []
        states: list[State] = []
        for direction, suffix in enumerate(self._suffixes(layer)):
            start = tuple(s[:, layer * self.directions + direction] for s in initial)
            is_backward = direction == 1
            data = _reversed(inner) if is_backward else inner.data
            if activations is not None:
                y, state = self._run_with_gates(data, mask, start, suffix, activations)
            else:
                y, state = self._run_direction(data, x.lengths, mask, start, suffix)
            outputs.append(_reversed(Padded(y, x.lengths)) if is_backward else y)
            states.append(state)
        y = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        if self.residual and y.shape == x.data.shape:
            y = y + x.data
        return (Padded(y, x.lengths) if mask is None else Padded(y, x.lengths).zeroed()), states

    def _run_direction(
        self, data: Tensor, lengths: Tensor, mask: Tensor | None, state: State, suffix: str
    ) -> tuple[Tensor, State]:
        """One layer in one direction, on the fastest path. data: (B, T, D), right-padded. state: each (B, H).
        Returns (B, T, H) with any values in the padding, and the last valid state, each (B, H).
        """
        if self.cell in MINIMAL_CELLS:
            y = run_minimal(self.cell, self._project(data, suffix), mask, state[0])
            return y, (y[:, -1],)
        weights = self._weights(suffix)
        if self.training and self.recurrent_dropout > 0.0:
            if self.recurrent_mask == "sequence":
                h_mask = self._recurrent_dropout_mask(state[0], data.shape[0])
                return run_loop(self.cell, data, mask, state, weights, h_mask=h_mask)
            weights = weights._replace(hh=weights.hh * self._recurrent_dropout_mask(weights.hh, 1))
        if self.cell == "lstm":
            return _lstm(data, lengths, mask, state, weights, self.training)
        kernel = getattr(torch._VF, self.cell)  # type: ignore[attr-defined]
        y, h = kernel(data, state[0][None].contiguous(), weights.for_kernel(), True, 1, 0.0, self.training, False, True)
        return y, (h[0] if mask is None else _last_valid(y, lengths, state[0]),)

    def _run_with_gates(
        self, data: Tensor, mask: Tensor | None, state: State, suffix: str, activations: list[tuple[str, Tensor]]
    ) -> tuple[Tensor, State]:
        """As `_run_direction` without dropout, on the slow path. Appends each gate's activations at valid steps."""
        if self.cell in MINIMAL_CELLS:
            projected = self._project(data, suffix)
            y = run_minimal(self.cell, projected, mask, state[0])
            last: State = (y[:, -1],)
            gates = minimal_gates(self.cell, projected)
        else:
            steps: list[GateActivations] = []
            y, last = run_loop(self.cell, data, mask, state, self._weights(suffix), on_gates=steps.append)
            gates = {name: torch.stack([step[name] for step in steps], dim=1) for name in steps[0]}
        activations += [(name, v.flatten(0, 1) if mask is None else v[mask]) for name, v in gates.items()]
        return y, last

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """A layer's parameters without their first axis: in torch's order, in which the random generator fills them."""
        if self.cell in MINIMAL_CELLS:
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
        return sequence_dropout(x, self.input_dropout)

    def _recurrent_dropout_mask(self, like: Tensor, rows: int) -> Tensor:
        """The mask that h_{t-1} is multiplied with, (rows, H)."""
        return dropout_mask(like, (rows, self.hidden), self.recurrent_dropout)


def _check_options(cell: str, recurrent_dropout: float, chrono_steps: int) -> None:
    """Raise ValueError for an unknown cell, and for options that the cell does not have."""
    if cell not in NUM_GATES:
        raise ValueError(f"cell = '{cell}' is not known. One of: {', '.join(NUM_GATES)}.")
    if cell in MINIMAL_CELLS and recurrent_dropout:
        raise ValueError(
            f"recurrent_dropout is {recurrent_dropout:g}, and cell {cell} has no recurrent weights. Use input_dropout."
        )
    if chrono_steps and (chrono_steps < 3 or cell not in GATED_CELLS):
        raise ValueError(
            f"chrono_steps is {chrono_steps} and cell is {cell}. It must be 3 or more, for one of "
            f"{', '.join(GATED_CELLS)}; 0 leaves it out."
        )


def _lstm(
    data: Tensor, lengths: Tensor, mask: Tensor | None, state: State, weights: Weights, training: bool
) -> tuple[Tensor, State]:
    """One LSTM layer in one direction on the fused kernel. It returns c of the last padded step only, so in the padding
    the cell must keep c: one more input column flags the padding, closes the input gate and opens the forget gate.
    """
    if data.shape[1] == 1:  # oneDNN packs the weights at each call: 2.3 ms for a step of 512 units, 0.7 ms without it
        new = torch._VF.lstm_cell(data[:, 0], list(state), *weights)  # type: ignore[attr-defined]
        if mask is not None:
            new = tuple(torch.where(mask, n, o) for n, o in zip(new, state, strict=True))
        return new[0][:, None], tuple(new)
    if mask is not None:
        data = torch.cat([data, (~mask)[:, :, None].to(data.dtype)], dim=2)
        column = weights.ih.new_zeros((4, weights.hh.shape[1]))
        column[0], column[1] = -_SATURATING_LOGIT, _SATURATING_LOGIT
        weights = weights._replace(ih=torch.cat([weights.ih, column.reshape(-1, 1)], dim=1))
    start = [s[None].contiguous() for s in state]
    y, h, c = torch._VF.lstm(  # type: ignore[attr-defined]
        data, start, weights.for_kernel(), True, 1, 0.0, training, False, True
    )
    return y, (h[0] if mask is None else _last_valid(y, lengths, state[0]), c[0])


def _reversed(x: Padded) -> Tensor:
    """The valid part of each row backwards, its padding where it was: step t reads from length - 1 - t."""
    steps = torch.arange(x.data.shape[1], device=x.data.device)[None, :]
    lengths = x.device_lengths[:, None]
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.data.gather(1, index[:, :, None].expand(x.data.shape))


def _last_valid(y: Tensor, lengths: Tensor, initial: Tensor) -> Tensor:
    """The last valid step of each row of y (B, T, H); `initial` (B, H) where the length is 0."""
    padded = Padded(y, lengths)
    return torch.where((padded.device_lengths > 0)[:, None], padded.last(), initial)
