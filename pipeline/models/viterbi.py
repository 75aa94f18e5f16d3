"""The best path through a chain: one step of the lattice, the whole of a batch, and the way back.

In: scores of labels at steps, of label pairs, of starts and ends, and how long a segment lasts at least. Out: labels.
Knows nothing of modules, targets or videos.

A state is (age, label): how many steps its segment has lasted, counted up to the minimum, and which label it has. Scores
are (B, A, C) with A = minimum_steps; only the oldest age may change its label. This makes the minimum exact at the price
of a shift a step, not of a larger maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pipeline.padded import Padded

FORBIDDEN = -1e6
"""The score of what a constraint forbids. Finite, so that a row without any legal path still has an answer: the path
with the fewest breaches, and the best of those.
"""

RENORMALISED_EVERY = 16
"""Steps of a row after which its best score is set to 0 again: hours fit into float32, and a step stays cheap."""


@dataclass(frozen=True)
class Lattice:
    """transitions: (C, C) from row to column. start, end: (C,). minimum_steps: of every segment."""

    transitions: Tensor
    start: Tensor
    end: Tensor
    minimum_steps: int = 1

    @cached_property
    def change(self) -> Tensor:
        """(C, 1, C), from and to: into the first age. With a minimum, staying is another thing than beginning afresh."""
        if self.minimum_steps == 1:
            return self.transitions[:, None]
        is_same = torch.eye(len(self.start), dtype=torch.bool, device=self.start.device)
        return self.transitions.masked_fill(is_same, -torch.inf)[:, None]

    @cached_property
    def into(self) -> Tensor:
        """(C, C): `change` with a row for each label that is entered."""
        return self.change[:, 0].t().contiguous()

    def first(self, emissions: Tensor) -> Tensor:
        """emissions: (B, 1, C) of the first step -> scores (B, A, C)."""
        begun = self.start + emissions
        rest = begun.new_full((begun.shape[0], self.minimum_steps - 1, begun.shape[2]), -torch.inf)
        return torch.cat([begun, rest], dim=1)

    def step(self, scores: Tensor, emissions: Tensor) -> Tensor:
        """scores: (B, A, C) before; emissions: (B, 1, C) now. Returns the scores now."""
        now = torch.empty_like(scores)
        room = scores.new_empty((scores.shape[2], scores.shape[0], scores.shape[2]))
        self._step(scores, scores[:, -1].t()[:, :, None], emissions, room, now, now[:, 0])
        return now

    def _step(
        self, scores: Tensor, leaving: Tensor, emissions: Tensor, room: Tensor, now: Tensor, entered: Tensor
    ) -> None:
        """Writes the scores of a step into now, (B, A, C). leaving: (C, B, 1), a view of scores' oldest age; entered:
        (B, C), a view of now's first; room: (C, B, C), from and to, in this order since a maximum over the outermost
        axis is several times faster. Views made once for all steps halve the time of a small one.
        """
        torch.add(leaving, self.change, out=room)
        torch.amax(room, 0, out=entered)
        if self.minimum_steps > 1:
            stayed = scores + self.transitions.diagonal()
            now[:, 1:-1] = stayed[:, :-2]
            now[:, -1] = torch.maximum(stayed[:, -2], stayed[:, -1])
        now.add_(emissions)

    def ended(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B, A, C) with the end's score; a last segment below the minimum is forbidden unless
        it is the whole row.
        """
        ages = torch.arange(1, self.minimum_steps + 1, device=scores.device)
        is_short = ages < lengths.to(scores.device)[:, None].clamp(max=self.minimum_steps)
        return scores + self.end + torch.where(is_short, FORBIDDEN, 0.0)[:, :, None]

    def before(self, scores: Tensor, state: Tensor) -> Tensor:
        """scores: (B, A, C) of the step before. state: (B,) of this step, age * C + label. Returns (B,), that before."""
        if self.minimum_steps == 1:
            return (scores[:, 0] + self.into.index_select(0, state)).argmax(dim=1)
        num_labels = scores.shape[2]
        label = state % num_labels
        oldest = (self.minimum_steps - 1) * num_labels
        changed = oldest + (scores[:, -1] + self.into.index_select(0, label)).argmax(dim=1)
        stayed = scores[:, -2:] + self.transitions.diagonal()
        is_longer = (stayed[:, 1] > stayed[:, 0]).gather(1, label[:, None])[:, 0]
        is_kept = (state >= oldest) & is_longer
        return torch.where(state < num_labels, changed, torch.where(is_kept, state, state - num_labels))

    def all_before(self, scores: Tensor) -> Tensor:
        """`before` for all states: (B, A, C) int64."""
        batch, ages, num_labels = scores.shape
        changed = (scores[:, -1].t()[:, :, None] + self.change).max(dim=0).indices
        changed = (changed + (ages - 1) * num_labels)[:, None]
        if ages == 1:
            return changed
        stayed = scores[:, -2:] + self.transitions.diagonal()
        states = torch.arange(ages * num_labels, device=scores.device).reshape(1, ages, num_labels)
        younger = (states[:, 1:] - num_labels).expand(batch, -1, -1)
        oldest = torch.where(stayed[:, 1:] > stayed[:, :1], states[:, -1:], younger[:, -1:])
        return torch.cat([changed, younger[:, :-1], oldest], dim=1)

    def best_paths(self, emissions: Padded) -> Padded:
        """emissions: (B, T, C), zeros in the padding -> the best labels (B, T) int64, zeros in the padding (Viterbi 1967).

        Only scores are kept on the way; where a state came from is asked again for the one state on the way back, which
        is cheaper than an index of every maximum.
        """
        lengths, (batch, num_steps, num_labels) = emissions.lengths, emissions.data.shape
        if num_steps == 0:
            return Padded(emissions.data.new_zeros((batch, 0), dtype=torch.int64), lengths)
        last = (lengths - 1).to(emissions.data.device)
        ends = set((lengths - 1).tolist())  # known on the CPU: most steps need not ask who ends
        lattice = self._filled(emissions)
        at_end = lattice[last.clamp(min=0), torch.arange(batch, device=last.device)]
        final = self.ended(at_end, lengths).flatten(1).argmax(dim=1)
        all_scores, state, path = lattice.unbind(), final, []
        for t in range(num_steps - 1, -1, -1):
            if t in ends:
                state = torch.where(last == t, final, state)
            path.append(state)
            if t:
                state = self.before(all_scores[t - 1], state)
        return Padded(torch.stack(path[::-1], dim=1) % num_labels, lengths).zeroed()

    def _filled(self, emissions: Padded) -> Tensor:
        """(T, B, A, C), the scores of all steps; those behind a row's length mean nothing."""
        data = emissions.data.transpose(0, 1).contiguous()[:, :, None]  # (T, B, 1, C)
        lattice = data.new_empty((*data.shape[:2], self.minimum_steps, data.shape[3]))
        room = data.new_empty((data.shape[3], data.shape[1], data.shape[3]))
        leaving = lattice[:, :, -1].transpose(1, 2).unsqueeze(3).unbind()
        all_scores = lattice.unbind()
        views = zip(all_scores, lattice[:, :, 0].unbind(), data.unbind(), strict=True)
        for t, (now, entered, e) in enumerate(views):
            if t:
                self._step(all_scores[t - 1], leaving[t - 1], e, room, now, entered)
            else:
                now.copy_(self.first(e))
            if t % RENORMALISED_EVERY == 0:
                now.copy_(renormalised(now))
        return lattice


def renormalised(scores: Tensor) -> Tensor:
    """The same with the best of each row at 0."""
    return scores - scores.amax(dim=(1, 2), keepdim=True)
