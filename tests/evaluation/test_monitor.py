"""Which metric chooses the best epoch: its head, its direction, and what nan does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from every_head import SERIES_HEADS, TEXT_HEADS, make_rows, series_model, text_model
from toy_training import SETTINGS, Toy, make_series, make_toy, metric_rows

import pipeline.training.fit as fit_file
from pipeline.commands.train import train
from pipeline.config.base import ConfigError
from pipeline.config.run import load_config
from pipeline.evaluation.evaluate_dataset import Evaluation
from pipeline.evaluation.monitor import Monitor, monitor_of
from pipeline.models.model import Model


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("series"))


@pytest.mark.parametrize("name", [*SERIES_HEADS, *TEXT_HEADS])
def test_the_own_metric_of_every_head_is_one_of_which_higher_is_better(name: str) -> None:
    rows = make_rows()
    needed = ("segment", name) if name == "caption_spans" else (name,)
    model = text_model(rows, name)[0] if name in TEXT_HEADS else series_model(rows, *needed)
    head = model.head(name)
    chosen = monitor_of({name: head}, None)
    assert chosen == monitor_of({name: head}, f"{name}/{head.monitor}") == Monitor(name, head.monitor, False)


@pytest.mark.parametrize(
    ("metric", "is_lower_better"),
    [
        *[(name, True) for name in ("perplexity", "nats", "bits_per_character", "mse", "mae", "mse_last_step", "nll")],
        *[(name, True) for name in ("word_error_rate", "bare_word_error_rate", "ece", "ece_unscaled", "pinball")],
        *[(name, False) for name in ("accuracy", "log_likelihood", "skill", "cider_d", "frechet_change_score", "edit")],
        *[(name, False) for name in ("word_accuracy", "f1_50", "per_frame_map", "mean_class_accuracy_0.5", "bleu_4")],
    ],
)
def test_the_direction_of_a_metric(toy: Toy, metric: str, is_lower_better: bool) -> None:
    heads = {"action": toy.model().head("action")}
    monitor = monitor_of(heads, f"action/{metric}")
    low, high = (monitor.score({"action": {metric: value}}) for value in (0.25, 0.75))
    assert (low > high) is is_lower_better
    assert monitor.score({"action": {metric: math.nan}}) == -math.inf < min(low, high)
    assert str(monitor) == f"action/{metric} ({'lower' if is_lower_better else 'higher'} is better)"


def test_a_name_that_is_no_head_or_no_metric_is_refused(toy: Toy, tmp_path: Path) -> None:
    heads = {"action": toy.model().head("action")}
    with pytest.raises(
        ValueError, match=r"'x/accuracy' names the head 'x', and the model has: action\. Write the name"
    ):
        monitor_of(heads, "x/accuracy")
    settings = SETTINGS.model_copy(update={"monitor": "action/acuracy"})
    with pytest.raises(
        ValueError, match=r"'acuracy', which is no metric of the head 'action'\. Did you mean 'accuracy'\?"
    ) as caught:
        toy.fit(toy.model(), tmp_path / "typo", settings)
    assert "nll" in str(caught.value) and "count" not in str(caught.value) and "per_class" not in str(caught.value)
    assert not metric_rows(tmp_path / "typo"), "before the first step"
    with pytest.raises(ConfigError, match=r"names the head 'clip', which is none of this model; the heads are action"):
        load_config(None, ["training.monitor=clip/accuracy"], base={"data": {"path": "x"}})
    with pytest.raises(ConfigError, match="monitor"):
        load_config(None, ["training.monitor=accuracy"], base={"data": {"path": "x"}})


@pytest.mark.parametrize(
    ("setting", "values", "best"),
    [
        (None, [(0.5, 9.0), (0.7, 1.0), (0.6, 99.0)], 1),  # the first head decides; 99 of the other does not count
        (None, [(0.5, 9.0), (math.nan, 99.0), (0.4, 99.0)], 0),  # nan loses against any number
        (None, [(math.nan, 1.0), (0.1, 1.0), (math.nan, 99.0)], 1),
        ("b/mse", [(0.5, 9.0), (0.9, 2.0), (0.7, 1.0)], 2),  # lower is better
        ("b/mse", [(0.5, math.nan), (0.9, 2.0), (0.7, 3.0)], 1),
        ("a/accuracy", [(0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], 2),  # the smaller loss decides between equal ones
    ],
)
def test_one_metric_of_one_head_chooses_the_best_epoch(
    toy: Toy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str | None,
    values: list[tuple[float, float]],
    best: int,
) -> None:
    epochs = [values[0], *values] if setting else list(values)  # a given metric is looked up once before the training
    model = toy.model()
    head = model.head("action")

    def evaluate(model: Model, *_: Any, **__: Any) -> Evaluation:
        accuracy, mse = epochs.pop(0)
        metrics = {"a": {"accuracy": accuracy}, "b": {"mse": mse, "accuracy": 0.0}}
        monkeypatch.setattr(Evaluation, "metrics", lambda self: metrics)
        return Evaluation(float(len(epochs)), {"a": [], "b": []}, {"a": head, "b": head})

    monkeypatch.setattr(fit_file, "evaluate_dataset", evaluate)
    monkeypatch.setattr(fit_file, "_check_monitor", lambda *_: epochs.pop(0) if setting else None)
    progress = toy.fit(model, tmp_path, SETTINGS.model_copy(update={"monitor": setting}))
    assert progress.best_epoch == best and not epochs


def test_the_report_says_which_metric_chose_the_epoch(tmp_path: Path) -> None:
    manifest = str(make_series(tmp_path / "series", 70, noise=0.2, longest=12))
    values = {
        "data": {"path": manifest, "window": None},
        "clock": {"rate": 10},
        "encoder": {"kind": "series", "project": 0},
        "core": {"hidden": 8},
        "training": {"epochs": 2, "monitor": "action/nll"},
        "evaluation": {"order_controls": False},
        "tracking": {"wandb": False},
        "run": str(tmp_path / "run"),
    }
    messages: list[str] = []
    folder = train(load_config(None, base=yaml.safe_load(yaml.safe_dump(values))), messages.append).folder
    assert "the best epoch is chosen by action/nll (lower is better)" in messages
    report = json.loads((folder / "report.json").read_text())
    assert report["model"]["monitor"] == "action/nll (lower is better)"
    nll = [row["nll"] for row in metric_rows(folder, "val")]
    assert report["model"]["best_epoch"] == 1 + nll.index(min(nll))
    line = f"best epoch: {report['model']['best_epoch']}, chosen by action/nll (lower is better)"
    assert line in (folder / "report.txt").read_text()
