"""Labels while a sequence goes on: Viterbi's algorithm with a fixed lag.

In: scores of labels at steps, window after window, and a memory. Out: labels that stand for good, a fixed number of steps
behind what was seen, and a new memory of the same size. Knows nothing of videos, seconds or names.

    memory = decoder.begin(batch)
    for window in windows:
        memory, labels = decoder.observe(memory, window)   # labels that are final now, in order
        guess = decoder.pending(memory)                    # the steps of the lag, as they look now
    rest = decoder.finish(memory)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.crf import Crf
from pipeline.models.viterbi import RENORMALISED_EVERY, Lattice, renormalised
from pipeline.padded import Padded


class Memory(NamedTuple):
    """scores: (B, A, C), the lattice now (A = minimum_steps). paths: (B, lag + 1, A, C) int64, the labels of the last
    steps (the present one last) on the best path into each state. run: (B, 2) int64, the last committed label and for how
    many steps it has stood, counted up to the minimum; 0 steps before the first. seen: (B,) int64 on the CPU, steps so far.
    Batch first, so that rows can be picked, reset and joined.
    """

    scores: Tensor
    paths: Tensor
    run: Tensor
    seen: Tensor


class FixedLag:
    """When step t was seen, the label of step t - lag is committed: that of the best path now. It is never revised.

    Under constraints or a minimum duration it is the best path among those whose label may follow what was committed; if
    there is none, the committed label stays. So the committed labels obey the rules for neighbours and the minimum, but
    for the last segment of a stream, which can be short. No evidence is dropped for that: dropping the paths that
    disagree with a committed label would be simpler, and was measured to hold on to wrong labels for long.

    With a lag of the whole length the labels equal Viterbi's. How a sequence is cut into windows changes nothing, to the
    last bit. The memory does not grow.

    Args:
        crf: the field. lag: in steps, at least 0. Raises ValueError below 0.
    """

    def __init__(self, crf: Crf, lag: int) -> None:
        if lag < 0:
            raise ValueError(f"The lag is {lag} steps. It must be 0 (decide at once) or more. Give a positive lag.")
        self.crf, self.lag = crf, lag

    def begin(self, batch: int) -> Memory:
        """Nothing seen, on the device of the field's weights."""
        weights, ages = self.crf.transitions, self.crf.minimum_steps
        shape = (batch, ages, self.crf.num_labels)
        dtype = self.crf.precision(weights.dtype)
        scores = torch.zeros(shape, dtype=dtype, device=weights.device)
        paths = torch.zeros((batch, self.lag + 1, *shape[1:]), dtype=torch.int64, device=weights.device)
        run = torch.zeros((batch, 2), dtype=torch.int64, device=weights.device)
        return Memory(scores, paths, run, torch.zeros(batch, dtype=torch.int64))

    @torch.no_grad()
    def observe(self, memory: Memory, emissions: Padded) -> tuple[Memory, Padded]:
        """emissions: (B, T, C), a window of any size, rows of any length. Returns the memory and the labels that became
        final, (B, at most T) int64: of row b the steps from max(0, seen - lag) before to max(0, seen - lag) now.
        """
        lattice = self.crf.lattice(memory.scores.dtype)
        lengths, before = emissions.lengths, memory.seen
        data = emissions.zeroed().data.to(memory.scores.dtype)
        raw = torch.zeros(data.shape[:2], dtype=torch.int64, device=data.device)
        for t, e in enumerate(data.unsqueeze(2).unbind(1)):
            is_on = lengths > t
            if not is_on.any():
                break
            new, raw[:, t] = self._step(lattice, memory, e)
            memory = Memory(*(_where(is_on, n, m) for n, m in zip(new, memory, strict=True)))
        done = (memory.seen - self.lag).clamp(min=0) - (before - self.lag).clamp(min=0)
        return memory, _cut(raw, (self.lag - before).clamp(min=0), done)

    def pending(self, memory: Memory) -> Padded:
        """The labels of the steps that are seen but not final, on the best path now: (B, lag) int64."""
        return self._rest(memory, memory.scores)

    @torch.no_grad()
    def finish(self, memory: Memory) -> Padded:
        """The labels of these steps when nothing comes any more, under the same rules: (B, lag) int64."""
        scores = self.crf.lattice(memory.scores.dtype).ended(memory.scores, memory.seen)
        plain, run, chosen = self._rest(memory, scores), memory.run, []
        if not self._is_ruled:
            return plain
        for t in range(1, self.lag + 1):
            label, new_run = self._commit(scores, memory.paths[:, t], run)
            run = _where(memory.seen > self.lag - t, new_run, run)
            chosen.append(label)
        if not chosen:
            return plain
        ruled = _cut(torch.stack(chosen, dim=1), self.lag - plain.lengths, plain.lengths)
        return Padded(_where(memory.seen > self.lag, ruled.data, plain.data), plain.lengths)

    @property
    def _is_ruled(self) -> bool:
        """Whether what was committed limits what may follow."""
        return self.crf.minimum_steps > 1 or self.crf.allowed is not None

    def _step(self, lattice: Lattice, memory: Memory, emissions: Tensor) -> tuple[Memory, Tensor]:
        """emissions: (B, 1, C). The new memory, and (B,) the label of step t - lag."""
        scores, paths, run, seen = memory
        is_first = seen == 0
        new = lattice.step(scores, emissions)
        if is_first.any():
            new = _where(is_first, lattice.first(emissions), new)
        is_due = seen % RENORMALISED_EVERY == 0
        if is_due.any():
            new = _where(is_due, renormalised(new), new)
        came_from = lattice.all_before(scores)[:, None].flatten(2).expand(-1, self.lag, -1)
        older = paths[:, 1:].flatten(2).gather(2, came_from).reshape(paths[:, 1:].shape)
        own = torch.arange(new.shape[2], device=new.device).expand(new.shape)
        paths = torch.cat([older, own[:, None]], dim=1)
        label, new_run = self._commit(new, paths[:, 0], run)
        return Memory(new, paths, _where(seen >= self.lag, new_run, run), seen + 1), label

    def _commit(self, scores: Tensor, labels: Tensor, run: Tensor) -> tuple[Tensor, Tensor]:
        """labels: (B, A, C), what the path into each state says about the step. Returns (B,) the one to commit, and the
        run with it.
        """
        flat, labels, (last, steps) = scores.flatten(1), labels.flatten(1), run.unbind(1)
        minimum = self.crf.minimum_steps
        if self._is_ruled:
            is_same = torch.arange(self.crf.num_labels, device=run.device) == last[:, None]
            may = is_same | (steps >= minimum)[:, None]
            if self.crf.allowed is not None:
                may = may & self.crf.allowed[last]
            may = (may | (steps == 0)[:, None]).gather(1, labels)
            flat = flat.masked_fill(~may, -torch.inf)
        peak = flat.max(dim=1)
        label = labels.gather(1, peak.indices[:, None])[:, 0]
        label = torch.where(peak.values.isneginf(), last, label)
        steps = torch.where((label == last) & (steps > 0), (steps + 1).clamp(max=minimum), 1)
        return label, torch.stack([label, steps], dim=1)

    def _rest(self, memory: Memory, scores: Tensor) -> Padded:
        best = scores.flatten(1).argmax(dim=1)
        paths = memory.paths.flatten(2)
        labels = paths.gather(2, best[:, None, None].expand(-1, paths.shape[1], 1))[:, 1:, 0]
        count = memory.seen.clamp(max=self.lag)
        return _cut(labels, self.lag - count, count)


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """rows: (B,) bool on the CPU."""
    if rows.all():
        return yes
    if not rows.any():
        return no
    return torch.where(rows.to(yes.device).reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def _cut(values: Tensor, first: Tensor, count: Tensor) -> Padded:
    """Of each row of (B, T) `count` values from `first` on; first, count: (B,) on the CPU."""
    at = first[:, None] + torch.arange(values.shape[1])
    at = at.clamp(max=max(0, values.shape[1] - 1)).to(values.device)
    return Padded(values.gather(1, at), count).zeroed()
