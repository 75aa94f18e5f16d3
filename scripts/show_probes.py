"""The promise about memory: adding problem, copy memory, digits row by row, ablations, the gradient through time.

The sequences are drawn afresh, the digits are scikit-learn's; nothing is read from `data`. Under 20 minutes on 2 cores.
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
import proof
from probe_tasks import Course, Setting

Answer = tuple[str, bool]
LENGTH, GOAL = 100, 0.005
"""Trainings stop at half the bar of 0.01, so that noise does not decide."""


def probes(data: Path, seeds: int) -> Answer:
    """All tables, two trainings at a time."""
    work = proof.fresh("probes")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        figure, holds = _adding(pool, seeds)
        _adding_long(pool)
        _copying(pool)
        _digits(pool, seeds)
        _ablation(pool)
    _gradients(work)
    return figure, holds


def _adding(pool: ProcessPoolExecutor, seeds: int) -> Answer:
    watch = proof.Stopwatch()
    rows = {
        "GRU": Setting("gru"),
        "LSTM, memory_steps=100": Setting("lstm", memory=LENGTH),
        "tanh RNN": Setting("rnn_tanh", lr=1e-3, steps=2000),
        "LSTM, forget bias 1": Setting("lstm", steps=2000),
        "minLSTM": Setting("minlstm", memory=LENGTH, steps=2000),
        "minGRU": Setting("mingru", memory=LENGTH, steps=2000),
    }
    jobs = {
        name: [
            pool.submit(
                tasks.train, partial(tasks.adding, LENGTH), replace(setting, seed=seed), GOAL, 240.0 if n < 2 else 60.0
            )
            for seed in range(seeds)
        ]
        for n, (name, setting) in enumerate(rows.items())
    }
    print(f"\nadding problem, T={LENGTH}: validation mean squared error (always 1: 0.167); one layer of 64, batch 32")
    found: dict[str, list[Course]] = {}
    for name in list(rows)[:3]:
        found[name] = _row(name, jobs[name])
    seconds = watch.seconds
    print(f"  these in {seconds / 60:.1f} minutes; behind a row stand its seconds of processor time (one thread)")
    print("  beside them, 60 seconds of processor time at most each:", flush=True)
    for name in list(rows)[3:]:
        _row(name, jobs[name])
    gru, lstm, tanh = (max(c.error for c in found[name]) for name in found)
    figure = (
        f"adding problem T={LENGTH}: GRU {gru:.4f}, LSTM {lstm:.4f}, tanh RNN {tanh:.3f} in {seconds / 60:.1f} minutes"
    )
    return figure, max(gru, lstm) <= 0.01 and seconds <= 600


def _adding_long(pool: ProcessPoolExecutor) -> None:
    jobs = {
        name: [pool.submit(tasks.train, partial(tasks.adding, 400), setting, GOAL, 150.0)]
        for name, setting in {
            "GRU, memory_steps=400": Setting("gru", memory=400, lr=5e-3),
            "LSTM, memory_steps=400": Setting("lstm", memory=400, lr=5e-3),
        }.items()
    }
    print("\nadding problem, T=400, reported; each stops after 150 seconds of processor time")
    for name, futures in jobs.items():
        _row(name, futures)


def _copying(pool: ProcessPoolExecutor) -> None:
    settings = {
        "GRU": Setting("gru", memory=40, lr=3e-3),
        "LSTM": Setting("lstm", memory=40, lr=3e-3),
        "tanh RNN": Setting("rnn_tanh", lr=1e-3),
    }
    jobs = {
        name: [
            pool.submit(
                tasks.train, partial(tasks.copying, 20), replace(setting, hidden=128, steps=10_000), 0.01, 90.0, 8
            )
        ]
        for name, setting in settings.items()
    }
    print(
        "\ncopy memory, 10 symbols of 8 over 20 blanks: share of wrong symbols (chance: 0.875); 90 seconds of "
        "processor time at most each"
    )
    for name, futures in jobs.items():
        _row(name, futures)


def _digits(pool: ProcessPoolExecutor, seeds: int) -> None:
    cells = ["rnn_tanh", "rnn_relu", "lstm", "gru", "mingru", "minlstm", "mean"]
    jobs = {cell: [pool.submit(tasks.digits, cell, seed) for seed in range(seeds)] for cell in cells}
    print("\ndigits row by row, 8 steps of 8: accuracy on the last 600 images, 60 epochs on the 1,197 before them")
    for cell, futures in jobs.items():
        answers = [f.result() for f in futures]
        name = "linear on the mean row" if cell == "mean" else cell
        each = "  ".join(f"{accuracy:.3f}" for accuracy, _ in answers)
        print(f"  {name:<26} {each}   {sum(s for _, s in answers):.0f} s", flush=True)


def _ablation(pool: ProcessPoolExecutor) -> None:
    """One thing changed at a time, three seeds each, so that luck shows."""
    length, seeds = 50, 3
    gru, lstm = Setting("gru", steps=1000), Setting("lstm", steps=1000, memory=length)
    tanh = Setting("rnn_tanh", steps=1000, lr=1e-3)
    rows = {
        "GRU": gru,
        "GRU, uniform recurrent init": replace(gru, init="uniform"),
        "GRU, no clipping": replace(gru, clip=0.0),
        "LSTM, memory_steps=50": lstm,
        "LSTM, forget bias 1": replace(lstm, memory=0),
        "LSTM, forget bias 0": replace(lstm, memory=0, forget=0.0),
        "LSTM, memory_steps=50, uniform": replace(lstm, init="uniform"),
        "LSTM, memory_steps=50, no clip": replace(lstm, clip=0.0),
        "tanh RNN": tanh,
        "tanh RNN, uniform": replace(tanh, init="uniform"),
        "tanh RNN, no clipping": replace(tanh, clip=0.0),
    }
    jobs = {
        name: [
            pool.submit(tasks.train, partial(tasks.adding, length), replace(s, seed=n), GOAL, 25.0)
            for n in range(seeds)
        ]
        for name, s in rows.items()
    }
    print(
        f"\nablation on the adding problem, T={length}, at most 1,000 steps or 25 seconds of processor time, {seeds} seeds"
    )
    for name, futures in jobs.items():
        _row(name, futures)


def _row(name: str, futures: list[Future[Course]]) -> list[Course]:
    courses = [f.result() for f in futures]
    errors = "  ".join(f"{c.error:.4f}" for c in courses)
    steps = ", ".join(f"{c.steps}{'' if c.is_done else ' (not there)'}" for c in courses)
    print(f"  {name:<32} {errors}   after {steps} steps, {sum(c.seconds for c in courses):.0f} s", flush=True)
    return courses


def _gradients(work: Path) -> None:
    settings = {
        "tanh RNN": Setting("rnn_tanh"),
        "tanh RNN, uniform": Setting("rnn_tanh", init="uniform"),
        "relu RNN": Setting("rnn_relu"),
        "LSTM, forget bias 0": Setting("lstm", forget=0.0),
        "LSTM, forget bias 1": Setting("lstm"),
        "LSTM, memory_steps=100": Setting("lstm", memory=LENGTH),
        "GRU": Setting("gru"),
        "GRU, memory_steps=100": Setting("gru", memory=LENGTH),
        "minGRU": Setting("mingru"),
        "minLSTM": Setting("minlstm"),
    }
    found = {name: tasks.gradient_through_time(setting, LENGTH) for name, setting in settings.items()}
    shown = (1, 20, 40, 60, 80, 90, LENGTH)
    print(f"\nnorm of dL/d(state t) in fresh cores, L on the last of {LENGTH} steps of the adding problem")
    print(f"  {'t':<24}" + "".join(f"{t:>10}" for t in shown))
    for name, norms in found.items():
        print(f"  {name:<24}" + "".join(f"{norms[t - 1]:>10.1e}" for t in shown))
    path = work / "gradient_through_time.png"
    _draw(found, path)
    print(f"  drawn in {path}", flush=True)


def _draw(curves: dict[str, list[float]], path: Path) -> None:
    """Curves over t, logarithmic, with a legend to the right."""
    wide, high, left, low, top = 1100, 640, 90, -12.0, 2.0
    right, bottom = wide - 300, high - 60
    image = np.full((high, wide, 3), 255, np.uint8)

    def place(t: float, value: float) -> tuple[int, int]:
        level = min(max(math.log10(max(value, 1e-30)), low), top)
        return round(left + (right - left) * (t - 1) / (LENGTH - 1)), round(
            40 + (bottom - 40) * (top - level) / (top - low)
        )

    def write(text: str, where: tuple[int, int], colour: tuple[int, int, int] = (0, 0, 0)) -> None:
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)

    for power in range(int(low), int(top) + 1, 2):
        x, y = place(1, 10.0**power)
        cv2.line(image, (x, y), (right, y), (220, 220, 220), 1)
        write(f"1e{power}", (left - 60, y + 5))
    for t in (1, 20, 40, 60, 80, 100):
        write(str(t), (place(t, 1e-12)[0] - 8, bottom + 22))
    write("norm of dL/d(state t), fresh cores; L on the last step", (left, 24))
    write("t", ((left + right) // 2, high - 12))
    for n, (name, values) in enumerate(curves.items()):
        hue = np.array([[[179 * n // len(curves), 220, 190]]], dtype=np.uint8)
        b, g, r = (int(c) for c in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])
        points = np.array([place(t, v) for t, v in enumerate(values, 1)], np.int32)
        cv2.polylines(image, [points.reshape(-1, 1, 2)], False, (b, g, r), 2, cv2.LINE_AA)
        cv2.line(image, (right + 20, 60 + 26 * n), (right + 50, 60 + 26 * n), (b, g, r), 2)
        write(name, (right + 58, 65 + 26 * n))
    cv2.imwrite(str(path), image)
