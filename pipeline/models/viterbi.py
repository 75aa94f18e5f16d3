"""The best path through a chain: one step of the lattice, the whole of a batch, and the way back.

In: scores of labels at steps, of label pairs, of starts and ends, and how long a segment lasts at least. Out: labels.
Knows nothing of modules, targets or videos.

A state is (age, label): how many steps its segment has lasted, counted up to the minimum, and which label it has. Scores
are (B, A, C) with A = minimum_steps; only the oldest age may change its label. This makes the minimum exact at the price
of a shift a step, not of a larger maximum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.padded import Padded

FORBIDDEN = -1e6
"""The score of what a constraint forbids. Finite, so that a row without any legal path still has an answer: the path
with the fewest breaches, and the best of those.
"""


@dataclass(frozen=True)
class Lattice:
    """transitions: (C, C) from row to column. start, end: (C,). minimum_steps: of every segment."""

    transitions: Tensor
    start: Tensor
    end: Tensor
    minimum_steps: int = 1

    @property
    def change(self) -> Tensor:
        """(C, C): into the first age of a segment. With a minimum, staying is another thing than beginning afresh."""
        if self.minimum_steps == 1:
            return self.transitions
        return self.transitions.masked_fill(_eye(self.transitions), -torch.inf)

    def first(self, emissions: Tensor) -> Tensor:
        """emissions: (B, C) of the first step -> scores (B, A, C)."""
        begun = (self.start + emissions)[:, None]
        rest = begun.new_full((begun.shape[0], self.minimum_steps - 1, begun.shape[2]), -torch.inf)
        return _renormalised(torch.cat([begun, rest], dim=1))

    def step(self, scores: Tensor, emissions: Tensor, change: Tensor) -> Tensor:
        """scores: (B, A, C) before; emissions: (B, C) now; change: of this lattice, made once. Returns scores now, the
        best of them 0 so that hours fit into float32.
        """
        # (from, B, to): a maximum over the first axis is several times faster than over another one
        now = (scores[:, -1].t()[:, :, None] + change[:, None, :]).amax(dim=0)[:, None]
        if self.minimum_steps > 1:
            stayed = scores + self.transitions.diagonal()
            oldest = torch.maximum(stayed[:, -2:-1], stayed[:, -1:])
            now = torch.cat([now, stayed[:, :-2], oldest], dim=1)
        return _renormalised(now + emissions[:, None])

    def ended(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B, A, C) with the end's score; a last segment below the minimum is forbidden, unless nothing else was."""
        ages = torch.arange(1, self.minimum_steps + 1, device=scores.device)
        is_short = ages < lengths.to(scores.device)[:, None].clamp(max=self.minimum_steps)
        return scores + self.end + torch.where(is_short, FORBIDDEN, 0.0)[:, :, None]

    def before(self, scores: Tensor, state: Tensor, change: Tensor) -> Tensor:
        """scores: (B, A, C) of the step before. state: (B,) of this step, age * C + label. Returns (B,), that before."""
        num_labels = scores.shape[2]
        label = state % num_labels
        oldest = (self.minimum_steps - 1) * num_labels
        changed = oldest + (scores[:, -1] + change.t()[label]).argmax(dim=1)
        if self.minimum_steps == 1:
            return changed
        stayed = (scores[:, -2:] + self.transitions.diagonal()).gather(2, label[:, None, None].expand(-1, 2, 1))[:, :, 0]
        is_kept = (state >= oldest) & (stayed[:, 1] > stayed[:, 0])
        return torch.where(state < num_labels, changed, torch.where(is_kept, state, state - num_labels))

    def all_before(self, scores: Tensor, change: Tensor) -> Tensor:
        """`before` for all states: (B, A, C) int64."""
        batch, ages, num_labels = scores.shape
        changed = (scores[:, -1].t()[:, :, None] + change[:, None, :]).max(dim=0).indices
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
        lengths, device = emissions.lengths, emissions.data.device
        last = (lengths - 1).to(device)
        ends = set((lengths - 1).tolist())  # known on the CPU: most steps need no look at who ends
        change, all_scores = self.change, []
        final = torch.zeros_like(last)
        for t, e in enumerate(emissions.data.unbind(1)):
            all_scores.append(self.step(all_scores[-1], e, change) if t else self.first(e))
            if t in ends:
                best = self.ended(all_scores[-1], lengths.clamp(max=t + 1)).flatten(1).argmax(dim=1)
                final = torch.where(last == t, best, final)
        state, path = final, []
        for t in range(len(all_scores) - 1, -1, -1):
            if t + 1 < len(all_scores):
                state = self.before(all_scores[t], state, change)
            if t in ends:
                state = torch.where(last == t, final, state)
            path.append(state)
        path = path or [final.new_zeros((len(final), 0))]
        labels = torch.stack(path[::-1], dim=1) if all_scores else path[0]
        return emissions.map(lambda _: labels % emissions.data.shape[2]).zeroed()


def _renormalised(scores: Tensor) -> Tensor:
    return scores - scores.amax(dim=(1, 2), keepdim=True)


def _eye(square: Tensor) -> Tensor:
    return torch.eye(square.shape[0], dtype=torch.bool, device=square.device)
