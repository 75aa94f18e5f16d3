"""Signals, and a training by two processes beside that by one."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torchrun import torchrun
from toy_training import make_toy, metric_rows

from pipeline.training.distributed import seed_step
from pipeline.training.resume import saved_step
from pipeline.training.stop_signal import StopSignal


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_random_numbers_depend_on_seed_step_and_rank_alone() -> None:
    def numbers(*place: int) -> tuple[float, ...]:
        seed_step(*place)
        return tuple(torch.rand(3).tolist())

    places = [(seed, step, rank) for seed in (0, 1) for step in (-1, 0, 1, 11) for rank in (0, 1, 11)]
    drawn = {place: numbers(*place) for place in places}
    assert len(set(drawn.values())) == len(places)
    assert {place: numbers(*place) for place in reversed(places)} == drawn


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    torchrun("two_processes.py", tmp_path)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    toy = make_toy(tmp_path / "series")
    one = toy.model(dropout=0.0)
    toy.fit(one, tmp_path / "one")
    for results in ranks:
        assert (results["mean"], results["max"], results["broadcast"]) == ({"a": 0.5, "b": 4.0}, 6, 7.0)
        assert "At step 2 the weights of process 1 differ from those of process 0." in results["unequal"]
        assert results["weights"] == ranks[0]["weights"]
        assert results["stopped"] == 143, "a signal to one rank stops both at the same step"
    assert "2 processes ended with equal weights" in ranks[0]["messages"]
    for weights, parameter in zip(ranks[0]["weights"], one.parameters(), strict=True):
        assert torch.allclose(torch.tensor(weights), parameter.detach().flatten(), atol=1e-4)
    pairs = list(zip(metric_rows(tmp_path / "one"), metric_rows(tmp_path / "two"), strict=True))
    assert len(pairs) == 3 * 6 + 3 + 3
    assert max(abs(a["loss"] - b["loss"]) for a, b in pairs if a["split"] != "gates") < 1e-4
    stopped = tmp_path / "stopped"
    assert math.ceil(30 / 4) == 8, "the step of the signal; the processes ask each other at every tenth"
    assert metric_rows(stopped)[-1]["step"] == saved_step(stopped) == 10


def test_a_process_that_comes_later_than_the_backend_waits_ends_no_run(tmp_path: Path) -> None:
    torchrun("late_process.py", tmp_path)
    for rank in range(2):
        assert json.loads((tmp_path / f"late{rank}.json").read_text()) == [{"rank": 0}, {"rank": 1}]
