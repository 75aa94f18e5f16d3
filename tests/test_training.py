"""Truths about training: the order of samples, the schedule, what is learned, kept, refused, and resumed bit by bit."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import CPU, PLAN, SignalAt, Toy, make_series, make_toy

from pipeline.config import load_config
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import EpochSampler, epoch_batches, in_order
from pipeline.run import evaluate, train
from pipeline.training.evaluate import judge
from pipeline.training.fit import saved_step
from pipeline.training.optimize import Mover, schedule
from pipeline.training.runtime import Interrupted, StopSignal

LENGTHS = np.random.default_rng(0).integers(1, 60, 203).tolist()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("series"))


def rows_of(folder: Path, part: str | None = None) -> list[dict[str, Any]]:
    """The rows without their times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows if part in (None, row["part"])]


def bytes_of(model: nn.Module) -> bytes:
    return b"".join(v.numpy().tobytes() for v in model.state_dict().values())


# ---- the order of an epoch


def test_an_epoch_is_a_pure_function_of_seed_and_epoch() -> None:
    first = epoch_batches(LENGTHS, 8, seed=3, epoch=5)
    np.random.default_rng(1).random()
    torch.manual_seed(9)
    assert epoch_batches(LENGTHS, 8, seed=3, epoch=5) == first
    assert epoch_batches(LENGTHS, 8, seed=3, epoch=6) != first
    assert epoch_batches(LENGTHS, 8, seed=4, epoch=5) != first


@pytest.mark.parametrize(("count", "size"), [(203, 8), (8, 8), (3, 8), (1, 4), (64, 1)])
def test_every_row_is_seen_and_every_batch_full(count: int, size: int) -> None:
    batches = epoch_batches(LENGTHS[:count], size, seed=0, epoch=0)
    seen = Counter(i for batch in batches for i in batch)
    assert {len(batch) for batch in batches} == {size} and len(batches) == math.ceil(count / size)
    assert set(seen) == set(range(count)) and max(seen.values()) <= math.ceil(size / count) + 1
    assert sum(seen.values()) - count < size  # only the last batch is filled up


def test_alike_lengths_stand_together_in_a_random_order() -> None:
    batches = epoch_batches(LENGTHS, 8, seed=0, epoch=0)
    padding = sum(max(LENGTHS[i] for i in b) - LENGTHS[i] for b in batches for i in b)
    order = np.random.default_rng(0).permutation(200).reshape(-1, 8)
    unsorted = sum(max(LENGTHS[i] for i in b) - LENGTHS[i] for b in order for i in b)
    assert padding < unsorted / 3
    means = [np.mean([LENGTHS[i] for i in b]) for b in batches]
    assert means != sorted(means) and means != sorted(means, reverse=True)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_ranks_share_the_very_batches_of_one_process(world: int) -> None:
    def batches(rank: int, world: int) -> list[list[tuple[int, int]]]:
        sampler = EpochSampler(LENGTHS, 8, 0, rank, world)
        sampler.epoch = 2
        assert len(list(sampler)) == len(sampler)
        return list(sampler)

    shares = [batches(rank, world) for rank in range(world)]
    assert {len(part) for share in shares for part in share} == {8 // world}
    together = [sorted(key for part in parts for key in part) for parts in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in batches(0, 1)]


def test_skipping_gives_the_rest_of_the_epoch_and_an_odd_world_is_refused() -> None:
    sampler = EpochSampler(LENGTHS, 8, 0)
    whole = list(sampler)
    sampler.skip = 11
    assert list(sampler) == whole[11:]
    with pytest.raises(ValueError, match=r"batch_size = 8 cannot be shared by 3 processes.*multiple of 3"):
        EpochSampler(LENGTHS, 8, 0, 0, 3)


def test_in_order_gives_every_index_once() -> None:
    batches = in_order(LENGTHS, 8)
    assert sorted(i for batch in batches for _, i in batch) == list(range(len(LENGTHS)))
    assert [LENGTHS[i] for batch in batches for _, i in batch] == sorted(LENGTHS)


def test_a_window_is_a_pure_function_of_seed_epoch_and_row(toy: Toy) -> None:
    long = toy.train.full_lengths.index(max(toy.train.full_lengths))
    again = RowDataset(toy.train.rows, toy.train.source, toy.train.targets, window=9)
    windows = [toy.train[(epoch, long)].raw["series"] for epoch in range(12)]
    assert all(len(w) == 9 for w in windows)
    for epoch in reversed(range(12)):
        assert torch.equal(again[(epoch, long)].raw["series"], windows[epoch])
    assert any(not torch.equal(w, windows[0]) for w in windows)


# ---- how weights move


def test_the_schedule_rises_in_a_line_and_falls_to_zero() -> None:
    factors = [schedule(step, 200, 0.1) for step in range(200)]
    assert factors[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert factors[20] == 1.0 and all(a > b for a, b in zip(factors[20:], factors[21:], strict=False))
    assert factors[110] == pytest.approx(0.5) and 0 < factors[-1] < 1e-3
    assert schedule(0, 100, 0.0) == 1.0 and schedule(0, 1, 0.5) == 1.0
    anew = [schedule(step, 200, 0.1, 80) for step in range(200)]
    assert anew == [schedule(s, 80, 0.1) for s in range(80)] + [schedule(s, 120, 0.1) for s in range(120)]


class Two(nn.Module):
    """A CNN's weight and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2, 2)


def mover(model: nn.Module, **changes: Any) -> Mover:
    numbers: dict[str, Any] = {
        "lr": 0.1,
        "backbone_lr": 0.5,
        "weight_decay": 0.3,
        "warmup": 0.0,
        "clip": 1.0,
        "total_steps": 10,
    }
    return Mover(model, model.parameters(), **{**numbers, **changes})


def test_gradients_are_clipped_and_their_norm_before_it_is_told() -> None:
    model = Two()
    moved = mover(model).move(1e4 * sum(p.sum() for p in model.parameters()), 0)  # type: ignore[arg-type]
    assert moved["grad_norm"] == pytest.approx(1e4 * math.sqrt(10), rel=1e-5)
    left = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert float(left.norm()) == pytest.approx(1.0, rel=1e-4)


def test_weights_decay_and_biases_do_not_and_the_backbone_moves_slower() -> None:
    model = Two()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    mover(model).move(sum(0.0 * p.sum() for p in model.parameters()), 0)  # type: ignore[arg-type]
    after = dict(model.named_parameters())
    assert torch.equal(after["head.bias"], before["head.bias"])
    assert torch.allclose(after["head.weight"], before["head.weight"] * (1 - 0.1 * 0.3))
    assert torch.allclose(after["backbone.weight"], before["backbone.weight"] * (1 - 0.05 * 0.3))


@pytest.mark.parametrize("what", ["loss", "gradient's norm"])
def test_a_loss_or_gradient_that_is_not_finite_moves_nothing(what: str) -> None:
    model = Two()
    before = bytes_of(model)
    total = sum(p.sum() for p in model.parameters())
    loss = total * math.nan if what == "loss" else (0.0 * total).sqrt()  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match=rf"The {what} is nan at step 7\..*Lower training.lr or training.clip"):
        mover(model).move(loss, 7)  # type: ignore[arg-type]
    assert bytes_of(model) == before


# ---- the loop


def test_it_learns_an_order_that_a_mean_cannot_know(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "series", 110)
    plan = replace(PLAN, epochs=18)
    accuracy = {}
    for cell in ("gru", "mean"):
        model = toy.model(cell=cell, dropout=0.0)
        toy.fit(model, tmp_path / cell, plan, val=False)
        accuracy[cell] = judge(model, toy.test, batch_size=8, device=CPU.device).score
    assert accuracy["gru"] >= 0.9 and accuracy["mean"] <= 0.75


def test_early_stop_keeps_the_best_epoch(toy: Toy, tmp_path: Path) -> None:
    model = toy.model()
    said: list[str] = []
    now = toy.fit(model, tmp_path, replace(PLAN, lr=0.1, epochs=60, patience=3), say=said.append)
    scores = [(row["accuracy"], -row["loss"]) for row in rows_of(tmp_path, "val")]
    assert now.best_epoch == scores.index(max(scores)) and now.best == max(scores)
    assert len(scores) == now.best_epoch + 1 + 3 < 60 and "stopped: no better validation score for 3 epochs" in said[-1]
    left = judge(model, toy.val, batch_size=8, device=CPU.device)
    assert (left.score, -left.loss) == pytest.approx(max(scores), abs=1e-9)


def test_rows_hold_every_step_with_the_means_between_them(toy: Toy, tmp_path: Path) -> None:
    for every in (1, 4):
        toy.fit(toy.model(), tmp_path / str(every), replace(PLAN, log_every=every, clip=0.05))
    each, means = rows_of(tmp_path / "1", "train"), rows_of(tmp_path / "4", "train")
    assert [row["step"] for row in each] == list(range(1, 3 * 6 + 1)) and [row["step"] for row in means] == [
        4,
        8,
        12,
        16,
    ]
    for row in means:
        four = each[row["step"] - 4 : row["step"]]
        assert row["loss"] == pytest.approx(np.mean([r["loss"] for r in four]), rel=1e-9)
    assert max(row["grad_norm"] for row in each) > 0.05, "clipping happens, and the norm before it is told"
    assert [row["lr"] for row in each] == pytest.approx([1e-2 * schedule(s, 18, 0.1) for s in range(18)])


def test_saturation_of_the_gates_is_told_once_an_epoch(toy: Toy, tmp_path: Path) -> None:
    toy.fit(toy.model(), tmp_path / "gru")
    rows = rows_of(tmp_path / "gru", "gates")
    assert [row["step"] for row in rows] == [6, 12, 18]
    assert {k for k in rows[0] if k.startswith("saturated/")} == {
        "saturated/reset",
        "saturated/update",
        "saturated/state",
    }
    assert all(0 <= row["saturated/update"] <= 1 for row in rows)
    toy.fit(toy.model(cell="mean"), tmp_path / "mean")
    assert not rows_of(tmp_path / "mean", "gates"), "a mean has no gates"


def test_no_rows_and_nan_in_the_data_are_refused_in_sentences(toy: Toy, tmp_path: Path) -> None:
    empty = RowDataset([], toy.train.source, toy.train.targets)
    with pytest.raises(ValueError, match=r"No row is left to train on\..*data\.split"):
        toy.fit(toy.model(), tmp_path / "empty", train=empty)
    ill = make_toy(tmp_path / "ill")
    path = tmp_path / "ill" / ill.train.rows[5].path
    np.save(path, np.full((8, 6), np.nan, np.float32))
    with pytest.raises(
        FloatingPointError, match=r"The loss is nan at step [0-5]\. .*values in the data that are not finite"
    ):
        ill.fit(ill.model(), tmp_path / "nan")


@pytest.mark.parametrize(
    ("number", "asked"),
    [(signal.SIGTERM, (20,)), (signal.SIGUSR1, (47, 9)), (signal.SIGINT, (1, 60, 33))],
    ids=["SIGTERM", "SIGUSR1 twice", "SIGINT three times"],
)
def test_interrupted_and_resumed_is_bit_equal(
    toy: Toy, tmp_path: Path, number: signal.Signals, asked: tuple[int, ...]
) -> None:
    plan = replace(PLAN, epochs=4, log_every=5, save_every=3)
    whole = toy.model()
    first = toy.fit(whole, tmp_path / "whole", plan)
    folder = tmp_path / "broken"
    steps = []
    for at in asked:
        with pytest.raises(Interrupted, match=f"stopped by {number.name}") as stop:
            toy.fit(toy.model(), folder, plan, train=SignalAt(toy.train, at, number), from_step=saved_step(folder))
        assert stop.value.exit_code == 128 + number
        steps.append(saved_step(folder))
    assert steps == np.cumsum([math.ceil(at / 8) for at in asked]).tolist() and steps[-1] % 6, (
        "after the step, in mid-epoch"
    )
    broken = toy.model(seed=5)  # what it began with does not matter
    second = toy.fit(broken, folder, plan, from_step=saved_step(folder))
    assert bytes_of(whole) == bytes_of(broken)
    assert (first.step, first.best, first.best_epoch) == (second.step, second.best, second.best_epoch)
    assert rows_of(tmp_path / "whole") == rows_of(folder)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the handlers are put back"
    other = toy.model()
    toy.fit(other, tmp_path / "other", replace(plan, seed=1))
    assert bytes_of(other) != bytes_of(whole)


def test_a_signal_in_the_last_step_stops_too(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        toy.fit(toy.model(), tmp_path, train=SignalAt(toy.train, 3 * 48))
    assert toy.fit(toy.model(), tmp_path, from_step=saved_step(tmp_path)).step == 18


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_state_of_other_rows_or_weights_is_refused(toy: Toy, tmp_path: Path) -> None:
    toy.fit(toy.model(), tmp_path)
    fewer = RowDataset(toy.train.rows[:-1], toy.train.source, toy.train.targets)
    for model, samples in ((toy.model(), fewer), (toy.model(cell="lstm"), toy.train)):
        with pytest.raises(
            ValueError, match=r"resume\.pt' was saved by a training on other rows or of other weights\..*--fresh"
        ):
            toy.fit(model, tmp_path, train=samples, from_step=18)


def test_workers_change_nothing(toy: Toy, tmp_path: Path) -> None:
    models = [toy.model(), toy.model()]
    picklable = RowDataset(toy.train.rows, toy.train.source, {"action": models[1].head("action").target}, window=9)
    for workers, model in zip((0, 2), models, strict=True):
        toy.fit(model, tmp_path / str(workers), replace(PLAN, epochs=2, workers=workers), train=picklable)
    assert bytes_of(models[0]) == bytes_of(models[1])
    assert rows_of(tmp_path / "0") == rows_of(tmp_path / "2")


# ---- whole runs


def settings(tmp_path: Path, *more: str) -> list[str]:
    return [
        "encoder.kind=series",
        "clock.rate=10",
        "core.hidden=8",
        "training.epochs=2",
        "training.device=cpu",
        "tracking.wandb=off",
        f"data.path={tmp_path}/series/manifest.jsonl",
        f"run={tmp_path}/run",
        *more,
    ]


def test_a_run_without_a_test_part_ends_well(tmp_path: Path) -> None:
    make_series(tmp_path / "series", 25)
    finished = train(load_config(None, settings(tmp_path, "data.split=none", "data.validation=0")), lambda text: None)
    assert finished.report["rows"] == [] and finished.report["counts"] == {"train": 25}
    assert "nothing was measured" in (finished.folder / "report.txt").read_text()
    assert (finished.folder / "model/weights.safetensors").is_file()


def test_a_run_leaves_its_table_and_is_not_trained_twice(tmp_path: Path) -> None:
    make_series(tmp_path / "series", 50)
    config = load_config(None, settings(tmp_path))
    finished = train(config, lambda text: None)
    assert [(r["model"], r["order"]) for r in finished.report["rows"]] == [
        ("gru", "forward"),
        ("gru", "reversed"),
        ("gru", "shuffled"),
        ("mean-pool linear", "forward"),
        ("mean-pool MLP", "forward"),
    ]
    assert [r["part"] for r in rows_of(finished.folder) if r["part"].startswith("test")] == [
        "test",
        "test_reversed",
        "test_shuffled",
    ]
    with pytest.raises(ValueError, match="holds a finished run"):
        train(config, lambda text: None)
    assert evaluate(finished.folder, [], lambda text: None).report["rows"] == finished.report["rows"][:3]


def test_two_processes_end_as_one_does(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tests / "two_processes.py"),
        str(tmp_path),
    ]
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        command,
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
    for found in ranks:
        assert (found["mean"], found["largest"], found["agree"]) == ({"a": 0.5, "b": 4.0}, 6, 7.0)
        assert "At step 2 the weights of process 1 differ from those of process 0." in found["unequal"]
        assert found["weights"] == ranks[0]["weights"]
        assert found["stopped"] == 143, "a signal to one rank stops both at the same step"
    assert "2 processes ended with equal weights" in ranks[0]["said"]
    for weights, parameter in zip(ranks[0]["weights"], one.parameters(), strict=True):
        assert torch.allclose(torch.tensor(weights), parameter.detach().flatten(), atol=1e-4)
    pairs = list(zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True))
    assert len(pairs) == 3 * 6 + 3 + 3
    assert max(abs(a["loss"] - b["loss"]) for a, b in pairs if a["part"] != "gates") < 1e-4
    assert rows_of(tmp_path / "stopped")[-1]["step"] == saved_step(tmp_path / "stopped") == math.ceil(30 / 4)
