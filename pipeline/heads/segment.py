"""A head that segments a sequence: one label for each step, by a linear-chain CRF.

In: the output of the core (B, T, H). Out: emissions, a label sequence and, as the prediction, spans in seconds with
scores. Knows nothing of videos or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.online_crf import OnlineCRF
from pipeline.heads.tag_schemes import MONITORS, Scheme, allowed_transitions, labels_to_spans
from pipeline.heads.targets import StepLabelTarget
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.segmentation import f1_counts, frame_counts, online_per_frame_map, segmentation
from pipeline.metrics.sequence import span_f1
from pipeline.models.core_output import CoreOutput
from pipeline.models.crf.crf import CRF
from pipeline.models.crf.fixed_lag import FixedLagViterbi
from pipeline.models.head import OnlineLabels, StreamMemory
from pipeline.models.prediction import Prediction, ScoredSpans, Timeline
from pipeline.models.process_mean import mean_over_processes
from pipeline.padded import Padded, concat_windows, stack

SegmentMemory = tuple[Padded, ...]
"""The emissions (B, T, C) of every window so far, before the delay is taken into account."""


@dataclass(frozen=True)
class SegmentResult:
    """Labels of the steps of one sample, each (T,), and probabilities (T, C).

    target: the truth. path: the best path of the whole sequence. argmax: the most probable label of each step. lagged:
    the labels that a stream with `lag_steps` would give; None where they were not asked for, or the core cannot stream.
    """

    target: np.ndarray
    path: np.ndarray
    argmax: np.ndarray
    lagged: np.ndarray | None
    probabilities: np.ndarray


class Segment(nn.Module):
    """A linear layer on every step and, by config, a CRF over the steps (Lafferty et al. 2001; BiLSTM-CRF: Huang et al.
    2015).

    rate: steps a second.
    background: the label of steps outside all spans. None where spans tile a video: a step outside all spans then gets
    the label of the nearest one.
    crf: false: each step is labelled independently.
    min_steps: the least length of a predicted segment.
    lag_steps: how many later steps a stream waits for before it labels a step; None for a core that cannot stream.
    delay_steps: a label is read from the output so many steps later (Graves & Schmidhuber 2005), so that a causal core
    has processed the following steps. A stream waits for them; the CRF gets the rest of the lag.
    step_loss_weight: the weight of the steps' cross-entropy beside the CRF's negative log-likelihood a step.
    scheme: see `tag_schemes.Scheme`. Under iob2 the CRF allows no path that breaks its rules.
    """

    opponent: nn.Module | None
    is_per_step = True

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        vocabulary: Vocabulary,
        rate: float,
        background: str | None = "background",
        crf: bool = True,
        min_steps: int = 1,
        lag_steps: int | None = 0,
        delay_steps: int = 0,
        dropout: float = 0.0,
        step_loss_weight: float = 0.5,
        scheme: Scheme = "plain",
    ) -> None:
        super().__init__()
        self.opponent = None
        self.target = StepLabelTarget(vocabulary, background, scheme)
        self.scheme: Scheme = scheme
        self.monitor = MONITORS[scheme]
        self.name, self.vocabulary, self.rate, self.background = name, vocabulary, rate, background
        self.lag_steps, self.delay_steps, self.step_loss_weight = lag_steps, delay_steps, step_loss_weight
        self.dropout = nn.Dropout(dropout)
        self.emission = nn.Linear(input_size, len(vocabulary))
        allowed, first = allowed_transitions(vocabulary.names) if scheme == "iob2" else (None, None)
        self.crf = CRF(len(vocabulary), min_steps=min_steps, allowed=allowed, allowed_start=first) if crf else None

    @property
    def _background_index(self) -> int | None:
        return None if self.background is None else self.vocabulary.index(self.background)

    def emissions(self, steps: Padded) -> Padded:
        """(B, T, H) -> (B, T, C): the score of each label at each step."""
        return self._undelayed(self._delayed_emissions(steps))

    def _delayed_emissions(self, steps: Padded) -> Padded:
        """(B, T, C): each stands at the step whose output it is read from, `delay_steps` after its own."""
        return steps.zeroed().map(lambda d: self.emission(self.dropout(d)))

    def _undelayed(self, emissions: Padded) -> Padded:
        """The same, moved to their own steps. The last steps of a row all get its last emission."""
        if not self.delay_steps:
            return emissions
        last = (emissions.device_lengths - 1).clamp(min=0)[:, None]
        index = torch.arange(emissions.data.shape[1], device=last.device)[None] + self.delay_steps
        index = torch.minimum(index, last)[:, :, None].expand(-1, -1, emissions.data.shape[2])
        return emissions.map(lambda d: d.gather(1, index)).zeroed()

    @torch.no_grad()
    def runs(self, steps: Padded) -> list[list[tuple[int, int]]]:
        """For each row of (B, T, H) the predicted spans without background: (first step, step after the last)."""
        return [self.runs_of(path) for path in self.path(self.emissions(steps)).to("cpu").unpad()]

    def runs_of(self, labels: Tensor) -> list[tuple[int, int]]:
        """The same for given labels (T,)."""
        return [(start, stop) for _, start, stop in self._spans_of(labels.tolist())]

    def _spans_of(self, labels: Sequence[int]) -> list[tuple[str, int, int]]:
        names = [self.vocabulary.names[i] for i in labels]
        return labels_to_spans(names, self.scheme, self.background)

    def loss(self, output: CoreOutput, batch: Batch, player: str) -> dict[str, Tensor]:
        """The CRF's negative log-likelihood a step, and `step_loss_weight` times the cross-entropy of the steps."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        emissions = self.emissions(output.steps)
        mask = emissions.mask
        labels = target.zeroed().data
        losses = F.cross_entropy(emissions.data.transpose(1, 2).float(), labels, reduction="none")
        step_loss = mean_over_processes(torch.where(mask, losses, 0.0).sum(), mask.sum(), self.training)
        if self.crf is None:
            return {self.name: step_loss}
        log_likelihood = self.crf.log_likelihood(emissions, labels).sum()
        terms = {self.name: -mean_over_processes(log_likelihood, mask.sum(), self.training)}
        if self.step_loss_weight:
            terms[f"{self.name}_steps"] = self.step_loss_weight * step_loss
        return terms

    def observe(self, output: CoreOutput, memory: SegmentMemory | None = None) -> SegmentMemory:
        """Keep the emissions of these steps, so that the prediction is that of the whole sequence."""
        return (*(memory or ()), self._delayed_emissions(output.steps))

    @torch.no_grad()
    def answer(self, memory: SegmentMemory) -> list[Prediction]:
        """The spans of every row, without background."""
        emissions = self._undelayed(concat_windows(memory))
        probabilities = self.probabilities(emissions).float().cpu().numpy()
        paths = self.path(emissions).to("cpu").unpad()
        return [Timeline(self.spans(path.numpy(), row)) for path, row in zip(paths, probabilities, strict=True)]

    def path(self, emissions: Padded) -> Padded:
        """The best labels (B, T) int64: the Viterbi path with a CRF, else the most probable label of each step."""
        return emissions.map(lambda d: d.argmax(-1)) if self.crf is None else self.crf.decode(emissions)

    def probabilities(self, emissions: Padded) -> Tensor:
        """(B, T, C): the marginals of the CRF, or the softmax of each step."""
        return emissions.data.softmax(-1) if self.crf is None else self.crf.marginals(emissions)

    def lagged(self, emissions: Padded) -> Padded:
        """The labels (B, T) that a stream with a lag of `lag_steps` gives."""
        if self.crf is None:
            return self.path(emissions)
        decoder = FixedLagViterbi(self.crf, self._crf_lag(self.lag_steps or 0))
        memory, labels = decoder.observe(decoder.begin(len(emissions.lengths)), emissions)
        rest = decoder.finish(memory)
        return stack([torch.cat(parts) for parts in zip(labels.unpad(), rest.unpad(), strict=True)])

    def _crf_lag(self, lag: int) -> int:
        """The part of a lag that is left for the CRF after the delay."""
        assert lag >= self.delay_steps, "checked by the stream and by the config"
        return lag - self.delay_steps

    @torch.no_grad()
    def stream(
        self, output: CoreOutput, memory: StreamMemory | None = None, *, lag: int, smooth: int
    ) -> tuple[StreamMemory, OnlineLabels]:
        """A look gets its label `lag` looks later, by fixed-lag Viterbi, with its posterior at that time. Without a CRF
        each look is labelled independently, as soon as its delay is over.
        """
        emissions = self._delayed_emissions(output.steps).data
        if not memory:
            empty = self.emission.weight.new_zeros((1, 1, len(self.vocabulary)))
            memory = {"num_skipped": torch.zeros(1, dtype=torch.int64), "last_emission": empty}
            memory |= OnlineCRF(self.crf, self._crf_lag(lag)).begin() if self.crf else {}
        skip = min(self.delay_steps - int(memory["num_skipped"]), emissions.shape[1])  # emissions before the first look
        position = {
            "num_skipped": memory["num_skipped"] + skip,
            "last_emission": emissions[:, -1:] if emissions.shape[1] else memory["last_emission"],
        }
        crf_memory, labels = self._label(emissions[:, skip:], memory, lag)
        return {**position, **crf_memory}, labels

    def finish_stream(self, memory: StreamMemory, *, lag: int) -> tuple[OnlineLabels, Prediction | None]:
        """The labels of the looks within the lag. A prediction for the whole stream would need all emissions: None."""
        last = memory["last_emission"].expand(-1, int(memory["num_skipped"]), -1)
        crf_memory, labels = self._label(last, memory, lag)
        if self.crf is None:
            return labels, None
        rest = self._online_labels(*OnlineCRF(self.crf, self._crf_lag(lag)).finish(crf_memory))
        return OnlineLabels(*(torch.cat(parts) for parts in zip(labels, rest, strict=True))), None

    def _label(self, emissions: Tensor, memory: StreamMemory, lag: int) -> tuple[StreamMemory, OnlineLabels]:
        """The memory of the CRF and the new labels after emissions (1, T, C) without delay."""
        if self.crf is None:
            return {}, self._online_labels(emissions[0].argmax(-1), emissions[0].softmax(-1))
        memory, labels, posteriors = OnlineCRF(self.crf, self._crf_lag(lag)).observe(memory, emissions)
        return memory, self._online_labels(labels, posteriors)

    def _online_labels(self, labels: Tensor, scores: Tensor) -> OnlineLabels:
        """With -1 for the background."""
        if self.background is not None:
            labels = torch.where(labels == self._background_index, -1, labels)
        return OnlineLabels(labels, scores)

    def spans(self, path: np.ndarray, probabilities: np.ndarray) -> ScoredSpans:
        """Labels (T,) and probabilities (T, C) -> spans in seconds, each with the mean probability of its label."""
        scores = probabilities[np.arange(len(path)), path]
        return tuple(
            (start / self.rate, stop / self.rate, label, float(scores[start:stop].mean()))
            for label, start, stop in self._spans_of(path.tolist())
        )

    @torch.no_grad()
    def results(self, output: CoreOutput, batch: Batch) -> list[SegmentResult]:
        """Target and predicted labels of each sample."""
        return self._results(output, batch, with_stream=False)

    @torch.no_grad()
    def results_with_stream(self, output: CoreOutput, batch: Batch) -> list[SegmentResult]:
        """The same with the labels of a stream, by fixed-lag Viterbi, where the core can stream."""
        return self._results(output, batch, with_stream=self.lag_steps is not None)

    def _results(self, output: CoreOutput, batch: Batch, *, with_stream: bool) -> list[SegmentResult]:
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        emissions = self.emissions(output.steps)
        lagged = self.lagged(emissions).unpad() if with_stream else [None] * len(target.lengths)
        columns = (
            target.unpad(),
            self.path(emissions).unpad(),
            Padded(emissions.data.argmax(-1), emissions.lengths).unpad(),
            lagged,
            Padded(self.probabilities(emissions), emissions.lengths).unpad(),
        )
        return [
            SegmentResult(*(None if x is None else x.cpu().numpy() for x in row))  # type: ignore[arg-type]
            for row in zip(*columns, strict=True)
        ]

    def metrics(self, results: Sequence[SegmentResult]) -> dict[str, Any]:
        """Those of `metrics.segmentation` for the path; the same for the labels of single steps (`argmax_...`) and of a
        stream (`lag_...`), where the results have them; mean average precision of frames; under iob2 the F1 of spans.
        """
        background = self._background_index
        targets = [result.target for result in results]
        metrics = segmentation([result.path for result in results], targets, background=background)
        predictions = {"argmax": [result.argmax for result in results]}
        lagged = [result.lagged for result in results if result.lagged is not None]
        if lagged:
            predictions["lag"] = lagged
        for prefix, labels in predictions.items():
            values = segmentation(labels, targets, background=background)
            metrics |= {f"{prefix}_{name}": value for name, value in values.items() if isinstance(value, float)}
        probabilities = [result.probabilities for result in results]
        metrics["per_frame_map"] = online_per_frame_map(probabilities, targets, background)["per_frame_map"]
        if self.scheme == "iob2":
            names, paths = self._names(targets), [result.path for result in results]
            metrics["span_f1"] = span_f1(self._names(paths), names)["f1"]
            metrics["argmax_span_f1"] = span_f1(self._names(predictions["argmax"]), names)["f1"]
        return {**metrics, "count": len(results)}

    def confidence_interval(
        self, results: Sequence[SegmentResult], groups: Sequence[str | None]
    ) -> tuple[float, float]:
        """The 95 % interval of the `monitor` metric, resampled by group."""
        background = self._background_index
        if self.scheme == "each":
            counts = (frame_counts(result.path, result.target, background) for result in results)
            num_correct, num_steps = zip(*counts, strict=True)
            return ratio_interval(num_correct, num_steps, groups)
        if self.scheme == "iob2":
            names = (self._names([result.path, result.target]) for result in results)
            pairs = [[set(labels_to_spans(labels, "iob2", None)) for labels in pair] for pair in names]
            return ratio_interval([2 * len(a & b) for a, b in pairs], [len(a) + len(b) for a, b in pairs], groups)
        counts = [f1_counts(result.path, result.target, 0.50, background) for result in results]
        hits, extra, missed = np.array(counts, dtype=np.float64).reshape(-1, 3).T
        return ratio_interval(2 * hits, 2 * hits + extra + missed, groups)

    def _names(self, rows: Sequence[np.ndarray]) -> list[list[str]]:
        return [[self.vocabulary.names[i] for i in labels.tolist()] for labels in rows]
