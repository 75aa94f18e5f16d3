"""Whole runs by `train`: the report, a run without test rows, and a finished run that is not trained again."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_training import make_series, metric_rows

from pipeline.checkpoint import load_model
from pipeline.commands.evaluate import evaluate
from pipeline.commands.train import train
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, load_config
from pipeline.training.tracking import Tracker


def config_of(tmp_path: Path, *overrides: str) -> Config:
    settings = [
        "encoder.kind=series",
        "clock.rate=10",
        "core.hidden=8",
        "training.epochs=2",
        "training.device=cpu",
        "tracking.wandb=off",
        f"data.path={tmp_path}/series/manifest.jsonl",
        f"run={tmp_path}/run",
    ]
    return load_config(None, [*settings, *overrides])


def steps_of(folder: Path) -> list[tuple[int, int]]:
    """Step and epoch of every row of a training that logs each step."""
    return [(row["step"], row["epoch"]) for row in metric_rows(folder, "train")]


def test_a_run_without_a_test_split_ends_well(tmp_path: Path) -> None:
    make_series(tmp_path / "series", 25)
    finished = train(config_of(tmp_path, "data.split=none", "data.validation_share=0"), lambda text: None)
    assert finished.report["rows"] == [] and finished.report["counts"] == {"train": 25}
    assert "nothing was measured" in (finished.folder / "report.txt").read_text()
    assert (finished.folder / "model/weights.safetensors").is_file()
    with pytest.raises(ConfigError, match="The split 'none' leaves no test rows"):
        evaluate(finished.folder, [], lambda text: None)


def test_a_run_writes_its_table_and_is_not_trained_twice(tmp_path: Path) -> None:
    make_series(tmp_path / "series", 50)
    config = config_of(tmp_path, "training.log_every=1", "training.batch_size=8", "training.epochs=3")
    finished = train(config, lambda text: None)
    assert [(r["model"], r["order"]) for r in finished.report["rows"]] == [
        ("gru", "forward"),
        ("gru", "reversed"),
        ("gru", "shuffled"),
        ("mean-pool linear", "forward"),
        ("mean-pool MLP", "forward"),
    ]
    notes = load_model(finished.folder).notes
    assert notes["steps"] > 2 and len(steps_of(finished.folder)) == notes["steps"]
    for name in ("mean-pool_linear", "mean-pool_MLP"):  # a baseline trains as long, and over the same epochs
        folder = finished.folder / "baselines" / name
        assert {key: load_model(folder).notes[key] for key in ("steps", "epochs", "seed", "data")} == {
            key: notes[key] for key in ("steps", "epochs", "seed", "data")
        }
        assert steps_of(folder) == steps_of(finished.folder)
    splits = [row["split"] for row in metric_rows(finished.folder)]
    assert [s for s in splits if s.startswith("test")] == ["test", "test_reversed", "test_shuffled"]
    with pytest.raises(ValueError, match="holds a finished run"):
        train(config, lambda text: None)
    assert evaluate(finished.folder, [], lambda text: None).report["rows"] == finished.report["rows"][:3]


def test_the_weights_are_sent_only_where_the_user_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_series(tmp_path / "series", 25)
    sent: list[str] = []
    monkeypatch.setattr(Tracker, "log_artifact", lambda self, folder, name: sent.append(name))
    settings = ["evaluation.baselines=false", "training.epochs=1"]
    for mode in ("auto", "offline"):
        monkeypatch.setenv("WANDB_MODE", "disabled")
        train(config_of(tmp_path, *settings, f"tracking.wandb={mode}", f"run={tmp_path / mode}"), lambda text: None)
    assert sent == []
    train(config_of(tmp_path, *settings, "tracking.upload_model=true", f"run={tmp_path / 'sent'}"), lambda text: None)
    assert sent == ["sent-model"]
