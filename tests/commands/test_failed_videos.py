"""Exit code 1: the command has finished, and some videos failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import call
from conftest import TINY
from made_videos import make_video

SETTINGS = [*TINY, "training.epochs=1", "evaluation.baselines=false", "data.validation_share=0", "encoder.weights=none"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Twelve short videos in two classes, six for the test."""
    rows = []
    for number in range(12):
        make_video(tmp_path / f"{number}.mp4", 8 + number)
        split = "test" if number >= 6 else "train"
        rows.append({"path": f"{number}.mp4", "split": split, "group": f"g{number}", "label": "ab"[number % 2]})
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.yaml").write_text(f"data: {{path: {path}, feature_store: {tmp_path / 'store'}}}\n")
    return path


def failed_in(report: Path) -> list[str]:
    return [Path(video).name for video in json.loads(report.read_text())["failed"]]


def test_train_and_evaluate_end_with_1_where_videos_failed_and_with_0_where_none_did(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, whole, part = tmp_path / "c.yaml", tmp_path / "whole", tmp_path / "part"
    assert call("train", config, *SETTINGS, f"run={whole}") == 0
    assert call("evaluate", whole) == 0
    assert failed_in(whole / "report.json") == failed_in(whole / "evaluation/report.json") == []
    (tmp_path / "8.mp4").write_text("no video")
    capsys.readouterr()
    assert call("train", config, *SETTINGS, f"run={part}") == 1
    printed = capsys.readouterr()
    assert failed_in(part / "report.json") == ["8.mp4"] and "8.mp4" in printed.err
    assert f"model: {part / 'model'}" in printed.out, "it has finished"
    for run in (part, whole):
        assert call("evaluate", run) == 1
        assert failed_in(run / "evaluation/report.json") == ["8.mp4"]
        assert json.loads((run / "evaluation/report.json").read_text())["rows"][0]["count"] == 5
    assert call("extract", config, *SETTINGS) == 1
