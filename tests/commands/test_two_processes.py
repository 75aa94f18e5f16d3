"""`unreel train` by two processes: they share the videos and the rows, and their results are those of one process."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import call
from conftest import TINY
from made_videos import make_video
from safetensors import safe_open
from torchrun import torchrun
from toy_training import metric_rows

from pipeline.checkpoint import load_model
from pipeline.data.batch import Batch, Sample
from pipeline.encoders.frames import FramesEncoder
from pipeline.evaluation import evaluate_dataset as evaluation

WITHOUT_DROPOUT = ["encoder.dropout=0", "core.input_dropout=0", "heads.action.dropout=0"]
SETTINGS = [
    *TINY,
    *WITHOUT_DROPOUT,
    "training.epochs=2",
    "training.batch_size=2",
    "training.log_every=1",
    "evaluation.baselines=false",
]
SPLITS = ["train"] * 6 + ["val"] * 5 + ["test"] * 5


@pytest.mark.slow
def test_two_processes_share_videos_and_rows_and_report_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number, split in enumerate(SPLITS):
        make_video(tmp_path / f"{number}.mp4", 8 + number)
        rows.append({"path": f"{number}.mp4", "split": split, "group": f"g{number}", "label": "ab"[number % 2]})
    for number in (7, 14):
        (tmp_path / f"{number}.mp4").write_text(f"no video {number}")
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = [str(tmp_path / "m.jsonl"), *SETTINGS, "encoder.weights=none"]
    in_one: list[str] = []
    collate = evaluation.collate

    def count_rows(samples: list[Sample]) -> Batch:
        in_one.extend(sample.source for sample in samples)
        return collate(samples)

    monkeypatch.setattr(evaluation, "collate", count_rows)
    assert call("train", *common, f"data.feature_store={tmp_path / 'one_store'}", f"run={tmp_path / 'one'}") == 1
    store = f"data.feature_store={tmp_path / 'two_store'}"
    result = torchrun("two_trainings.py", tmp_path, "train", *common, store, f"run={tmp_path / 'two'}")
    ranks: list[dict[str, Any]] = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [rank["code"] for rank in ranks] == [1, 1], result.stderr
    names = [f"{number}.mp4" for number in range(len(SPLITS))]
    assert [sorted(rank["decoded"]) for rank in ranks] == [
        sorted(name for name in names[rank::2] if name not in ("7.mp4", "14.mp4")) for rank in range(2)
    ]
    assert result.stderr.count("features: 14 videos extracted (") == 1, "one process writes messages"
    assert "0 were stored before, 2 failed" in result.stderr
    evaluated = [Counter(rank["evaluated"]) for rank in ranks]
    assert evaluated[0] + evaluated[1] == Counter(in_one), "every row is evaluated by one of them"
    assert min(count.total() for count in evaluated) > 0.3 * len(in_one)
    one, two = (json.loads((tmp_path / run / "report.json").read_text()) for run in ("one", "two"))
    assert one["failed"] == two["failed"] and len(one["failed"]) == 2
    compare_rows(one["rows"], two["rows"])
    encoder = load_model(tmp_path / "two").model.encoder
    assert isinstance(encoder, FramesEncoder)
    for stored in (tmp_path / "two_store").rglob("*.safetensors"):
        with safe_open(stored, framework="numpy") as file:
            made_by = json.loads(file.metadata()["made_by"])
        assert made_by["backbone"] == encoder.backbone.fingerprint(), "the random weights are those of the model"
    for split in ("val", "train"):
        pairs = zip(metric_rows(tmp_path / "one", split), metric_rows(tmp_path / "two", split), strict=True)
        assert max(abs(a["loss"] - b["loss"]) for a, b in pairs) < 1e-3


def compare_rows(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    """The rows of both tables have the same items, and the same numbers but for rounding."""
    assert [row["order"] for row in one] == [row["order"] for row in two] == ["forward", "reversed", "shuffled"]
    for a, b in zip(one, two, strict=True):
        assert a["count"] == b["count"] == 4 and a["predicted"] == b["predicted"]
        assert a["accuracy"] == pytest.approx(b["accuracy"], abs=1e-6)
