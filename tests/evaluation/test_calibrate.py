"""Calibration of a training, from data to predictions: with validation rows, and without any."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import call

from pipeline.checkpoint import Checkpoint, load_model
from pipeline.commands import train as train_module
from pipeline.commands.calibration import known_rows
from pipeline.commands.prepare_data import prepare
from pipeline.commands.train import train
from pipeline.config.base import ConfigError
from pipeline.config.run import Config, load_config
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest import Manifest
from pipeline.data.run_data import RunData
from pipeline.evaluation import calibrate as calibrate_module
from pipeline.evaluation.calibrate import calibrate
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.heads.classify import Classify
from pipeline.models.model import Model
from pipeline.training.distributed import DistributedContext

CPU = DistributedContext(torch.device("cpu"))
NAMES = ("bend", "clap", "wave")


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """Stored series of four classes, each around its own axis, with persons and splits."""
    folder, random, rows = tmp_path_factory.mktemp("series"), np.random.default_rng(0), []
    for n in range(96):
        label, person = n % 4, n // 8
        values = 2 * np.eye(6)[label] + random.normal(0, 0.3, (int(random.integers(3, 9)), 6))
        np.save(folder / f"{n}.npy", values.astype(np.float32))
        split = "test" if person >= 9 else "val" if person >= 7 else "train"
        name = ("bend", "clap", "jump", "wave")[label]
        rows.append({"path": f"{n}.npy", "split": split, "group": f"p{person}", "label": name})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config_of(series: Path, *settings: str) -> Config:
    base = {"data": {"path": str(series / "manifest.jsonl")}, "encoder": {"kind": "series", "project": 0}}
    quick = [
        "core.hidden=8",
        "training.epochs=3",
        "tracking.wandb=off",
        "evaluation.baselines=false",
        "evaluation.order_controls=false",
    ]
    return load_config(None, [*quick, *settings], base=base)


def prepared_of(series: Path, *settings: str) -> RunData:
    return prepare(config_of(series, *settings), CPU, lambda text: None)


@pytest.fixture(scope="module")
def run(series, tmp_path_factory) -> Path:
    """The folder of a training without the class jump."""
    folder, messages = tmp_path_factory.mktemp("run"), []
    train(config_of(series, "evaluation.unknown_classes=[jump]", f"run={folder}"), messages.append)
    left_out = "unknown classes: jump: 18 rows left out of training and validation, 6 in the test split"
    assert any(left_out in message for message in messages)
    assert any(
        message.startswith("action: temperature ") and message.endswith(": calibrated on 12 validation samples")
        for message in messages
    )
    return folder


def test_rows_of_an_unknown_class_are_in_neither_training_nor_validation(series):
    data = prepared_of(series, "evaluation.unknown_classes=[jump, wave]")
    for split in ("train", "val", "test"):
        assert data.rows(split)
        assert {row.label for row in data.rows(split)} == {"bend", "clap"}
    assert {(row.label, row.split) for row in data.unknown_rows()} == {("jump", "test"), ("wave", "test")}
    assert not [row for row in data.manifest.rows if row.label in ("jump", "wave") and row.split != "test"]
    test_paths = {row.path for row in prepared_of(series).rows("test")}
    assert {row.path for row in data.rows("test") + data.unknown_rows()} == test_paths


def test_an_unknown_class_that_is_no_label_raises(series):
    message = "evaluation.unknown_classes names 'jumps', which is no label of .* Did you mean 'jump'?"
    with pytest.raises(ConfigError, match=message):
        prepared_of(series, "evaluation.unknown_classes=[jumps]")


def test_a_run_reports_the_detection_of_unknown_classes(run):
    report = json.loads((run / "report.json").read_text())
    row = report["rows"][0]
    assert report["classes"]["action"] == ["bend", "clap", "wave"]
    assert row["count"] == 18
    assert row["open_set"]["count"] == 6
    assert row["auroc_unknown"] == row["open_set"]["auroc"] == 1.0  # jump has an axis of its own
    assert row["open_set"]["per_class"]["jump"] == 1.0
    assert row["open_set"]["refused"] == 1.0
    assert row["open_set"]["kept"] >= 0.6
    assert "unknown: AUROC 1.000 over 6 clips of classes that were not in training" in (run / "report.txt").read_text()


def uncalibrated(checkpoint: Checkpoint) -> Model:
    """A model with the same weights and no calibration."""
    model = checkpoint.architecture.build(checkpoint.vocabularies, input_size=checkpoint.input_size).eval()
    weights = {k: v for k, v in checkpoint.model.state_dict().items() if ".confidence." not in k}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert all(".confidence." in k for k in missing)
    return model


def test_a_stored_model_has_the_calibration_of_its_training(run, series):
    checkpoint = load_model(run)
    data = prepared_of(series, "evaluation.unknown_classes=[jump]")
    model = uncalibrated(checkpoint)
    head, expected = model.head("action"), checkpoint.model.head("action")
    assert isinstance(head, Classify)
    assert isinstance(expected, Classify)
    known = known_rows(config_of(series), data, lambda text: None)
    calibrate(model, data.source, known, batch_size=16, device=CPU.device)
    calibration = head.confidence.state_dict()
    for name, value in expected.confidence.state_dict().items():
        torch.testing.assert_close(value, calibration[name])


def test_predictions_of_a_stored_model_say_what_is_unknown(run, series, tmp_path, capsys):
    model = load_model(run).model
    head = model.head("action")
    assert isinstance(head, Classify)
    data = prepared_of(series, "evaluation.unknown_classes=[jump]")
    rows = [*data.rows("test")[:3], *data.unknown_rows()[:3]]
    paths = [str(series / row.path) for row in rows]
    assert call("predict", *paths, "--model", run, "--out", tmp_path, "--top", "2") == 0
    printed = capsys.readouterr()
    assert "never says" not in printed.out + printed.err
    answers = [json.loads(line)["action"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    dataset = RowDataset(rows, data.source, {"action": lambda row, times: torch.tensor(-1)})
    evaluation = evaluate_dataset(model, dataset, batch_size=2, device=CPU.device, has_loss=False)
    results = evaluation.results["action"]
    for answer, result, distance in zip(answers, results, head.distances(results).tolist(), strict=True):
        assert answer["distance"] == pytest.approx(distance, rel=1e-4)
        assert answer["unknown"] is head.confidence.is_unknown(distance)
        score = float(head.confidence.scale(result.logits).softmax(-1).max())
        assert answer["score"] == pytest.approx(score, abs=1e-5)
        assert answer["label"] in NAMES
    assert all(answer["unknown"] for answer in answers[3:])


WITHOUT_VALIDATION = ["data.validation_share=0", "evaluation.unknown_classes=[jump]"]


def test_without_a_validation_split_three_models_and_held_out_groups_calibrate(series, tmp_path, monkeypatch):
    messages: list[str] = []
    folds: list[tuple[set[str], set[str]]] = []
    fit_model = train_module._fit_model

    def fit_and_note(config, data, *arguments):
        trained, tested = ({row.group for row in data.rows(split)} for split in ("train", "test"))
        folds.append((trained, tested))
        return fit_model(config, data, *arguments)

    monkeypatch.setattr(train_module, "_fit_model", fit_and_note)
    finished = train(config_of(series, *WITHOUT_VALIDATION, f"run={tmp_path}"), messages.append)
    (trained, tested), *held_out = folds
    assert len(held_out) == 3
    assert all(not own & other and own | other == trained and not other & tested for own, other in held_out)
    assert sorted(group for _, other in held_out for group in other) == sorted(trained)
    row, calibration = finished.report["rows"][0], finished.report["model"]["calibration"]["action"]
    assert row["auroc_unknown"] == row["open_set"]["refused"] == 1.0
    assert row["open_set"]["kept"] >= 0.8
    assert row["ece"] != row["ece_unscaled"]
    assert calibration["temperature"] != 1
    assert (calibration["held_out_samples"], calibration["held_out_groups"]) == (54, 9)
    assert calibration["known_kept"] >= 0.85
    assert calibration["strangers_refused"] == {"bend": 1.0, "clap": 1.0, "wave": 1.0}
    report = (tmp_path / "report.txt").read_text()
    for sentence in calibration["text"]:
        assert sentence in messages
        assert sentence in report
    assert not (tmp_path / "calibration").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["evaluation.cross_calibrate=false"], "evaluation.cross_calibrate is false"),
        (["training.init_from={run}"], "the model started from trained weights, which may have seen every row"),
    ],
)
def test_no_models_are_trained_for_the_temperature_where_they_may_not(series, run, tmp_path, settings, reason):
    messages: list[str] = []
    settings = [*WITHOUT_VALIDATION, *(setting.format(run=run) for setting in settings), f"run={tmp_path}"]
    report = train(config_of(series, *settings), messages.append).report
    calibration = report["model"]["calibration"]["action"]
    assert calibration["temperature"] == 1
    assert calibration["threshold"] is not None
    assert any(f"not calibrated: no validation samples, and no held-out models: {reason}" in m for m in messages)
    assert any("not calibrated" in warning for warning in report["warnings"])


def test_few_groups_leave_unknown_off_and_predict_says_so_once(series, tmp_path, capsys):
    rows = [json.loads(line) for line in (series / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        row["group"] = f"{row['split'] == 'test'} {int(row['path'].split('.')[0]) // 4 % 2}"
    (series / "two_groups.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = train(
        config_of(series, *WITHOUT_VALIDATION, f"data.path={series}/two_groups.jsonl", f"run={tmp_path / 'run'}"), print
    ).report
    reason = "the class 'bend' has 2 groups (persons, scenes), and at least 3 a class are needed"
    assert report["model"]["calibration"]["action"]["unknown_is_off"] == reason
    assert report["rows"][0]["open_set"]["refused"] is None
    assert f"action: `unknown` is off: {reason}" in report["warnings"]
    capsys.readouterr()
    files = [series / "0.npy", series / "1.npy"]
    assert call("predict", *files, "--model", tmp_path / "run", "--out", tmp_path / "answers") == 0
    printed = capsys.readouterr()
    said = (printed.out + printed.err).splitlines()
    assert sum("'action' never says `unknown`" in line and reason in line for line in said) == 1
    answers = [json.loads(line)["action"] for line in (tmp_path / "answers/predictions.jsonl").read_text().splitlines()]
    assert [answer["unknown"] for answer in answers] == [None, None]


def test_calibration_reads_equally_many_rows_of_each_label_and_of_many_groups(series, monkeypatch):
    monkeypatch.setattr(calibrate_module, "MAX_ROWS", 12)
    data = prepared_of(series)
    known = known_rows(config_of(series), data, lambda text: None)
    some = known.some()
    assert len(known.rows) == 72
    assert [sum(row.label == name for row in some.rows) for name in ("bend", "clap", "jump", "wave")] == [3] * 4
    assert [f"group {row.group}" for row in some.rows] == list(some.groups)
    assert len(set(some.groups)) >= 5
    assert some == known.some()


def test_rows_without_a_group_share_one_where_their_files_are_equal(series):
    data = prepared_of(series)
    rows = [replace(row, group=None) for row in data.rows("train")[:3]]
    (series / "copy.npy").write_bytes((series / rows[1].path).read_bytes())
    rows.append(replace(rows[1], path="copy.npy"))
    known = known_rows(config_of(series), replace(data, manifest=Manifest(tuple(rows), series)), lambda text: None)
    assert not known.has_groups
    assert known.groups[1] == known.groups[3]
    assert len(set(known.groups)) == 3


def test_a_training_that_stops_among_its_three_models_goes_on_to_the_same_calibration(series, tmp_path, monkeypatch):
    settings = [*WITHOUT_VALIDATION, "training.save_every=1"]
    expected = train(config_of(series, *settings, f"run={tmp_path / 'whole'}"), lambda text: None).report
    fit_model, calls = train_module._fit_model, []

    def fit_and_stop(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise InterruptedError
        return fit_model(*arguments)

    monkeypatch.setattr(train_module, "_fit_model", fit_and_stop)
    with pytest.raises(InterruptedError):
        train(config_of(series, *settings, f"run={tmp_path / 'parts'}"), lambda text: None)
    assert (tmp_path / "parts/calibration/0/resume.pt").is_file()
    messages: list[str] = []
    report = train(config_of(series, *settings, f"run={tmp_path / 'parts'}"), messages.append).report
    assert any(message.startswith("resuming from step") for message in messages)
    assert report["model"]["calibration"] == expected["model"]["calibration"]
