"""The promise `probes`: adding problem, copy memory, digits row by row, ablations, the gradient through time.

The sequences are random, the digits those of scikit-learn. Nothing is read from `data`. Under 20 minutes on 2 cores.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import probe_tasks as tasks
import proof_tools
from probe_tasks import ProbeSettings, TrainingResult

ProofResult = tuple[str, bool]
LENGTH, GOAL = 100, 0.005
"""Trainings stop at half the bar of 0.01, so that noise does not decide whether it holds."""


def limit(seconds: float) -> float:
    """The seconds of processor time of a training: so many, or half a second in a toy."""
    return proof_tools.SIZE.pick(seconds, 0.5)


def probes(data: Path, seeds: int) -> ProofResult:
    """Print all tables; two trainings run at a time."""
    work = proof_tools.fresh_folder("probes")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        summary, holds = _adding(pool, seeds)
        _adding_long(pool)
        _copying(pool)
        _digits(pool, seeds)
        _ablation(pool)
    _gradients(work)
    return summary, holds


def _adding(pool: ProcessPoolExecutor, seeds: int) -> ProofResult:
    stopwatch = proof_tools.Stopwatch()
    rows = {
        "GRU": ProbeSettings("gru"),
        "LSTM, chrono_steps=100": ProbeSettings("lstm", chrono_steps=LENGTH),
        "tanh RNN": ProbeSettings("rnn_tanh", lr=1e-3, steps=2000),
        "LSTM, forget bias 1": ProbeSettings("lstm", steps=2000),
        "minLSTM": ProbeSettings("minlstm", chrono_steps=LENGTH, steps=2000),
        "minGRU": ProbeSettings("mingru", chrono_steps=LENGTH, steps=2000),
    }
    futures_by_name = {
        name: [
            pool.submit(
                tasks.train,
                partial(tasks.adding, LENGTH),
                replace(settings, seed=seed),
                GOAL,
                limit(240.0 if n < 2 else 60.0),
            )
            for seed in range(seeds)
        ]
        for n, (name, settings) in enumerate(rows.items())
    }
    print(f"\nadding problem, T={LENGTH}: validation mean squared error (constant 1: 0.167); one layer of 64, batch 32")
    results: dict[str, list[TrainingResult]] = {}
    for name in list(rows)[:3]:
        results[name] = _row(name, futures_by_name[name])
    seconds = stopwatch.seconds
    print(f"  together in {seconds / 60:.1f} minutes; each row ends with its seconds of processor time (one thread)")
    print("  other cells, at most 60 seconds of processor time each:", flush=True)
    for name in list(rows)[3:]:
        _row(name, futures_by_name[name])
    gru, lstm, tanh = (max(r.error for r in results[name]) for name in results)
    summary = (
        f"adding problem T={LENGTH}: GRU {gru:.4f}, LSTM {lstm:.4f}, tanh RNN {tanh:.3f} in {seconds / 60:.1f} minutes"
    )
    return summary, max(gru, lstm) <= 0.01 and seconds <= 600


def _adding_long(pool: ProcessPoolExecutor) -> None:
    futures_by_name = {
        name: [pool.submit(tasks.train, partial(tasks.adding, 400), settings, GOAL, limit(150.0))]
        for name, settings in {
            "GRU, chrono_steps=400": ProbeSettings("gru", chrono_steps=400, lr=5e-3),
            "LSTM, chrono_steps=400": ProbeSettings("lstm", chrono_steps=400, lr=5e-3),
        }.items()
    }
    print("\nadding problem, T=400, without a bar; at most 150 seconds of processor time each")
    for name, futures in futures_by_name.items():
        _row(name, futures)


def _copying(pool: ProcessPoolExecutor) -> None:
    rows = {
        "GRU": ProbeSettings("gru", chrono_steps=40, lr=3e-3),
        "LSTM": ProbeSettings("lstm", chrono_steps=40, lr=3e-3),
        "tanh RNN": ProbeSettings("rnn_tanh", lr=1e-3),
    }
    futures_by_name = {
        name: [
            pool.submit(
                tasks.train,
                partial(tasks.copying, 20),
                replace(settings, hidden=128, steps=10_000),
                0.01,
                limit(90.0),
                8,
            )
        ]
        for name, settings in rows.items()
    }
    print(
        "\ncopy memory, 10 symbols out of 8 over 20 blanks: share of wrong symbols (chance: 0.875); at most 90 seconds "
        "of processor time each"
    )
    for name, futures in futures_by_name.items():
        _row(name, futures)


def _digits(pool: ProcessPoolExecutor, seeds: int) -> None:
    cells = ["rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "minlstm", "mean"]
    futures_by_name = {
        cell: [pool.submit(tasks.digits, cell, seed, proof_tools.SIZE.pick(60, 1)) for seed in range(seeds)]
        for cell in cells
    }
    print("\ndigits row by row, 8 steps of 8: accuracy on the last 600 images, 60 epochs on the 1,197 before them")
    for cell, futures in futures_by_name.items():
        results = [f.result() for f in futures]
        name = "linear on the mean row" if cell == "mean" else cell
        accuracies = "  ".join(f"{accuracy:.3f}" for accuracy, _ in results)
        print(f"  {name:<26} {accuracies}   {sum(s for _, s in results):.0f} s", flush=True)


def _ablation(pool: ProcessPoolExecutor) -> None:
    """One change at a time, with three seeds each, so that the spread is visible."""
    length, seeds = 50, proof_tools.SIZE.pick(3, 1)
    gru, lstm = ProbeSettings("gru", steps=1000), ProbeSettings("lstm", steps=1000, chrono_steps=length)
    tanh = ProbeSettings("rnn_tanh", steps=1000, lr=1e-3)
    rows = {
        "GRU": gru,
        "GRU, uniform recurrent init": replace(gru, init="uniform"),
        "GRU, no clipping": replace(gru, grad_clip=0.0),
        "LSTM, chrono_steps=50": lstm,
        "LSTM, forget bias 1": replace(lstm, chrono_steps=0),
        "LSTM, forget bias 0": replace(lstm, chrono_steps=0, forget_bias=0.0),
        "LSTM, chrono_steps=50, uniform": replace(lstm, init="uniform"),
        "LSTM, chrono_steps=50, no clip": replace(lstm, grad_clip=0.0),
        "tanh RNN": tanh,
        "tanh RNN, uniform": replace(tanh, init="uniform"),
        "tanh RNN, no clipping": replace(tanh, grad_clip=0.0),
    }
    futures_by_name = {
        name: [
            pool.submit(tasks.train, partial(tasks.adding, length), replace(s, seed=n), GOAL, limit(25.0))
            for n in range(seeds)
        ]
        for name, s in rows.items()
    }
    print(
        f"\nablation on the adding problem, T={length}, at most 1,000 steps or 25 seconds of processor time, {seeds} "
        "seeds"
    )
    for name, futures in futures_by_name.items():
        _row(name, futures)


def _row(name: str, futures: list[Future[TrainingResult]]) -> list[TrainingResult]:
    results = [f.result() for f in futures]
    errors = "  ".join(f"{r.error:.4f}" for r in results)
    steps = ", ".join(f"{r.steps}{'' if r.is_done else ' (goal not reached)'}" for r in results)
    print(f"  {name:<32} {errors}   after {steps} steps, {sum(r.seconds for r in results):.0f} s", flush=True)
    return results


def _gradients(work: Path) -> None:
    rows = {
        "tanh RNN": ProbeSettings("rnn_tanh"),
        "tanh RNN, uniform": ProbeSettings("rnn_tanh", init="uniform"),
        "relu RNN": ProbeSettings("rnn_relu"),
        "LSTM, forget bias 0": ProbeSettings("lstm", forget_bias=0.0),
        "LSTM, forget bias 1": ProbeSettings("lstm"),
        "LSTM, chrono_steps=100": ProbeSettings("lstm", chrono_steps=LENGTH),
        "GRU": ProbeSettings("gru"),
        "GRU, chrono_steps=100": ProbeSettings("gru", chrono_steps=LENGTH),
        "minGRU": ProbeSettings("mingru"),
        "minLSTM": ProbeSettings("minlstm"),
    }
    norms_by_name = {name: tasks.gradient_through_time(settings, LENGTH) for name, settings in rows.items()}
    steps = (1, 20, 40, 60, 80, 90, LENGTH)
    print(f"\nnorm of dL/d(state t) in untrained cores, L on the last of {LENGTH} steps of the adding problem")
    print(f"  {'t':<24}" + "".join(f"{t:>10}" for t in steps))
    for name, norms in norms_by_name.items():
        print(f"  {name:<24}" + "".join(f"{norms[t - 1]:>10.1e}" for t in steps))
    path = work / "gradient_through_time.png"
    _draw(norms_by_name, path)
    print(f"  plot: {path}", flush=True)


def _draw(curves: dict[str, list[float]], path: Path) -> None:
    """Plot the curves over t, on a logarithmic axis, with a legend on the right."""
    width, height, left, min_power, max_power = 1100, 640, 90, -12.0, 2.0
    right, bottom = width - 300, height - 60
    image = np.full((height, width, 3), 255, np.uint8)

    def point(t: float, value: float) -> tuple[int, int]:
        power = min(max(math.log10(max(value, 1e-30)), min_power), max_power)
        x = left + (right - left) * (t - 1) / (LENGTH - 1)
        y = 40 + (bottom - 40) * (max_power - power) / (max_power - min_power)
        return round(x), round(y)

    def write(text: str, position: tuple[int, int], colour: tuple[int, int, int] = (0, 0, 0)) -> None:
        cv2.putText(image, text, position, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)

    for power in range(int(min_power), int(max_power) + 1, 2):
        x, y = point(1, 10.0**power)
        cv2.line(image, (x, y), (right, y), (220, 220, 220), 1)
        write(f"1e{power}", (left - 60, y + 5))
    for t in (1, 20, 40, 60, 80, 100):
        write(str(t), (point(t, 1e-12)[0] - 8, bottom + 22))
    write("norm of dL/d(state t), untrained cores; L on the last step", (left, 24))
    write("t", ((left + right) // 2, height - 12))
    for n, (name, values) in enumerate(curves.items()):
        hue = np.array([[[179 * n // len(curves), 220, 190]]], dtype=np.uint8)
        b, g, r = (int(c) for c in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])
        points = np.array([point(t, v) for t, v in enumerate(values, 1)], np.int32)
        cv2.polylines(image, [points.reshape(-1, 1, 2)], False, (b, g, r), 2, cv2.LINE_AA)
        cv2.line(image, (right + 20, 60 + 26 * n), (right + 50, 60 + 26 * n), (b, g, r), 2)
        write(name, (right + 58, 65 + 26 * n))
    cv2.imwrite(str(path), image)
