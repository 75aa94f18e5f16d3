"""Interrupted and resumed trainings: equal to the last bit, and states that do not fit are refused."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_training import SETTINGS, SignalAt, Toy, make_toy, metric_rows, state_bytes

from pipeline.data.dataset import RowDataset
from pipeline.data.manifest_rows import Span
from pipeline.training.resume import saved_step
from pipeline.training.stop_signal import Interrupted


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("series"))


@pytest.mark.parametrize(
    ("number", "samples"),
    [(signal.SIGTERM, (20,)), (signal.SIGUSR1, (47, 9)), (signal.SIGINT, (1, 60, 33))],
    ids=["SIGTERM", "SIGUSR1 twice", "SIGINT three times"],
)
def test_an_interrupted_and_resumed_training_is_bit_equal(
    toy: Toy, tmp_path: Path, number: signal.Signals, samples: tuple[int, ...]
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 4, "log_every": 5, "save_every": 3})
    whole = toy.model()
    first = toy.fit(whole, tmp_path / "whole", settings)
    folder = tmp_path / "interrupted"
    steps = []
    for at in samples:
        train = SignalAt(toy.train, at, number)
        with pytest.raises(Interrupted, match=f"stopped by {number.name}") as stop:
            toy.fit(toy.model(), folder, settings, train=train, from_step=saved_step(folder))
        assert stop.value.exit_code == 128 + number
        steps.append(saved_step(folder))
    assert steps == np.cumsum([math.ceil(at / 8) for at in samples]).tolist(), "it stops after the step"
    assert steps[-1] % 6, "in the middle of an epoch"
    resumed = toy.model(seed=5)  # its first weights do not matter
    second = toy.fit(resumed, folder, settings, from_step=saved_step(folder))
    assert state_bytes(whole) == state_bytes(resumed)
    assert (first.step, first.best_score, first.best_epoch) == (second.step, second.best_score, second.best_epoch)
    assert metric_rows(tmp_path / "whole") == metric_rows(folder)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the handlers are restored"
    other = toy.model()
    toy.fit(other, tmp_path / "other", settings.model_copy(update={"seed": 1}))
    assert state_bytes(other) != state_bytes(whole)


def test_a_signal_in_the_last_step_stops_too(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        toy.fit(toy.model(), tmp_path, train=SignalAt(toy.train, 3 * 48))
    assert toy.fit(toy.model(), tmp_path, from_step=saved_step(tmp_path)).step == 18


def test_rows_with_other_labels_spans_or_captions_are_other_rows(toy: Toy, tmp_path: Path) -> None:
    toy.fit(toy.model(), tmp_path)
    first, second, *rest = toy.train.rows
    other_label = next(row.label for row in rest if row.label != first.label)
    relabelled = [replace(first, label=other_label), second, *rest]
    changes = (relabelled, [replace(first, spans=(Span(0, 1, "x"),)), second, *rest], [second, first, *rest])
    for rows in (*changes, [replace(first, captions=("A b.",)), second, *rest]):
        other = RowDataset(rows, toy.train.source, toy.train.targets, window=toy.train.window)
        with pytest.raises(ValueError, match=r"was saved by a training on other rows or of other weights"):
            toy.fit(toy.model(), tmp_path, train=other, from_step=18)
    same = RowDataset(toy.train.rows, toy.train.source, toy.train.targets, window=toy.train.window)
    assert toy.fit(toy.model(), tmp_path, train=same, from_step=18).step == 18


def test_a_state_of_other_rows_or_weights_is_refused(toy: Toy, tmp_path: Path) -> None:
    toy.fit(toy.model(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "resume.pt"]
    fewer = RowDataset(toy.train.rows[:-1], toy.train.source, toy.train.targets)
    for model, samples in ((toy.model(), fewer), (toy.model(cell="lstm"), toy.train)):
        with pytest.raises(
            ValueError, match=r"resume\.pt' was saved by a training on other rows or of other weights\..*--fresh"
        ):
            toy.fit(model, tmp_path, train=samples, from_step=18)
