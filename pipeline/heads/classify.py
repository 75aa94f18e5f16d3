"""A head that classifies a sequence: one label for all of it.

In: the output of the core (B, T, H). Out: logits and, as the prediction, class names ranked by probability. Knows
nothing of videos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.confidence import Confidence
from pipeline.heads.targets import LabelTarget
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.calibration import expected_calibration_error, negative_log_likelihood
from pipeline.metrics.classification import classification
from pipeline.metrics.early_recognition import early_curve, mean_time_to_decision
from pipeline.models.choices import Pool
from pipeline.models.core_output import CoreOutput
from pipeline.models.head import OnlineLabels, StreamMemory
from pipeline.models.prediction import Classification, Prediction
from pipeline.models.process_mean import mean_over_processes
from pipeline.padded import Padded, full_precision, map_lengths


class ClassifyMemory(NamedTuple):
    """Sums over the steps so far.

    logit_sum: (B, C), of the weighted step logits. weight_sum: (B, 1), of the weights. max_score: (B, 1), the largest
    attention score. feature_sum: (B, D), of the features. num_features: (B, 1), how many steps of features there were.
    """

    logit_sum: Tensor
    weight_sum: Tensor
    max_score: Tensor
    feature_sum: Tensor
    num_features: Tensor


class ClassifyResult(NamedTuple):
    """One sample.

    logits: (C,), pooled, before the temperature. label: the target. features: (R,), their mean as the distance reads it
    (`Confidence.reduce`). prefix_classes: (T,), the predicted class of each prefix of the sequence. num_correct_steps:
    how many single steps have the target as their most probable class.
    """

    logits: Tensor
    label: int
    features: Tensor
    prefix_classes: Tensor
    num_correct_steps: int


def logits_and_labels(results: Sequence[ClassifyResult]) -> tuple[Tensor, Tensor]:
    """The logits (N, C) and labels (N,) of all samples."""
    return torch.stack([result.logits for result in results]), torch.tensor([result.label for result in results])


class Classify(nn.Module):
    """A linear layer on every step, and a pooling of the step logits over time.

    pool: `mean` averages the step logits (after Ng et al. 2015, "Beyond Short Snippets"), `last` takes those of the
    last valid step, `attention` weights them by a softmax over time of a learned score. With each of the three, the
    memory of several windows equals that of the whole sequence, and a prediction exists after every step.

    class_weights: a factor for each class on the loss of its samples, or None.
    step_loss_share: in [0, 1], the share of the mean cross-entropy of the single steps in the loss. It improves the
    predictions after few steps.
    feature_size: D, the width of the features; 0 where no distance for unknown classes is needed.
    has_frozen_features: whether no label has shaped the features; then their distances can be held out after training.
    """

    opponent: nn.Module | None
    is_per_step = False
    delay_steps = 0
    monitor = "accuracy"

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        vocabulary: Vocabulary,
        feature_size: int = 0,
        has_frozen_features: bool = True,
        pool: Pool = "mean",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        step_loss_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.opponent = None
        self.target = LabelTarget(vocabulary)
        self.name, self.vocabulary, self.pool = name, vocabulary, pool
        self.label_smoothing, self.step_loss_share = label_smoothing, step_loss_share
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(input_size, len(vocabulary))
        self.attention_score = nn.Linear(input_size, 1) if pool == "attention" else None
        self.feature_size, self.has_frozen_features = feature_size, has_frozen_features
        self.confidence = Confidence(num_classes=len(vocabulary), size=feature_size)
        weights = torch.ones(len(vocabulary)) if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def step_logits(self, output: CoreOutput) -> Tensor:
        """(B, T, C): the logits of each single step, never in half precision, which cannot count many steps."""
        return full_precision(self.logits(self.dropout(output.steps.zeroed().data)))

    def pooled(self, memory: ClassifyMemory) -> Tensor:
        """(B, C): the pooled logits; zeros for a row without steps."""
        smallest = torch.finfo(memory.weight_sum.dtype).tiny
        return memory.logit_sum / memory.weight_sum.clamp(min=smallest)

    def features(self, memory: ClassifyMemory) -> Tensor:
        """(B, R): the mean of the features, reduced; nan for a row without steps."""
        return self.confidence.reduce(memory.feature_sum / memory.num_features)

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """Cross-entropy of the pooled logits (and of the steps), averaged over the rows that have a step."""
        target = batch.target(self.name)
        assert isinstance(target, Tensor)
        output = output if self.step_loss_share else self._needed_steps(output)
        logits = self.step_logits(output)
        has_steps = output.steps.mask.any(1)
        weights = self.get_buffer("class_weights")[target] * has_steps
        num_rows = has_steps.sum()
        pooled = self.pooled(self._add(output, logits, None))
        losses = F.cross_entropy(pooled, target, reduction="none", label_smoothing=self.label_smoothing)
        mean = mean_over_processes((weights * losses).sum(), num_rows, self.training)
        terms = {self.name: mean * (1.0 - self.step_loss_share)}
        if self.step_loss_share:
            mask = output.steps.mask
            step_losses = F.cross_entropy(
                logits.transpose(1, 2),
                target[:, None].expand(mask.shape),
                reduction="none",
                label_smoothing=self.label_smoothing,
            )
            means = torch.where(mask, step_losses, 0.0).sum(1) / mask.sum(1).clamp(min=1)
            mean = mean_over_processes((weights * means).sum(), num_rows, self.training)
            terms[f"{self.name}_steps"] = mean * self.step_loss_share
        return terms

    def observe(self, output: CoreOutput, memory: ClassifyMemory | None = None) -> ClassifyMemory:
        """Add these steps to the memory."""
        needed = self._needed_steps(output)
        return self._add(needed, self.step_logits(needed), memory, output.features)

    @torch.no_grad()
    def answer(self, memory: ClassifyMemory) -> list[Prediction]:
        """The classes of each row with their calibrated probabilities, and whether the row is unknown."""
        probabilities = self.confidence.scale(self.pooled(memory).detach().float()).softmax(dim=-1).cpu()
        order = probabilities.argsort(dim=-1, descending=True, stable=True)
        distances = self.confidence.distance(self.features(memory).detach()).tolist()
        are_unknown = self.confidence.are_unknown(distances)
        names = self.vocabulary.names
        return [
            Classification(
                tuple((names[i], float(p[i])) for i in ranks.tolist()),
                None if math.isnan(distance) else distance,
                is_unknown,
            )
            for p, ranks, distance, is_unknown in zip(probabilities, order, distances, are_unknown, strict=True)
        ]

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[ClassifyResult]:
        """Logits, features and target of each sample."""
        target = batch.target(self.name)
        assert isinstance(target, Tensor)
        memory = self.observe(output)
        logits = self.step_logits(output)
        is_correct = (logits.argmax(-1) == target[:, None]) & output.steps.mask
        prefix_classes = self._prefix_logits(output, logits).argmax(-1).to(torch.int32).cpu()
        lengths = output.steps.lengths.tolist()
        columns = (
            self.pooled(memory).float().cpu(),
            target.tolist(),
            self.features(memory).float().cpu(),
            [classes[:length].clone() for classes, length in zip(prefix_classes, lengths, strict=True)],
            is_correct.sum(1).tolist(),
        )
        return [ClassifyResult(*values) for values in zip(*columns, strict=True)]

    def _prefix_logits(self, output: CoreOutput, logits: Tensor) -> Tensor:
        """(B, T, C): the pooled logits of the sequence up to each step, in one pass."""
        if self.pool == "last":
            return logits
        if self.attention_score is None:
            return logits.cumsum(1) / torch.arange(1, logits.shape[1] + 1, device=logits.device)[:, None]
        scores = full_precision(self.attention_score(output.steps.zeroed().data))
        weights = torch.exp(scores - scores.amax(1, keepdim=True))
        return (weights * logits).cumsum(1) / weights.cumsum(1).clamp(min=torch.finfo(weights.dtype).tiny)

    def distances(self, results: Sequence[ClassifyResult]) -> Tensor:
        """(N,): how far each sample is from the training samples."""
        return self.confidence.distance(torch.stack([result.features for result in results])).cpu()

    def metrics(self, results: Sequence[ClassifyResult]) -> dict[str, Any]:
        """Those of `metrics.classification`, accuracy after part of the sequence, and calibration before and after the
        temperature.
        """
        logits, labels = logits_and_labels(results)
        scaled = self.confidence.scale(logits)
        prefix_classes = [result.prefix_classes for result in results]
        num_correct, num_steps = sum(result.num_correct_steps for result in results), sum(map(len, prefix_classes))
        return {
            **classification(logits, labels),
            "step_accuracy": num_correct / max(1, num_steps),
            "early_accuracy": early_curve(prefix_classes, labels.tolist()),
            "decision_share": mean_time_to_decision(prefix_classes, labels.tolist())["decision_share"],
            "nll": negative_log_likelihood(scaled, labels),
            "ece": expected_calibration_error(scaled.softmax(-1), labels),
            "ece_unscaled": expected_calibration_error(logits.softmax(-1), labels),
        }

    def confidence_interval(
        self, results: Sequence[ClassifyResult], groups: Sequence[str | None]
    ) -> tuple[float, float]:
        """The 95 % interval of the accuracy, resampled by group."""
        logits, labels = logits_and_labels(results)
        return ratio_interval(logits.argmax(-1) == labels, None, groups)

    @torch.no_grad()
    def stream(
        self, output: CoreOutput, memory: StreamMemory | None = None, *, lag: int, smooth: int
    ) -> tuple[StreamMemory, OnlineLabels]:
        """Each look gets its label at once: that of the mean of the step logits over the last `smooth` looks."""
        logits = self.step_logits(output)
        steps, classes = logits.shape[1:]
        if memory is None:
            zero = torch.zeros((1, 1), dtype=torch.float64, device=logits.device)  # float32 cannot count for weeks
            sums = ClassifyMemory(
                zero.expand(1, classes), zero, zero - torch.inf, zero.expand(1, self.feature_size), zero
            )
            recent, num_recent = logits.new_zeros((1, smooth, classes)), zero[0].long()
        else:
            sums = ClassifyMemory(*(memory[field] for field in ClassifyMemory._fields))
            recent, num_recent = memory["recent_logits"], memory["num_recent"]
        joined = torch.cat([recent, logits], dim=1)
        counts = (num_recent + torch.arange(1, steps + 1, device=logits.device)).clamp(max=smooth)
        means = joined.unfold(1, smooth, 1)[0, 1:].sum(-1) / counts[:, None]  # (T, C)
        scores = self.confidence.scale(means).softmax(-1)
        window = {"recent_logits": joined[:, steps:], "num_recent": (num_recent + steps).clamp(max=smooth)}
        return {**self.observe(output, sums)._asdict(), **window}, OnlineLabels(scores.argmax(-1), scores)

    @torch.no_grad()
    def finish_stream(self, memory: StreamMemory, *, lag: int) -> tuple[OnlineLabels, Prediction | None]:
        """No look waits for a label. The prediction is that of the whole stream."""
        empty = memory["recent_logits"][0, :0]
        sums = ClassifyMemory(*(memory[field] for field in ClassifyMemory._fields))
        one = torch.ones_like(memory["recent_logits"][:, 0, :1])
        means = ClassifyMemory(  # in the usual precision, as the mean of one step
            (sums.logit_sum / sums.weight_sum).to(one.dtype),
            one,
            sums.max_score,
            (sums.feature_sum / sums.num_features).to(one.dtype),
            one,
        )
        return OnlineLabels(empty.argmax(-1), empty), self.answer(means)[0]

    def _needed_steps(self, output: CoreOutput) -> CoreOutput:
        """For the pool `last` the last valid step alone, so that the logits of the other steps need not be computed."""
        steps = output.steps
        if self.pool != "last" or steps.data.shape[1] < 2:
            return output
        lengths = map_lengths(steps.lengths, lambda n: n.clamp(max=1))
        return replace(output, steps=Padded(steps.last()[:, None], lengths))

    def _add(
        self, output: CoreOutput, logits: Tensor, memory: ClassifyMemory | None, features: Padded | None = None
    ) -> ClassifyMemory:
        """The memory after these steps."""
        if memory is None:
            zero = logits.new_zeros((logits.shape[0], 1))
            logit_sum, feature_sum = (logits.new_zeros((len(zero), n)) for n in (logits.shape[2], self.feature_size))
            memory = ClassifyMemory(logit_sum, zero, torch.full_like(zero, -torch.inf), feature_sum, zero)
        feature_sum, num_features = memory.feature_sum, memory.num_features
        if features is not None and self.feature_size:
            feature_sum = feature_sum + features.zeroed().data.to(feature_sum.dtype).sum(1)
            num_features = num_features + features.mask.sum(1, keepdim=True).to(num_features.dtype)
        return ClassifyMemory(*self._pool(output, logits, *memory[:3]), feature_sum, num_features)

    def _pool(
        self, output: CoreOutput, logits: Tensor, logit_sum: Tensor, weight_sum: Tensor, max_score: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The first three fields of the memory after these steps."""
        mask = output.steps.mask[:, :, None]
        if self.pool == "last":
            has_any = mask.any(dim=1)
            last = Padded(logits, output.steps.lengths).last()
            return torch.where(has_any, last, logit_sum), torch.where(has_any, 1.0, weight_sum), max_score
        if self.attention_score is None:
            new_sum = logit_sum + torch.where(mask, logits, 0.0).sum(1)
            return new_sum, weight_sum + mask.sum(1).to(weight_sum.dtype), max_score
        # (B, T, 1); the softmax over time is computed online, relative to the largest score so far
        scores = full_precision(self.attention_score(output.steps.zeroed().data))
        scores = torch.where(mask, scores, -torch.inf)
        new_max = torch.maximum(max_score, scores.amax(dim=1))
        finite_max = torch.where(new_max.isfinite(), new_max, 0.0)
        decay = torch.exp(max_score - finite_max)
        weights = torch.exp(scores - finite_max[:, None])
        return logit_sum * decay + (weights * logits).sum(1), weight_sum * decay + weights.sum(1), new_max
