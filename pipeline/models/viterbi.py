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
        """(C, C): into the first age of a segment. With a minimum, staying is another thing than beginning afresh."""
        if self.minimum_steps == 1:
            return self.transitions
        return self.transitions.masked_fill(_eye(self.transitions), -torch.inf)

    @cached_property
    def into(self) -> Tensor:
        """(C, C): `change` with a row for each label that is entered."""
        return self.change.t().contiguous()

    def first(self, emissions: Tensor) -> Tensor:
        """emissions: (B, 1, C) of the first step -> scores (B, A, C)."""
        begun = self.start + emissions
        rest = begun.new_full((begun.shape[0], self.minimum_steps - 1, begun.shape[2]), -torch.inf)
        return torch.cat([begun, rest], dim=1)

    def step(self, scores: Tensor, emissions: Tensor) -> Tensor:
        """scores: (B, A, C) before; emissions: (B, 1, C) now. Returns the scores now."""
        # (from, B, to) in this order in memory too: a maximum over the outermost axis is several times faster
        now = (scores[:, -1].t().contiguous().unsqueeze(2) + self.change.unsqueeze(1)).amax(dim=0).unsqueeze(1)
        if self.minimum_steps > 1:
            stayed = scores + self.transitions.diagonal()
            oldest = torch.maximum(stayed[:, -2:-1], stayed[:, -1:])
            now = torch.cat([now, stayed[:, :-2], oldest], dim=1)
        return now + emissions

    def ended(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B, A, C) with the end's score; a last segment below the minimum is forbidden, unless nothing else was."""
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
        stayed = (scores[:, -2:] + self.transitions.diagonal()).gather(2, label[:, None, None].expand(-1, 2, 1))[
            :, :, 0
        ]
        is_kept = (state >= oldest) & (stayed[:, 1] > stayed[:, 0])
        return torch.where(state < num_labels, changed, torch.where(is_kept, state, state - num_labels))

    def all_before(self, scores: Tensor) -> Tensor:
        """`before` for all states: (B, A, C) int64."""
        batch, ages, num_labels = scores.shape
        changed = (scores[:, -1].t()[:, :, None] + self.change[:, None, :]).max(dim=0).indices
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
        lengths, num_labels = emissions.lengths, emissions.data.shape[2]
        last = (lengths - 1).to(emissions.data.device)
        ends = set((lengths - 1).tolist())  # known on the CPU: most steps need not ask who ends
        lattice: list[Tensor] = []
        state = torch.zeros_like(last)
        for t, e in enumerate(emissions.data.transpose(0, 1).contiguous().unsqueeze(2).unbind()):
            scores = self.step(lattice[-1], e) if t else self.first(e)
            if t % RENORMALISED_EVERY == 0:
                scores = renormalised(scores)
            lattice.append(scores)
            if t in ends:
                best = self.ended(scores, lengths.clamp(max=t + 1)).flatten(1).argmax(dim=1)
                state = torch.where(last == t, best, state)
        final = state
        path: list[Tensor] = []
        for t in range(len(lattice) - 1, -1, -1):
            if t in ends:
                state = torch.where(last == t, final, state)
            path.append(state)
            if t:
                state = self.before(lattice[t - 1], state)
        labels = torch.stack(path[::-1], dim=1) % num_labels if path else emissions.data[:, :, 0].long()
        return Padded(labels, lengths).zeroed()


def renormalised(scores: Tensor) -> Tensor:
    """The same with the best of each row at 0."""
    return scores - scores.amax(dim=(1, 2), keepdim=True)


def _eye(square: Tensor) -> Tensor:
    return torch.eye(square.shape[0], dtype=torch.bool, device=square.device)
