"""A linear-chain CRF by brute force, over a list of all paths: the reference for the tests and for the promise `crf`.

In: one row of emissions (T, C) and the scores of the chain. Out: log Z, marginals, the best path. For a few steps only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pipeline.padded import Padded


class BruteForceCRF:
    """All legal paths of a row with their scores, differentiable. The constraints are those of `CRF`."""

    def __init__(
        self,
        emissions: Tensor,
        transitions: Tensor,
        start: Tensor,
        end: Tensor,
        *,
        allowed: Tensor | None = None,
        allowed_start: Tensor | None = None,
        allowed_end: Tensor | None = None,
        min_steps: int = 1,
    ) -> None:
        num_steps, num_labels = emissions.shape
        self.paths = [
            path
            for path in itertools.product(range(num_labels), repeat=num_steps)
            if is_legal(path, allowed, allowed_start, allowed_end, min_steps)
        ]
        labels = torch.tensor(self.paths, dtype=torch.int64).reshape(len(self.paths), num_steps)
        self.scores = emissions[torch.arange(num_steps), labels].sum(1)
        if num_steps:
            pairs = transitions[labels[:, :-1], labels[:, 1:]].sum(1)
            self.scores = self.scores + pairs + start[labels[:, 0]] + end[labels[:, -1]]
        self.one_hot = torch.nn.functional.one_hot(labels, num_labels)  # (paths, T, C)
        self.log_z = self.scores.logsumexp(0)

    def log_likelihood(self, path: Sequence[int]) -> Tensor:
        """The log-likelihood of one of the paths."""
        return self.scores[self.paths.index(tuple(path))] - self.log_z

    def marginals(self) -> Tensor:
        """(T, C): the probability of each label at each step, summed over the paths."""
        return torch.einsum("p,ptc->tc", (self.scores - self.log_z).exp(), self.one_hot.to(self.scores))

    def best(self) -> tuple[int, ...]:
        """The path with the highest score."""
        return self.paths[int(self.scores.argmax())]


def run_lengths(path: Sequence[int]) -> list[int]:
    """The length of each run of one label."""
    return [len(list(group)) for _, group in itertools.groupby(path)]


def is_legal(
    path: Sequence[int],
    allowed: Tensor | None = None,
    allowed_start: Tensor | None = None,
    allowed_end: Tensor | None = None,
    min_steps: int = 1,
) -> bool:
    """Whether a path obeys all constraints. A path shorter than the minimum is one run."""
    if not path:
        return True
    if allowed is not None and not all(allowed[a, b] for a, b in itertools.pairwise(path)):
        return False
    if allowed_start is not None and not allowed_start[path[0]]:
        return False
    if allowed_end is not None and not allowed_end[path[-1]]:
        return False
    return min(run_lengths(path)) >= min(min_steps, len(path))


def randomise(crf: nn.Module, scale: float = 1.0) -> nn.Module:
    """Fill all scores of a field with normal random numbers. Returns the field."""
    with torch.no_grad():
        for p in crf.parameters():
            p.normal_(std=scale)
    return crf


def ragged_cases(num_steps: int, num_labels: int, seeds: int) -> Iterator[tuple[int, int, Padded]]:
    """Random batches in float64 for every C from 1 to num_labels: (seed, C, emissions).

    A batch has one row of each length from 0 to num_steps, in random order, with NaN in the padding.
    """
    for labels in range(1, num_labels + 1):
        for seed in range(seeds):
            torch.manual_seed(1000 * labels + seed)
            lengths = torch.randperm(num_steps + 1)
            data = torch.randn(num_steps + 1, num_steps, labels, dtype=torch.float64) * (1 + seed)
            steps = torch.arange(num_steps)[None, :, None]
            yield seed, labels, Padded(torch.where(steps < lengths[:, None, None], data, torch.nan), lengths)
