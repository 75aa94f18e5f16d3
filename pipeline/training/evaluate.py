"""What a model answers on a part of the data, as numbers.

In: a model and a dataset. Out: loss, scores and truths by head, and their metrics. Knows nothing of files or training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.data.batch import collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import in_order
from pipeline.models.head import Evidence, Head
from pipeline.models.model import Model


@dataclass(frozen=True)
class Judged:
    """loss: the sum of the heads' terms, averaged over samples; evidence: by head, one a sample, in the order of the
    dataset's rows; heads: who gave it.
    """

    loss: float
    evidence: Mapping[str, list[Evidence]]
    heads: Mapping[str, Head]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """By head, what it says of its evidence."""
        return {name: self.heads[name].metrics(found) for name, found in self.evidence.items()}

    @property
    def score(self) -> float:
        """The mean over the heads of the metric that each is watched by: it chooses the best epoch. What is not known (nan) is left out;
        where nothing is known it is -inf, and the loss chooses.
        """
        watched = (float(found[self.heads[name].watched]) for name, found in self.metrics().items())
        known = [value for value in watched if not math.isnan(value)]
        return sum(known) / len(known) if known else -math.inf


@torch.inference_mode()
def judge(model: Model, dataset: RowDataset, *, batch_size: int, device: torch.device, has_loss: bool = True) -> Judged:
    """Every row of the dataset once, whole, with the model in evaluation mode (its mode is put back), by the heads that
    the dataset has targets for. has_loss: false where the targets are no truths that could be learned; the loss is 0.
    """
    was_training = model.training
    model.eval()
    heads = {name: model.head(name) for name in model.heads if name in dataset.targets}
    total, order = 0.0, []
    evidence: dict[str, list[Evidence]] = {name: [] for name in heads}
    for keys in in_order(dataset.lengths, batch_size):
        batch = collate([dataset[key] for key in keys]).to(device)
        order += [key[1] for key in keys]
        seen = model.watch(batch.raw)
        for name, head in heads.items():
            if has_loss:
                total += float(sum(head.loss(seen, batch, "model").values())) * len(keys)
            evidence[name] += head.evidence(seen, batch)
    model.train(was_training)
    places = sorted(range(len(order)), key=order.__getitem__)
    return Judged(total / max(1, len(order)), {name: [e[i] for i in places] for name, e in evidence.items()}, heads)
