"""Evaluation of a dataset: one result for each row, in order, and the score of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from every_head import make_rows, series_model, series_source
from torch import nn
from toy_training import CPU, make_toy

from pipeline.data.batch import collate
from pipeline.data.dataset import RowDataset
from pipeline.evaluation.evaluate_dataset import Evaluation, evaluate_dataset
from pipeline.heads.classify import ClassifyResult, logits_and_labels
from pipeline.heads.segment import Segment


@pytest.mark.parametrize("training", [True, False])
def test_results_are_in_the_order_of_the_rows_for_any_batch_size(tmp_path: Path, training: bool) -> None:
    toy = make_toy(tmp_path)
    model = toy.model(dropout=0.5).train(training)
    expected = []
    losses = []
    model.eval()
    with torch.inference_mode():
        for index in range(len(toy.test)):
            batch = collate([toy.test[(-1, index)]])
            head = model.head("action")
            output = model.watch(batch.raw)
            expected.append(head.pooled(head.observe(output))[0])  # type: ignore[attr-defined]
            losses.append(float(head.loss(output, batch, "model")["action"]))
    model.train(training)
    assert toy.test.lengths != sorted(toy.test.lengths), "the rows must not be sorted by length by chance"
    for size in (1, 4, 64):
        evaluation = evaluate_dataset(model, toy.test, batch_size=size, device=CPU.device)
        logits, labels = logits_and_labels(evaluation.results["action"])
        assert torch.allclose(logits, torch.stack(expected), atol=1e-5)
        assert labels.tolist() == [int(toy.test[(-1, i)].targets["action"]) for i in range(len(toy.test))]
        assert evaluation.loss == pytest.approx(np.mean(losses), abs=1e-5)
        assert model.training is training and all(
            m.training is training for m in model.modules() if isinstance(m, nn.Dropout)
        )
        assert all(p.requires_grad for p in model.parameters())


def test_the_score_is_the_monitored_metric_of_the_first_head(tmp_path: Path) -> None:
    head = make_toy(tmp_path).model().head("action")
    all_correct, half_correct = torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[2.0, 1.0], [2.0, 1.0]])
    empty = torch.zeros(0)
    results = {
        name: [ClassifyResult(row, label, empty, row[None].argmax(-1), 0) for label, row in enumerate(logits)]
        for name, logits in (("a", all_correct), ("b", half_correct))
    }
    evaluation = Evaluation(0.0, results, {"a": head, "b": head})
    assert {h: m["accuracy"] for h, m in evaluation.metrics().items()} == {"a": 1.0, "b": 0.5}
    assert evaluation.score == 1.0
    assert Evaluation(0.0, results, {"b": head, "a": head}).score == 0.5


def test_only_the_final_table_decodes_with_a_lag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = make_rows()
    source = series_source(tmp_path, rows)
    model = series_model(rows, "segment", "classify")
    dataset = RowDataset(rows, source, {name: model.head(name).target for name in model.heads})
    decoded: list[int] = []
    lagged = Segment.lagged
    monkeypatch.setattr(
        Segment, "lagged", lambda self, emissions: decoded.append(len(emissions.lengths)) or lagged(self, emissions)
    )
    of_epoch = evaluate_dataset(model, dataset, batch_size=4, device=torch.device("cpu")).metrics()
    assert not decoded and not any(key.startswith("lag_") for key in of_epoch["segment"])
    final = evaluate_dataset(model, dataset, batch_size=4, device=torch.device("cpu"), with_stream=True).metrics()
    assert decoded == [4, 4] and "lag_f1_50" in final["segment"]
    assert {key: value for key, value in final["segment"].items() if not key.startswith("lag_")} == of_epoch["segment"]


def test_the_results_of_a_classifier_hold_no_logits_of_steps(tmp_path: Path) -> None:
    rows = make_rows()
    model = series_model(rows, "classify")
    dataset = RowDataset(rows, series_source(tmp_path, rows), {"classify": model.head("classify").target})
    results = evaluate_dataset(model, dataset, batch_size=4, device=torch.device("cpu")).results["classify"]
    for result, length in zip(results, dataset.full_lengths, strict=True):
        tensors = [value for value in result if isinstance(value, torch.Tensor)]
        assert sum((t.is_floating_point() and t.numel()) or 0 for t in tensors) <= 2 + 5 < 2 * length
        assert len(result.prefix_classes) == length and int(result.prefix_classes[-1]) == int(result.logits.argmax())
        assert all(t.untyped_storage().nbytes() <= t.nbytes * 8 for t in tensors), "no view of a whole batch"
