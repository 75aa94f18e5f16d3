"""The linear-chain conditional random field: a distribution over label sequences with dependent neighbours.

In: a score for each label at each step, (B, T, C). Out: log-likelihoods of label sequences, the best sequence, and
marginals. Knows nothing of videos, segments in seconds or names. `fixed_lag` decodes step by step during a sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.crf.forward_backward import LogPartition, forward_backward
from pipeline.models.crf.viterbi import FORBIDDEN, Lattice
from pipeline.padded import Padded, without_autocast


class CRF(nn.Module):
    """The linear-chain CRF.

    The score of the labels y of a row with T steps and emissions x_t (C,) is

        score(y, x) = start[y_1] + sum_{t=1..T} x_t[y_t] + sum_{t=2..T} transitions[y_{t-1}, y_t] + end[y_T]
        log p(y | x) = score(y, x) - log Z(x),   Z(x) = sum over all label sequences y' of exp(score(y', x))

    Sources: Lafferty, McCallum and Pereira 2001; the forward and backward recursions after Rabiner 1989, the best path
    after Viterbi 1967. They stand written out in `forward_backward` and in `viterbi.Lattice`.

    All scores are initialised to 0, so a new field is a softmax per step. The parameters have the names of pytorch-crf.
    Everything is computed in float32 at least, under autocast too, and in float64 where the emissions or the weights
    are. Values in the padding (NaN too) change nothing, gradients included. Length 0 is legal.

    Args:
        num_labels: C.
        allowed: (C, C) bool, which label (column) may follow which (row); None allows all.
        allowed_start, allowed_end: (C,) bool, with which labels a sequence may start and end. If a row has no legal
            path at all, the decoder returns the path that violates the fewest constraints. Labels that violate a
            constraint have a log-likelihood below -1e5, with a finite gradient.
        min_steps: the minimum number of steps of a segment (a run of one label), also of the first and the last. A
            sequence shorter than that is one segment. `decode` and `fixed_lag` enforce it exactly. Likelihood and
            marginals ignore it: they are those of the plain chain, which training and confidence are about.

    Raises ValueError: num_labels or min_steps below 1, a mask of another shape, a mask that allows nothing.
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
        min_steps: int = 1,
    ) -> None:
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"num_labels of the CRF is {num_labels}. It must be at least 1. Check the vocabulary.")
        if min_steps < 1:
            raise ValueError(f"min_steps is {min_steps}. A segment has at least 1 step. Set 1 for no minimum.")
        self.num_labels, self.min_steps = num_labels, min_steps
        self.transitions = nn.Parameter(torch.zeros(num_labels, num_labels))
        self.start_transitions = nn.Parameter(torch.zeros(num_labels))
        self.end_transitions = nn.Parameter(torch.zeros(num_labels))
        for name, mask, shape in (
            ("allowed", allowed, (num_labels, num_labels)),
            ("allowed_start", allowed_start, (num_labels,)),
            ("allowed_end", allowed_end, (num_labels,)),
        ):
            self.register_buffer(name, _checked_mask(name, mask, shape), persistent=False)

    def log_likelihood(self, emissions: Padded, labels: Tensor) -> Tensor:
        """The log-likelihood log p(labels | emissions), (B,); 0 at length 0.

        emissions: (B, T, C). labels: (B, T) int64, any values in the padding.
        """
        emissions = self._prepared(emissions)
        mask, lengths = emissions.mask, emissions.device_lengths
        labels = torch.where(mask, labels, 0)
        transitions, start, end = self._masked_scores(emissions.data.dtype)
        with without_autocast(emissions.data.device):  # rounding errors would accumulate over the steps
            if emissions.data.shape[1] == 0:
                return emissions.data.sum(dim=(1, 2))
            emitted = emissions.data.gather(2, labels[:, :, None])[:, :, 0].sum(1)  # the padding holds zeros
            pairs = transitions.flatten().take(labels[:, :-1] * self.num_labels + labels[:, 1:])
            between = torch.where(mask[:, 1:], pairs, 0.0).sum(1)
            last = Padded(labels, emissions.lengths).last()
            edges = torch.where(lengths > 0, start[labels[:, 0]] + end[last], 0.0)
            log_z = LogPartition.apply(emissions.data, transitions, start, end, emissions.lengths)
            assert isinstance(log_z, Tensor)
            return emitted + between + edges - log_z

    def marginals(self, emissions: Padded) -> Tensor:
        """p(y_t = c | x) for each step t and label c, (B, T, C), zero in the padding.

        It is the gradient of log Z with respect to the emissions. It carries no gradient itself.
        """
        emissions = self._prepared(emissions)
        if emissions.data.shape[1] == 0:
            return emissions.data.detach()
        with torch.no_grad(), without_autocast(emissions.data.device):
            return forward_backward(emissions, *self._masked_scores(emissions.data.dtype)).labels

    def decode(self, emissions: Padded) -> Padded:
        """The labels y with the highest score(y, x) under all constraints: (B, T) int64, zeros in the padding."""
        with torch.no_grad():
            emissions = self._prepared(emissions)
            return self.lattice(emissions.data.dtype).best_paths(emissions)

    def lattice(self, dtype: torch.dtype) -> Lattice:
        """The scores of the chain in the form that Viterbi's recursion takes."""
        return Lattice(*self._masked_scores(dtype), self.min_steps)

    def compute_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of the computation for emissions of this dtype: float32 at least."""
        wider = torch.promote_types(dtype, self.transitions.dtype)
        return torch.promote_types(wider, torch.float32)

    def _prepared(self, emissions: Padded) -> Padded:
        assert emissions.data.ndim == 3 and emissions.data.shape[2] == self.num_labels, "emissions are (B, T, C)"
        dtype = self.compute_dtype(emissions.data.dtype)
        return emissions.map(lambda d: d.to(dtype)).zeroed()

    def _masked_scores(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The transitions (C, C), start (C,) and end (C,), with FORBIDDEN where a constraint forbids."""
        parts = (
            (self.transitions, self.allowed),
            (self.start_transitions, self.allowed_start),
            (self.end_transitions, self.allowed_end),
        )
        scores = [s.to(dtype) if mask is None else s.to(dtype).masked_fill(~mask, FORBIDDEN) for s, mask in parts]
        return scores[0], scores[1], scores[2]


def _checked_mask(name: str, mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    if mask is None:
        return None
    mask = torch.as_tensor(mask, dtype=torch.bool)
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"{name} has the shape {tuple(mask.shape)}. With {shape[0]} labels it must be {shape}. Give one truth "
            f"value per {'pair of labels (row: from, column: to)' if len(shape) == 2 else 'label'}."
        )
    if not mask.any():
        raise ValueError(f"{name} allows nothing. At least one entry must be true. Leave it out to allow all.")
    return mask
