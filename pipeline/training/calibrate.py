"""After training: what the heads need to say how far they can be trusted, and how well they tell the unknown apart.

In: a trained model, training and validation rows; evidence of known and of unknown rows. Out: calibrated heads, numbers.
Knows nothing of files or the loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from pipeline.data.dataset import RowDataset
from pipeline.data.manifest import Row
from pipeline.heads.classify import Classify, Evidence, scores_and_labels
from pipeline.metrics.calibration import auroc, energy, max_logit
from pipeline.models.head import Calibrated
from pipeline.models.model import Model
from pipeline.training.evaluate import judge

MOST = 4000
"""So many training rows, evenly over the labels, say what is familiar: more would cost time and move nothing."""


def calibrate(
    model: Model,
    train: RowDataset,
    validation: RowDataset | None,
    *,
    batch_size: int,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Let the heads that want it fit what they need on whole rows as they will see them: no window, no augmentation, no dropout."""
    heads = {name: head for name in model.heads if isinstance(head := model.head(name), Calibrated)}
    if not heads:
        return
    targets = {name: train.targets[name] for name in heads}
    few = RowDataset(_evenly(train.rows), train.source, targets, seed=train.seed)
    known = judge(model, few, batch_size=batch_size, device=device).evidence
    held = {}
    if validation is not None:
        chosen = RowDataset(validation.rows, validation.source, targets, seed=validation.seed)
        held = judge(model, chosen, batch_size=batch_size, device=device).evidence
    for name, head in heads.items():
        say(head.calibrate(known[name], held.get(name, [])))


def unknown_metrics(
    head: Classify, known: Sequence[Evidence], strangers: Mapping[str, Sequence[Evidence]]
) -> dict[str, Any]:
    """Evidence of test rows of the known classes, and of those of each class that the model never saw -> AUROC (0.5 is
    chance) of the head's distance, over all of them and by class, that of energy and max logit beside it, and by the
    threshold the shares of known rows kept and of unknown rows refused (None without a threshold).
    """
    everyone = [e for found in strangers.values() for e in found]
    far, farther = head.distances(known), head.distances(everyone)
    logits = scores_and_labels([*known, *everyone])[0]
    is_unknown = torch.arange(len(logits)) >= len(known)
    refused = [[head.trust.is_unknown(d) for d in part.tolist()] for part in (far, farther)]
    shares = [None if None in part else sum(map(bool, part)) / len(part) for part in refused]
    return {
        "count": len(everyone),
        "auroc": _auroc(torch.cat([far, farther]), is_unknown),
        "auroc_energy": _auroc(energy(logits), is_unknown),
        "auroc_max_logit": _auroc(max_logit(logits), is_unknown),
        "per_class": {
            name: _auroc(torch.cat([far, head.distances(found)]), torch.arange(len(known) + len(found)) >= len(known))
            for name, found in strangers.items()
        },
        "kept": None if shares[0] is None else 1 - shares[0],
        "refused": shares[1],
    }


def _auroc(scores: torch.Tensor, is_unknown: torch.Tensor) -> float | None:
    """None where a score is missing, for then nothing can be ranked."""
    return None if scores.isnan().any() else auroc(scores, is_unknown)


def _evenly(rows: Sequence[Row]) -> list[Row]:
    """At most MOST rows, as many of each label."""
    each = max(2, MOST // max(1, len({row.label for row in rows})))
    seen: Counter[str | None] = Counter()
    kept = []
    for row in rows:
        seen[row.label] += 1
        if seen[row.label] <= each:
            kept.append(row)
    return kept
