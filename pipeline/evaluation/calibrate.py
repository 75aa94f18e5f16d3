"""Calibration of a trained model, and the metrics of its detection of unknown classes.

In: a trained model with training and validation rows; results of known and of unknown rows. Out: calibrated heads,
metrics. It knows nothing of files or of the training loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.data.dataset import RowDataset
from pipeline.data.manifest_rows import Row
from pipeline.evaluation.evaluate_dataset import evaluate_dataset
from pipeline.heads.classify import Classify, ClassifyResult, logits_and_labels
from pipeline.metrics.calibration import auroc, energy, max_logit
from pipeline.models.head import CalibratedHead
from pipeline.models.model import Model

MAX_TRAIN_ROWS = 4000
"""The most training rows that calibration reads, balanced over the labels. More would take time and change little."""


def calibrate(
    model: Model,
    train: RowDataset,
    validation: RowDataset | None,
    *,
    batch_size: int,
    device: torch.device,
    log: Callable[[str], None],
) -> None:
    """Let each head with a calibration fit it. `log` gets one sentence from each head.

    The heads see whole rows, as at inference: no windows, no augmentation, no dropout.
    """
    heads = {name: head for name in model.heads if isinstance(head := model.head(name), CalibratedHead)}
    if not heads:
        return
    targets = {name: train.targets[name] for name in heads}
    train_set = RowDataset(_balanced_subset(train.rows), train.source, targets, seed=train.seed)
    train_results = evaluate_dataset(model, train_set, batch_size=batch_size, device=device).results
    validation_results = {}
    if validation is not None:
        validation_set = RowDataset(validation.rows, validation.source, targets, seed=validation.seed)
        validation_results = evaluate_dataset(model, validation_set, batch_size=batch_size, device=device).results
    for name, head in heads.items():
        log(head.calibrate(train_results[name], validation_results.get(name, [])))


def unknown_metrics(
    head: Classify, known: Sequence[ClassifyResult], unknown: Mapping[str, Sequence[ClassifyResult]]
) -> dict[str, Any]:
    """Metrics of the detection of unknown classes.

    known: results of test rows of the known classes. unknown: results of test rows of each class that the model was not
    trained on. Returns the AUROC of the head's distance over all unknown rows and for each class (0.5 is chance), the
    AUROC of energy and max logit, the share of known rows that the threshold keeps, and the share of unknown rows that
    it refuses. A value is None where the head has no distance or no threshold.
    """
    all_unknown = [result for results in unknown.values() for result in results]
    known_distances, unknown_distances = head.distances(known), head.distances(all_unknown)
    logits = logits_and_labels([*known, *all_unknown])[0]
    known_refused = _refused_share(head, known_distances)
    return {
        "count": len(all_unknown),
        "auroc": _auroc(known_distances, unknown_distances),
        "auroc_energy": _auroc(*_split(energy(logits), len(known))),
        "auroc_max_logit": _auroc(*_split(max_logit(logits), len(known))),
        "per_class": {name: _auroc(known_distances, head.distances(results)) for name, results in unknown.items()},
        "kept": None if known_refused is None else 1 - known_refused,
        "refused": _refused_share(head, unknown_distances),
    }


def _refused_share(head: Classify, distances: Tensor) -> float | None:
    """The share of samples that the head calls unknown; None without a threshold."""
    is_refused = [head.confidence.is_unknown(distance) for distance in distances.tolist()]
    return None if None in is_refused else sum(map(bool, is_refused)) / len(is_refused)


def _split(scores: Tensor, num_known: int) -> tuple[Tensor, Tensor]:
    return scores[:num_known], scores[num_known:]


def _auroc(known: Tensor, unknown: Tensor) -> float | None:
    """The AUROC of scores for unknown; None where a score is missing, because then there is no ranking."""
    scores = torch.cat([known, unknown])
    return None if scores.isnan().any() else auroc(scores, torch.arange(len(scores)) >= len(known))


def _balanced_subset(rows: Sequence[Row]) -> list[Row]:
    """At most MAX_TRAIN_ROWS rows, equally many of each label."""
    per_label = max(2, MAX_TRAIN_ROWS // max(1, len({row.label for row in rows})))
    counts: Counter[str | None] = Counter()
    subset = []
    for row in rows:
        counts[row.label] += 1
        if counts[row.label] <= per_label:
            subset.append(row)
    return subset
