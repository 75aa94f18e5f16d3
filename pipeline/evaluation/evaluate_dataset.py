"""The results of a model on a dataset.

In: a model and a dataset. Out: an `Evaluation`: the loss, and the results of each head with their metrics. It knows
nothing of files or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.data.batch import collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import batches_by_length
from pipeline.evaluation.monitor import monitor_of
from pipeline.models.head import Head, Result, StreamEvaluatedHead
from pipeline.models.model import Model


@dataclass(frozen=True)
class Evaluation:
    """The results of a model on a dataset.

    loss: the sum of the loss terms of all heads, averaged over samples. results: one result a sample for each head, in
    the order of the dataset. heads: the heads by name.
    """

    loss: float
    results: Mapping[str, list[Result]]
    heads: Mapping[str, Head]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics of each head, by its name."""
        return {name: self.heads[name].metrics(results) for name, results in self.results.items()}

    @property
    def score(self) -> float:
        """The metric that the first head monitors; -inf for nan."""
        return monitor_of(self.heads, None).score(self.metrics())


@torch.inference_mode()
def evaluate_dataset(
    model: Model,
    dataset: RowDataset,
    *,
    batch_size: int,
    device: torch.device,
    has_loss: bool = True,
    with_stream: bool = False,
) -> Evaluation:
    """Evaluate the heads that the dataset has targets for, on every sample once.

    The model runs in evaluation mode; its mode is restored at the end. has_loss: false where the targets are no classes
    of the model; the loss is then 0. with_stream: also measure what a stream would answer, which is slow.
    """
    was_training = model.training
    model.eval()
    heads = {name: model.head(name) for name in model.heads if name in dataset.targets}
    total, indices = 0.0, []
    results: dict[str, list[Result]] = {name: [] for name in heads}
    for keys in batches_by_length(dataset.lengths, batch_size):
        batch = collate([dataset[key] for key in keys]).to(device)
        indices += [key[1] for key in keys]
        output = model.watch(batch.raw)
        for name, head in heads.items():
            if has_loss:
                total += float(sum(head.loss(output, batch, "model").values())) * len(keys)
            if with_stream and isinstance(head, StreamEvaluatedHead):
                results[name] += head.results_with_stream(output, batch)
            else:
                results[name] += head.results(output, batch)
    model.train(was_training)
    order = sorted(range(len(indices)), key=indices.__getitem__)
    ordered = {name: [head_results[i] for i in order] for name, head_results in results.items()}
    return Evaluation(total / max(1, len(indices)), ordered, heads)
