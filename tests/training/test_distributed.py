"""Signals, and a training by two processes beside that by one."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_training import make_toy, metric_rows

from pipeline.training.distributed import StopSignal
from pipeline.training.resume import saved_step


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    support = Path(__file__).parents[1] / "support"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    proofs = support.parents[1] / "scripts/proofs"
    paths = os.pathsep.join([str(support), str(proofs), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [*torchrun, str(support / "two_processes.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
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
    assert metric_rows(stopped)[-1]["step"] == saved_step(stopped) == math.ceil(30 / 4)
