"""What will be going on in a moment: the class of each step, some seconds ahead.

In: what the core has seen (B, T, H). Out: a class for now and for each lead time. Knows nothing of videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.models.prediction import Anticipation, Prediction
from pipeline.models.seen import Seen
from pipeline.padded import Padded

UNKNOWN = -1
Memory = tuple[Tensor, Tensor]
"""(last output of the core (B, H), whether there was one (B, 1))."""


class Anticipate(nn.Module):
    """A linear layer a lead time on the core's output: the label of the spans that many seconds later.

    leads: seconds, each above 0; now (0) always stands before them, to be compared with. vocabulary: the labels of the
    spans and the name of where no span lies.
    """

    opponent: nn.Module | None
    stepwise = True
    watched = "accuracy"

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
        self.label_smoothing = label_smoothing
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(input_size, len(self.leads) * len(vocabulary))

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """(T, 1 + leads) int64: the class at each of `times` plus each lead, UNKNOWN behind the last known moment."""
        if not row.spans or not len(times):
            return None
        moments = times[:, None] + np.array(self.leads)
        found = np.full(moments.shape, self.vocabulary.index(self.background))
        for span in row.spans:
            found[(moments >= span.start) & (moments < span.end)] = self.vocabulary.index(span.label)
        found[(moments > times[-1]) & (moments >= row.spans[-1].end)] = UNKNOWN
        return torch.from_numpy(found)

    def step_logits(self, output: Tensor) -> Tensor:
        """(..., H) -> (..., 1 + leads, C)."""
        return self.logits(self.dropout(output)).unflatten(-1, (len(self.leads), len(self.vocabulary)))

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """Cross-entropy, averaged over the steps and leads whose future is known."""
        truth = self._truth(seen, batch)
        logits = self.step_logits(seen.steps.zeroed().data)
        total = F.cross_entropy(
            logits.flatten(0, 2),
            truth.flatten(),
            ignore_index=UNKNOWN,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return {self.name: total / (truth != UNKNOWN).sum().clamp(min=1)}

    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """Keep the last step: all that the core knows stands there."""
        data, lengths = seen.steps.data, seen.steps.lengths.to(seen.steps.data.device)
        if memory is None:
            nothing = data.new_zeros((data.shape[0], data.shape[2]))
            memory = nothing, torch.zeros((data.shape[0], 1), dtype=torch.bool, device=data.device)
        if not data.shape[1]:
            return memory
        now = data[torch.arange(data.shape[0], device=data.device), (lengths - 1).clamp(min=0)]
        is_new = (lengths > 0)[:, None]
        return torch.where(is_new, now, memory[0]), is_new | memory[1]

    @torch.no_grad()
    def answer(self, memory: Memory) -> list[Prediction]:
        """For each row the classes now and at each lead; alike likely where nothing was seen."""
        output, has_any = memory
        probabilities = torch.where(has_any[:, :, None], self.step_logits(output), 0.0).float().softmax(-1).cpu()
        order = probabilities.argsort(dim=-1, descending=True, stable=True)
        names = self.vocabulary.names
        return [
            Anticipation(
                tuple(
                    (lead, tuple((names[i], float(scores[i])) for i in ranks.tolist()))
                    for lead, scores, ranks in zip(self.leads, p, o, strict=True)
                )
            )
            for p, o in zip(probabilities, order, strict=True)
        ]

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Tensor]:
        """For each sample counts (1 + leads, 2, C then, C said) of the steps whose future is known: those where the class
        then is that of now, and those where it is another.
        """
        truth = self._truth(seen, batch).cpu()
        said = self.step_logits(seen.steps.zeroed().data).argmax(-1).cpu()  # (B, T, 1 + leads)
        size = len(self.vocabulary)
        shape = (len(self.leads), 2, size, size)
        samples = []
        for then, answer in zip(truth, said, strict=True):
            known = then != UNKNOWN
            lead = torch.arange(len(self.leads)).expand_as(then)
            cell = ((lead * 2 + (then != then[:, :1]).long()) * size + then) * size + answer
            samples.append(torch.bincount(cell[known], minlength=int(np.prod(shape))).reshape(shape))
        return samples

    def metrics(self, evidence: Sequence[Tensor]) -> dict[str, Any]:
        """By lead, over all steps: accuracy, its mean over classes, accuracy where the class changes until then, and two
        answers that see nothing: the true class of now, and the class that is most frequent then. `accuracy` is
        that of all leads above 0 together. Raises ValueError without a step to judge.
        """
        counts = torch.stack(list(evidence)).sum(0).double()
        if not counts.sum():
            raise ValueError(
                f"No step can be judged for '{self.name}': no row holds a known future. Give rows with spans that last "
                "longer than the head's leads."
            )
        found: dict[str, Any] = {}
        for lead, (same, changed) in zip(self.leads, counts, strict=True):
            table = same + changed  # (then, said)
            total, classes, right = table.sum().clamp(min=1), table.sum(1), table.diagonal()
            found |= {
                f"accuracy_{lead:g}": float(right.sum() / total),
                f"mean_class_accuracy_{lead:g}": float((right / classes)[classes > 0].mean()),
                f"same_as_now_{lead:g}": float(same.sum() / total),
                f"most_frequent_{lead:g}": float(classes.max() / total),
            }
            if lead:
                found[f"changed_{lead:g}"] = float(changed.diagonal().sum() / changed.sum().clamp(min=1))
        hits, steps = _hits(counts)
        found["accuracy"] = float(hits / steps.clamp(min=1))
        found["count"] = int(counts[0].sum())
        return found

    def interval(self, evidence: Sequence[Tensor], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the accuracy over the leads above 0, drawn by groups."""
        right, total = _hits(torch.stack(list(evidence)))
        return ratio_interval(right, total, groups)

    def _truth(self, seen: Seen, batch: Batch) -> Tensor:
        """(B, T, 1 + leads), UNKNOWN in the padding."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        return torch.where(seen.steps.mask[:, :, None], target.data, UNKNOWN)


def _hits(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Counts (..., 1 + leads, 2, then, said) -> how many answers to leads above 0 are right, and how many there are."""
    later = counts[..., 1:, :, :, :]
    return later.diagonal(dim1=-2, dim2=-1).sum((-1, -2, -3)), later.sum((-1, -2, -3, -4))
