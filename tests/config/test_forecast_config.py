"""Forecast and anticipation from a config: training, the model folder and answers; wrong settings give sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.checkpoint import load_model
from pipeline.commands.predict import PredictOptions, predict
from pipeline.commands.train import train
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, load_config
from pipeline.data.batch import Batch
from pipeline.data.manifest import write_manifest
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.forecast import Forecast
from pipeline.padded import Padded
from pipeline.training.stop_signal import StopSignal

SERIES = [
    "encoder={kind: series, patch: 2, subtract_last: true, project: 8}",
    "core={hidden: 8}",
    "data.path=x/manifest.jsonl",
]
NEXT = "heads={next: {kind: forecast, horizon: 4, context: 4, quantiles: [0.2, 0.8]}}"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([NEXT, "core.bidirectional=true"], "the head 'next' predicts what comes next, .* core.bidirectional: false"),
        ([NEXT, "data.window=7"], "data.window = 7 holds no forecast of the head 'next': .* are 8; give at least that"),
        (
            [NEXT, "data.window=null", "data.stride=1"],
            "data.stride = 1 places windows, and data.window is null; give data.w",
        ),
        (
            [NEXT, "data.window=8", "data.stride=1", "training.tbptt=true"],
            "data.stride makes each a sample.* leave one of",
        ),
        ([NEXT, "data.window=9", "training.tbptt=true"], "data.window = 9 is no multiple of encoder.patch = 2.* use 8"),
        ([NEXT, "heads.next.quantiles=[0.8, 0.2]"], "quantiles rise and differ; write \\[0.2, 0.8\\]"),
        (
            ["heads={soon: {kind: anticipate}}"],
            "'soon' needs a step of the core for each look, and encoder.patch = 2 .*patch: 1",
        ),
    ],
)
def test_wrong_settings_give_a_sentence(overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_config(None, [*SERIES, *overrides])


def config_of_waves(folder: Path) -> Config:
    """A config for series of waves: the next half wave is the last one with the opposite sign."""
    rows, rng = [], np.random.default_rng(0)
    for i in range(16):
        steps = np.arange(60) * (np.pi / 4) + rng.uniform(0, 6)
        np.save(folder / f"{i}.npy", np.stack([np.sin(steps), np.cos(steps)], 1).astype(np.float32))
        split = "train" if i < 10 else "val" if i < 13 else "test"
        rows.append(Row(f"{i}.npy", split=split, spans=(Span(0, 10, "calm"), Span(10, 30, "wild"))))
    write_manifest(rows, folder / "manifest.jsonl")
    more = [
        f"data.path={folder}/manifest.jsonl",
        "data.window=16",
        "data.stride=2",
        "training={epochs: 12, lr: 0.01}",
        "tracking.wandb=off",
        "evaluation={baselines: false, order_controls: false}",
        f"run={folder}/run",
    ]
    return load_config(None, [*SERIES, *more, NEXT])


def test_a_config_trains_a_forecast_that_beats_repeating_and_answers_from_its_folder(tmp_path):
    config = config_of_waves(tmp_path)
    row = train(config, lambda text: None).report["rows"][0]
    assert row["count"] == 3 * (1 + (60 - 16) // 2) * 5  # windows of 16 steps of 3 rows; in each 5 places fit 4 + 4
    assert row["mse"] < 0.1 * row["repeat_last_mse"]
    checkpoint = load_model(tmp_path / "run")
    assert checkpoint.vocabularies["next"].names == ()
    counts = predict(
        [str(tmp_path / "15.npy")],
        tmp_path / "run",
        tmp_path / "out",
        PredictOptions(formats=("jsonl", "csv", "parquet"), device="cpu"),
        log=lambda text: None,
        on_row=lambda row, done, total: None,
        stop=StopSignal(),
    )
    assert counts["ok"] == counts.total() == 1
    answer = json.loads((tmp_path / "out/predictions.jsonl").read_text())["next"]
    assert answer["times"] == [15.0, 15.25, 15.5, 15.75]  # 60 steps at 4 a second were seen
    values = np.load(tmp_path / "15.npy")
    np.testing.assert_allclose(answer["values"], -values[56:60], atol=0.4)
    (table_row,) = pq.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    assert {part: table_row[f"next_{part}"] for part in answer} == answer


def test_a_config_trains_anticipation(tmp_path):
    config = config_of_waves(tmp_path)
    values = {**config.model_dump(mode="json"), "heads": {"soon": {"kind": "anticipate", "leads": [1.0]}}}
    values["encoder"] |= {"patch": 1, "subtract_last": False}
    values["data"] |= {"window": None, "stride": None}
    row = train(load_config(None, base=values), lambda text: None).report["rows"][0]
    assert row["count"] == 180 and 0 <= row["accuracy_1"] <= 1
    assert row["same_as_now_1"] == pytest.approx(168 / 180)  # in each row 4 looks before the one change


def test_forecasts_of_stored_features_know_their_width():
    config = load_config(None, ["data.path=x", "encoder={weights: none, grid: 1}", NEXT, "core={hidden: 8}"])
    model = config.architecture.build({"next": Vocabulary(())})
    head = model.head("next")
    assert isinstance(head, Forecast) and (head.sense, head.width) == ("frames", 1280)
    output = model.watch({"frames": Padded(torch.randn(2, 9, 1280, dtype=torch.float16), torch.tensor([9, 8]))})
    assert head.observe(output)[1].shape == (2, 1280)
    assert head.metrics(head.results(output, Batch({}, {}, ())))["count"] == 3
