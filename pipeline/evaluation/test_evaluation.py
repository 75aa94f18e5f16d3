"""The measurement of a trained model on the test rows.

In: a config, its data, a model. Out: the rows of the report's table, and report.json as plain values. It knows nothing
of training.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch

from pipeline.checkpoint import Checkpoint
from pipeline.config.run import Config
from pipeline.data.dataset import Augment, Order, RowDataset
from pipeline.data.run_data import RunData
from pipeline.data.vocabulary import Vocabulary
from pipeline.evaluation.calibrate import unknown_metrics
from pipeline.evaluation.evaluate_dataset import Evaluation, evaluate_dataset
from pipeline.heads.classify import Classify, logits_and_labels
from pipeline.metrics.classification import paired_accuracy
from pipeline.models.model import Model


def evaluate_test_split(
    config: Config, data: RunData, checkpoint: Checkpoint, device: torch.device, *, name: str
) -> list[dict[str, Any]]:
    """Rows of the table: one for each order of the steps and each head, on the test split.

    The orders are forward and, by config, reversed and shuffled. name: of the model, in the table.
    """
    orders: tuple[Order, ...] = ("forward", "reversed", "shuffled")
    if not config.evaluation.order_controls:
        orders = ("forward",)
    if not data.rows("test"):
        return []
    model = checkpoint.model.to(device)
    rows = []
    for order in orders:
        dataset = split_dataset(config, data, model, "test", order=order)
        evaluation = evaluate_dataset(model, dataset, batch_size=config.training.batch_size, device=device)
        for head, metrics in evaluation.metrics().items():
            row = {"model": name, "order": order, "head": head, **_paired(config, evaluation, head), **metrics}
            if order == "forward":
                row |= _open_set(config, data, model, head, evaluation, device)
                row |= _confidence_interval(dataset, evaluation, head)
            rows.append(row)
    return rows


def split_name(row: dict[str, Any]) -> str:
    """The split that a row of the table stands for in metrics.jsonl: test, test_reversed or test_shuffled."""
    return "test" if row["order"] == "forward" else f"test_{row['order']}"


def split_warning(data: RunData, checkpoint: Checkpoint) -> str:
    """A warning where the rows or their splits differ from those of the training; empty where they do not."""
    if checkpoint.notes.get("data") in (None, data.manifest.fingerprint):
        return ""
    return (
        "  note: the rows or their splits differ from those of the training, so the model may have been trained on "
        "rows that are tested now. Train it again, or give data that it was not trained on."
    )


def _paired(config: Config, evaluation: Evaluation, name: str) -> dict[str, float]:
    """The accuracy within the pairs of classes of evaluation.pairs, of a head that predicts classes."""
    head = evaluation.heads[name]
    if not config.evaluation.pairs or not isinstance(head, Classify):
        return {}
    index = head.vocabulary.index
    pairs = [(index(a), index(b)) for a, b in config.evaluation.pairs]
    return {"paired_accuracy": paired_accuracy(*logits_and_labels(evaluation.results[name]), pairs)}


def _confidence_interval(dataset: RowDataset, evaluation: Evaluation, name: str) -> dict[str, Any]:
    """The confidence interval of the monitored metric over groups; nothing where there are too few groups."""
    head = evaluation.heads[name]
    rows = [dataset.rows[row] for row, _ in dataset.samples]
    low, high = head.confidence_interval(evaluation.results[name], [row.group or row.path for row in rows])
    return {} if math.isnan(low) else {"confidence_interval": [low, high], "monitor": head.monitor}


def _open_set(
    config: Config, data: RunData, model: Model, name: str, evaluation: Evaluation, device: torch.device
) -> dict[str, Any]:
    """How well a head detects the test rows of evaluation.unknown_classes; nothing where there are none."""
    head, rows = evaluation.heads[name], data.unknown_rows()
    if not rows or not isinstance(head, Classify):
        return {}
    dataset = RowDataset(rows, data.source, {name: lambda row, times: torch.tensor(-1)})
    batch_size = config.training.batch_size
    results = evaluate_dataset(model, dataset, batch_size=batch_size, device=device, has_loss=False).results[name]
    labelled = list(zip(results, rows, strict=True))
    per_class = {label: [r for r, row in labelled if row.label == label] for label in data.unknown_classes}
    unknown = {label: class_results for label, class_results in per_class.items() if class_results}
    metrics = unknown_metrics(head, evaluation.results[name], unknown)
    return {"auroc_unknown": metrics["auroc"], "open_set": metrics}


def split_dataset(
    config: Config, data: RunData, model: Model, split: str, *, is_training: bool = False, order: Order = "forward"
) -> RowDataset:
    """The rows of one split as samples. Only training draws windows and augments samples."""
    augment: Augment | None = None
    if is_training and config.encoder.kind == "series":
        augment = config.training.augment.build_series(data.input_size or 0)
    elif is_training and config.encoder.kind == "frames" and config.encoder.train_blocks > 0:
        augment = config.training.augment.build()
    return RowDataset(
        data.rows(split),
        data.source,
        {name: model.head(name).target for name in model.heads},
        seed=config.training.seed,
        order=order,
        per_step_heads=[name for name in model.heads if model.head(name).is_per_step],
        window=config.data.window if is_training or config.data.stride else None,
        stride=config.data.stride,
        augment=augment,
    )


def make_report(config: Config, data: RunData, checkpoint: Checkpoint, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """report.json as plain values: the rows of the table, and what they were measured on."""
    counts = Counter(row.split for row in data.manifest.rows)
    vocabularies = {head: v for head, v in checkpoint.vocabularies.items() if isinstance(v, Vocabulary)}
    return {
        "rows": rows,
        "classes": {head: list(vocabulary.names) for head, vocabulary in vocabularies.items()},
        "split": config.data.describe_split(),
        "counts": dict(counts),
        "seed": config.training.seed,
        "failed": {video: list(reason) for video, reason in data.failed.items()},
        "data": config.data.path,
        "model": checkpoint.notes,
    }
