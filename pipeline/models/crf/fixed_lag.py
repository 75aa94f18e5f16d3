"""Viterbi decoding with a fixed lag: labels during a sequence, a fixed number of steps behind its newest step.

In: the emissions of one window after another, and a memory. Out: labels that are final, and a memory of the same size.
Knows nothing of videos, seconds or names.

    memory = decoder.begin(batch)
    for window in windows:
        memory, labels = decoder.observe(memory, window)   # the labels that became final, in order
        guess = decoder.pending(memory)                    # the steps within the lag, as they look now
    rest = decoder.finish(memory)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.crf.crf import CRF
from pipeline.models.crf.viterbi import RENORMALISE_EVERY, Lattice, renormalise
from pipeline.padded import Padded


class ViterbiMemory(NamedTuple):
    """What the decoder keeps between windows. Batch first, so that rows can be selected, reset and concatenated.

    scores: (B, M, C), Viterbi's scores of the newest step, M = min_steps (see `viterbi.Lattice`).
    paths: (B, lag + 1, M, C) int64, the labels of the last lag + 1 steps on the best path into each state; the newest
    step is the last.
    segment: (B, 2) int64, the label that was committed last, and for how many steps it has lasted, counted up to the
    minimum; 0 steps before the first label.
    num_steps: (B,) int64 on the CPU, steps so far.
    """

    scores: Tensor
    paths: Tensor
    segment: Tensor
    num_steps: Tensor


class FixedLagViterbi:
    """After step t, commit the label of step t - lag: the one on the best path so far. It never changes again.

    Under constraints or a minimum duration it takes the best path among those whose label may follow the committed one.
    If there is none, the committed label continues. So the committed labels obey the constraints and the minimum,
    except that the last segment of a stream can be short. All paths stay in the lattice. Dropping those that
    contradict a committed label would be simpler, and was measured to keep wrong labels for long.

    With a lag of the whole length the labels equal Viterbi's. The way a sequence is cut into windows changes no bit.
    The memory does not grow.

    Args:
        crf: the field. lag: in steps, at least 0.

    Raises ValueError for a lag below 0.
    """

    def __init__(self, crf: CRF, lag: int) -> None:
        if lag < 0:
            raise ValueError(f"The lag is {lag} steps. It must be 0 (decide at once) or more. Give such a lag.")
        self.crf, self.lag = crf, lag

    def begin(self, batch: int) -> ViterbiMemory:
        """The memory before the first step, on the device of the field's weights."""
        weights, durations = self.crf.transitions, self.crf.min_steps
        shape = (batch, durations, self.crf.num_labels)
        dtype = self.crf.compute_dtype(weights.dtype)
        scores = torch.zeros(shape, dtype=dtype, device=weights.device)
        paths = torch.zeros((batch, self.lag + 1, *shape[1:]), dtype=torch.int64, device=weights.device)
        segment = torch.zeros((batch, 2), dtype=torch.int64, device=weights.device)
        return ViterbiMemory(scores, paths, segment, torch.zeros(batch, dtype=torch.int64))

    @torch.no_grad()
    def observe(self, memory: ViterbiMemory, emissions: Padded) -> tuple[ViterbiMemory, Padded]:
        """Process a window of any size, with rows of any length. emissions: (B, T, C).

        Returns the memory and the labels that became final, (B, at most T) int64. For a row that had n steps before and
        has m now these are the labels of the steps from max(0, n - lag) to max(0, m - lag), without the last.
        """
        lattice = self.crf.lattice(memory.scores.dtype)
        lengths, before = emissions.lengths, memory.num_steps
        data = emissions.zeroed().data.to(memory.scores.dtype)
        labels = torch.zeros(data.shape[:2], dtype=torch.int64, device=data.device)
        for t, emission in enumerate(data.unsqueeze(2).unbind(1)):
            is_valid = lengths > t
            if not is_valid.any():
                break
            new, labels[:, t] = self._step(lattice, memory, emission)
            memory = ViterbiMemory(*(_where_row(is_valid, n, m) for n, m in zip(new, memory, strict=True)))
        count = (memory.num_steps - self.lag).clamp(min=0) - (before - self.lag).clamp(min=0)
        return memory, _slices(labels, (self.lag - before).clamp(min=0), count)

    def pending(self, memory: ViterbiMemory) -> Padded:
        """The labels of the steps that are not final yet, on the best path so far: (B, lag) int64."""
        return self._best_pending(memory, memory.scores)

    @torch.no_grad()
    def finish(self, memory: ViterbiMemory) -> Padded:
        """The labels of the pending steps at the end of the sequence, under the same constraints: (B, lag) int64."""
        scores = self.crf.lattice(memory.scores.dtype).final(memory.scores, memory.num_steps)
        best, segment, labels = self._best_pending(memory, scores), memory.segment, []
        if not self._is_constrained:
            return best
        for t in range(1, self.lag + 1):
            label, new_segment = self._commit(scores, memory.paths[:, t], segment)
            segment = _where_row(memory.num_steps > self.lag - t, new_segment, segment)
            labels.append(label)
        if not labels:
            return best
        committed = _slices(torch.stack(labels, dim=1), self.lag - best.lengths, best.lengths)
        return Padded(_where_row(memory.num_steps > self.lag, committed.data, best.data), best.lengths)

    @property
    def _is_constrained(self) -> bool:
        """Whether a committed label limits the labels that may follow."""
        return self.crf.min_steps > 1 or self.crf.allowed is not None

    def _step(self, lattice: Lattice, memory: ViterbiMemory, emissions: Tensor) -> tuple[ViterbiMemory, Tensor]:
        """emissions: (B, 1, C). The new memory, and (B,) the label of step t - lag."""
        scores, paths, segment, num_steps = memory
        is_first = num_steps == 0
        new = lattice.step(scores, emissions)
        if is_first.any():
            new = _where_row(is_first, lattice.first(emissions), new)
        is_due = num_steps % RENORMALISE_EVERY == 0
        if is_due.any():
            new = _where_row(is_due, renormalise(new), new)
        backpointers = lattice.backpointers(scores)[:, None].flatten(2).expand(-1, self.lag, -1)
        older = paths[:, 1:].flatten(2).gather(2, backpointers).reshape(paths[:, 1:].shape)
        newest = torch.arange(new.shape[2], device=new.device).expand(new.shape)
        paths = torch.cat([older, newest[:, None]], dim=1)
        label, new_segment = self._commit(new, paths[:, 0], segment)
        segment = _where_row(num_steps >= self.lag, new_segment, segment)
        return ViterbiMemory(new, paths, segment, num_steps + 1), label

    def _commit(self, scores: Tensor, labels: Tensor, segment: Tensor) -> tuple[Tensor, Tensor]:
        """The label of one step and the segment with it. labels: (B, M, C), that step's label on the path into each
        state. Returns (B,) and (B, 2).
        """
        flat, labels, (last, duration) = scores.flatten(1), labels.flatten(1), segment.unbind(1)
        min_steps = self.crf.min_steps
        if self._is_constrained:
            is_same = torch.arange(self.crf.num_labels, device=segment.device) == last[:, None]
            is_allowed = is_same | (duration >= min_steps)[:, None]
            if self.crf.allowed is not None:
                is_allowed = is_allowed & self.crf.allowed[last]
            is_allowed = (is_allowed | (duration == 0)[:, None]).gather(1, labels)
            flat = flat.masked_fill(~is_allowed, -torch.inf)
        best = flat.max(dim=1)
        label = labels.gather(1, best.indices[:, None])[:, 0]
        label = torch.where(best.values.isneginf(), last, label)
        duration = torch.where((label == last) & (duration > 0), (duration + 1).clamp(max=min_steps), 1)
        return label, torch.stack([label, duration], dim=1)

    def _best_pending(self, memory: ViterbiMemory, scores: Tensor) -> Padded:
        """The labels of the pending steps on the path into the best state."""
        best = scores.flatten(1).argmax(dim=1)
        paths = memory.paths.flatten(2)
        labels = paths.gather(2, best[:, None, None].expand(-1, paths.shape[1], 1))[:, 1:, 0]
        count = memory.num_steps.clamp(max=self.lag)
        return _slices(labels, self.lag - count, count)


def _where_row(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """torch.where over whole rows. rows: (B,) bool on the CPU."""
    if rows.all():
        return yes
    if not rows.any():
        return no
    return torch.where(rows.to(yes.device).reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def _slices(values: Tensor, first: Tensor, count: Tensor) -> Padded:
    """`count` values of each row of (B, T), from the index `first` on. first, count: (B,) on the CPU."""
    index = first[:, None] + torch.arange(values.shape[1])
    index = index.clamp(max=max(0, values.shape[1] - 1)).to(values.device)
    return Padded(values.gather(1, index), count).zeroed()
