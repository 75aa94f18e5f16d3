"""The training loop: what it learns, early stopping, the rows that it logs, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import CPU, SETTINGS, Toy, make_toy, metric_rows, state_bytes

from pipeline.data.dataset import RowDataset
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.training.optimizer import schedule


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("series"))


def test_a_window_depends_only_on_seed_epoch_and_row(toy: Toy) -> None:
    longest = toy.train.full_lengths.index(max(toy.train.full_lengths))
    again = RowDataset(toy.train.rows, toy.train.source, toy.train.targets, window=9)
    windows = [toy.train[(epoch, longest)].raw["series"] for epoch in range(12)]
    assert all(len(w) == 9 for w in windows)
    for epoch in reversed(range(12)):
        assert torch.equal(again[(epoch, longest)].raw["series"], windows[epoch])
    assert any(not torch.equal(w, windows[0]) for w in windows)


def test_a_gru_learns_an_order_that_a_mean_cannot(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "series", 110)
    settings = SETTINGS.model_copy(update={"epochs": 18})
    accuracy = {}
    for cell in ("gru", "mean"):
        model = toy.model(cell=cell, dropout=0.0)
        toy.fit(model, tmp_path / cell, settings, val=False)
        accuracy[cell] = evaluate_dataset(model, toy.test, batch_size=8, device=CPU.device).score
    assert accuracy["gru"] >= 0.9 and accuracy["mean"] <= 0.75


def test_early_stopping_keeps_the_best_epoch(toy: Toy, tmp_path: Path) -> None:
    model = toy.model()
    messages: list[str] = []
    settings = SETTINGS.model_copy(update={"lr": 0.1, "epochs": 60, "patience": 3})
    progress = toy.fit(model, tmp_path, settings, log=messages.append)
    scores = [(row["accuracy"], -row["loss"]) for row in metric_rows(tmp_path, "val")]
    assert progress.best_epoch == scores.index(max(scores)) and progress.best_score == max(scores)
    assert len(scores) == progress.best_epoch + 1 + 3 < 60
    assert "stopped: no better validation score for 3 epochs" in messages[-1]
    evaluation = evaluate_dataset(model, toy.val, batch_size=8, device=CPU.device)
    assert (evaluation.score, -evaluation.loss) == pytest.approx(max(scores), abs=1e-9)


def test_rows_hold_the_means_over_the_steps_between_them(toy: Toy, tmp_path: Path) -> None:
    for every in (1, 4):
        settings = SETTINGS.model_copy(update={"log_every": every, "grad_clip": 0.05})
        toy.fit(toy.model(), tmp_path / str(every), settings)
    each, means = metric_rows(tmp_path / "1", "train"), metric_rows(tmp_path / "4", "train")
    assert [row["step"] for row in each] == list(range(1, 3 * 6 + 1))
    assert [row["step"] for row in means] == [4, 8, 12, 16]
    for row in means:
        last_rows = each[row["step"] - 4 : row["step"]]
        assert row["loss"] == pytest.approx(np.mean([r["loss"] for r in last_rows]), rel=1e-9)
    assert max(row["grad_norm"] for row in each) > 0.05, "gradients are clipped, and rows hold the norm before that"
    assert [row["lr"] for row in each] == pytest.approx([1e-2 * schedule(s, 18, 0.1) for s in range(18)])


def test_the_saturation_of_the_gates_is_logged_once_an_epoch(toy: Toy, tmp_path: Path) -> None:
    toy.fit(toy.model(), tmp_path / "gru")
    rows = metric_rows(tmp_path / "gru", "gates")
    assert [row["step"] for row in rows] == [6, 12, 18]
    gates = {key for key in rows[0] if key.startswith("gate_saturation/")}
    assert gates == {f"gate_saturation/{gate}" for gate in ("reset", "update", "state")}
    assert all(0 <= row["gate_saturation/update"] <= 1 for row in rows)
    toy.fit(toy.model(cell="mean"), tmp_path / "mean")
    assert not metric_rows(tmp_path / "mean", "gates"), "a mean has no gates"


def test_no_rows_and_nan_in_the_data_are_errors(toy: Toy, tmp_path: Path) -> None:
    empty = RowDataset([], toy.train.source, toy.train.targets)
    with pytest.raises(ValueError, match=r"No row is left to train on\..*data\.split"):
        toy.fit(toy.model(), tmp_path / "empty", train=empty)
    broken = make_toy(tmp_path / "broken")
    path = tmp_path / "broken" / broken.train.rows[5].path
    np.save(path, np.full((8, 6), np.nan, np.float32))
    with pytest.raises(
        FloatingPointError, match=r"The loss is nan at step [0-5]\. .*values in the data that are not finite"
    ):
        broken.fit(broken.model(), tmp_path / "nan")


def test_workers_change_no_result(toy: Toy, tmp_path: Path) -> None:
    models = [toy.model(), toy.model()]
    picklable = RowDataset(toy.train.rows, toy.train.source, {"action": models[1].head("action").target}, window=9)
    settings = SETTINGS.model_copy(update={"epochs": 2})
    for workers, model in zip((0, 2), models, strict=True):
        toy.fit(model, tmp_path / str(workers), settings, train=picklable, workers=workers)
    assert state_bytes(models[0]) == state_bytes(models[1])
    assert metric_rows(tmp_path / "0") == metric_rows(tmp_path / "2")
