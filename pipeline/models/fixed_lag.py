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
    steps (the present one last) on the best path into each state. seen: (B,) int64 on the CPU, steps so far.
    Batch first, so that rows can be picked, reset and joined.
    """

    scores: Tensor
    paths: Tensor
    seen: Tensor


class FixedLag:
    """When step t was seen, the label of step t - lag is committed: that of the best path now. It is never revised.

    Paths that disagree with a committed label are dropped, so that all committed labels together are one path: it obeys
    the constraints and the minimum duration as `Crf.decode` does, but for the last segment of a stream, which can be
    short where the committed labels leave no other way. With a lag of the whole length the labels equal Viterbi's. How a
    sequence is cut into windows changes nothing, to the last bit. The memory does not grow.

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
        return Memory(scores, paths, torch.zeros(batch, dtype=torch.int64))

    @torch.no_grad()
    def observe(self, memory: Memory, emissions: Padded) -> tuple[Memory, Padded]:
        """emissions: (B, T, C), a window of any size, rows of any length. Returns the memory and the labels that became
        final, (B, at most T) int64: of row b the steps from max(0, seen - lag) before to max(0, seen - lag) now.
        """
        lattice = self.crf.lattice(memory.scores.dtype)
        scores, paths, seen = memory
        lengths = emissions.lengths
        data = emissions.zeroed().data.to(scores.dtype)
        raw = torch.zeros(data.shape[:2], dtype=torch.int64, device=data.device)
        for t, e in enumerate(data.unsqueeze(2).unbind(1)):
            is_on = lengths > t
            if not is_on.any():
                break
            new_scores, new_paths, raw[:, t] = self._step(lattice, Memory(scores, paths, seen), e)
            scores = _where(is_on, new_scores, scores)
            paths = _where(is_on, new_paths, paths)
            seen = seen + is_on
        done = (seen - self.lag).clamp(min=0) - (memory.seen - self.lag).clamp(min=0)
        first = (self.lag - memory.seen).clamp(min=0)
        return Memory(scores, paths, seen), _cut(raw, first, done)

    def pending(self, memory: Memory) -> Padded:
        """The labels of the steps that are seen but not final, as they look now: (B, lag) int64."""
        return self._rest(memory, memory.scores)

    @torch.no_grad()
    def finish(self, memory: Memory) -> Padded:
        """The labels of these steps when nothing comes any more: (B, lag) int64."""
        return self._rest(memory, self.crf.lattice(memory.scores.dtype).ended(memory.scores, memory.seen))

    def _step(self, lattice: Lattice, memory: Memory, emissions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """emissions: (B, 1, C). The new scores and paths, and (B,) the label of step t - lag."""
        scores, paths, seen = memory
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
        best = new.flatten(1).argmax(dim=1)
        label = paths[:, 0].flatten(1).gather(1, best[:, None])[:, 0]
        is_out = (seen >= self.lag).to(new.device)[:, None, None] & (paths[:, 0] != label[:, None, None])
        return new.masked_fill(is_out, -torch.inf), paths, label

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
    return torch.where(rows.to(yes.device).reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def _cut(values: Tensor, first: Tensor, count: Tensor) -> Padded:
    """Of each row of (B, T) `count` values from `first` on; first, count: (B,) on the CPU."""
    at = first[:, None] + torch.arange(values.shape[1])
    at = at.clamp(max=max(0, values.shape[1] - 1)).to(values.device)
    return Padded(values.gather(1, at), count).zeroed()
