"""Options of the core: dropout, initial weights, precision, devices, the slow paths; and mean pooling, the baseline."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from made_cores import (
    CELLS,
    FUSED_CELLS,
    B,
    D,
    H,
    T,
    by_hand,
    make,
    random_state,
    run_windows,
    saved_bytes,
    sequences,
    weights_of,
)
from torch import nn

from pipeline.models.recurrent.core import GATED_CELLS, NUM_GATES, Core
from pipeline.models.recurrent.gate_saturation import gate_saturation
from pipeline.models.recurrent.mean_pool import MeanPoolCore
from pipeline.models.recurrent.min_gru import parallel_scan, sequential_scan
from pipeline.models.recurrent.stepwise import Weights, run_loop
from pipeline.padded import Padded

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
each_cell = pytest.mark.parametrize("cell", CELLS)
each_fused = pytest.mark.parametrize("cell", FUSED_CELLS)


def assert_close(one, other) -> None:
    torch.testing.assert_close(one, other, **CLOSE)


@each_fused
def test_recurrent_dropout_masks_h_with_one_mask_for_the_batch(cell):
    core, x, keep = make(cell, recurrent_dropout=0.4), sequences((9, 3, 6)), 0.6
    core.train()
    torch.manual_seed(11)
    y, state = core(x)
    torch.manual_seed(11)
    mask = (torch.empty(1, H).bernoulli_(keep) / keep)[0]
    assert 0 < (mask == 0).sum() < H
    for row, data in enumerate(x.unpad()):
        expected, end = by_hand(cell, data, tuple(torch.zeros(H) for _ in state), weights_of(core), mask)
        assert_close(y.unpad()[row], expected)
        assert_close(tuple(s[row, 0] for s in state), end)
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
        for block in core.get_parameter(name).chunk(NUM_GATES[cell]):
            assert_close(block @ block.T, torch.eye(H))


@each_cell
def test_the_forget_bias_starts_at_1_and_all_others_at_0(cell):
    core = Core(cell=cell, input_size=D, hidden=H, bidirectional=True)
    for suffix in ("_l0", "_l0_reverse"):
        both = torch.stack(
            [p for name, p in core.named_parameters() if name.startswith("bias") and name.endswith(suffix)]
        ).sum(0)
        expected = torch.zeros_like(both)
        if cell in ("lstm", "minlstm"):
            expected[H : 2 * H] = 1.0  # the order of gates: input, forget, ...
        assert torch.equal(both, expected)


@pytest.mark.parametrize("cell", GATED_CELLS)
def test_chrono_steps_set_the_shares_that_a_step_keeps_and_writes(cell):
    """By its biases a step keeps u / (1 + u) of the state and writes the rest, u uniform in [1, chrono_steps - 1]."""
    torch.manual_seed(0)
    core = Core(cell=cell, input_size=D, hidden=500, chrono_steps=40, bidirectional=True)
    for suffix in ("_l0", "_l0_reverse"):
        bias = core.get_parameter(f"bias_ih{suffix}").view(NUM_GATES[cell], 500)
        keep, write = {
            "lstm": (bias[1].sigmoid(), bias[0].sigmoid()),
            "gru": (bias[1].sigmoid(), 1 - bias[1].sigmoid()),
            "mingru": (1 - bias[0].sigmoid(), bias[0].sigmoid()),
            "minlstm": (bias[1].sigmoid(), bias[0].sigmoid()),  # they sum to 1, so f / (f + i) is f
        }[cell]
        assert_close(keep + write, torch.ones(500))
        u = keep / (1 - keep)
        assert 0.99 < u.min() < 2 and 38 < u.max() < 39.01 and 18 < u.mean() < 22
        assert sum(int(row.abs().sum() > 0) for row in bias) == (2 if cell in ("lstm", "minlstm") else 1)


@each_cell
def test_a_core_trains_under_bf16_autocast(cell):
    core, project = make(cell, 2), nn.Linear(D, D)
    with torch.autocast("cpu", torch.bfloat16):
        start = tuple(s.bfloat16() for s in core.initial_state(len(sequences().lengths)))
        y, state = core(sequences().map(project), start)
    y.data.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in core.parameters())
    assert all(s.dtype == torch.float32 for s in state)


def test_all_tensors_are_on_the_device_of_the_weights():
    """On the meta device an operation fails if one of its tensors is on another device."""
    lengths = torch.tensor([4, 0, 2])
    for cell, bidirectional, mask in itertools.product(CELLS, (False, True), ("batch", "sequence")):
        if mask == "sequence" and cell not in FUSED_CELLS:
            continue
        dropout = {"recurrent_dropout": 0.5, "recurrent_mask": mask} if cell in FUSED_CELLS else {}
        core = (
            make(cell, 2, bidirectional=bidirectional, residual=True, layer_norm=True, input_dropout=0.5, **dropout)
            .to("meta")
            .train()
        )
        y, state = core(Padded(torch.empty(3, 4, D, device="meta"), lengths))
        y.data.sum().backward()
        assert {t.device.type for t in (y.data, *state, *(p.grad for p in core.parameters()))} == {"meta"}
        if not bidirectional:
            y_t, state = core.step(torch.empty(3, D, device="meta"), state)
            assert y_t.device.type == state[0].device.type == "meta"
    mean = MeanPoolCore(input_size=D, hidden=H, layers=1, dropout=0.5).to("meta").train()
    y, state = mean(Padded(torch.empty(3, 4, D, device="meta"), lengths))
    assert {t.device.type for t in (y.data, *state, *mean.initial_state(2))} == {"meta"}


@pytest.mark.parametrize("layers", [0, 2])
def test_mean_pooling_is_the_masked_mean_and_windows_equal_the_whole(layers):
    torch.manual_seed(0)
    core, x = MeanPoolCore(input_size=D, hidden=H, layers=layers), sequences()
    x = Padded(torch.where(x.mask[:, :, None], x.data, float("nan")), x.lengths)
    whole, end = core(x)
    for row, data in enumerate(x.unpad()):
        for t in range(len(data)):
            assert_close(whole.data[row, t], core.mlp(data[: t + 1].mean(0)))
    assert (whole.data[~x.mask] == 0).all()
    y, state = run_windows(core, x, [0, 3, 3, 8], core.initial_state(B))  # two of them are empty
    assert_close(y, whole.data)
    assert_close(state, end)
    y_t, state = core.step(torch.ones(B, D), end)
    assert_close(y_t[1], core.mlp((x.data[1, :4].sum(0) + 1) / 5))
    shuffled, _ = core(Padded(x.data[:, torch.randperm(T)], x.lengths))
    assert_close(shuffled.data[0, -1], whole.data[0, -1])  # row 0 has no padding: its mean does not depend on the order


@each_fused
def test_recurrent_dropout_masks_h_with_one_mask_per_sequence(cell):
    core, x = make(cell, recurrent_dropout=0.4, recurrent_mask="sequence"), sequences((9, 3, 0, 6))
    core.train()
    torch.manual_seed(11)
    y, state = core(x)
    torch.manual_seed(11)
    masks = torch.empty(4, H).bernoulli_(0.6) / 0.6
    assert len(masks.unique(dim=0)) == 4
    for row, data in enumerate(x.unpad()):
        if len(data):
            expected, end = by_hand(cell, data, tuple(torch.zeros(H) for _ in state), weights_of(core), masks[row])
            assert_close(y.unpad()[row], expected)
            assert_close(tuple(s[row, 0] for s in state), end)
    assert all((s[2] == 0).all() for s in state)
    core.eval()
    torch.testing.assert_close(core(x)[0].data, make(cell)(x)[0].data, rtol=0, atol=0)


@each_fused
@pytest.mark.parametrize("lengths", [(11, 4, 1, 0, 7), (T,) * B])
def test_the_loop_equals_the_fused_kernel(cell, lengths):
    core, x = make(cell), sequences(lengths)
    start = random_state(core)
    expected, end = core(x, start)
    mask = x.mask if min(lengths) < T else None
    y, state = run_loop(cell, x.data, mask, tuple(s[:, 0] for s in start), Weights(*weights_of(core)))
    assert_close(Padded(y, x.lengths).zeroed().data, expected.data)
    assert_close(state, tuple(s[:, 0] for s in end))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 64, 1000])
def test_the_parallel_scan_equals_the_sequential_scan(steps):
    torch.manual_seed(0)
    odds = (6 * torch.randn(3, steps, H)).requires_grad_()  # from forgetting at once to keeping everything
    new = torch.randn(3, steps, H).requires_grad_()
    start = torch.randn(3, H).requires_grad_()
    results = []
    for run in (sequential_scan, parallel_scan):
        y = run(odds.sigmoid(), (1 - odds.sigmoid()) * new, start)
        results.append((y.detach(), torch.autograd.grad((y * torch.linspace(-1, 1, H)).sum(), (odds, new, start))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_the_parallel_scan_has_gradients_of_gradients():
    """The gradient penalty of a recurrent critic needs them."""
    keep, new, start = torch.rand(2, 5, 3).double(), torch.randn(2, 5, 3).double(), torch.randn(2, 3).double()
    inputs = [x.requires_grad_() for x in (keep, new, start)]
    assert torch.autograd.gradcheck(parallel_scan, inputs) and torch.autograd.gradgradcheck(parallel_scan, inputs)


@pytest.mark.parametrize("run", [sequential_scan, parallel_scan])
def test_the_memory_of_a_scan_grows_with_its_steps_and_no_faster(run):
    kept = []
    for steps in (256, 4096):
        keep, new, start = (torch.rand(shape, requires_grad=True) for shape in ((2, steps, H), (2, steps, H), (2, H)))
        kept.append(saved_bytes(lambda: run(keep, new, start)) / (2 * steps * H * 4))  # noqa: B023
    assert kept[1] <= 1.01 * kept[0] and kept[1] <= 3, "in tensors (B, T, H)"


def test_weights_in_one_buffer_are_the_same_weights():
    core = make("gru", 2, bidirectional=True)
    before = core(sequences())[0].data
    core.flatten_parameters()
    assert torch.equal(core(sequences())[0].data, before)
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        weights = core._weights(suffix)
        ends = [0, *itertools.accumulate(w.numel() for w in weights)][:-1]
        assert [w.storage_offset() for w in weights] == ends and all(w.is_contiguous() for w in weights)
        assert len({w.untyped_storage().data_ptr() for w in weights}) == 1, "as cuDNN reads them"
    masked = weights._replace(hh=weights.hh * 2.0)
    joined = masked.in_one_buffer()
    assert all(torch.equal(a, b) for a, b in zip(joined, masked, strict=True))
    (gradient,) = torch.autograd.grad(joined.hh.sum(), weights.hh)
    assert torch.equal(gradient, torch.full_like(gradient, 2.0))


def test_the_single_step_kernel_of_the_lstm_equals_the_window_kernel():
    """A window of one step uses another kernel than a longer one."""
    core, x = make("lstm", 2), sequences((T, 3, 1, 0, T))
    start = random_state(core)
    whole, end = core(x, start)
    y, state = run_windows(core, x, list(range(1, T)), start)
    assert_close(y, whole.data)
    assert_close(state, end)


def test_gates_are_computed_without_dropout():
    core = make("lstm", input_dropout=0.5, recurrent_dropout=0.5).train()
    first, second = core.gates(sequences()), core.gates(sequences())
    assert all(n == m and torch.equal(a, b) for (n, a), (m, b) in zip(first, second, strict=True))


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gates_are_those_of_the_equations_at_valid_steps_only(cell, bidirectional):
    core, x = make(cell, 2, bidirectional=bidirectional), sequences()
    garbage = Padded(torch.where(x.mask[:, :, None], x.data, float("nan")), x.lengths)
    gates = core.gates(garbage)
    names = {
        "rnn_tanh": ["state"],
        "rnn_relu": ["state"],
        "lstm": ["input", "forget", "output", "state"],
        "gru": ["reset", "update", "state"],
        "mingru": ["update"],
        "minlstm": ["input", "forget", "keep"],
    }[cell]
    assert [n for n, _ in gates] == names * 2 * core.directions
    steps = int(x.lengths.sum())
    assert all(v.shape == (steps, H) and v.isfinite().all() for _, v in gates)
    if cell in ("mingru", "minlstm"):  # their gates depend on the input alone
        expected = (
            x.data[x.mask] @ core.get_parameter("weight_ih_l0")[:H].T + core.get_parameter("bias_ih_l0")[:H]
        ).sigmoid()
        assert_close(gates[0][1], expected)


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.0), (10.0, 1.0), (-10.0, 1.0)])
def test_the_share_of_saturated_gates_follows_their_bias(bias, share):
    for cell in ("lstm", "gru", "mingru", "minlstm"):
        core = Core(cell=cell, input_size=D, hidden=H, layers=2, bidirectional=True)
        with torch.no_grad():
            for name, p in core.named_parameters():
                p.zero_()
                if name.startswith("bias_ih"):
                    p[: (NUM_GATES[cell] - 1) * H] = bias
        results = gate_saturation(core, sequences())
        gates = {n: s for n, s in results.items() if n not in ("state", "keep")}
        if cell == "lstm":
            assert gates.pop("output") == 0.0  # its bias stayed 0, so it is 1/2
        assert set(gates.values()) == {share} and results.get("keep", 0.0) == 0.0


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
        half.get_parameter("bias_ih_l0")[: H - 3] += 1000.0  # 4 of 7 reset gates are saturated
    x = sequences()
    assert gate_saturation(half, x)["reset"] >= 4 / 7
    assert gate_saturation(half, Padded(x.data, torch.zeros(B, dtype=torch.int64))) == {}


def test_gate_saturation_starts_from_a_state_and_does_not_change_the_core():
    core, x = make("lstm", recurrent_dropout=0.5).train(), sequences()
    full = gate_saturation(core, x, tuple(100 * torch.ones_like(s) for s in core.initial_state(B)))
    assert full["state"] > gate_saturation(core, x)["state"]
    assert core.training and all(p.grad is None for p in core.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gruu"}, "cell = 'gruu' is not known. One of: rnn_tanh,"),
        (
            {"cell": "mingru", "recurrent_dropout": 0.1},
            "recurrent_dropout is 0.1, and cell mingru has no recurrent weights",
        ),
        ({"cell": "rnn_tanh", "chrono_steps": 9}, "chrono_steps is 9 and cell is rnn_tanh"),
        ({"cell": "gru", "chrono_steps": 2}, "It must be 3 or more"),
    ],
)
def test_an_impossible_core_is_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Core(input_size=3, hidden=4, **options)


def test_a_plain_tensor_is_a_sentence_that_says_how_to_make_a_padded() -> None:
    core = Core(cell="gru", input_size=3, hidden=4)
    with pytest.raises(ValueError, match="The core got Tensor, and it reads a Padded"):
        core(torch.zeros(2, 5, 3))  # type: ignore[arg-type]
