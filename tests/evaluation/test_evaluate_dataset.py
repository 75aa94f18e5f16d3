"""Evaluation of a dataset: one result for each row, in order, and the score of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import CPU, make_toy

from pipeline.data.batch import collate
from pipeline.evaluation.evaluate_dataset import Evaluation, evaluate_dataset
from pipeline.heads.classify import ClassifyResult, logits_and_labels


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


def test_the_score_is_the_mean_of_the_monitored_metrics_of_all_heads(tmp_path: Path) -> None:
    head = make_toy(tmp_path).model().head("action")
    all_correct, half_correct = torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([[2.0, 1.0], [2.0, 1.0]])
    empty = torch.zeros(0)
    results = {
        name: [ClassifyResult(row, label, empty, row[None], 0) for label, row in enumerate(logits)]
        for name, logits in (("a", all_correct), ("b", half_correct))
    }
    evaluation = Evaluation(0.0, results, {"a": head, "b": head})
    assert {h: m["accuracy"] for h, m in evaluation.metrics().items()} == {"a": 1.0, "b": 0.5}
    assert evaluation.score == 0.75
