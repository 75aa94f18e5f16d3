"""A linear-chain CRF by brute force: every path written down. The truth for the tests and for the promise `crf`.

In: one row of scores (T, C) and the chain's scores. Out: log Z, posteriors, the best path. Works for a handful of steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pipeline.padded import Padded


class Brute:
    """All paths of a row with their scores, differentiable. Constraints as `pipeline.models.crf.Crf` takes them."""

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
        minimum_steps: int = 1,
    ) -> None:
        num_steps, num_labels = emissions.shape
        self.paths = [
            path
            for path in itertools.product(range(num_labels), repeat=num_steps)
            if is_legal(path, allowed, allowed_start, allowed_end, minimum_steps)
        ]
        at = torch.tensor(self.paths, dtype=torch.int64).reshape(len(self.paths), num_steps)
        self.scores = emissions[torch.arange(num_steps), at].sum(1)
        if num_steps:
            self.scores = self.scores + transitions[at[:, :-1], at[:, 1:]].sum(1) + start[at[:, 0]] + end[at[:, -1]]
        self.one_hot = torch.nn.functional.one_hot(at, num_labels)  # (paths, T, C)
        self.log_z = self.scores.logsumexp(0)

    def log_likelihood(self, path: Sequence[int]) -> Tensor:
        """Of one of the paths."""
        return self.scores[self.paths.index(tuple(path))] - self.log_z

    def marginals(self) -> Tensor:
        """(T, C): the share of the paths that are at a label at a step."""
        return torch.einsum("p,ptc->tc", (self.scores - self.log_z).exp(), self.one_hot.to(self.scores))

    def best(self) -> tuple[int, ...]:
        """The path with the highest score."""
        return self.paths[int(self.scores.argmax())]


def runs(path: Sequence[int]) -> list[int]:
    """How long each run of one label lasts."""
    return [len(list(group)) for _, group in itertools.groupby(path)]


def is_legal(
    path: Sequence[int],
    allowed: Tensor | None = None,
    allowed_start: Tensor | None = None,
    allowed_end: Tensor | None = None,
    minimum_steps: int = 1,
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
    return min(runs(path)) >= min(minimum_steps, len(path))


def randomised(crf: nn.Module, scale: float = 1.0) -> nn.Module:
    """The same field with random scores."""
    with torch.no_grad():
        for p in crf.parameters():
            p.normal_(std=scale)
    return crf


def ragged_cases(num_steps: int, num_labels: int, seeds: int) -> Iterator[tuple[int, int, Padded]]:
    """Every C up to num_labels, several random batches each, in float64: (seed, C, emissions), the lengths 0 ... num_steps
    in a random order, NaN in the padding.
    """
    for labels in range(1, num_labels + 1):
        for seed in range(seeds):
            torch.manual_seed(1000 * labels + seed)
            lengths = torch.randperm(num_steps + 1)
            data = torch.randn(num_steps + 1, num_steps, labels, dtype=torch.float64) * (1 + seed)
            steps = torch.arange(num_steps)[None, :, None]
            yield seed, labels, Padded(torch.where(steps < lengths[:, None, None], data, torch.nan), lengths)
