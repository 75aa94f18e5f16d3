"""The linear-chain conditional random field: which sequence of labels, when neighbours depend on each other.

In: scores of labels at steps (B, T, C). Out: log-likelihoods of given labels, the best labels, posteriors. Knows nothing
of videos, segments in seconds or names. Labels step by step while a sequence goes on: `fixed_lag`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.forward_backward import LogPartition, forward_backward, full_precision
from pipeline.models.viterbi import FORBIDDEN, Lattice
from pipeline.padded import Padded


class Crf(nn.Module):
    """p(y | x) = exp(score(y, x)) / Z(x), score = start[y_1] + sum_t x_t[y_t] + sum_t transitions[y_{t-1}, y_t] + end[y_T].

    Lafferty, McCallum and Pereira 2001; the recursions after Rabiner 1989, the best path after Viterbi 1967. All scores
    start at 0, so that the field begins as a softmax a step. Parameters have the names of pytorch-crf's.

    Everything is computed in float32 at least, under autocast too, and in float64 where the emissions or the weights are.
    Garbage in the padding (NaN too) changes nothing, gradients included; length 0 is legal.

    Args:
        num_labels: C.
        allowed: (C, C) bool, which label (column) may follow which (row); None allows all.
        allowed_start, allowed_end: (C,) bool, with which labels a sequence may start and end. A row of a batch that has no
            legal path at all gets the path with the fewest breaches; labels that break a constraint have a
            log-likelihood below -1e5, with a finite gradient.
        minimum_steps: the least number of steps of a segment (a run of one label), also of the first and the last; a
            sequence shorter than that is one segment. Exact, in `decode` and in `fixed_lag`. Likelihood and marginals do
            not know it: they are those of the plain chain, which is what training and confidence are about.

    Raises ValueError: a number below 1, a mask of another shape, no label to start or to end with.
    """

    allowed: Tensor | None
    allowed_start: Tensor | None
    allowed_end: Tensor | None

    def __init__(
        self,
        num_labels: int,
        *,
        allowed: Tensor | None = None,
        allowed_start: Tensor | None = None,
        allowed_end: Tensor | None = None,
        minimum_steps: int = 1,
    ) -> None:
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"The CRF was asked for {num_labels} labels. It needs at least 1. Check the vocabulary.")
        if minimum_steps < 1:
            raise ValueError(
                f"minimum_steps is {minimum_steps}. A segment lasts at least 1 step. Set 1 to ask for no minimum."
            )
        self.num_labels, self.minimum_steps = num_labels, minimum_steps
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels))
        self.start_transitions = nn.Parameter(torch.zeros(num_labels))
        self.end_transitions = nn.Parameter(torch.zeros(num_labels))
        for name, mask, shape in (
            ("allowed", allowed, (num_labels, num_labels)),
            ("allowed_start", allowed_start, (num_labels,)),
            ("allowed_end", allowed_end, (num_labels,)),
        ):
            self.register_buffer(name, _checked(name, mask, shape), persistent=False)

    def log_likelihood(self, emissions: Padded, labels: Tensor) -> Tensor:
        """emissions: (B, T, C). labels: (B, T) int64, anything in the padding. Returns log p(labels) (B,); 0 at length 0."""
        emissions = self._prepared(emissions)
        mask, lengths = emissions.mask, emissions.lengths.to(emissions.data.device)
        labels = torch.where(mask, labels, 0)
        transitions, start, end = self._scores(emissions.data.dtype)
        with full_precision(emissions.data.device):
            if emissions.data.shape[1] == 0:
                return emissions.data.sum(dim=(1, 2))
            at_steps = emissions.data.gather(2, labels[:, :, None])[:, :, 0].sum(1)  # the padding holds zeros
            pairs = transitions.flatten().take(labels[:, :-1] * self.num_labels + labels[:, 1:])
            between = torch.where(mask[:, 1:], pairs, 0.0).sum(1)
            last = labels.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
            edges = torch.where(lengths > 0, start[labels[:, 0]] + end[last], 0.0)
            log_z: Tensor = LogPartition.apply(emissions.data, transitions, start, end, emissions.lengths)  # type: ignore
            return at_steps + between + edges - log_z

    def marginals(self, emissions: Padded) -> Tensor:
        """The posterior of each label at each step, the gradient of log Z: (B, T, C), zero in the padding. It carries no
        gradient itself.
        """
        emissions = self._prepared(emissions)
        if emissions.data.shape[1] == 0:
            return emissions.data.detach()
        with torch.no_grad(), full_precision(emissions.data.device):
            return forward_backward(emissions, *self._scores(emissions.data.dtype)).labels

    def decode(self, emissions: Padded) -> Padded:
        """The best labels (B, T) int64 with zeros in the padding, under all constraints."""
        with torch.no_grad():
            emissions = self._prepared(emissions)
            return self.lattice(emissions.data.dtype).best_paths(emissions)

    def lattice(self, dtype: torch.dtype) -> Lattice:
        """The scores as Viterbi's recursion wants them."""
        return Lattice(*self._scores(dtype), self.minimum_steps)

    def precision(self, dtype: torch.dtype) -> torch.dtype:
        """What emissions of this dtype are computed in: float32 at least."""
        wider = torch.promote_types(dtype, self.transitions.dtype)
        return torch.promote_types(wider, torch.float32)

    def _prepared(self, emissions: Padded) -> Padded:
        assert emissions.data.ndim == 3 and emissions.data.shape[2] == self.num_labels, "emissions are (B, T, C)"
        dtype = self.precision(emissions.data.dtype)
        return emissions.map(lambda d: d.to(dtype)).zeroed()

    def _scores(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The transitions (C, C), start (C,) and end (C,), with what is forbidden far below all else."""
        named = (
            (self.transitions, self.allowed),
            (self.start_transitions, self.allowed_start),
            (self.end_transitions, self.allowed_end),
        )
        scores = [s.to(dtype) if mask is None else s.to(dtype).masked_fill(~mask, FORBIDDEN) for s, mask in named]
        return scores[0], scores[1], scores[2]


def _checked(name: str, mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    if mask is None:
        return None
    mask = torch.as_tensor(mask, dtype=torch.bool)
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"{name} has the shape {tuple(mask.shape)}. With {shape[0]} labels it must be {shape}. Give one truth value a "
            f"{'pair of labels (row: from, column: to)' if len(shape) == 2 else 'label'}."
        )
    if not mask.any():
        raise ValueError(f"{name} allows nothing. At least one entry must be true. Leave it out to allow all.")
    return mask
