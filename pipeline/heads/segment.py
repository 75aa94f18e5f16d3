"""What happens when: one label a step, made one sequence by a linear-chain CRF.

In: what the core has seen (B, T, H). Out: emissions, a path and, as an answer, spans in seconds with confidences.
Knows nothing of videos or files.
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
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.tags import WATCHED, Scheme, cut, legal, tags_of
from pipeline.metrics.bootstrap import ratio_interval
from pipeline.metrics.segmentation import f1_counts, frame_counts, online_per_frame_map, segmentation
from pipeline.metrics.sequence import span_f1
from pipeline.models import fixed_lag, lagged_marginals
from pipeline.models.crf import Crf
from pipeline.models.fixed_lag import FixedLag
from pipeline.models.head import Decided, Following
from pipeline.models.lagged_marginals import LaggedMarginals
from pipeline.models.prediction import Prediction, Timeline
from pipeline.models.seen import Seen
from pipeline.padded import Padded, joined, stack

Memory = tuple[Padded, ...]
"""The emissions (B, T, C) of every window so far."""


@dataclass(frozen=True)
class Evidence:
    """One sample's labels, each (T,): the truth, the best path of the whole, the likeliest label of each step alone, and
    the path a stream would have settled on with its lag (None for a core that cannot stream); probabilities (T, C).
    """

    truth: np.ndarray
    path: np.ndarray
    alone: np.ndarray
    lagged: np.ndarray | None
    probabilities: np.ndarray


class Segment(nn.Module):
    """A linear layer on every step and, by config, a CRF on top (Lafferty et al. 2001; for BiLSTM-CRF Huang et al. 2015).

    rate: steps a second. background: the name of what lies between spans, or None where spans tile a video: a step in no
    span then belongs to the nearest one. crf: without it each step is judged alone. minimum_steps: no shorter segment is
    answered. lag_steps: a stream settles a step's label once so many more were seen. delay_steps: a label is read from the
    output so many steps later (Graves & Schmidhuber 2005), so that a core that reads one way has seen what follows; a stream
    waits for it, and what is left of its lag is the CRF's. step_loss: weight of each step's
    cross-entropy beside the CRF's negative log-likelihood a step. scheme: see `tags.Scheme`; under iob2
    the CRF allows no path that is against it.
    """

    opponent: nn.Module | None
    stepwise = True

    def __init__(
        self,
        *,
        name: str,
        input_size: int,
        vocabulary: Vocabulary,
        rate: float,
        background: str | None = "background",
        crf: bool = True,
        minimum_steps: int = 1,
        lag_steps: int | None = 0,
        delay_steps: int = 0,
        dropout: float = 0.0,
        step_loss: float = 0.5,
        scheme: Scheme = "plain",
    ) -> None:
        super().__init__()
        self.opponent = None
        self.scheme: Scheme = scheme
        self.watched = WATCHED[scheme]
        self.name, self.vocabulary, self.rate, self.background = name, vocabulary, rate, background
        self.lag_steps, self.delay_steps, self.step_loss = lag_steps, delay_steps, step_loss
        self.dropout = nn.Dropout(dropout)
        self.emit = nn.Linear(input_size, len(vocabulary))
        allowed, first = legal(vocabulary.names) if scheme == "iob2" else (None, None)
        self.crf = (
            Crf(len(vocabulary), minimum_steps=minimum_steps, allowed=allowed, allowed_start=first) if crf else None
        )

    def target(self, row: Row, times: np.ndarray) -> Tensor | None:
        """The label of every look (T,) int64: of the span that holds it, start included."""
        if not row.spans:
            if row.text is None or self.background is None:
                return None
            return torch.full((len(times),), self.vocabulary.index(self.background))
        starts, ends = np.array([s.start for s in row.spans]), np.array([s.end for s in row.spans])
        tags = [[self.vocabulary.index(tag) for tag in tags_of(s, self.scheme)] for s in row.spans]
        labels = np.array([inner for *_, inner in tags])
        at = np.searchsorted(starts, times + 1e-9, side="right") - 1
        inside = (at >= 0) & (times < ends[at])
        if self.background is not None:
            found = np.where(inside, labels[at], self.vocabulary.index(self.background))
        else:
            after = np.minimum(at + 1, len(starts) - 1)
            is_nearer = (at < 0) | (np.abs(starts[after] - times) < np.abs(times - ends[at]))
            found = np.where(inside | ~is_nearer, labels[at], labels[after])
        if self.scheme == "iob2":
            found = found.copy()
            begins = np.searchsorted(times, starts - 1e-9)
            known = (begins < len(times)) & inside[np.minimum(begins, len(times) - 1)]
            found[begins[known]] = np.array([first for first, *_ in tags])[known]
        return torch.from_numpy(found.astype(np.int64))

    def emissions(self, steps: Padded) -> Padded:
        """(B, T, H) -> (B, T, C): how well each label fits each step, before the neighbours are asked."""
        return self._placed(self._outputs(steps))

    def _outputs(self, steps: Padded) -> Padded:
        """(B, T, C), each at the step where it comes out."""
        return steps.zeroed().map(lambda d: self.emit(self.dropout(d)))

    @torch.no_grad()
    def runs(self, steps: Padded) -> list[list[tuple[int, int]]]:
        """Of each row (B, T, H) the first step of every span and the one behind its last, in order; background left out."""
        return [self.runs_of(path) for path in self.path(self.emissions(steps)).unpad()]

    def runs_of(self, labels: Tensor) -> list[tuple[int, int]]:
        """The same of labels (T,)."""
        names = [self.vocabulary.names[i] for i in labels.tolist()]
        return [(start, stop) for _, start, stop in cut(names, self.scheme, self.background)]

    def _placed(self, outputs: Padded) -> Padded:
        """Each at the step that it is about: `delay_steps` earlier; about the last steps the last output speaks."""
        if not self.delay_steps:
            return outputs
        last = (outputs.lengths - 1).clamp(min=0)[:, None].to(outputs.data.device)
        at = torch.arange(outputs.data.shape[1], device=last.device)[None] + self.delay_steps
        at = torch.minimum(at, last)[:, :, None].expand(-1, -1, outputs.data.shape[2])
        return outputs.map(lambda d: d.gather(1, at)).zeroed()

    def loss(self, seen: Seen, batch: Batch, player: str) -> dict[str, Tensor]:
        """The CRF's negative log-likelihood a step and `step_loss` times the steps' own cross-entropy."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        emissions = self.emissions(seen.steps)
        mask = emissions.mask
        labels = target.zeroed().data
        every = F.cross_entropy(emissions.data.transpose(1, 2).float(), labels, reduction="none")
        steps = torch.where(mask, every, 0.0).sum() / mask.sum().clamp(min=1)
        if self.crf is None:
            return {self.name: steps}
        likelihood = self.crf.log_likelihood(emissions, labels).sum() / mask.sum().clamp(min=1)
        return {self.name: -likelihood} | ({f"{self.name}_steps": self.step_loss * steps} if self.step_loss else {})

    def observe(self, seen: Seen, memory: Memory | None = None) -> Memory:
        """Keep these steps' emissions: a few numbers a second, so that the answer is that of the whole."""
        return (*(memory or ()), self._outputs(seen.steps))

    @torch.no_grad()
    def answer(self, memory: Memory) -> list[Prediction]:
        """The spans of every row, background left out."""
        emissions = self._placed(joined(memory))
        probabilities = self.probabilities(emissions).float().cpu().numpy()
        return [
            Timeline(self.spans(path.cpu().numpy(), p))
            for path, p in zip(self.path(emissions).unpad(), probabilities, strict=True)
        ]

    def path(self, emissions: Padded) -> Padded:
        """The best labels (B, T) int64: Viterbi's with a CRF, else the best of each step."""
        return emissions.map(lambda d: d.argmax(-1)) if self.crf is None else self.crf.decode(emissions)

    def probabilities(self, emissions: Padded) -> Tensor:
        """(B, T, C): marginals of the CRF, or the softmax of each step."""
        return emissions.data.softmax(-1) if self.crf is None else self.crf.marginals(emissions)

    def lagged(self, emissions: Padded) -> Padded:
        """The labels (B, T) that a stream settles on, `lag_steps` behind."""
        if self.crf is None:
            return self.path(emissions)
        decoder = FixedLag(self.crf, self._crf_lag(self.lag_steps or 0))
        memory, settled = decoder.observe(decoder.begin(len(emissions.lengths)), emissions)
        rest = decoder.finish(memory).unpad()
        return stack([torch.cat(both) for both in zip(settled.unpad(), rest, strict=True)])

    def _crf_lag(self, lag: int) -> int:
        """What the delay leaves of a lag."""
        assert lag >= self.delay_steps, "a stream and the config have looked at that"
        return lag - self.delay_steps

    @torch.no_grad()
    def follow(
        self, seen: Seen, memory: Following | None = None, *, lag: int, smooth: int
    ) -> tuple[Following, Decided]:
        """A label is settled when `lag` more steps were seen: Viterbi's with a fixed lag, and its posterior then. Without a
        CRF each step is judged alone, as soon as its delay is over.
        """
        outputs = self._outputs(seen.steps).data
        memory = memory or self._nothing(self._crf_lag(lag))
        skipped = int(memory["skipped"])
        skip = min(self.delay_steps - skipped, outputs.shape[1])
        kept = {"skipped": memory["skipped"] + skip, "last": outputs[:, -1:] if outputs.shape[1] else memory["last"]}
        path, decided = self._settle(outputs[:, skip:], memory, self._crf_lag(lag))
        return {**kept, **path}, decided

    def conclude(self, memory: Following, *, lag: int) -> tuple[Decided, Prediction | None]:
        """The labels within the lag. There is no answer about the whole: it would take all emissions."""
        lag = self._crf_lag(lag)
        again = memory["last"].expand(-1, int(memory["skipped"]), -1)
        path, decided = self._settle(again, memory, lag)
        if self.crf is None:
            return decided, None
        labels, posteriors = _unpacked(path)
        rest = FixedLag(self.crf, lag).finish(labels).unpad()[0]
        last = self._decided(rest, LaggedMarginals(self.crf, lag).finish(posteriors)[0])
        return Decided(*(torch.cat(both) for both in zip(decided, last, strict=True))), None

    def _nothing(self, lag: int) -> Following:
        """The memory before the first step of a stream."""
        none = self.emit.weight.new_zeros((1, 1, len(self.vocabulary)))
        begun = _packed(FixedLag(self.crf, lag).begin(1), LaggedMarginals(self.crf, lag).begin(1)) if self.crf else {}
        return {"skipped": torch.zeros(1, dtype=torch.int64), "last": none, **begun}

    def _settle(self, emissions: Tensor, memory: Following, lag: int) -> tuple[Following, Decided]:
        """Go on with emissions (1, T, C) that are where they belong."""
        if self.crf is None:
            return {}, self._decided(emissions[0].argmax(-1), emissions[0].softmax(-1))
        path, sure = _unpacked(memory)
        lengths = torch.tensor([emissions.shape[1]])
        path, settled = FixedLag(self.crf, lag).observe(path, Padded(emissions, lengths))
        sure, scores = LaggedMarginals(self.crf, lag).observe(sure, emissions)
        return _packed(path, sure), self._decided(settled.unpad()[0], scores[0])

    def _decided(self, labels: Tensor, scores: Tensor) -> Decided:
        """With background as nothing."""
        if self.background is not None:
            labels = torch.where(labels == self.vocabulary.index(self.background), -1, labels)
        return Decided(labels, scores)

    def spans(self, path: np.ndarray, probabilities: np.ndarray) -> tuple[tuple[float, float, str, float], ...]:
        """Labels (T,) and probabilities (T, C) as (start, end, label, score) in seconds."""
        names = self.vocabulary.names
        sure = probabilities[np.arange(len(path)), path]
        return tuple(
            (start / self.rate, stop / self.rate, label, float(sure[start:stop].mean()))
            for label, start, stop in cut([names[i] for i in path.tolist()], self.scheme, self.background)
        )

    @torch.no_grad()
    def evidence(self, seen: Seen, batch: Batch) -> list[Evidence]:
        """Truth and paths of each sample."""
        target = batch.target(self.name)
        assert isinstance(target, Padded)
        emissions = self.emissions(seen.steps)
        empty = [None] * len(target.lengths)
        lagged = self.lagged(emissions).unpad() if self.lag_steps is not None else empty
        parts = zip(
            target.unpad(),
            self.path(emissions).unpad(),
            Padded(emissions.data.argmax(-1), emissions.lengths).unpad(),
            lagged,
            Padded(self.probabilities(emissions), emissions.lengths).unpad(),
            strict=True,
        )
        return [Evidence(*(None if p is None else p.cpu().numpy() for p in one)) for one in parts]  # type: ignore[arg-type]

    def metrics(self, evidence: Sequence[Evidence]) -> dict[str, Any]:
        """Frame accuracy, edit and F1 of the path; the same of the steps alone (`argmax_...`) and of a stream (`lag_...`);
        mean average precision a frame. Background counts nowhere but in the frame accuracy's name: see "background".
        """
        background = None if self.background is None else self.vocabulary.index(self.background)
        truths = [e.truth for e in evidence]
        found = segmentation([e.path for e in evidence], truths, background=background)
        others = {"argmax": [e.alone for e in evidence]}
        if self.lag_steps is not None:
            others["lag"] = [e.lagged for e in evidence if e.lagged is not None]
        for prefix, paths in others.items():
            more = segmentation(paths, truths, background=background)
            found |= {f"{prefix}_{k}": v for k, v in more.items() if isinstance(v, float)}
        found["per_frame_map"] = online_per_frame_map([e.probabilities for e in evidence], truths, background)[
            "per_frame_map"
        ]
        if self.scheme == "iob2":
            for prefix in ("", "argmax_"):
                found[f"{prefix}span_f1"] = span_f1(*self._tags(evidence, is_path=not prefix))["f1"]
        return {**found, "count": len(evidence)}

    def interval(self, evidence: Sequence[Evidence], groups: Sequence[str | None]) -> tuple[float, float]:
        """The 95 % interval of what it is watched by, drawn by groups."""
        background = None if self.background is None else self.vocabulary.index(self.background)
        if self.scheme == "each":
            right, judged = zip(*(frame_counts(e.path, e.truth, background) for e in evidence), strict=True)
            return ratio_interval(right, judged, groups)
        if self.scheme == "iob2":
            both = [[set(cut(t, "iob2", None)) for t in pair] for pair in zip(*self._tags(evidence), strict=True)]
            return ratio_interval([2 * len(a & b) for a, b in both], [len(a) + len(b) for a, b in both], groups)
        counts = np.array([f1_counts(e.path, e.truth, 0.50, background) for e in evidence], dtype=np.float64)
        return ratio_interval(2 * counts[:, 0], 2 * counts[:, 0] + counts[:, 1] + counts[:, 2], groups)

    def _tags(self, evidence: Sequence[Evidence], is_path: bool = True) -> tuple[list[list[str]], list[list[str]]]:
        """The labels that were said and the true ones, by name."""
        names = self.vocabulary.names
        said = [e.path if is_path else e.alone for e in evidence]
        return [[names[i] for i in p.tolist()] for p in said], [[names[i] for i in e.truth.tolist()] for e in evidence]


def _packed(path: fixed_lag.Memory, sure: lagged_marginals.Memory) -> Following:
    parts = {"path": path._asdict(), "sure": sure._asdict()}
    return {f"{part}_{key}": value for part, values in parts.items() for key, value in values.items()}


def _unpacked(memory: Following) -> tuple[fixed_lag.Memory, lagged_marginals.Memory]:
    on_cpu = {k: v.cpu() if k.endswith("_seen") else v for k, v in memory.items()}
    return (
        fixed_lag.Memory(*(on_cpu[f"path_{k}"] for k in fixed_lag.Memory._fields)),
        lagged_marginals.Memory(*(on_cpu[f"sure_{k}"] for k in lagged_marginals.Memory._fields)),
    )
