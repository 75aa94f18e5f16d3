"""The measurement of a trained model on the test rows.

In: a config, its data, a model. Out: the rows of the report's table, and report.json as plain values. It knows nothing
of training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from pipeline.checkpoint import Checkpoint
from pipeline.config.run import Config
from pipeline.data.dataset import Augment, Order, RowDataset
from pipeline.data.manifest_rows import Row
from pipeline.data.run_data import RunData
from pipeline.data.vocabulary import Vocabulary
from pipeline.evaluation.calibrate import unknown_metrics
from pipeline.evaluation.evaluate_dataset import Evaluation, Processes, evaluate_dataset
from pipeline.evaluation.verdict import TestItems, floors, judge, sentences
from pipeline.heads.classify import Classify, logits_and_labels
from pipeline.metrics.classification import paired_accuracy
from pipeline.models.model import Model


def evaluate_test_split(
    config: Config,
    data: RunData,
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    name: str,
    processes: Processes | None = None,
) -> list[dict[str, Any]]:
    """Rows of the table: one for each order of the steps and each head, on the test split.

    The orders are forward and, by config, reversed and shuffled. name: of the model, in the table. The rows of heads
    that classify have `correct` and `predicted` for each test item; forward rows have `items` (`TestItems`), which
    `make_report` takes out. processes: that share the batches; all get all rows.
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
        evaluate = partial(
            evaluate_dataset, model, batch_size=config.training.batch_size, device=device, processes=processes
        )
        evaluation = evaluate(dataset, with_stream=True)
        for head, metrics in evaluation.metrics().items():
            row = {"model": name, "order": order, "head": head, **_paired(config, evaluation, head), **metrics}
            row |= _item_results(evaluation, head)
            if order == "forward":
                row["items"] = _test_items(dataset)
                row |= _open_set(data, head, evaluation, evaluate)
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


def _item_results(evaluation: Evaluation, name: str) -> dict[str, list[Any]]:
    """What a head that classifies predicts for each test item, and whether that is right; nothing of other heads."""
    if not isinstance(evaluation.heads[name], Classify):
        return {}
    logits, labels = logits_and_labels(evaluation.results[name])
    predicted = logits.argmax(-1)
    return {"predicted": predicted.tolist(), "correct": (predicted == labels).tolist()}


def _test_items(dataset: RowDataset) -> TestItems:
    """The test items, in the order of the results."""
    rows = [dataset.rows[row] for row, _ in dataset.samples]
    paths, groups, labels = [r.path for r in rows], [r.group for r in rows], [r.label or "" for r in rows]
    return TestItems(paths, groups, labels)


def majority_classes(rows: Sequence[Row], heads: Collection[str]) -> dict[str, str]:
    """The most frequent label of the training rows, for each head that classifies; the first by name of several."""
    counts = Counter(row.label for row in sorted(rows, key=lambda row: row.label or "") if row.label is not None)
    return {head: counts.most_common(1)[0][0] for head in heads} if counts else {}


def _confidence_interval(dataset: RowDataset, evaluation: Evaluation, name: str) -> dict[str, Any]:
    """The confidence interval of the monitored metric over groups, or why there is none."""
    head = evaluation.heads[name]
    rows = [dataset.rows[row] for row, _ in dataset.samples]
    groups = [row.group or row.path for row in rows]
    low, high = head.confidence_interval(evaluation.results[name], groups)
    if not math.isnan(low):
        return {"confidence_interval": [low, high], "monitor": head.monitor}
    if head.opponent is not None:
        return {}  # generated sequences have no items to draw
    few = "the test items are of one group" if len(set(groups)) < 2 else "each draw of the groups gives the same value"
    return {"no_interval": f"no 95 % interval of {head.monitor.replace('_', ' ')}: {few}"}


def _open_set(data: RunData, name: str, evaluation: Evaluation, evaluate: Callable[..., Evaluation]) -> dict[str, Any]:
    """How well a head detects the test rows of evaluation.unknown_classes; nothing where there are none."""
    head, rows = evaluation.heads[name], data.unknown_rows()
    if not rows or not isinstance(head, Classify):
        return {}
    dataset = RowDataset(rows, data.source, {name: lambda row, times: torch.tensor(-1)})
    results = evaluate(dataset, has_loss=False).results[name]
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


def make_report(
    config: Config,
    data: RunData,
    checkpoint: Checkpoint,
    rows: list[dict[str, Any]],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """report.json as plain values: the rows of the table, what they were measured on, the verdicts and the warnings."""
    counts = Counter(row.split for row in data.manifest.rows)
    vocabularies = {head: v for head, v in checkpoint.vocabularies.items() if isinstance(v, Vocabulary)}
    names = {head: vocabulary.names for head, vocabulary in vocabularies.items()}
    majority = checkpoint.notes.get("majority_classes") or majority_classes(data.rows("train"), names)
    split = config.data.describe_split()
    judged = [row for row in rows if "correct" in row]
    items = {row["head"]: row["items"] for row in judged if row["order"] == "forward"}
    verdicts = {
        head: judge([row for row in judged if row["head"] == head], items[head], names[head], majority.get(head))
        for head in items
    }
    return {
        "rows": [{key: value for key, value in row.items() if key != "items"} for row in rows],
        "floors": {head: floors(items[head], names[head], majority.get(head)) for head in items},
        "verdict": {
            head: {"text": sentences(verdict, split), **verdict.to_dict()} for head, verdict in verdicts.items()
        },
        "warnings": list(warnings),
        "test_items": {head: asdict(tested) for head, tested in items.items()},
        "classes": {head: list(vocabulary.names) for head, vocabulary in vocabularies.items()},
        "split": split,
        "counts": dict(counts),
        "seed": config.training.seed,
        "failed": {video: list(reason) for video, reason in data.failed.items()},
        "data": config.data.path,
        "model": checkpoint.notes,
    }
