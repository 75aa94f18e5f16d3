"""Heads of a model with two players: when they play, what they show, whether it is over.

In: a model. Out: what the loop asks for. Knows nothing of optimisers or files.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.data.batch import Batch
from pipeline.models.head import Contest
from pipeline.models.model import Model
from pipeline.training.track import Track


def contests(model: Model) -> dict[str, Contest]:
    """Heads with two players, by name."""
    heads = {name: model.head(name) for name in model.heads}
    return {name: head for name, head in heads.items() if isinstance(head, Contest)}


def first_step(model: Model, total_steps: int) -> int:
    """The step from which all of them play."""
    return round(max((head.alone for head in contests(model).values()), default=0.0) * total_steps)


def verdict(model: Model, means: Mapping[str, float]) -> str:
    """Why to go on makes no sense, empty while nobody has won."""
    return next(filter(None, (head.verdict(means) for head in contests(model).values())), "")


def show(model: Model, batch: Batch, track: Track, step: int) -> None:
    """What they make now."""
    for name, head in contests(model).items():
        made = head.picture(batch)
        if len(made):  # a batch may hold nothing that it forecasts
            track.sample(name, made, step)
