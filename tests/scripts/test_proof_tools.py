"""A proof that reads an earlier run says so, and with FRESH=1 it reads none."""

from __future__ import annotations

from pathlib import Path

import captioning
import proof_tools
import pytest
import streams
import torch

from pipeline.checkpoint import load_model
from pipeline.config.run import Config, dump_config, load_config
from pipeline.data.manifest_rows import Row, Span
from pipeline.inference.predictor import Predictor


@pytest.fixture
def finished(tmp_path: Path) -> Config:
    config = load_config(None, ["data.path=x.jsonl", f"run={tmp_path}/run"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(dump_config(config))
    (tmp_path / "run/report.json").write_text("{}")
    return config


def test_an_earlier_run_is_said_aloud(finished: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert proof_tools.is_finished(finished)
    assert f"REUSED: {finished.run} was trained before" in capsys.readouterr().out
    other = finished.model_copy(update={"training": finished.training.model_copy(update={"epochs": 77})})
    assert not proof_tools.is_finished(other) and not Path(str(finished.run)).exists(), "a run of another config"
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("value", "is_kept"), [("1", False), ("0", True), ("", True)])
def test_with_fresh_no_earlier_run_is_used(
    finished: Config, value: str, is_kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FRESH", value)
    assert proof_tools.is_finished(finished) is is_kept and Path(str(finished.run)).exists() is is_kept
    monkeypatch.setattr(proof_tools, "WORK", tmp_path / "show")
    (tmp_path / "show/kept").mkdir(parents=True)
    (tmp_path / "show/kept/manifest.jsonl").write_text("")
    assert (proof_tools.kept_folder("kept") / "manifest.jsonl").exists() is is_kept


def test_all_actions_in_order_and_none_too_many_is_the_strictest_score() -> None:
    """`exact` counts a sentence with one action too many as wrong, which `order` does not."""
    labels = ["walk_left", "sit_down"]
    spans = tuple(Span(float(i), float(i + 1), label) for i, label in enumerate(labels))
    right = "A figure walks to the left, then sits down."
    assert captioning.parse(right) == labels
    rows = [Row(path, spans=spans, captions=(right,) * 5) for path in ("a.mp4", "b.mp4")]
    assert captioning.score(rows, [right, right])["exact"] == 1.0
    scores = captioning.score(rows, [right, "A figure walks to the left, then sits down, then walks to the left."])
    assert (scores["exact"], scores["order"]) == (0.5, 1.0)


def test_watch_and_predict_are_compared_many_times_in_a_video(tiny_run: Path, puppets: Path) -> None:
    """One answer a video at its end would agree by chance; a stream that forgets its first looks must be seen."""
    predictor = Predictor(load_model(tiny_run), torch.device("cpu"))
    pairs = streams.answers_on_the_way(predictor, next((puppets / "clips").glob("*.mp4")))
    assert len(pairs) >= 3 and len({str(at_once["top"]) for _, at_once in pairs}) == len(pairs)
    assert all(so_far["label"] == at_once["label"] for so_far, at_once in pairs)
    assert max(streams.max_score_difference(a["top"], b["top"]) for a, b in pairs) < 1e-5
