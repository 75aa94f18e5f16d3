"""The report as tables, as JSON and with the confusion matrix."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pipeline.evaluation.report import confusion_table, table, write_report


def make_report(*, heads: tuple[str, ...] = ("action",)) -> dict[str, Any]:
    def row_of(model: str, order: str, accuracy: float, head: str) -> dict[str, Any]:
        return {
            "model": model,
            "order": order,
            "head": head,
            "accuracy": accuracy,
            "mean_class_accuracy": accuracy / 2,
            "count": 31,
            "confusion": [[20, 1], [0, 10]],
        }

    rows = [
        row_of(m, o, a, h)
        for h in heads
        for m, o, a in (("gru", "forward", 0.9876), ("gru", "shuffled", 0.5), ("mean-pool linear", "forward", 0.4321))
    ]
    return {
        "rows": rows,
        "classes": {head: ["sit", "stand"] for head in heads},
        "split": "fold 1 of 4 by group",
        "seed": 17,
        "failed": {"a.mp4": ["corrupt", "no frame"], "b.mp4": ["missing", "gone"]},
    }


def test_the_table_has_the_scores_and_the_split() -> None:
    lines = table(make_report()).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["gru", "forward"], ["gru", "shuffled"]]
    assert "0.988" in lines[1] and "0.494" in lines[1] and lines[1].endswith(" 31")
    assert lines[3].startswith("mean-pool linear  forward") and "0.432" in lines[3]
    assert "accuracy" in lines[0] and "top5" not in lines[0] and "paired" not in lines[0]
    assert lines[-1] == "split: fold 1 of 4 by group   seed: 17   videos that could not be read: 2"
    assert len({len(line) for line in lines[:-1]}) == 1, "all lines have the same length"
    assert "gru (action)" not in table(make_report())
    assert "gru (direction)" in table(make_report(heads=("action", "direction")))


def test_the_report_is_written_with_its_confusion_matrix(tmp_path: Path) -> None:
    write_report(make_report(), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == make_report()
    text = (tmp_path / "report.txt").read_text()
    assert table(make_report()) in text and confusion_table(["sit", "stand"], [[20, 1], [0, 10]]) in text
    assert [line.split() for line in text.splitlines()[-2:]] == [["0", "sit", "20", "1"], ["1", "stand", ".", "10"]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.json", "report.txt"]
    write_report({**make_report(), "rows": [], "loss": [math.nan, {"a": math.inf}]}, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["loss"] == [None, {"a": None}]
    assert (tmp_path / "report.txt").read_text() == "no test split: nothing was measured\n"


def test_metrics_of_a_head_without_a_table_of_its_own_are_shown() -> None:
    row = {"model": "gru", "order": "forward", "head": "size", "mean_error": 1.25, "count": 30}
    lines = table({**make_report(), "rows": [row]}).splitlines()
    assert "mean error" in lines[0] and lines[1].split() == ["gru", "forward", "1.250", "30"]
