"""What a model answers on a part of the data, as numbers.

In: a model and a dataset. Out: loss, scores and truths by head, and their metrics. Knows nothing of files or training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.data.batch import collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import in_order
from pipeline.heads.classify import Classify
from pipeline.metrics.classification import classification
from pipeline.models.model import Model


@dataclass(frozen=True)
class Judged:
    """loss: the sum of the heads' terms, averaged over samples; scores (N, C) and labels (N,) by head, on the CPU, in
    the order of the dataset's rows.
    """

    loss: float
    scores: dict[str, Tensor]
    labels: dict[str, Tensor]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """By head, what `metrics.classification` says."""
        return {head: classification(self.scores[head], self.labels[head]) for head in self.scores}

    @property
    def accuracy(self) -> float:
        """Mean top-1 accuracy over the heads: what early stopping watches first."""
        hits = [float((s.argmax(-1) == self.labels[h]).float().mean()) for h, s in self.scores.items()]
        return sum(hits) / len(hits)


@torch.inference_mode()
def judge(model: Model, dataset: RowDataset, *, batch_size: int, device: torch.device) -> Judged:
    """Every row of the dataset once, whole, with the model in evaluation mode (its mode is put back)."""
    was_training = model.training
    model.eval()
    total, order = 0.0, []
    scores: dict[str, list[Tensor]] = {}
    labels: dict[str, list[Tensor]] = {}
    for keys in in_order(dataset.lengths, batch_size):
        batch = collate([dataset[key] for key in keys]).to(device)
        order += [index for _, index in keys]
        seen = model.watch(batch.raw)
        for name in model.heads:
            head = model.head(name)
            total += float(sum(head.loss(seen, batch, "model").values())) * len(keys)
            assert isinstance(head, Classify)
            target = batch.target(name)
            assert isinstance(target, Tensor)
            scores.setdefault(name, []).append(head.pooled(head.observe(seen)).float().cpu())
            labels.setdefault(name, []).append(target.cpu())
    model.train(was_training)
    place = torch.tensor(order).argsort()
    return Judged(
        total / max(1, len(order)),
        {h: torch.cat(s)[place] for h, s in scores.items()},
        {h: torch.cat(t)[place] for h, t in labels.items()},
    )
