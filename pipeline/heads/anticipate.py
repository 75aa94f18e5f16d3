"""A head that anticipates: the class of each step, and the class some seconds later.

In: the output of the core (B, T, H). Out: a class for now and for each lead time. Knows nothing of videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.targets import IGNORE_INDEX, AheadTarget
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Anticipation, Prediction
from pipeline.models.process_mean import mean_over_processes
from pipeline.padded import Padded

AnticipateMemory = tuple[Tensor, Tensor]
"""(last output of the core (B, H), whether there was a step (B, 1))."""


class Anticipate(nn.Module):
    """A linear layer for each lead time on the output of the core: the label of the spans that many seconds later.

    leads: seconds, each above 0. A lead of 0, now, is always added before them, for comparison. vocabulary: the labels
    of the spans, and the name of the background.
    """

    opponent: nn.Module | None
    is_per_step = True
    monitor = "accuracy"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        vocabulary: Vocabulary,
        leads: Sequence[float],
        background: str = "background",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.name, self.vocabulary, self.leads = name, vocabulary, (0.0, *leads)
        self.background = background
        self.target = AheadTarget(vocabulary, background, self.leads)
        self.label_smoothing = label_smoothing
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(input_size, len(self.leads) * len(vocabulary))

    def step_logits(self, step_output: Tensor) -> Tensor:
        """(..., H) -> (..., 1 + leads, C)."""
        return self.logits(self.dropout(step_output)).unflatten(-1, (len(self.leads), len(self.vocabulary)))

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """Cross-entropy, averaged over the annotated steps and leads."""
        target = self._target(output, batch)
        logits = self.step_logits(output.steps.zeroed().data)
        total = F.cross_entropy(
            logits.flatten(0, 2),
            target.flatten(),
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return {self.name: mean_over_processes(total, (target != IGNORE_INDEX).sum(), self.training)}

    def observe(self, output: CoreOutput, memory: AnticipateMemory | None = None) -> AnticipateMemory:
        """Keep the last valid step, which is all that the head reads."""
        steps = output.steps
        if memory is None:
            rows, _, width = steps.data.shape
            memory = (
                steps.data.new_zeros((rows, width)),
                torch.zeros((rows, 1), dtype=torch.bool, device=steps.data.device),
            )
        if not steps.data.shape[1]:
            return memory
        is_new = (steps.device_lengths > 0)[:, None]
        return torch.where(is_new, steps.last(), memory[0]), is_new | memory[1]

    @torch.no_grad()
    def answer(self, memory: AnticipateMemory) -> list[Prediction]:
        """The classes of each row, now and at each lead; equally probable for a row without steps."""
        step_output, has_any = memory
        probabilities = torch.where(has_any[:, :, None], self.step_logits(step_output), 0.0).float().softmax(-1).cpu()
        order = probabilities.argsort(dim=-1, descending=True, stable=True)
        names = self.vocabulary.names
        return [
            Anticipation(
                tuple(
                    (lead, tuple((names[i], float(scores[i])) for i in ranks.tolist()))
                    for lead, scores, ranks in zip(self.leads, row_scores, row_ranks, strict=True)
                )
            )
            for row_scores, row_ranks in zip(probabilities, order, strict=True)
        ]

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[Tensor]:
        """For each sample counts of its annotated steps, (1 + leads, 2, C true, C predicted). The second axis: the
        class at the lead time equals that of now (0), or not (1).
        """
        targets = self._target(output, batch).cpu()
        predictions = self.step_logits(output.steps.zeroed().data).argmax(-1).cpu()  # (B, T, 1 + leads)
        size = len(self.vocabulary)
        shape = (len(self.leads), 2, size, size)
        counts = []
        for target, prediction in zip(targets, predictions, strict=True):
            is_known = target != IGNORE_INDEX
            lead = torch.arange(len(self.leads)).expand_as(target)
            cell = ((lead * 2 + (target != target[:, :1]).long()) * size + target) * size + prediction
            counts.append(torch.bincount(cell[is_known], minlength=int(np.prod(shape))).reshape(shape))
        return counts

    def metrics(self, results: Sequence[Tensor]) -> dict[str, Any]:
        """By lead, over all steps: accuracy, its mean over classes, accuracy where the class differs from that of now
        (`changed`), and two baselines: the true class of now, and the most frequent class. `accuracy` is that of all
        leads above 0 together. Raises ValueError without an annotated step.
        """
        counts = torch.stack(list(results)).sum(0).double()
        if not counts.sum():
            raise ValueError(
                f"The head '{self.name}' has no step to evaluate: no row is annotated beyond its looks. "
                "Give rows whose spans are longer than the head's leads."
            )
        metrics: dict[str, Any] = {}
        for lead, (same, changed) in zip(self.leads, counts, strict=True):
            confusion = same + changed  # (C true, C predicted)
            total, per_class, correct = confusion.sum().clamp(min=1), confusion.sum(1), confusion.diagonal()
            metrics |= {
                f"accuracy_{lead:g}": float(correct.sum() / total),
                f"mean_class_accuracy_{lead:g}": float((correct / per_class)[per_class > 0].mean()),
                f"same_as_now_{lead:g}": float(same.sum() / total),
                f"most_frequent_{lead:g}": float(per_class.max() / total),
            }
            if lead:
                metrics[f"changed_{lead:g}"] = float(changed.diagonal().sum() / changed.sum().clamp(min=1))
        num_correct, num_steps = _correct_and_total(counts)
        metrics["accuracy"] = float(num_correct / num_steps.clamp(min=1))
        metrics["count"] = int(counts[0].sum())
        return metrics

    def confidence_interval(self, results: Sequence[Tensor], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the accuracy over the leads above 0, resampled by group."""
        num_correct, num_steps = _correct_and_total(torch.stack(list(results)))
        return ratio_interval(num_correct, num_steps, groups)

    def _target(self, output: CoreOutput, batch: Batch) -> Tensor:
        """(B, T, 1 + leads), IGNORE_INDEX in the padding."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        return torch.where(output.steps.mask[:, :, None], target.data, IGNORE_INDEX)


def _correct_and_total(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Counts (..., 1 + leads, 2, C true, C predicted) -> numbers of correct and of all predictions at leads above 0."""
    ahead = counts[..., 1:, :, :, :]
    return ahead.diagonal(dim1=-2, dim2=-1).sum((-1, -2, -3)), ahead.sum((-1, -2, -3, -4))
