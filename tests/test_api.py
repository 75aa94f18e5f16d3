"""The Python API: a loaded model answers, trains and streams as the commands do, and mistakes are sentences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

import unreel
from pipeline.cli import main


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> unreel.Recogniser:
    return unreel.load(tiny_run, device="cpu")


@pytest.fixture(scope="module")
def video(puppets: Path) -> Path:
    return sorted((puppets / "clips").glob("*.mp4"))[0]


def test_an_answer_is_the_row_that_predict_writes(model, tiny_run: Path, video: Path, tmp_path: Path) -> None:
    assert main(["predict", str(video), "--model", str(tiny_run), "--out", str(tmp_path), "--format", "jsonl"]) == 0
    row = json.loads((tmp_path / "predictions.jsonl").read_text())
    answer = model(video)
    assert {**answer.to_dict(), "path": video.name} == row
    assert answer.label == row["action"]["label"] and answer.spans == () and answer.caption is None


def test_predict_gives_a_row_for_every_file_in_order(model, video: Path, tmp_path: Path) -> None:
    shutil.copy(video, tmp_path / "b.mp4")
    (tmp_path / "a.mp4").write_text("no video")
    rows = list(model.predict(tmp_path))
    assert [(row["path"], row["status"]) for row in rows] == [("a.mp4", "failed:not_a_video"), ("b.mp4", "ok")]
    assert rows == list(model.predict([str(tmp_path)]))


def test_a_broken_file_is_an_answer_and_a_folder_is_a_mistake(model, puppets: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    answer = model(tmp_path / "a.mp4")
    assert answer.is_failed and answer.label is None and answer.score is None and "Answer(" in repr(answer)
    assert model(tmp_path / "missing.mp4").status == "failed:missing"
    with pytest.raises(ValueError, match="a call answers for one. Use model.predict"):
        model(puppets / "clips")


def test_features_are_those_of_the_frozen_cnn_at_the_ticks_of_the_clock(model, video: Path) -> None:
    times, features = model.features(video)
    assert features.dtype == np.float32 and features.shape == (len(times), model.module.encoder.backbone.output_size)
    assert np.allclose(times, np.arange(len(times)) / model.rate)
    with pytest.raises(ValueError, match="cannot be read|does not exist|is no"):
        model.features(video.with_name("missing.mp4"))


def test_a_stream_gives_the_events_of_watch(model, tiny_run: Path, video: Path, capsys) -> None:
    events = list(model.stream(video))
    assert main(["watch", str(video), "--model", str(tiny_run)]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e for e in events if e["event"] != "closed"] == [e for e in printed if e["event"] != "closed"]
    assert events[-1]["status"] == "ok" and events[-1]["looks"] == printed[-1]["looks"]


def test_what_a_recogniser_says_of_itself(model) -> None:
    assert (
        model.device == "cpu"
        and model.heads == {"action": "classify"}
        and model.settings["clock"]["rate"] == model.rate
    )
    assert len(model.classes["action"]) == 14
    assert repr(model).splitlines()[0] == "Recogniser on cpu" and "action (classify), 14 classes: " in repr(model)


def test_calls_leave_the_threads_of_torch_and_standard_output_alone(model, video: Path, capfd) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        model(video)
        list(model.predict(video))
        list(model.stream(video))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert capfd.readouterr() == ("", "")


def test_train_and_evaluate_return_their_report(puppets: Path, tmp_path: Path, capfd) -> None:
    lines: list[str] = []
    manifest, folder = puppets / "clips.jsonl", tmp_path / "run"
    overrides = (*TINY, "training.epochs=1", "evaluation.baselines=false", f"run={folder}")
    run = unreel.train(manifest, *overrides, log=lines.append)
    assert run.folder == folder and run.report["rows"] and "accuracy" in repr(run)
    assert any(line.startswith("rows: ") for line in lines)
    assert unreel.evaluate(folder).report["rows"][0] == run.report["rows"][0]
    assert run.load(device="cpu").heads == {"action": "classify"}
    assert capfd.readouterr().out == ""
    with pytest.raises(unreel.ConfigError, match="holds a finished run"):
        unreel.train(manifest, *overrides)


def test_a_folder_without_a_model_and_a_missing_device_are_mistakes(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(unreel.ModelError, match="holds no model.json"):
        unreel.load(tmp_path)
    with pytest.raises(unreel.ConfigError, match="is no device"):
        unreel.load(tiny_run, device="gpu")
