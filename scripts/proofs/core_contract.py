"""The promises about the recurrent core: its contract, and the cost of dropout on h_{t-1}.

Each promise takes (data, seeds) and returns (result as text, whether the bar holds). Nothing is read from `data`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import proof_tools
import torch
from torch import Tensor, nn

from pipeline.models.recurrent.core import Core, State
from pipeline.padded import Padded, stack

ProofResult = tuple[str, bool]
SUPPORT = proof_tools.REPOSITORY / "tests" / "support"
CONTRACT_TESTS = "tests/models/recurrent/test_core.py"
SELECTION = proof_tools.SIZE.pick([], ["-k", "padding"])
sys.path.insert(0, str(SUPPORT))
CLOSE = 1e-5
SHAPES = proof_tools.SIZE.pick(((32, 64, 256, 256), (64, 256, 64, 128)), ((4, 8, 16, 16),))
"""(B, T, D, H) of the timings."""


def core_contract(data: Path, seeds: int) -> ProofResult:
    """Run the tests of the contract, then random cores of every cell, and print the largest differences."""
    import made_cores

    work = proof_tools.fresh_folder("core-contract")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", CONTRACT_TESTS, *SELECTION],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=proof_tools.REPOSITORY,
    )
    summary = tests.stdout.strip().splitlines()[-1] if tests.stdout.strip() else tests.stderr[-500:]
    print(f"contract tests ({CONTRACT_TESTS}): {summary}", flush=True)

    torch.set_num_threads(1)
    columns = ("windows", "steps", "padding", "padding grad", "vs torch.nn")
    cases, worst = proof_tools.SIZE.pick(20, 2) * seeds, 0.0
    print(
        f"\n{cases} random cores per cell: 1 to 3 layers, both directions, residual, layer norm, D and H to 40, T to 60"
    )
    print("largest difference, relative to max(1, largest output); padding: NaN against zeros, must be 0")
    print(f"  {'cell':<9}" + "".join(f"{c:>14}" for c in columns) + f"{'two processes':>16}")
    is_bit_equal = _two_processes(work)
    is_padding_inert = True
    for cell in made_cores.CELLS:
        differences: dict[str, list[float]] = {c: [] for c in columns}
        generator = torch.Generator().manual_seed(4321)
        for _ in range(cases):
            for name, value in _random_case(cell, generator).items():
                differences[name].append(value)
        largest = {c: max(values) if values else None for c, values in differences.items()}
        worst = max(worst, *(v for v in largest.values() if v is not None))
        is_padding_inert &= largest["padding"] == 0.0 and largest["padding grad"] == 0.0
        row = "".join(f"{'-' if v is None else f'{v:.1e}':>14}" for v in largest.values())
        print(f"  {cell:<9}{row}{'bit-equal' if is_bit_equal[cell] else 'DIFFERS':>16}", flush=True)
    is_every_cell_equal = all(is_bit_equal.values())
    holds = tests.returncode == 0 and worst <= CLOSE and is_padding_inert and is_every_cell_equal
    return (
        f"{summary.strip('= ')}; largest difference {worst:.1e}; state in another process bit-equal: "
        f"{is_every_cell_equal}"
    ), holds


def _random_case(cell: str, generator: torch.Generator) -> dict[str, float]:
    """The differences of one random core on one random batch."""
    import made_cores

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    rows, steps, width, hidden, layers = draw(1, 6), draw(1, 60), draw(1, 40), draw(2, 40), draw(1, 3)
    settings = {
        "residual": bool(draw(0, 1)),
        "layer_norm": bool(draw(0, 1)) and layers > 1,
        "bidirectional": bool(draw(0, 1)),
    }
    torch.manual_seed(draw(0, 10**6))
    core = Core(cell=cell, input_size=width, hidden=hidden, layers=layers, **settings)  # type: ignore[arg-type]
    lengths = torch.randint(0, steps + 1, (rows,), generator=generator)
    x = Padded(torch.randn(rows, steps, width, generator=generator), lengths)
    start = made_cores.random_state(core, rows) if core.is_causal else None
    differences: dict[str, float] = {}
    clean, garbage = _with_gradients(core, x, start, 0.0), _with_gradients(core, x, start, float("nan"))
    differences["padding"] = max(map(_gap, clean[0], garbage[0]))
    differences["padding grad"] = max(map(_gap, clean[1], garbage[1]))
    with torch.no_grad():
        whole, end = core(x, start)
        if start is not None:
            cuts = sorted({draw(0, steps) for _ in range(4)})
            y, state = made_cores.run_windows(core, x, cuts, start)
            differences["windows"] = max(_gap(y, whole.data), *map(_gap, state, end))
            full = Padded(x.data, torch.full((rows,), steps))
            (y_full, end_full), (y, state) = core(full, start), made_cores.run_steps(core, full, start)
            differences["steps"] = max(_gap(y, y_full.data), *map(_gap, state, end_full))
        if cell in made_cores.FUSED_CELLS and not settings["layer_norm"] and int(lengths.max()) > 0:
            plain = Core(
                cell=cell,  # type: ignore[arg-type]
                input_size=width,
                hidden=hidden,
                layers=layers,
                bidirectional=not core.is_causal,
            )
            plain.load_state_dict(core.state_dict())
            differences["vs torch.nn"] = _against_torch(plain, x, width)
    return differences


def _with_gradients(core: Core, x: Padded, start: State | None, filler: float) -> tuple[list[Tensor], list[Tensor]]:
    """(outputs and states, gradients) with `filler` in the padding."""
    data = torch.where(x.mask[:, :, None], x.data, filler).requires_grad_()
    core.zero_grad()
    y, state = core(Padded(data, x.lengths), start)
    (y.data.square().mean() + sum(s.square().mean() for s in state)).backward()
    gradients = [p.grad if p.grad is not None else torch.zeros(1) for p in core.parameters()]
    assert data.grad is not None
    return [y.data.detach(), *(s.detach() for s in state)], [*gradients, data.grad]


def _against_torch(core: Core, x: Padded, width: int) -> float:
    """The largest difference to the layer of torch.nn on each row alone, without padding."""
    import made_cores

    layer = made_cores.torch_layer(core, width)
    y, state = core(x)
    worst = 0.0
    for row, data in enumerate(x.unpad()):
        if len(data):
            expected, end = layer(stack([data]).data)
            ends = end if core.cell == "lstm" else (end,)
            worst = max(worst, _gap(y.data[row, : len(data)], expected[0]))
            worst = max(worst, *(_gap(s[row], e[:, 0]) for s, e in zip(state, ends, strict=True)))
    return worst


def _gap(one: Tensor, other: Tensor) -> float:
    if one.numel() == 0:
        return 0.0
    gap = float((one - other).abs().max() / other.abs().max().clamp(min=1.0))
    return gap if gap == gap else float("inf")  # a NaN counts as an infinite difference


def _two_processes(work: Path) -> dict[str, bool]:
    """Whether the state of each cell, saved here and loaded by another process, continues bit-equal."""
    import go_on
    import made_cores

    expected: dict[str, Any] = {}
    for cell in made_cores.CELLS:
        torch.manual_seed(7)
        settings = {"cell": cell, "input_size": 20, "hidden": 48, "layers": 2}
        core = Core(**settings)  # type: ignore[arg-type]
        first = Padded(torch.randn(4, 50, 20), torch.tensor([50, 31, 0, 1]))
        second = Padded(torch.randn(4, 70, 20), torch.tensor([70, 1, 33, 0]))
        with torch.no_grad():
            _, state = core(first)
            go_on.save_case(work, cell, settings, core, state, second)
            y, end = core(second, state)
        expected[cell] = (y.data, *end)
    proof_tools.run_command(sys.executable, SUPPORT / "go_on.py", work, env={**os.environ, "OMP_NUM_THREADS": "1"})
    is_bit_equal = {}
    for cell, tensors in expected.items():
        y, end = go_on.load_outputs(work, cell)
        is_bit_equal[cell] = all(torch.equal(a, b) for a, b in zip(tensors, (y, *end), strict=True))
    return is_bit_equal


def dropout_cost(data: Path, seeds: int) -> ProofResult:
    """Time training steps of the core with dropout on h_{t-1} and of torch.nn, alternating, on one thread."""
    torch.set_num_threads(1)
    rounds, worst = proof_tools.SIZE.pick(25, 1) * seeds, 0.0
    print(f"forward + backward, median of {rounds} alternating rounds, one thread, float32")
    print("  (the loss is the sum of the outputs; the ratio is the median of the ratios per round)")
    titles = ("torch.nn", "core", "batch mask", "ratio", "sequence mask", "ratio")
    print(f"  {'cell':<9} {'B,T,D,H':<16}" + "".join(f"{t:>16}" for t in titles))
    for cell in ("lstm", "gru", "rnn_tanh"):
        for shape in SHAPES:
            batch, steps, width, hidden = shape
            torch.manual_seed(0)
            plain = Core(cell=cell, input_size=width, hidden=hidden)
            batch_mask = Core(cell=cell, input_size=width, hidden=hidden, recurrent_dropout=0.25)
            sequence_mask = Core(
                cell=cell, input_size=width, hidden=hidden, recurrent_dropout=0.25, recurrent_mask="sequence"
            )
            layer = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}[cell](width, hidden, batch_first=True)
            x = torch.randn(batch, steps, width)
            padded = Padded(x, torch.full((batch,), steps))
            cores = (plain, batch_mask, sequence_mask)
            times = _alternating_times(
                [
                    _training_step(layer, lambda layer=layer, x=x: layer(x)[0]),
                    *(_training_step(c, lambda c=c, p=padded: c(p)[0].data) for c in cores),
                ],
                rounds,
            )
            ratios = [statistics.median(t / b for t, b in zip(one, times[0], strict=True)) for one in times]
            worst = max(worst, ratios[2])
            ms = [f"{1000 * statistics.median(one):.1f} ms" for one in times]
            columns = (ms[0], ms[1], ms[2], f"{ratios[2]:.2f}", ms[3], f"{ratios[3]:.2f}")
            print(f"  {cell:<9} {','.join(map(str, shape)):<16}" + "".join(f"{c:>16}" for c in columns), flush=True)
    return f"dropout on h_(t-1), one mask for the batch: at most {worst:.2f} times the layer of torch.nn", worst <= 1.3


def _training_step(module: nn.Module, run: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        module.zero_grad(set_to_none=True)
        run().sum().backward()

    return step


def _alternating_times(steps: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Seconds of each step in each round. Every round runs all of them, so that other load slows all equally."""
    times: list[list[float]] = [[] for _ in steps]
    for number in range(rounds + 2):
        for index, step in enumerate(steps):
            started = time.perf_counter()
            step()
            if number >= 2:  # the first rounds warm up
                times[index].append(time.perf_counter() - started)
    return times
