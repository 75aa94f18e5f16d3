"""What a trained model is worth on the rows that it never saw.

In: a config, its rows, a model. Out: the rows of the table, and the report that they stand in. Knows nothing of training.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch

from pipeline.checkpoint import Checkpoint
from pipeline.config import Config
from pipeline.data.dataset import Augment, Order, RowDataset
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.classify import Classify, scores_and_labels
from pipeline.metrics.classification import paired_accuracy
from pipeline.models.model import Model
from pipeline.prepare import Prepared, describe_split
from pipeline.training.calibrate import unknown_metrics
from pipeline.training.evaluate import Judged, judge
from pipeline.training.runtime import Runtime


def measure(
    config: Config, prepared: Prepared, checkpoint: Checkpoint, place: Runtime, *, name: str
) -> list[dict[str, Any]]:
    """Rows of the table: the test part as it is and, by config, with the steps reversed and shuffled."""
    orders: tuple[Order, ...] = ("forward", "reversed", "shuffled") if config.evaluation.orders else ("forward",)
    if not prepared.rows("test"):
        return []
    rows = []
    for order in orders:
        dataset = split_dataset(config, prepared, checkpoint.model, "test", order=order)
        judged = judge(
            checkpoint.model.to(place.device), dataset, batch_size=config.training.batch_size, device=place.device
        )
        for head, found in judged.metrics().items():
            paired = {}
            asked = judged.heads[head]
            if config.evaluation.pairs and isinstance(asked, Classify):
                known = asked.vocabulary
                pairs = [(known.index(a), known.index(b)) for a, b in config.evaluation.pairs]
                paired = {"paired_accuracy": paired_accuracy(*scores_and_labels(judged.evidence[head]), pairs)}
            if order == "forward":
                found |= _unknown(config, prepared, checkpoint.model, head, judged, place)
                groups = [r.group or r.path for r in (dataset.rows[i] for i, _ in dataset.places)]
                low, high = judged.heads[head].interval(judged.evidence[head], groups)
                found |= {} if math.isnan(low) else {"interval": [low, high], "watched": judged.heads[head].watched}
            rows.append({"model": name, "order": order, "head": head, **paired, **found})
    return rows


def part_of(row: dict[str, Any]) -> str:
    """What a row of the table was measured on."""
    return "test" if row["order"] == "forward" else f"test_{row['order']}"


def other_split(prepared: Prepared, checkpoint: Checkpoint) -> str:
    """A warning where rows or their split are not those of the training, so that what is tested may have been learned; else empty."""
    if checkpoint.notes.get("data") in (None, prepared.manifest.fingerprint):
        return ""
    return (
        "  note: the rows or their split are not those that this model was trained with, so it may have learned from rows that are tested now. "
        "Train it again, or give data that it cannot know."
    )


def _unknown(
    config: Config, prepared: Prepared, model: Model, head: str, judged: Judged, place: Runtime
) -> dict[str, Any]:
    """How well a head tells the test rows of evaluation.unknown from the others; nothing where there are none."""
    asked = judged.heads[head]
    rows = prepared.strangers()
    if not rows or not isinstance(asked, Classify):
        return {}
    dataset = RowDataset(rows, prepared.source, {head: lambda row, times: torch.tensor(-1)})
    evidence = judge(
        model, dataset, batch_size=config.training.batch_size, device=place.device, has_loss=False
    ).evidence[head]
    of = {name: [e for e, row in zip(evidence, rows, strict=True) if row.label == name] for name in prepared.unknown}
    found = unknown_metrics(asked, judged.evidence[head], {name: some for name, some in of.items() if some})
    return {"auroc_unknown": found["auroc"], "unknown": found}


def split_dataset(
    config: Config, prepared: Prepared, model: Model, split: str, *, is_training: bool = False, order: Order = "forward"
) -> RowDataset:
    """One part of the rows as samples; windows and augmentation are for training alone."""
    targets = {name: model.head(name).target for name in model.heads}
    augment: Augment | None = None
    if is_training and config.encoder.kind == "series":
        augment = config.training.augment.build_series(prepared.input_size or 0)
    elif is_training and config.encoder.kind == "frames" and config.encoder.train_blocks > 0:
        augment = config.training.augment.build()
    return RowDataset(
        prepared.rows(split),
        prepared.source,
        targets,
        seed=config.training.seed,
        order=order,
        stepwise=[name for name in model.heads if model.head(name).stepwise],
        window=config.data.window if is_training or config.data.stride else None,
        stride=config.data.stride,
        augment=augment,
    )


def make_report(
    config: Config, prepared: Prepared, checkpoint: Checkpoint, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """The rows of the table with all that they stand on: report.json."""
    counts = Counter(r.split for r in prepared.manifest.rows)
    return {
        "rows": rows,
        "classes": {h: list(v.names) for h, v in checkpoint.vocabularies.items() if isinstance(v, Vocabulary)},
        "split": describe_split(config),
        "counts": dict(counts),
        "seed": config.training.seed,
        "failed": {video: list(why) for video, why in prepared.failed.items()},
        "data": config.data.path,
        "model": checkpoint.notes,
    }
