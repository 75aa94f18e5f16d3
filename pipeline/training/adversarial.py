"""What the training loop asks of adversarial heads: when they start, what they show, and whether they should stop.

In: a model. Out: answers for the loop. Knows nothing of optimisers or files.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.data.batch import Batch
from pipeline.models.head import AdversarialHead
from pipeline.models.model import Model
from pipeline.training.tracking import Tracker


def adversarial_heads(model: Model) -> dict[str, AdversarialHead]:
    """The model's adversarial heads, by name."""
    heads = {name: model.head(name) for name in model.heads}
    return {name: head for name, head in heads.items() if isinstance(head, AdversarialHead)}


def first_step(model: Model, total_steps: int) -> int:
    """The step from which the critics of all adversarial heads take part."""
    return round(max((head.pretrain_share for head in adversarial_heads(model).values()), default=0.0) * total_steps)


def stop_reason(model: Model, means: Mapping[str, float]) -> str:
    """Why the training should stop, from the mean loss terms of the last steps; empty where it should go on."""
    return next(filter(None, (head.stop_reason(means) for head in adversarial_heads(model).values())), "")


def show(model: Model, batch: Batch, tracker: Tracker, step: int) -> None:
    """Log a preview of each adversarial head. A preview is empty where the batch gave nothing to show."""
    for name, head in adversarial_heads(model).items():
        preview = head.preview(batch)
        if len(preview):
            tracker.log_sample(name, preview, step)
