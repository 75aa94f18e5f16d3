"""The results of a model on a dataset.

In: a model and a dataset. Out: an `Evaluation`: the loss, and the results of each head with their metrics. It knows
nothing of files or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from pipeline.data.batch import collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import Key, batches_by_length
from pipeline.evaluation.monitor import monitor_of
from pipeline.models.head import Head, Result, StreamEvaluatedHead
from pipeline.models.model import Model

T = TypeVar("T")


class Processes(Protocol):
    """The processes that share an evaluation."""

    @property
    def rank(self) -> int:
        """The number of this process."""
        ...

    @property
    def world_size(self) -> int:
        """The number of processes."""
        ...

    def gather_objects(self, own: T) -> list[T]:
        """The objects of every process, in the order of their numbers."""
        ...


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
    processes: Processes | None = None,
) -> Evaluation:
    """Evaluate the heads that the dataset has targets for, on every sample once.

    The model runs in evaluation mode; its mode is restored at the end. has_loss: false where the targets are no classes
    of the model; the loss is then 0. with_stream: also measure what a stream would answer, which is slow. processes:
    that share the batches; all must call this with equal weights, and all get the whole result.
    """
    was_training = model.training
    model.eval()
    heads = {name: model.head(name) for name in model.heads if name in dataset.targets}
    rank, world = (processes.rank, processes.world_size) if processes else (0, 1)
    batches = batches_by_length(dataset.lengths, batch_size)
    own: list[_EvaluatedBatch] = []
    for keys in batches[rank::world]:
        batch = collate([dataset[key] for key in keys]).to(device)
        output = model.watch(batch.raw)
        losses: list[float] = []
        results: dict[str, list[Result]] = {}
        for name, head in heads.items():
            if has_loss:
                losses.append(float(sum(head.loss(output, batch, "model").values())) * len(keys))
            if with_stream and isinstance(head, StreamEvaluatedHead):
                results[name] = head.results_with_stream(output, batch)
            else:
                results[name] = head.results(output, batch)
        own.append(_EvaluatedBatch(keys, losses, results))
    model.train(was_training)
    shares = processes.gather_objects(own) if processes else [own]
    evaluated = [shares[number % world][number // world] for number in range(len(batches))]
    total = sum(loss for batch in evaluated for loss in batch.losses)
    indices = [key[1] for batch in evaluated for key in batch.keys]
    order = sorted(range(len(indices)), key=indices.__getitem__)
    ordered = {}
    for name in heads:
        of_head = [result for batch in evaluated for result in batch.results[name]]
        ordered[name] = [of_head[i] for i in order]
    return Evaluation(total / max(1, len(indices)), ordered, heads)


class _EvaluatedBatch(NamedTuple):
    """losses: of the samples together, one for each head. results: one a sample, for each head."""

    keys: list[Key]
    losses: list[float]
    results: dict[str, list[Result]]
