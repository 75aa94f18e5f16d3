"""The promise `crf`: equal to brute force, equal to pytorch-crf, and not slower.

It needs no data. The timings of the two implementations alternate, so that other load slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from brute_crf import BruteForceCRF, ragged_cases, randomise
from proof_tools import SIZE
from torch import Tensor
from torchcrf import CRF as TorchCRF

from pipeline.models.crf.crf import CRF
from pipeline.padded import Padded

CLOSE, LIMIT = 1e-6, 1.1
SHAPES = SIZE.some([(8, 50, 5), (16, 200, 14), (64, 100, 20), (8, 500, 14), (32, 200, 60), (1, 1000, 14)])
"""(B, T, C) of the timings. The bar holds for the median of each."""


def crf(data: Path, seeds: int) -> tuple[str, bool]:
    """All three parts. Brute force runs with max(3, seeds) random sets of scores per case."""
    torch.set_num_threads(1)
    brute_gap, wrong, count = against_brute_force(max(3, seeds))
    print(
        f"\nbrute force, float64: {count} rows (every C 1 ... 4, every length 0 ... 5 in ragged batches, NaN in the "
        f"padding), largest difference of a log-likelihood or marginal {brute_gap:.1e}, best paths that differ {wrong}"
    )
    print("\npytorch-crf, float64, with the same weights: largest difference of")
    print(f"  {'B, T, C':<14} {'likelihood':>11} {'gradients':>11}   best paths that differ")
    oracle_gap = 0.0
    for shape in SHAPES:
        likelihood, gradient, differ = against_oracle(*shape)
        print(f"  {shape!s:<14} {likelihood:>11.1e} {gradient:>11.1e}   {differ} of {shape[0]}", flush=True)
        oracle_gap, wrong = max(oracle_gap, likelihood, gradient), wrong + differ
    print("\nmedian time on one thread, float32, alternating; a training step is forward and backward (ms)")
    print(f"  {'B, T, C':<14} {'step':>8} {'theirs':>8} {'ratio':>7}   {'decode':>8} {'theirs':>8} {'ratio':>7}")
    slowest = 0.0
    for shape in SHAPES:
        (a, b), (c, d) = timed(*shape)
        print(f"  {shape!s:<14} {a:>8.1f} {b:>8.1f} {a / b:>7.3f}   {c:>8.1f} {d:>8.1f} {c / d:>7.3f}", flush=True)
        slowest = max(slowest, a / b, c / d)
    holds = brute_gap <= CLOSE and oracle_gap <= CLOSE and wrong == 0 and slowest <= LIMIT
    return (
        f"brute force within {brute_gap:.1e}, pytorch-crf within {oracle_gap:.1e} (bar {CLOSE}), paths that differ "
        f"{wrong}; largest ratio of times {slowest:.2f} (bar {LIMIT})"
    ), holds


def against_brute_force(seeds: int) -> tuple[float, int, int]:
    """Largest difference, number of best paths that differ, number of rows."""
    gap, wrong, count = 0.0, 0, 0
    for seed, num_labels, x in ragged_cases(5, 4, seeds):
        field = CRF(num_labels).double()
        randomise(field, 1 + seed)
        scores = [s.detach() for s in (field.transitions, field.start_transitions, field.end_transitions)]
        labels = torch.randint(0, num_labels, x.data.shape[:2])
        likelihood, posterior, best = field.log_likelihood(x, labels).detach(), field.marginals(x), field.decode(x)
        for row, values in enumerate(x.unpad()):
            n, brute = len(values), BruteForceCRF(values, *scores)
            gap = max(gap, _gap(likelihood[row], brute.log_likelihood(labels[row, :n].tolist())))
            gap = max(gap, _gap(posterior[row, :n], brute.marginals()), float(posterior[row, n:].abs().sum()))
            wrong += tuple(best.unpad()[row].tolist()) != brute.best()
            count += 1
    return gap, wrong, count


def against_oracle(batch: int, num_steps: int, num_labels: int) -> tuple[float, float, int]:
    """In float64: largest difference of a log-likelihood, of a gradient, and the number of best paths that differ."""
    ours, theirs, x, labels = _pair(batch, num_steps, num_labels, torch.float64)
    data = [x.data.clone().requires_grad_() for _ in range(2)]
    value = ours.log_likelihood(Padded(data[0], x.lengths), labels)
    expected = theirs(data[1], labels, x.mask, reduction="none")
    value.sum().backward()
    expected.sum().backward()
    pairs = [(data[0], data[1]), *((ours.get_parameter(n), p) for n, p in theirs.named_parameters())]
    differ = sum(a.tolist() != b for a, b in zip(ours.decode(x).unpad(), theirs.decode(x.data, x.mask), strict=True))
    return _gap(value, expected), max(_gap(_gradient(a), _gradient(b)) for a, b in pairs), differ


def timed(batch: int, num_steps: int, num_labels: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Milliseconds of a training step and of decoding, each (ours, theirs)."""
    ours, theirs, x, labels = _pair(batch, num_steps, num_labels, torch.float32)
    mask = x.mask
    data = x.data.clone().requires_grad_()

    def our_step() -> None:
        ours.log_likelihood(Padded(data, x.lengths), labels).mean().neg().backward()

    def their_step() -> None:
        theirs(data, labels, mask, reduction="mean").neg().backward()

    return (
        _medians(our_step, their_step),
        _medians(lambda: ours.decode(x), lambda: theirs.decode(x.data, mask)),
    )


def _pair(batch: int, num_steps: int, num_labels: int, dtype: torch.dtype) -> tuple[CRF, Any, Padded, Tensor]:
    """Both implementations with the same random weights, ragged emissions (zeros in the padding), and labels."""
    torch.manual_seed(batch * num_steps + num_labels)
    ours, theirs = CRF(num_labels).to(dtype), TorchCRF(num_labels, batch_first=True).to(dtype)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict())
    lengths = torch.randint((num_steps + 1) // 2, num_steps + 1, (batch,))
    lengths[0] = num_steps
    x = Padded(2 * torch.randn(batch, num_steps, num_labels, dtype=dtype), lengths).zeroed()
    return ours, theirs, x, torch.randint(0, num_labels, (batch, num_steps))


def _medians(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median milliseconds of both, alternating, after a warm-up: at least 9 rounds, up to 3 seconds or 200 rounds."""
    least, seconds = SIZE.pick((9, 3), (1, 0))
    times: tuple[list[float], list[float]] = ([], [])
    ours()
    theirs()
    began = time.perf_counter()
    while len(times[0]) < least or (time.perf_counter() - began < seconds and len(times[0]) < 200):
        for run, run_times in zip((ours, theirs), times, strict=True):
            started = time.perf_counter()
            run()
            run_times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[0]), statistics.median(times[1])


def _gradient(x: Tensor) -> Tensor:
    assert x.grad is not None
    return x.grad


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) if a.numel() else 0.0
