"""Viterbi's algorithm for a linear chain with a minimum segment duration: one step, a whole batch, and the backtrace.

In: emissions, the scores of label pairs, of first labels and of last labels, and the minimum duration. Out: labels.
Knows nothing of modules, targets or videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pipeline.padded import Padded

FORBIDDEN = -1e6
"""The score of what a constraint forbids. It is finite, so a row without any legal path still has a result: the path
with the fewest violations, and the best of those.
"""

RENORMALISE_EVERY = 16
"""Steps of a row after which its best score is set to 0 again: hours fit into float32, and a step stays cheap."""


@dataclass(frozen=True)
class Lattice:
    """The scores of a chain, and the recursion of Viterbi 1967 over states (d, b).

    b is the label, and d is how many steps its segment has lasted, counted up to M = min_steps. Only a segment of
    duration M may end. With delta_t(d, b) the best score of a path that is in state (d, b) at step t:

        delta_1(1, b) = start[b] + x_1[b],   delta_1(d, b) = -inf for d > 1
        delta_t(1, b) = x_t[b] + max_{a != b} (delta_{t-1}(M, a) + transitions[a, b])
        delta_t(d, b) = x_t[b] + transitions[b, b] + delta_{t-1}(d - 1, b)                             for 1 < d < M
        delta_t(M, b) = x_t[b] + transitions[b, b] + max(delta_{t-1}(M - 1, b), delta_{t-1}(M, b))
        best score    = max_{d, b} (delta_T(d, b) + end[b]),   d < M only if the row is one segment

    With M = 1 there is one duration, and the maximum runs over all labels a: the plain recursion. The minimum is exact,
    and costs a shift per step instead of a larger maximum. Scores are (B, M, C).

    transitions: (C, C) from row to column. start, end: (C,). min_steps: M.
    """

    transitions: Tensor
    start: Tensor
    end: Tensor
    min_steps: int = 1

    @cached_property
    def entry_scores(self) -> Tensor:
        """(C, 1, C), from and to: the scores of entering a label's first duration. With a minimum, staying in a label
        is not the same as starting a new segment of it.
        """
        if self.min_steps == 1:
            return self.transitions[:, None]
        is_same = torch.eye(len(self.start), dtype=torch.bool, device=self.start.device)
        return self.transitions.masked_fill(is_same, -torch.inf)[:, None]

    @cached_property
    def entry_scores_by_target(self) -> Tensor:
        """(C, C): `entry_scores` with one row per label that is entered."""
        return self.entry_scores[:, 0].t().contiguous()

    def first(self, emissions: Tensor) -> Tensor:
        """delta_1: emissions (B, 1, C) of the first step -> scores (B, M, C)."""
        entered = self.start + emissions
        longer = entered.new_full((entered.shape[0], self.min_steps - 1, entered.shape[2]), -torch.inf)
        return torch.cat([entered, longer], dim=1)

    def step(self, scores: Tensor, emissions: Tensor) -> Tensor:
        """delta_t from delta_{t-1}. scores: (B, M, C) of the step before. emissions: (B, 1, C) of this step."""
        new = torch.empty_like(scores)
        buffer = scores.new_empty((scores.shape[2], scores.shape[0], scores.shape[2]))
        self._step(scores, scores[:, -1].t()[:, :, None], emissions, buffer, new, new[:, 0])
        return new

    def _step(
        self, scores: Tensor, leaving: Tensor, emissions: Tensor, buffer: Tensor, new: Tensor, entered: Tensor
    ) -> None:
        """Write the scores of a step into `new`, (B, M, C).

        leaving: (C, B, 1), a view of the last duration of `scores`. entered: (B, C), a view of the first duration of
        `new`. buffer: (C, B, C), from and to; in this order, because a maximum over the outermost axis is several times
        faster. Views that are made once for all steps halve the time of a small step.
        """
        torch.add(leaving, self.entry_scores, out=buffer)
        torch.amax(buffer, 0, out=entered)
        if self.min_steps > 1:
            stayed = scores + self.transitions.diagonal()
            new[:, 1:-1] = stayed[:, :-2]
            new[:, -1] = torch.maximum(stayed[:, -2], stayed[:, -1])
        new.add_(emissions)

    def final(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """The scores (B, M, C) with the score of the last label. A last segment below the minimum is forbidden, unless
        it is the whole row.
        """
        durations = torch.arange(1, self.min_steps + 1, device=scores.device)
        is_short = durations < lengths.to(scores.device)[:, None].clamp(max=self.min_steps)
        return scores + self.end + torch.where(is_short, FORBIDDEN, 0.0)[:, :, None]

    def backpointer(self, scores: Tensor, state: Tensor) -> Tensor:
        """The best state of the step before, (B,), for one state per row. A state is numbered (d - 1) * C + b.

        scores: (B, M, C) of the step before. state: (B,) of this step.
        """
        if self.min_steps == 1:
            return (scores[:, 0] + self.entry_scores_by_target.index_select(0, state)).argmax(dim=1)
        num_labels = scores.shape[2]
        label = state % num_labels
        last_duration = (self.min_steps - 1) * num_labels
        changed = last_duration + (scores[:, -1] + self.entry_scores_by_target.index_select(0, label)).argmax(dim=1)
        stayed = scores[:, -2:] + self.transitions.diagonal()
        is_longer = (stayed[:, 1] > stayed[:, 0]).gather(1, label[:, None])[:, 0]
        is_same_state = (state >= last_duration) & is_longer
        return torch.where(state < num_labels, changed, torch.where(is_same_state, state, state - num_labels))

    def backpointers(self, scores: Tensor) -> Tensor:
        """`backpointer` for all states of the next step: (B, M, C) int64."""
        batch, durations, num_labels = scores.shape
        changed = (scores[:, -1].t()[:, :, None] + self.entry_scores).max(dim=0).indices
        changed = (changed + (durations - 1) * num_labels)[:, None]
        if durations == 1:
            return changed
        stayed = scores[:, -2:] + self.transitions.diagonal()
        states = torch.arange(durations * num_labels, device=scores.device).reshape(1, durations, num_labels)
        shorter = (states[:, 1:] - num_labels).expand(batch, -1, -1)
        last_duration = torch.where(stayed[:, 1:] > stayed[:, :1], states[:, -1:], shorter[:, -1:])
        return torch.cat([changed, shorter[:, :-1], last_duration], dim=1)

    def best_paths(self, emissions: Padded) -> Padded:
        """The best labels (B, T) int64 (Viterbi 1967). emissions: (B, T, C). Both have zeros in the padding.

        The forward pass stores scores only. The backtrace computes the backpointer of the one state per row that is on
        the best path, which is cheaper than storing the index of every maximum.
        """
        lengths, (batch, num_steps, num_labels) = emissions.lengths, emissions.data.shape
        if num_steps == 0:
            return Padded(emissions.data.new_zeros((batch, 0), dtype=torch.int64), lengths)
        last = emissions.device_lengths - 1
        last_steps = set((lengths - 1).tolist())  # known on the CPU: most steps are the last one of no row
        all_scores = self._all_scores(emissions)
        last_scores = all_scores[last.clamp(min=0), torch.arange(batch, device=last.device)]
        final = self.final(last_scores, emissions.device_lengths).flatten(1).argmax(dim=1)
        scores, state, path = all_scores.unbind(), final, []
        for t in range(num_steps - 1, -1, -1):
            if t in last_steps:
                state = torch.where(last == t, final, state)
            path.append(state)
            if t:
                state = self.backpointer(scores[t - 1], state)
        return Padded(torch.stack(path[::-1], dim=1) % num_labels, lengths).zeroed()

    def _all_scores(self, emissions: Padded) -> Tensor:
        """(T, B, M, C), the scores of all steps; those in the padding have no meaning."""
        data = emissions.data.transpose(0, 1).contiguous()[:, :, None]  # (T, B, 1, C)
        all_scores = data.new_empty((*data.shape[:2], self.min_steps, data.shape[3]))
        buffer = data.new_empty((data.shape[3], data.shape[1], data.shape[3]))
        leaving = all_scores[:, :, -1].transpose(1, 2).unsqueeze(3).unbind()
        scores = all_scores.unbind()
        views = zip(scores, all_scores[:, :, 0].unbind(), data.unbind(), strict=True)
        for t, (new, entered, emission) in enumerate(views):
            if t:
                self._step(scores[t - 1], leaving[t - 1], emission, buffer, new, entered)
            else:
                new.copy_(self.first(emission))
            if t % RENORMALISE_EVERY == 0:
                new.copy_(renormalise(new))
        return all_scores


def renormalise(scores: Tensor) -> Tensor:
    """Subtract the best score of each row: (B, M, C) -> (B, M, C) with a maximum of 0 per row."""
    return scores - scores.amax(dim=(1, 2), keepdim=True)
