"""The recurrent core: windows equal the whole, padding is inert, and the equations are the published ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.models.core import GATES, Core, State
from pipeline.models.mean import MeanCore
from pipeline.padded import Padded, stack

CELLS = list(GATES)
B, T, D, H = 5, 11, 6, 7
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
each_cell = pytest.mark.parametrize("cell", CELLS)
each_shape = pytest.mark.parametrize(("layers", "residual"), [(1, False), (2, False), (3, True)])


def make(cell: str, layers: int = 1, **settings) -> Core:
    """A core whose biases are not zero either, so that no term can hide."""
    torch.manual_seed(0)
    core = Core(cell=cell, input_size=D, hidden=H, layers=layers, **settings)  # type: ignore[arg-type]
    with torch.no_grad():
        for p in core.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return core


def sequences(lengths=(11, 4, 1, 0, 7), seed: int = 1) -> Padded:
    torch.manual_seed(seed)
    return Padded(torch.randn(len(lengths), max(1, *lengths), D), torch.tensor(lengths))


def random_state(core: Core, batch: int = B) -> State:
    torch.manual_seed(5)
    return tuple(torch.randn_like(s) for s in core.initial_state(batch))


def same(one, other) -> None:
    torch.testing.assert_close(one, other, **CLOSE)


def windows(x: Padded, cuts: list[int]) -> list[Padded]:
    """x cut at the given steps; a row may have nothing left in a window."""
    return [
        Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a))
        for a, b in itertools.pairwise([0, *cuts, x.data.shape[1]])
    ]


def by_hand(
    cell: str, x: Tensor, state: State, weights: list[Tensor], mask: Tensor | float = 1.0
) -> tuple[Tensor, State]:
    """One row, one layer, step by step, written from the papers. x (T, D); state each (H,); mask on h_{t-1}."""
    w_ih, w_hh, b_ih, b_hh = weights
    h, c = state[0], state[-1]
    out = []
    for x_t in x:
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


def weights_of(core: Core, suffix: str = "_l0") -> list[Tensor]:
    return [core.get_parameter(f"{n}{suffix}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


@each_cell
@each_shape
@pytest.mark.parametrize("seed", range(3))
def test_random_windows_equal_the_whole(cell, layers, residual, seed):
    core, x = make(cell, layers, residual=residual), sequences()
    generator = torch.Generator().manual_seed(seed)
    cuts = sorted(set(torch.randint(0, T + 1, (4,), generator=generator).tolist()))  # empty windows too
    start = random_state(core)
    whole, end = core(x, start)
    state, parts = start, []
    for window in windows(x, cuts):
        y, state = core(window, state)
        parts.append(y.data)
    same(torch.cat(parts, dim=1), whole.data)
    same(state, end)


@each_cell
@each_shape
def test_step_by_step_equals_the_whole(cell, layers, residual):
    core, x = make(cell, layers, residual=residual), sequences((T,) * B)
    whole, end = core(x)
    state, outs = core.initial_state(B), []
    for t in range(T):
        y, state = core.step(x.data[:, t], state)
        outs.append(y)
    same(torch.stack(outs, dim=1), whole.data)
    same(state, end)


@each_cell
@each_shape
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("garbage", [float("nan"), 1e30])
def test_garbage_in_the_padding_changes_neither_outputs_nor_gradients(cell, layers, residual, bidirectional, garbage):
    core, clean = make(cell, layers, residual=residual, bidirectional=bidirectional), sequences()
    found = []
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        core.zero_grad()
        y, state = core(Padded(data, clean.lengths))
        (y.data.square().sum() + sum(s.square().sum() for s in state)).backward()
        found.append((y.data.detach(), [s.detach() for s in state], [p.grad for p in core.parameters()], data.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert (found[1][0][~clean.mask] == 0).all() and (found[1][3][~clean.mask] == 0).all()
    assert found[1][3][clean.mask].abs().sum() > 0


@each_cell
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_torch_on_packed_sequences_by_the_same_state_dict(cell, layers, bidirectional):
    core, x = make(cell, layers, bidirectional=bidirectional), sequences((11, 4, 1, 7, 2))
    settings = {"num_layers": layers, "batch_first": True, "bidirectional": bidirectional}
    oracle = (nn.LSTM(D, H, **settings) if cell == "lstm" else nn.GRU(D, H, **settings) if cell == "gru"
              else nn.RNN(D, H, nonlinearity=cell.removeprefix("rnn_"), **settings))  # fmt: skip
    oracle.load_state_dict(core.state_dict())
    packed, end = oracle(pack_padded_sequence(x.data, x.lengths, batch_first=True, enforce_sorted=False))
    wanted, _ = pad_packed_sequence(packed, batch_first=True)
    y, state = core(x)
    same(y.data, wanted)
    ends = end if cell == "lstm" else (end,)
    assert len(state) == len(ends)
    for ours, theirs in zip(state, ends, strict=True):
        same(ours, theirs.transpose(0, 1))


@each_cell
def test_equations_by_hand_from_a_state(cell):
    core, x = make(cell), sequences((9, 3))
    start = random_state(core, 2)
    y, state = core(x, start)
    for row, data in enumerate(x.unpad()):
        wanted, end = by_hand(cell, data, tuple(s[row, 0] for s in start), weights_of(core))
        same(y.unpad()[row], wanted)
        same(tuple(s[row, 0] for s in state), end)


@pytest.mark.parametrize(("cell", "act"), [("rnn_tanh", torch.tanh), ("rnn_relu", torch.relu)])
def test_the_elman_equations(cell, act):
    """h_t = act(W_h h_{t-1} + W_x x_t + b), y_t = act(W_y h_t + b_y): a second layer without recurrence is the output."""
    core = make(cell, layers=2)
    with torch.no_grad():
        core.get_parameter("weight_hh_l1").zero_()
    w_x, w_h, b_x, b_h = weights_of(core)
    w_y, _, b_y, b_y2 = weights_of(core, "_l1")
    x = sequences((8,))
    h, wanted = torch.zeros(H), []
    for x_t in x.data[0]:
        h = act(w_h @ h + w_x @ x_t + (b_x + b_h))
        wanted.append(act(w_y @ h + (b_y + b_y2)))
    y, state = core(x)
    same(y.data[0], torch.stack(wanted))
    same(state[0][0, 0], h)


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_final_state_is_that_of_the_last_valid_step(cell, bidirectional):
    core, x = make(cell, 2, bidirectional=bidirectional), sequences()
    _, state = core(x)
    for row, data in enumerate(x.unpad()):
        if len(data):
            _, alone = core(stack([data]))
            same(tuple(s[row] for s in state), tuple(s[0] for s in alone))


@each_cell
def test_length_0_returns_the_old_state_and_moves_no_other_row(cell):
    core, x = make(cell, 2), sequences((4, 0, 2, 0, 1))
    start = random_state(core)
    y, state = core(x, start)
    for now, before in zip(state, start, strict=True):
        assert torch.equal(now[[1, 3]], before[[1, 3]])
        assert not torch.isclose(now[[0, 2, 4]], before[[0, 2, 4]]).all(-1).any()
    assert (y.data[[1, 3]] == 0).all()
    nothing, untouched = core(Padded(torch.zeros(B, 0, D), torch.zeros(B, dtype=torch.int64)), start)
    assert nothing.data.shape == (B, 0, H) and all(map(torch.equal, untouched, start))


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_step_sequences(cell, bidirectional):
    core, x = make(cell, bidirectional=bidirectional), sequences((1, 1, 0, 1, 1))
    y, state = core(x)
    wanted, _ = by_hand(cell, x.data[0], tuple(torch.zeros(H) for _ in state), weights_of(core))
    assert y.data.shape == (B, 1, core.output_size)
    same(y.data[0, :, :H], wanted)
    same(state[0][0, 0], wanted[0])


@each_cell
def test_rows_of_a_state_are_reset_picked_and_joined_alone(cell):
    core, first, second = make(cell, 2), sequences((5,) * B, seed=2), sequences((6,) * B, seed=3)
    _, state = core(first)
    goes_on, _ = core(second, state)
    afresh, _ = core(second)
    reset = tuple(s.clone() for s in state)
    for s, zero in zip(reset, core.initial_state(1), strict=True):
        s[2] = zero[0]
    mixed, _ = core(second, reset)
    same(mixed.data[2], afresh.data[2])
    same(mixed.data[[0, 1, 3, 4]], goes_on.data[[0, 1, 3, 4]])

    order = torch.tensor([3, 0, 3])
    picked, _ = core(Padded(second.data[order], second.lengths[order]), tuple(s.index_select(0, order) for s in state))
    same(picked.data, goes_on.data[order])

    joined = tuple(torch.cat([a[:2], b]) for a, b in zip(state, core.initial_state(1), strict=True))
    together, _ = core(Padded(second.data[:3], second.lengths[:3]), joined)
    same(together.data, torch.cat([goes_on.data[:2], afresh.data[2:3]]))


@each_cell
def test_recurrent_dropout_is_the_loop_with_one_masked_h_for_the_batch(cell):
    core, x, keep = make(cell, recurrent_dropout=0.4), sequences((9, 3, 6)), 0.6
    core.train()
    torch.manual_seed(11)
    y, state = core(x)
    torch.manual_seed(11)
    mask = (torch.empty(1, H).bernoulli_(keep) / keep)[0]
    assert 0 < (mask == 0).sum() < H
    for row, data in enumerate(x.unpad()):
        wanted, end = by_hand(cell, data, tuple(torch.zeros(H) for _ in state), weights_of(core), mask)
        same(y.unpad()[row], wanted)
        same(tuple(s[row, 0] for s in state), end)
    core.eval()
    torch.testing.assert_close(core(x)[0].data, make(cell)(x)[0].data, rtol=0, atol=0)


def test_the_input_dropout_mask_is_constant_in_time_and_differs_between_rows():
    core = Core(cell="rnn_relu", input_size=H, hidden=H, input_dropout=0.5)
    with torch.no_grad():
        core.get_parameter("weight_ih_l0").copy_(torch.eye(H))
        core.get_parameter("weight_hh_l0").zero_()
    torch.manual_seed(0)
    y, _ = core.train()(Padded(torch.ones(40, T, H), torch.full((40,), T)))
    assert torch.equal(y.data, y.data[:, :1].expand_as(y.data))
    assert sorted(y.data.unique().tolist()) == [0.0, 2.0]
    assert len(y.data[:, 0].unique(dim=0)) > 20 and 0.4 < (y.data > 0).float().mean() < 0.6
    assert (core.eval()(Padded(torch.ones(2, T, H), torch.tensor([T, T])))[0].data == 1).all()


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_weights_start_orthogonal_gate_by_gate(cell, bidirectional):
    core = Core(cell=cell, input_size=D, hidden=H, layers=2, bidirectional=bidirectional)
    names = [n for n, _ in core.named_parameters() if n.startswith("weight_hh")]
    assert len(names) == 2 * core.directions
    for name in names:
        for block in core.get_parameter(name).chunk(GATES[cell]):
            same(block @ block.T, torch.eye(H))


@each_cell
def test_the_forget_bias_starts_at_1_and_all_others_at_0(cell):
    core = Core(cell=cell, input_size=D, hidden=H, bidirectional=True)
    for suffix in ("_l0", "_l0_reverse"):
        both = core.get_parameter(f"bias_ih{suffix}") + core.get_parameter(f"bias_hh{suffix}")
        wanted = torch.zeros_like(both)
        if cell == "lstm":
            wanted[H : 2 * H] = 1.0  # torch's order of gates: input, forget, cell, output
        assert torch.equal(both, wanted)


def test_a_bidirectional_core_refuses_a_state_by_name():
    core = make("gru", bidirectional=True)
    assert not core.is_causal
    with pytest.raises(
        ValueError, match="This core is bidirectional, so it cannot go on from a state.*core.bidirectional=false"
    ):
        core(sequences(), core.initial_state(B))


@each_cell
def test_a_core_trains_under_bf16_autocast(cell):
    core, project = make(cell, 2), nn.Linear(D, D)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = core(sequences().map(project))
    y.data.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in core.parameters())
    assert all(s.dtype == torch.float32 for s in state)


@pytest.mark.parametrize("layers", [0, 2])
def test_the_mean_core_is_the_masked_mean_and_windows_equal_the_whole(layers):
    torch.manual_seed(0)
    core, x = MeanCore(input_size=D, hidden=H, layers=layers), sequences()
    x = Padded(torch.where(x.mask[:, :, None], x.data, float("nan")), x.lengths)
    whole, end = core(x)
    for row, data in enumerate(x.unpad()):
        for t in range(len(data)):
            same(whole.data[row, t], core.mlp(data[: t + 1].mean(0)))
    assert (whole.data[~x.mask] == 0).all()
    state, parts = core.initial_state(B), []
    for window in windows(x, [0, 3, 3, 8]):  # two of them are empty
        y, state = core(window, state)
        parts.append(y.data)
    same(torch.cat(parts, dim=1), whole.data)
    same(state, end)
    one, state = core.step(torch.ones(B, D), end)
    same(one[1], core.mlp((x.data[1, :4].sum(0) + 1) / 5))
    shuffled, _ = core(Padded(x.data[:, torch.randperm(T)], x.lengths))
    same(shuffled.data[0, -1], whole.data[0, -1])  # row 0 is full: blind to order


def test_nothing_strays_from_the_device_of_the_weights():
    """On the meta device a tensor that was made elsewhere stops the operation."""
    lengths = torch.tensor([4, 0, 2])
    for cell, bidirectional in itertools.product(CELLS, (False, True)):
        core = (
            make(cell, 2, bidirectional=bidirectional, residual=True, input_dropout=0.5, recurrent_dropout=0.5)
            .to("meta")
            .train()
        )
        y, state = core(Padded(torch.empty(3, 4, D, device="meta"), lengths))
        y.data.sum().backward()
        assert {t.device.type for t in (y.data, *state, *(p.grad for p in core.parameters()))} == {"meta"}
        if not bidirectional:
            y_t, state = core.step(torch.empty(3, D, device="meta"), state)
            assert y_t.device.type == state[0].device.type == "meta"
    mean = MeanCore(input_size=D, hidden=H, layers=1, dropout=0.5).to("meta").train()
    y, state = mean(Padded(torch.empty(3, 4, D, device="meta"), lengths))
    assert {t.device.type for t in (y.data, *state, *mean.initial_state(2))} == {"meta"}
