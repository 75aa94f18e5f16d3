"""The forward and backward recursions of a linear chain, both in one loop over time.

In: scores of labels at steps, of label pairs, of starts and ends. Out: log Z of each row and its gradient, which is the
posterior of labels and of label pairs. Knows nothing of modules, targets or videos.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.padded import Padded


class Sums(NamedTuple):
    """What a chain sums to. log_z: (B,), 0 where the length is 0. labels: (B, T, C) posterior of each label at each step,
    zero in the padding. pairs: (B, C, C) expected count of each transition (from, to).
    """

    log_z: Tensor
    labels: Tensor
    pairs: Tensor


class LogPartition(torch.autograd.Function):
    """log Z (B,) with the gradient that forward-backward gives, so that autograd keeps no graph of the loop."""

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor
    ) -> Tensor:
        """The arguments of `forward_backward`, one by one, as autograd wants them."""
        sums = forward_backward(Padded(emissions, lengths), transitions, start, end)
        last = (lengths - 1).clamp(min=0).to(emissions.device)[:, None, None]
        ended = sums.labels.gather(1, last.expand(-1, 1, emissions.shape[2]))[:, 0]
        ctx.save_for_backward(sums.labels, sums.pairs, ended)
        return sums.log_z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The posteriors, each row times what comes from above (elementwise, so that autocast has no say)."""
        labels, pairs, ended = ctx.saved_tensors
        row = gradients[0][:, None]
        return (
            row[:, :, None] * labels,
            (row[:, :, None] * pairs).sum(0),
            (row * labels[:, 0]).sum(0),
            (row * ended).sum(0),
            None,
        )


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast inside: rounding would add up over the steps."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def forward_backward(emissions: Padded, transitions: Tensor, start: Tensor, end: Tensor) -> Sums:
    """emissions: (B, T, C) with zeros in the padding, T >= 1. transitions: (C, C) from row to column. start, end: (C,).
    All in one dtype, all finite.

    The scaled recursions of Rabiner 1989 (section V.A): a step is one product of matrices, and the backward recursion is
    the forward one on the reversed row with the transposed matrix, so both go in one loop. Scaled numbers can underflow
    where evidence and constraints contradict each other; what that may have cost is bounded afterwards, and rows where
    the bound is not far below rounding are computed again with logarithms (slower, no underflow).
    """
    sums, is_safe = _scaled(emissions, transitions, start, end)
    if is_safe.is_meta or bool(is_safe.all()):  # a meta tensor has no value to ask for
        return sums
    rows = (~is_safe).nonzero()[:, 0]
    part = Padded(emissions.data[rows], emissions.lengths[rows.cpu()])
    again = _logarithmic(part, transitions, start, end)
    return Sums(*(s.index_copy(0, rows, a) for s, a in zip(sums, again, strict=True)))


def _scaled(emissions: Padded, transitions: Tensor, start: Tensor, end: Tensor) -> tuple[Sums, Tensor]:
    """The sums, and (B,) whether each row is safe from underflow."""
    lengths = emissions.lengths.to(emissions.data.device)
    mask = emissions.mask.t()  # (T, B)
    e = emissions.data.transpose(0, 1)
    peaks = torch.stack([transitions.amax(), start.amax(), end.amax()])
    step = (transitions - peaks[0]).exp()
    first = torch.stack([(start - peaks[1]).exp(), (end - peaks[2]).exp()])[:, None]  # (2, 1, C)
    steps = torch.stack([step, step.t()])
    peak = e.amax(dim=2)
    back = _reversal(lengths, mask)[:, :, None].expand(e.shape)
    e = (e - peak[:, :, None]).exp()
    both = torch.stack([e, e.gather(0, back)], dim=1)  # (T, 2, B, C): forwards, and each row backwards

    before, after = torch.empty_like(both), torch.empty_like(both)
    scale = both.new_empty((*both.shape[:3], 1))
    before[0] = first
    for t, (b, x, c, seen) in enumerate(
        zip(before.unbind(), after.unbind(), scale.unbind(), both.unbind(), strict=True)
    ):
        if t:
            torch.bmm(after[t - 1], steps, out=b)
        torch.mul(b, seen, out=x)
        torch.sum(x, dim=-1, keepdim=True, out=c)
        x.div_(c)

    alpha, beta, later = after[:, 0], before[:, 1].gather(0, back), after[:, 1].gather(0, back)
    joint = alpha * beta
    z = joint.sum(dim=2)  # (T, B): 1 at best, tiny where what came before and what comes after contradict
    labels = torch.where(mask[:, :, None], joint / z[:, :, None], 0.0)
    earlier = torch.where(mask[1:, :, None], alpha[:-1] / z[:-1, :, None], 0.0)
    later = torch.where(mask[1:, :, None], later[1:], 0.0)
    pairs = step * torch.bmm(earlier.permute(1, 2, 0), later.transpose(0, 1))

    c = scale[:, 0, :, 0]
    log_z = torch.where(mask, c.log() + peak, 0.0).sum(0) + (lengths - 1) * peaks[0] + peaks[1] + peaks[2]
    log_z = log_z + z.gather(0, (lengths - 1).clamp(min=0)[None])[0].log()
    # An entry loses at most a few times `tiny` by underflow; c * z turns that into a share of Z.
    is_safe = ((c * z > torch.finfo(c.dtype).tiny * 1e14) | ~mask).all(dim=0)
    return Sums(torch.where(lengths > 0, log_z, 0.0), labels.transpose(0, 1), pairs), is_safe


def _logarithmic(emissions: Padded, transitions: Tensor, start: Tensor, end: Tensor) -> Sums:
    """The same with a log-sum-exp over (B, C, C) at each step."""
    lengths = emissions.lengths.to(emissions.data.device)
    mask = emissions.mask.t()
    e = emissions.data.transpose(0, 1)
    back = _reversal(lengths, mask)[:, :, None].expand(e.shape)
    both = torch.stack([e, e.gather(0, back)], dim=1)
    steps = torch.stack([transitions, transitions.t()])[:, None]  # (2, 1, C, C)
    befores, afters, scales = [], [], []
    for t, seen in enumerate(both.unbind()):
        b = torch.logsumexp(afters[-1][:, :, :, None] + steps, dim=2) if t else torch.stack([start, end])[:, None]
        x = b + seen
        scales.append(x.logsumexp(dim=-1, keepdim=True))
        befores.append(b.expand(x.shape))
        afters.append(x - scales[-1])
    before, after = torch.stack(befores), torch.stack(afters)
    alpha, beta, later = after[:, 0], before[:, 1].gather(0, back), after[:, 1].gather(0, back)
    joint = alpha + beta
    z = joint.logsumexp(dim=2)
    labels = torch.where(mask[:, :, None], joint.softmax(dim=2), 0.0)
    pairs = e.new_zeros((e.shape[1], e.shape[2], e.shape[2]))
    for t in range(1, e.shape[0]):
        pair = alpha[t - 1][:, :, None] + transitions + later[t][:, None, :] - z[t - 1][:, None, None]
        pairs = pairs + torch.where(mask[t][:, None, None], pair.exp(), 0.0)
    log_z = torch.where(mask, torch.stack(scales)[:, 0, :, 0], 0.0).sum(0)
    log_z = log_z + z.gather(0, (lengths - 1).clamp(min=0)[None])[0]
    return Sums(torch.where(lengths > 0, log_z, 0.0), labels.transpose(0, 1), pairs)


def _reversal(lengths: Tensor, mask: Tensor) -> Tensor:
    """(T, B): the index that turns each row's valid steps round and leaves its padding where it is."""
    steps = torch.arange(mask.shape[0], device=mask.device)[:, None]
    return torch.where(mask, lengths[None, :] - 1 - steps, steps)
