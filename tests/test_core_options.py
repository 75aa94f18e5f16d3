"""The core's options: dropout, initial weights, precision, devices, the slow paths, and the mean as a baseline."""

from __future__ import annotations

import itertools

import pytest
import torch
from made_cores import CELLS, FUSED, B, D, H, T, by_hand, in_windows, make, random_state, sequences, weights_of
from torch import nn

from pipeline.models.core import GATED, GATES, Core
from pipeline.models.loop import Weights, run_loop
from pipeline.models.mean import MeanCore
from pipeline.models.minimal import recur, scan
from pipeline.models.saturation import gate_saturation
from pipeline.padded import Padded

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
each_cell = pytest.mark.parametrize("cell", CELLS)
each_fused = pytest.mark.parametrize("cell", FUSED)


def same(one, other) -> None:
    torch.testing.assert_close(one, other, **CLOSE)


@each_fused
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


@each_fused
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
        both = torch.stack(
            [p for name, p in core.named_parameters() if name.startswith("bias") and name.endswith(suffix)]
        ).sum(0)
        wanted = torch.zeros_like(both)
        if cell in ("lstm", "minlstm"):
            wanted[H : 2 * H] = 1.0  # the order of gates: input, forget, ...
        assert torch.equal(both, wanted)


@pytest.mark.parametrize("cell", GATED)
def test_memory_steps_set_what_a_step_keeps_and_writes(cell):
    """With biases alone a step keeps u / (1 + u) of the state, u spread over [1, memory - 1], and writes the rest."""
    torch.manual_seed(0)
    core = Core(cell=cell, input_size=D, hidden=500, memory_steps=40, bidirectional=True)
    for suffix in ("_l0", "_l0_reverse"):
        bias = core.get_parameter(f"bias_ih{suffix}").view(GATES[cell], 500)
        keep, write = {
            "lstm": (bias[1].sigmoid(), bias[0].sigmoid()),
            "gru": (bias[1].sigmoid(), 1 - bias[1].sigmoid()),
            "mingru": (1 - bias[0].sigmoid(), bias[0].sigmoid()),
            "minlstm": (bias[1].sigmoid(), bias[0].sigmoid()),  # they sum to 1, so f / (f + i) is f
        }[cell]
        same(keep + write, torch.ones(500))
        u = keep / (1 - keep)
        assert 0.99 < u.min() < 2 and 38 < u.max() < 39.01 and 18 < u.mean() < 22
        assert sum(int(row.abs().sum() > 0) for row in bias) == (2 if cell in ("lstm", "minlstm") else 1)


@each_cell
def test_a_core_trains_under_bf16_autocast(cell):
    core, project = make(cell, 2), nn.Linear(D, D)
    with torch.autocast("cpu", torch.bfloat16):
        begun = tuple(s.bfloat16() for s in core.initial_state(len(sequences().lengths)))
        y, state = core(sequences().map(project), begun)
    y.data.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in core.parameters())
    assert all(s.dtype == torch.float32 for s in state)


def test_nothing_strays_from_the_device_of_the_weights():
    """On the meta device a tensor that was made elsewhere stops the operation."""
    lengths = torch.tensor([4, 0, 2])
    for cell, bidirectional, mask in itertools.product(CELLS, (False, True), ("batch", "sequence")):
        if mask == "sequence" and cell not in FUSED:
            continue
        drop = {"recurrent_dropout": 0.5, "recurrent_mask": mask} if cell in FUSED else {}
        core = (
            make(cell, 2, bidirectional=bidirectional, residual=True, layer_norm=True, input_dropout=0.5, **drop)
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
    y, state = in_windows(core, x, [0, 3, 3, 8], core.initial_state(B))  # two of them are empty
    same(y, whole.data)
    same(state, end)
    one, state = core.step(torch.ones(B, D), end)
    same(one[1], core.mlp((x.data[1, :4].sum(0) + 1) / 5))
    shuffled, _ = core(Padded(x.data[:, torch.randperm(T)], x.lengths))
    same(shuffled.data[0, -1], whole.data[0, -1])  # row 0 is full: blind to order


@each_fused
def test_a_recurrent_mask_a_sequence_is_the_loop_with_its_own_masked_h(cell):
    core, x = make(cell, recurrent_dropout=0.4, recurrent_mask="sequence"), sequences((9, 3, 0, 6))
    core.train()
    torch.manual_seed(11)
    y, state = core(x)
    torch.manual_seed(11)
    masks = torch.empty(4, H).bernoulli_(0.6) / 0.6
    assert len(masks.unique(dim=0)) == 4
    for row, data in enumerate(x.unpad()):
        if len(data):
            wanted, end = by_hand(cell, data, tuple(torch.zeros(H) for _ in state), weights_of(core), masks[row])
            same(y.unpad()[row], wanted)
            same(tuple(s[row, 0] for s in state), end)
    assert all((s[2] == 0).all() for s in state)
    core.eval()
    torch.testing.assert_close(core(x)[0].data, make(cell)(x)[0].data, rtol=0, atol=0)


@each_fused
@pytest.mark.parametrize("lengths", [(11, 4, 1, 0, 7), (T,) * B])
def test_the_loop_equals_the_fused_kernel(cell, lengths):
    core, x = make(cell), sequences(lengths)
    start = random_state(core)
    wanted, end = core(x, start)
    mask = x.mask if min(lengths) < T else None
    y, state = run_loop(cell, x.data, mask, tuple(s[:, 0] for s in start), Weights(*weights_of(core)))
    same(Padded(y, x.lengths).zeroed().data, wanted.data)
    same(state, tuple(s[:, 0] for s in end))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 64, 1000])
def test_the_scan_equals_the_loop(steps):
    torch.manual_seed(0)
    odds = (6 * torch.randn(3, steps, H)).requires_grad_()  # from forgetting at once to keeping for ever
    new = torch.randn(3, steps, H).requires_grad_()
    start = torch.randn(3, H).requires_grad_()
    found = []
    for run in (recur, scan):
        y = run(odds.sigmoid(), (1 - odds.sigmoid()) * new, start)
        found.append((y.detach(), torch.autograd.grad((y * torch.linspace(-1, 1, H)).sum(), (odds, new, start))))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_t_1_and_t_of_many_windows_agree_for_lstm():
    """The step takes another kernel than the window; both have one truth."""
    core, x = make("lstm", 2), sequences((T, 3, 1, 0, T))
    start = random_state(core)
    whole, end = core(x, start)
    y, state = in_windows(core, x, list(range(1, T)), start)
    same(y, whole.data)
    same(state, end)


def test_input_dropout_and_recurrent_dropout_leave_the_gates_look_alone():
    core = make("lstm", input_dropout=0.5, recurrent_dropout=0.5).train()
    one, other = core.gates(sequences()), core.gates(sequences())
    assert all(n == m and torch.equal(a, b) for (n, a), (m, b) in zip(one, other, strict=True))


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gates_are_those_of_the_equations_at_valid_steps_only(cell, bidirectional):
    core, x = make(cell, 2, bidirectional=bidirectional), sequences()
    garbage = Padded(torch.where(x.mask[:, :, None], x.data, float("nan")), x.lengths)
    seen = core.gates(garbage)
    names = {
        "rnn_tanh": ["state"],
        "rnn_relu": ["state"],
        "lstm": ["input", "forget", "output", "state"],
        "gru": ["reset", "update", "state"],
        "mingru": ["update"],
        "minlstm": ["input", "forget", "keep"],
    }[cell]
    assert [n for n, _ in seen] == names * 2 * core.directions
    steps = int(x.lengths.sum())
    assert all(v.shape == (steps, H) and v.isfinite().all() for _, v in seen)
    if cell in ("mingru", "minlstm"):  # their gates see the input alone
        wanted = (
            x.data[x.mask] @ core.get_parameter("weight_ih_l0")[:H].T + core.get_parameter("bias_ih_l0")[:H]
        ).sigmoid()
        same(seen[0][1], wanted)


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.0), (10.0, 1.0), (-10.0, 1.0)])
def test_the_share_of_saturated_gates_follows_their_bias(bias, share):
    for cell in ("lstm", "gru", "mingru", "minlstm"):
        core = Core(cell=cell, input_size=D, hidden=H, layers=2, bidirectional=True)
        with torch.no_grad():
            for name, p in core.named_parameters():
                p.zero_()
                if name.startswith("bias_ih"):
                    p[: (GATES[cell] - 1) * H] = bias
        found = gate_saturation(core, sequences())
        gates = {n: s for n, s in found.items() if n not in ("state", "keep")}
        if cell == "lstm":
            assert gates.pop("output") == 0.0  # its block comes last and stayed at 1/2
        assert set(gates.values()) == {share} and found.get("keep", 0.0) == 0.0


def test_the_share_of_saturated_states():
    for cell, bias, share in (
        ("rnn_tanh", 9.0, 1.0),
        ("rnn_tanh", 1.0, 0.0),
        ("rnn_relu", -1.0, 1.0),
        ("rnn_relu", 1.0, 0.0),
    ):
        core = Core(cell=cell, input_size=D, hidden=H)  # type: ignore[arg-type]
        with torch.no_grad():
            for name, p in core.named_parameters():
                p.fill_(bias if name == "bias_ih_l0" else 0.0)
        assert gate_saturation(core, sequences()) == {"state": share}
    half = make("gru")
    with torch.no_grad():
        half.get_parameter("bias_ih_l0")[: H - 3] += 1000.0  # of 7 reset gates, 4 are stuck open
    x = sequences()
    assert gate_saturation(half, x)["reset"] >= 4 / 7
    assert gate_saturation(half, Padded(x.data, torch.zeros(B, dtype=torch.int64))) == {}


def test_gate_saturation_goes_on_from_a_state_and_leaves_the_core_as_it_was():
    core, x = make("lstm", recurrent_dropout=0.5).train(), sequences()
    full = gate_saturation(core, x, tuple(100 * torch.ones_like(s) for s in core.initial_state(B)))
    assert full["state"] > gate_saturation(core, x)["state"]
    assert core.training and all(p.grad is None for p in core.parameters())
