"""The contract of the recurrent core: windows equal the whole, padding is inert, the equations are the published ones.

Each property is tested for every cell, over layers, directions, residual connections and layer norm.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from go_on import load_outputs, save_case
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
    run_steps,
    run_windows,
    sequences,
    torch_layer,
    weights_of,
)
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.models.recurrent.core import Core, State
from pipeline.padded import Padded, stack

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
each_cell = pytest.mark.parametrize("cell", CELLS)
each_shape = pytest.mark.parametrize(
    ("layers", "settings"),
    [(1, {}), (2, {}), (2, {"layer_norm": True}), (3, {"residual": True}), (3, {"residual": True, "layer_norm": True})],
    ids=str,
)
each_direction = pytest.mark.parametrize("bidirectional", [False, True])


def assert_close(one, other) -> None:
    torch.testing.assert_close(one, other, **CLOSE)


def detached(state: State) -> State:
    return tuple(s.detach() for s in state)


def assert_equal(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@each_cell
@each_shape
def test_random_windows_equal_the_whole(cell, layers, settings):
    core, x = make(cell, layers, **settings), sequences()
    start = random_state(core)
    whole, end = core(x, start)
    generator = torch.Generator().manual_seed(layers)
    for _ in range(3):
        cuts = sorted(set(torch.randint(0, T + 1, (4,), generator=generator).tolist()))  # empty windows too
        y, state = run_windows(core, x, cuts, start)
        assert_close(y, whole.data)
        assert_close(state, end)


@each_cell
@each_shape
def test_step_by_step_equals_the_whole(cell, layers, settings):
    core, x = make(cell, layers, **settings), sequences((T,) * B)
    whole, end = core(x)
    y, state = run_steps(core, x, core.initial_state(B))
    assert_close(y, whole.data)
    assert_close(state, end)


@each_cell
@each_shape
@each_direction
@pytest.mark.parametrize("garbage", [float("nan"), 1e30])
def test_garbage_in_the_padding_changes_neither_outputs_nor_gradients(cell, layers, settings, bidirectional, garbage):
    core, clean = make(cell, layers, bidirectional=bidirectional, **settings), sequences()
    results = []
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        core.zero_grad()
        y, state = core(Padded(data, clean.lengths))
        (y.data.square().sum() + sum(s.square().sum() for s in state)).backward()
        results.append((y.data.detach(), detached(state), [p.grad for p in core.parameters()], data.grad))
    assert_equal(results[0], results[1])
    assert (results[1][0][~clean.mask] == 0).all() and (results[1][3][~clean.mask] == 0).all()
    assert results[1][3][clean.mask].abs().sum() > 0


@each_cell
@each_shape
@each_direction
def test_a_row_in_a_ragged_batch_equals_the_row_alone(cell, layers, settings, bidirectional):
    """Outputs, last state and gradients are the same as without padding."""
    core, x = make(cell, layers, bidirectional=bidirectional, **settings), sequences()
    y, state = core(x)
    y.data.square().sum().backward()
    joint = [p.grad for p in core.parameters()]
    core.zero_grad()
    for row, data in enumerate(x.unpad()):
        if len(data):
            single, end = core(stack([data]))
            assert_close(y.unpad()[row], single.data[0])
            assert_close(tuple(s[row] for s in state), tuple(s[0] for s in end))
            single.data.square().sum().backward()
    torch.testing.assert_close(joint, [p.grad for p in core.parameters()], rtol=1e-4, atol=1e-4)  # sums of 30 steps


@pytest.mark.parametrize("cell", FUSED_CELLS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@each_direction
@pytest.mark.parametrize("lengths", [(11, 4, 1, 7, 2), (T,) * B], ids=["ragged", "full"])
def test_equals_torch_on_packed_sequences_with_the_same_state_dict(cell, layers, bidirectional, lengths):
    core, x = make(cell, layers, bidirectional=bidirectional), sequences(lengths)
    packed = pack_padded_sequence(x.data, x.lengths, batch_first=True, enforce_sorted=False)
    out, end = torch_layer(core)(packed)
    expected, _ = pad_packed_sequence(out, batch_first=True)
    y, state = core(x)
    assert_close(y.data, expected)
    ends = end if cell == "lstm" else (end,)
    assert len(state) == len(ends)
    for ours, theirs in zip(state, ends, strict=True):
        assert_close(ours, theirs.transpose(0, 1))


@each_cell
def test_outputs_equal_the_equations_by_hand_from_a_state(cell):
    core, x = make(cell), sequences((9, 3))
    start = random_state(core, 2)
    y, state = core(x, start)
    for row, data in enumerate(x.unpad()):
        expected, end = by_hand(cell, data, tuple(s[row, 0] for s in start), weights_of(core))
        assert_close(y.unpad()[row], expected)
        assert_close(tuple(s[row, 0] for s in state), end)


@pytest.mark.parametrize(("cell", "act"), [("rnn_tanh", torch.tanh), ("rnn_relu", torch.relu)])
def test_the_elman_equations(cell, act):
    """h_t = act(W_h h_{t-1} + W_x x_t + b), y_t = act(W_y h_t + b_y): the output is a layer without recurrence."""
    core = make(cell, layers=2)
    with torch.no_grad():
        core.get_parameter("weight_hh_l1").zero_()
    w_x, w_h, b_x, b_h = weights_of(core)
    w_y, _, b_y, b_y2 = weights_of(core, "_l1")
    x = sequences((8,))
    h, expected = torch.zeros(H), []
    for x_t in x.data[0]:
        h = act(w_h @ h + w_x @ x_t + (b_x + b_h))
        expected.append(act(w_y @ h + (b_y + b_y2)))
    y, state = core(x)
    assert_close(y.data[0], torch.stack(expected))
    assert_close(state[0][0, 0], h)


@each_cell
def test_residual_connections_and_layer_norm_start_at_the_second_layer(cell):
    """A deep core equals its layers one by one: x + layer(norm(x)) from the second layer on."""
    deep, x = make(cell, 3, residual=True, layer_norm=True), sequences((T,) * B)
    y = x
    for layer in range(3):
        width = D if layer == 0 else H
        single = Core(cell=cell, input_size=width, hidden=H)
        weights = {n: p for n, p in deep.state_dict().items() if n.endswith(f"_l{layer}")}
        single.load_state_dict({n.replace(f"_l{layer}", "_l0"): p for n, p in weights.items()})
        if layer == 0:
            y = single(y)[0]
            continue
        centred = y.data - y.data.mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        norm = deep.norms[layer - 1].state_dict()
        inner = Padded(normed * norm["weight"] + norm["bias"], y.lengths)
        y = Padded(y.data + single(inner)[0].data, y.lengths)
    assert_close(deep(x)[0].data, y.data)


@each_cell
@each_shape
def test_length_0_returns_the_old_state_and_changes_no_other_row(cell, layers, settings):
    core, x = make(cell, layers, **settings), sequences((4, 0, 2, 0, 1))
    start = random_state(core)
    y, state = core(x, start)
    for new, old in zip(state, start, strict=True):
        assert torch.equal(new[[1, 3]], old[[1, 3]])
        assert not torch.isclose(new[[0, 2, 4]], old[[0, 2, 4]]).all(-1).any()
    assert (y.data[[1, 3]] == 0).all()
    step, new_state = core(Padded(x.data[:, :1], x.lengths.clamp(max=1)), start)  # T = 1 uses another kernel
    for new, old in zip(new_state, start, strict=True):
        assert torch.equal(new[[1, 3]], old[[1, 3]])
    assert (step.data[[1, 3]] == 0).all()
    empty, same_state = core(Padded(torch.zeros(B, 0, D), torch.zeros(B, dtype=torch.int64)), start)
    assert empty.data.shape == (B, 0, H) and all(map(torch.equal, same_state, start))


@each_cell
@each_direction
def test_a_batch_of_empty_rows(cell, bidirectional):
    core = make(cell, 2, bidirectional=bidirectional)
    y, state = core(Padded(torch.full((2, 3, D), float("nan")), torch.tensor([0, 0])))
    assert (y.data == 0).all() and all((s == 0).all() for s in state)


@each_cell
@each_direction
def test_one_step_sequences(cell, bidirectional):
    core, x = make(cell, bidirectional=bidirectional), sequences((1, 1, 0, 1, 1))
    y, state = core(x)
    expected, _ = by_hand(cell, x.data[0], tuple(torch.zeros(H) for _ in state), weights_of(core))
    assert y.data.shape == (B, 1, core.output_size)
    assert_close(y.data[0, :, :H], expected)
    assert_close(state[0][0, 0], expected[0])


@each_cell
@each_shape
def test_rows_of_a_state_can_be_reset_selected_and_concatenated(cell, layers, settings):
    core = make(cell, layers, **settings)
    first, second = sequences((5,) * B, seed=2), sequences((6,) * B, seed=3)
    _, state = core(first)
    continued, _ = core(second, state)
    fresh, _ = core(second)
    reset = tuple(s.clone() for s in state)
    for s, zero in zip(reset, core.initial_state(1), strict=True):
        s[2] = zero[0]
    mixed, _ = core(second, reset)
    assert_close(mixed.data[2], fresh.data[2])
    assert_close(mixed.data[[0, 1, 3, 4]], continued.data[[0, 1, 3, 4]])

    order = torch.tensor([3, 0, 3])
    selection = Padded(second.data[order], second.lengths[order])
    selected, _ = core(selection, tuple(s.index_select(0, order) for s in state))
    assert_close(selected.data, continued.data[order])

    concatenated = tuple(torch.cat([a[:2], b]) for a, b in zip(state, core.initial_state(1), strict=True))
    y, _ = core(Padded(second.data[:3], second.lengths[:3]), concatenated)
    assert_close(y.data, torch.cat([continued.data[:2], fresh.data[2:3]]))


@each_cell
def test_a_detached_state_cuts_the_gradient_and_changes_no_number(cell):
    core, x = make(cell, 2), sequences((T,) * B)
    data = x.data.clone().requires_grad_()
    _, state = core(Padded(data[:, :6], torch.full((B,), 6)))
    attached_y, _ = core(Padded(data[:, 6:], torch.full((B,), 5)), state)
    detached_y, _ = core(Padded(data[:, 6:], torch.full((B,), 5)), detached(state))
    assert_equal(attached_y.data, detached_y.data)
    (full,) = torch.autograd.grad(attached_y.data.sum(), data, retain_graph=True)
    (truncated,) = torch.autograd.grad(detached_y.data.sum(), data)
    assert (truncated[:, :6] == 0).all() and (full[:, :6] != 0).any() and (truncated[:, 6:] != 0).any()


@each_cell
@each_shape
@each_direction
def test_saved_and_loaded_weights_give_the_same_bits(cell, layers, settings, bidirectional, tmp_path):
    core, x = make(cell, layers, bidirectional=bidirectional, **settings), sequences()
    save_file(core.state_dict(), tmp_path / "core.safetensors")
    torch.manual_seed(99)
    other = Core(cell=cell, input_size=D, hidden=H, layers=layers, bidirectional=bidirectional, **settings)
    other.load_state_dict(load_file(tmp_path / "core.safetensors"))
    assert_equal(core(x)[0].data, other(x)[0].data)


def test_a_state_saved_by_one_process_continues_bit_equal_in_another(tmp_path):
    expected = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits depend on how many threads compute them
    for cell in CELLS:
        for layers in (1, 3):
            settings = {"residual": True, "layer_norm": layers > 1}
            core, name = make(cell, layers, **settings), f"{cell}{layers}"
            with torch.no_grad():
                _, state = core(sequences((9, 4, 0, 7, 1)))
                x = sequences((12, 1, 5, 0, 8), seed=2)
                save_case(
                    tmp_path,
                    name,
                    {"cell": cell, "input_size": D, "hidden": H, "layers": layers, **settings},
                    core,
                    state,
                    x,
                )
                expected[name] = core(x, state)
    torch.set_num_threads(threads)
    subprocess.run([sys.executable, str(Path(__file__).parents[2] / "support" / "go_on.py"), str(tmp_path)], check=True)
    for name, (y, state) in expected.items():
        assert_equal(load_outputs(tmp_path, name), (y.data, state))


def test_a_bidirectional_core_refuses_a_state():
    core = make("gru", bidirectional=True)
    assert not core.is_causal
    with pytest.raises(
        ValueError, match="This core is bidirectional, so it cannot continue from a state.*core.bidirectional=false"
    ):
        core(sequences(), core.initial_state(B))
