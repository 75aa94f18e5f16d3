"""Which class: one label for a sequence.

In: what the core has seen (B, T, H). Out: logits and, as an answer, ranked class names. Knows nothing of videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.trust import FEWEST, KEPT, Trust
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.calibration import expected_calibration_error, negative_log_likelihood
from pipeline.metrics.classification import classification
from pipeline.metrics.early import early_curve, mean_time_to_decision
from pipeline.models.head import Decided, Following
from pipeline.models.prediction import Classification, Prediction
from pipeline.models.seen import Seen
from pipeline.padded import Padded

Pool = Literal["mean", "last", "attention"]
Memory = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""(weighted sum of logits (B, C), sum of weights (B, 1), largest attention score so far (B, 1); sum of what the core was
given (B, P), how many steps of it (B, 1))."""

WHOLE = ("total", "weight", "peak", "given", "inputs")
"""The names of these five in what follows a stream."""


class Evidence(NamedTuple):
    """Of one sample: logits (C,) of the one answer, before any temperature; label; features (P,), the mean of what the
    core was given; prefixes (T, C), the answer after each step; right_steps, how many of the steps alone are right.
    """

    logits: Tensor
    label: int
    features: Tensor
    prefixes: Tensor
    right_steps: int


def scores_and_labels(evidence: Sequence[Evidence]) -> tuple[Tensor, Tensor]:
    """Of all samples: (N, C) and (N,)."""
    return torch.stack([e.logits for e in evidence]), torch.tensor([e.label for e in evidence])


class Classify(nn.Module):
    """A linear layer on every step, and a way to make one answer of the steps.

    pool: `mean` averages the step logits (after Ng et al. 2015, "Beyond Short Snippets": it gives the early answer for
    free), `last` reads the last valid step, `attention` weighs the step logits by a learned score (softmax over time).
    All three fold over windows: the memory of two windows equals that of the whole.

    class_weights: one factor a class on its samples' loss, mean 1 over the training samples, or None.
    step_loss: weight in [0, 1] of the mean cross-entropy of each step beside that of the pooled answer; it makes the
    early answers good. watched_size: P, the width of what the core is given; 0 where nobody asks what is unknown.
    """

    opponent: nn.Module | None
    stepwise = False
    delay_steps = 0
    watched = "accuracy"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        vocabulary: Vocabulary,
        watched_size: int = 0,
        pool: Pool = "mean",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        step_loss: float = 0.0,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.name, self.vocabulary, self.pool = name, vocabulary, pool
        self.label_smoothing, self.step_loss = label_smoothing, step_loss
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(input_size, len(vocabulary))
        self.score = nn.Linear(input_size, 1) if pool == "attention" else None
        self.watched_size = watched_size
        self.trust = Trust(num_classes=len(vocabulary), size=watched_size)
        weights = torch.ones(len(vocabulary)) if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """The index of the row's label, a scalar int64."""
        return None if row.label is None else torch.tensor(self.vocabulary.index(row.label))

    def step_logits(self, seen: Seen) -> Tensor:
        """(B, T, C): the answer that each step would give."""
        return self.logits(self.dropout(seen.steps.zeroed().data))

    def pooled(self, memory: Memory) -> Tensor:
        """(B, C): the logits of the one answer; zeros where nothing was seen."""
        total, weight, *_ = memory
        return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)

    def features(self, memory: Memory) -> Tensor:
        """(B, P): the mean of what the core was given; nan where nothing was seen."""
        return memory[3] / memory[4]

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """Cross-entropy of the pooled answer (and of the steps), averaged over the batch."""
        target = batch.target(self.name)
        assert isinstance(target, Tensor)
        seen = seen if self.step_loss else self._what_counts(seen)
        logits = self.step_logits(seen)
        weights = self.get_buffer("class_weights")[target]
        whole = F.cross_entropy(
            self.pooled(self._fold(seen, logits, None)), target, reduction="none", label_smoothing=self.label_smoothing
        )
        terms = {self.name: (weights * whole).mean() * (1.0 - self.step_loss)}
        if self.step_loss:
            mask = seen.steps.mask
            every = F.cross_entropy(
                logits.transpose(1, 2),
                target[:, None].expand(mask.shape),
                reduction="none",
                label_smoothing=self.label_smoothing,
            )
            mean = torch.where(mask, every, 0.0).sum(1) / mask.sum(1).clamp(min=1)
            terms[f"{self.name}_steps"] = (weights * mean).mean() * self.step_loss
        return terms

    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """Fold these steps into the memory."""
        counted = self._what_counts(seen)
        return self._fold(counted, self.step_logits(counted), memory, seen.inputs)

    @torch.no_grad()
    def answer(self, memory: Memory) -> list[Prediction]:
        """The classes of each row with their calibrated probabilities, the likeliest first, and whether it is unknown."""
        probabilities = self.trust.scaled(self.pooled(memory).detach().float()).softmax(dim=-1).cpu()
        order = probabilities.argsort(dim=-1, descending=True, stable=True)
        distances = self.trust.distance(self.features(memory).detach()).tolist()
        names = self.vocabulary.names
        return [
            Classification(
                tuple((names[i], float(p[i])) for i in o.tolist()),
                None if math.isnan(far) else far,
                self.trust.is_unknown(far),
            )
            for p, o, far in zip(probabilities, order, distances, strict=True)
        ]

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Evidence]:
        """One a sample."""
        target = batch.target(self.name)
        assert isinstance(target, Tensor)
        memory = self.observe(seen)
        logits = self.step_logits(seen)
        right = ((logits.argmax(-1) == target[:, None]) & seen.steps.mask).sum(1)
        rows = (
            self.pooled(memory).float().cpu(),
            target.tolist(),
            self.features(memory).float().cpu(),
            Padded(self._prefixes(seen, logits).float().cpu(), seen.steps.lengths).unpad(),
            right.tolist(),
        )
        return [Evidence(*row) for row in zip(*rows, strict=True)]

    def _prefixes(self, seen: Seen, logits: Tensor) -> Tensor:
        """(B, T, C): what `pooled` would say had the sequence ended at each step; from one pass."""
        if self.pool == "last":
            return logits
        if self.score is None:
            return logits.cumsum(1) / torch.arange(1, logits.shape[1] + 1, device=logits.device)[:, None]
        scores = self.score(seen.steps.zeroed().data)
        parts = torch.exp(scores - scores.amax(1, keepdim=True))
        return (parts * logits).cumsum(1) / parts.cumsum(1).clamp(min=torch.finfo(parts.dtype).tiny)

    def calibrate(self, train: Sequence[Evidence], validation: Sequence[Evidence]) -> str:
        """What is familiar from training samples, temperature and threshold from validation samples."""
        seen = [e for e in train if e.features.isfinite().all()]
        if self.watched_size and {e.label for e in seen} == set(range(len(self.vocabulary))):
            self.trust.fit_familiar(torch.stack([e.features for e in seen]), torch.tensor([e.label for e in seen]))
        if len(validation) < FEWEST:
            has = f"only {len(validation)} validation clips of {FEWEST}" if validation else "no validation part"
            return (
                f"{self.name}: {has}, so no calibration: temperature 1, and no threshold for unknown "
                "(a larger data.validation, such as 0.15, gives both)"
            )
        logits, labels = scores_and_labels(validation)
        self.trust.fit_held_out(logits, torch.stack([e.features for e in validation]), labels)
        temperature, threshold = (float(self.trust.get_buffer(n)) for n in ("temperature", "threshold"))
        return (
            f"{self.name}: on {len(labels)} validation clips, temperature {temperature:.3f}; unknown beyond distance "
            f"{threshold:.3f}, which keeps {KEPT:.0%} of them"
        )

    def distances(self, evidence: Sequence[Evidence]) -> Tensor:
        """(N,): how far each sample is from what was learned."""
        return self.trust.distance(torch.stack([e.features for e in evidence])).cpu()

    def metrics(self, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """What `metrics.classification` says, and how far the probabilities can be trusted, before and after scaling."""
        logits, labels = scores_and_labels(evidence)
        scaled = self.trust.scaled(logits)
        return {
            **classification(logits, labels),
            "step_accuracy": sum(e.right_steps for e in evidence) / max(1, sum(len(e.prefixes) for e in evidence)),
            "early": early_curve([e.prefixes for e in evidence], labels.tolist()),
            "settled_share": mean_time_to_decision([e.prefixes for e in evidence], labels.tolist())["settled_share"],
            "nll": negative_log_likelihood(scaled, labels),
            "ece": expected_calibration_error(scaled.softmax(-1), labels),
            "ece_unscaled": expected_calibration_error(logits.softmax(-1), labels),
        }

    def interval(self, evidence: Sequence[Evidence], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of the accuracy, drawn by groups."""
        logits, labels = scores_and_labels(evidence)
        return ratio_interval(logits.argmax(-1) == labels, None, groups)

    @torch.no_grad()
    def follow(
        self, seen: Seen, memory: Following | None = None, *, lag: int, smooth: int
    ) -> tuple[Following, Decided]:
        """Each look's label is that of the mean of the step logits over the last `smooth` looks, at once: no look waits."""
        logits = self.step_logits(seen)
        steps, classes = logits.shape[1:]
        if memory is None:
            none = torch.zeros((1, 1), dtype=torch.float64, device=logits.device)  # float32 stops counting after weeks
            whole = none.expand(1, classes), none, none - torch.inf, none.expand(1, self.watched_size), none
            recent, count = logits.new_zeros((1, smooth, classes)), none[0].long()
        else:
            total, weight, peak, given, inputs = (memory[key] for key in WHOLE)
            whole, recent, count = (total, weight, peak, given, inputs), memory["recent"], memory["count"]
        joined = torch.cat([recent, logits], dim=1)
        counts = (count + torch.arange(1, steps + 1, device=logits.device)).clamp(max=smooth)
        mean = joined.unfold(1, smooth, 1)[0, 1:].sum(-1) / counts[:, None]  # (T, C)
        scores = self.trust.scaled(mean).softmax(-1)
        kept = {"recent": joined[:, steps:], "count": (count + steps).clamp(max=smooth)}
        new = dict(zip(WHOLE, self.observe(seen, whole), strict=True))
        return {**new, **kept}, Decided(scores.argmax(-1), scores)

    @torch.no_grad()
    def conclude(self, memory: Following, *, lag: int) -> tuple[Decided, Prediction | None]:
        """Nothing waited; the answer is that of the whole stream."""
        nothing = memory["recent"][0, :0]
        total, weight, peak, given, inputs = (memory[key] for key in WHOLE)
        one = torch.ones_like(memory["recent"][:, 0, :1])
        whole = (total / weight).to(one.dtype), one, peak, (given / inputs).to(one.dtype), one
        return Decided(nothing.argmax(-1), nothing), self.answer(whole)[0]

    def _what_counts(self, seen: Seen) -> Seen:
        """The last valid step alone where no other is asked: the rest of a wide sequence would be work for nothing."""
        steps = seen.steps
        if self.pool != "last" or steps.data.shape[1] < 2:
            return seen
        at = (steps.lengths - 1).clamp(min=0).to(steps.data.device)[:, None, None].expand(-1, 1, steps.data.shape[2])
        return replace(seen, steps=Padded(steps.data.gather(1, at), steps.lengths.clamp(max=1)))

    def _fold(self, seen: Seen, logits: Tensor, memory: Memory | None, inputs: Padded | None = None) -> Memory:
        if memory is None:
            nothing = logits.new_zeros((logits.shape[0], 1))
            start = logits.new_zeros((logits.shape[0], logits.shape[2])), nothing, torch.full_like(nothing, -torch.inf)
            memory = *start, logits.new_zeros((logits.shape[0], self.watched_size)), nothing
        *answer, given, count = memory
        if inputs is not None and self.watched_size:
            given = given + inputs.zeroed().data.to(given.dtype).sum(1)
            count = count + inputs.mask.sum(1, keepdim=True).to(count.dtype)
        return *self._pool(seen, logits, *answer), given, count

    def _pool(
        self, seen: Seen, logits: Tensor, total: Tensor, weight: Tensor, peak: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The part of the memory that makes the answer, after these steps."""
        mask = seen.steps.mask[:, :, None]
        if self.pool == "last":
            at = (seen.steps.lengths - 1).clamp(min=0).to(logits.device)[:, None, None].expand(-1, 1, logits.shape[2])
            has_any = mask.any(dim=1)
            return torch.where(has_any, logits.gather(1, at)[:, 0], total), torch.where(has_any, 1.0, weight), peak
        if self.score is None:
            return total + torch.where(mask, logits, 0.0).sum(1), weight + mask.sum(1).to(weight.dtype), peak
        scores = torch.where(
            mask, self.score(seen.steps.zeroed().data), -torch.inf
        )  # (B, T, 1); softmax over time, online
        new_peak = torch.maximum(peak, scores.amax(dim=1))
        safe = torch.where(new_peak.isfinite(), new_peak, 0.0)
        old = torch.exp(peak - safe)
        parts = torch.exp(scores - safe[:, None])
        return total * old + (parts * logits).sum(1), weight * old + parts.sum(1), new_peak
