"""Truths about measuring: metrics against plain counting, one row one answer, and a table that says what it stands on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import CPU, make_toy

from pipeline.data.batch import collate
from pipeline.heads.classify import Evidence, scores_and_labels
from pipeline.metrics.classification import classification, paired_accuracy
from pipeline.training.evaluate import Judged, judge
from pipeline.training.report import confusion_table, table, write_report


@pytest.mark.parametrize(("count", "classes", "seed"), [(200, 8, 0), (57, 3, 1), (1, 2, 2), (40, 6, 3)])
def test_metrics_equal_plain_counting(count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = (
        rng.normal(size=(count, classes)),
        rng.integers(0, max(1, classes - 1), count),
    )  # the last class never occurs
    found = classification(torch.tensor(scores), torch.tensor(labels))
    guesses = [int(np.argmax(s)) for s in scores]
    confusion = [
        [sum(t == a and g == b for t, g in zip(labels, guesses, strict=True)) for b in range(classes)]
        for a in range(classes)
    ]
    assert found["confusion"] == confusion and found["count"] == count
    assert found["accuracy"] == pytest.approx(sum(t == g for t, g in zip(labels, guesses, strict=True)) / count)
    per_class = [row[i] / sum(row) if sum(row) else None for i, row in enumerate(confusion)]
    assert found["per_class"] == per_class and per_class[-1] is None
    assert found["mean_class_accuracy"] == pytest.approx(np.mean([a for a in per_class if a is not None]))
    if classes > 5:
        top = [t in sorted(range(classes), key=lambda c, s=s: -s[c])[:5] for t, s in zip(labels, scores, strict=True)]
        assert found["top5_accuracy"] == pytest.approx(np.mean(top))
    else:
        assert "top5_accuracy" not in found


def test_paired_accuracy_asks_only_which_of_the_two() -> None:
    scores = torch.tensor(
        [
            [0.1, 0.9, 5.0, 0.0],  # truth 0 against 1: wrong, whatever 2 says
            [0.1, 0.9, 5.0, 0.0],  # truth 1 against 0: right
            [9.0, 0.0, 2.0, 1.0],  # truth 2 against 3: right
            [0.0, 0.0, 0.0, 7.0],  # truth 3 against 2: right
            [1.0, 1.0, 0.0, 0.0],
        ]
    )  # equal scores are not right
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert paired_accuracy(scores, labels, [(0, 1), (2, 3)]) == pytest.approx(3 / 5)
    assert paired_accuracy(scores, labels, [(3, 2)]) == 1.0, "rows of no pair do not count"
    assert math.isnan(paired_accuracy(scores, labels[:0], [(0, 1)])) and math.isnan(paired_accuracy(scores, labels, []))


@pytest.mark.parametrize("training", [True, False])
def test_judge_answers_in_the_order_of_the_rows_whatever_the_batch(tmp_path: Path, training: bool) -> None:
    toy = make_toy(tmp_path)
    model = toy.model(dropout=0.5).train(training)
    alone = []
    losses = []
    model.eval()
    with torch.inference_mode():
        for index in range(len(toy.test)):
            batch = collate([toy.test[(-1, index)]])
            head = model.head("action")
            seen = model.watch(batch.raw)
            alone.append(head.pooled(head.observe(seen))[0])  # type: ignore[attr-defined]
            losses.append(float(head.loss(seen, batch, "model")["action"]))
    model.train(training)
    assert toy.test.lengths != sorted(toy.test.lengths), "rows are not sorted by length by chance"
    for size in (1, 4, 64):
        judged = judge(model, toy.test, batch_size=size, device=CPU.device)
        logits, labels = scores_and_labels(judged.evidence["action"])
        assert torch.allclose(logits, torch.stack(alone), atol=1e-5)
        assert labels.tolist() == [int(toy.test[(-1, i)].targets["action"]) for i in range(len(toy.test))]
        assert judged.loss == pytest.approx(np.mean(losses), abs=1e-5)
        assert model.training is training and all(
            m.training is training for m in model.modules() if isinstance(m, nn.Dropout)
        )
        assert all(p.requires_grad for p in model.parameters())


def test_the_score_is_the_mean_over_heads_of_what_they_are_watched_by(tmp_path: Path) -> None:
    head = make_toy(tmp_path).model().head("action")
    right, half = torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[2.0, 1.0], [2.0, 1.0]])
    nothing = torch.zeros(0)
    evidence = {
        name: [Evidence(row, label, nothing, row[None], 0) for label, row in enumerate(logits)]
        for name, logits in (("a", right), ("b", half))
    }
    judged = Judged(0.0, evidence, {"a": head, "b": head})
    assert {h: m["accuracy"] for h, m in judged.metrics().items()} == {"a": 1.0, "b": 0.5}
    assert judged.score == 0.75


def report(*, heads: tuple[str, ...] = ("action",)) -> dict[str, Any]:
    def line(model: str, order: str, accuracy: float, head: str) -> dict[str, Any]:
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
        line(m, o, a, h)
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


def test_the_table_says_what_was_measured_on_what() -> None:
    lines = table(report()).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["gru", "forward"], ["gru", "shuffled"]]
    assert "0.988" in lines[1] and "0.494" in lines[1] and lines[1].endswith(" 31")
    assert lines[3].startswith("mean-pool linear  forward") and "0.432" in lines[3]
    assert "accuracy" in lines[0] and "top5" not in lines[0] and "paired" not in lines[0]
    assert lines[-1] == "split: fold 1 of 4 by group   seed: 17   videos that could not be read: 2"
    assert len({len(line) for line in lines[:-1]}) == 1, "columns stand below each other"
    assert "gru (direction)" in table(report(heads=("action", "direction"))) and "gru (action)" not in table(report())


def test_the_report_is_written_with_its_confusion_matrix(tmp_path: Path) -> None:
    write_report(report(), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == report()
    text = (tmp_path / "report.txt").read_text()
    assert table(report()) in text and confusion_table(["sit", "stand"], [[20, 1], [0, 10]]) in text
    assert [line.split() for line in text.splitlines()[-2:]] == [["0", "sit", "20", "1"], ["1", "stand", ".", "10"]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.json", "report.txt"]
    write_report({**report(), "rows": []}, tmp_path)
    assert (tmp_path / "report.txt").read_text() == "no test part: nothing was measured\n"
