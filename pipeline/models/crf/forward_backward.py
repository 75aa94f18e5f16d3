"""The forward and backward recursions of a linear chain, both in one loop over time.

In: emissions, and the scores of label pairs, of first labels and of last labels. Out: log Z of each row and its
gradient, which is the posterior of labels and of label pairs. Knows nothing of modules, targets or videos.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.padded import Padded

PAIR_STEPS = 32
"""Steps whose pairs of labels are summed at once in log space."""


class ChainPosteriors(NamedTuple):
    """log_z: (B,), 0 where the length is 0. labels: (B, T, C), p(y_t = c | x), zero in the padding. pairs: (B, C, C),
    the expected number of transitions (from, to): the sum over t of p(y_{t-1} = a, y_t = b | x).
    """

    log_z: Tensor
    labels: Tensor
    pairs: Tensor


class LogPartition(torch.autograd.Function):
    """log Z (B,) with the gradient from forward-backward, so that autograd stores no graph of the loop."""

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor, lengths: Tensor
    ) -> Tensor:
        """The arguments of `forward_backward`, one by one, because autograd takes no `Padded`."""
        posteriors = forward_backward(Padded(emissions, lengths), transitions, start, end)
        last_labels = Padded(posteriors.labels, lengths).last()
        ctx.save_for_backward(posteriors.labels, posteriors.pairs, last_labels)
        return posteriors.log_z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The posteriors, each row times its incoming gradient (elementwise, so that autocast changes nothing)."""
        labels, pairs, last_labels = ctx.saved_tensors
        row = gradients[0][:, None]
        return (
            row[:, :, None] * labels,
            (row[:, :, None] * pairs).sum(0),
            (row * labels[:, 0]).sum(0),
            (row * last_labels).sum(0),
            None,
        )


def forward_backward(emissions: Padded, transitions: Tensor, start: Tensor, end: Tensor) -> ChainPosteriors:
    """The log partition function log Z and the posteriors of a linear chain.

    For one row of length T, with x_t the emissions of step t:

        alpha_1(b) = exp(start[b] + x_1[b])
        alpha_t(b) = exp(x_t[b]) * sum_a alpha_{t-1}(a) * exp(transitions[a, b])
        beta_T(a)  = exp(end[a])
        beta_t(a)  = sum_b exp(transitions[a, b] + x_{t+1}[b]) * beta_{t+1}(b)
        Z                            = sum_b alpha_T(b) * beta_T(b)
        p(y_t = b | x)               = alpha_t(b) * beta_t(b) / Z
        p(y_{t-1} = a, y_t = b | x)  = alpha_{t-1}(a) * exp(transitions[a, b] + x_t[b]) * beta_t(b) / Z

    Source: Rabiner 1989, with its scaling (section V.A): alpha_t is divided by its sum over labels, and log Z is the
    sum of the logarithms of these scales. A step is then one product of matrices. The backward recursion is the forward
    one on the reversed row with the transposed matrix, so both run in one loop. Scaled numbers can underflow where
    emissions and constraints contradict each other. The error from that is bounded afterwards, and rows where the bound
    is not far below the rounding error are computed again in log space (slower, no underflow). A GPU computes all rows
    in log space: to ask it for the bound would stop its queue, and there a step costs its launches in both cases.

    emissions: (B, T, C) with zeros in the padding, T >= 1. transitions: (C, C) from row to column. start, end: (C,).
    All in one dtype, all finite.
    """
    if emissions.data.device.type != "cpu":
        return _log_space_recursion(emissions, transitions, start, end)
    posteriors, is_safe = _scaled_recursion(emissions, transitions, start, end)
    if bool(is_safe.all()):
        return posteriors
    rows = (~is_safe).nonzero()[:, 0]
    unsafe = Padded(emissions.data[rows], emissions.lengths[rows.cpu()])
    exact = _log_space_recursion(unsafe, transitions, start, end)
    return ChainPosteriors(*(p.index_copy(0, rows, e) for p, e in zip(posteriors, exact, strict=True)))


def _scaled_recursion(
    emissions: Padded, transitions: Tensor, start: Tensor, end: Tensor
) -> tuple[ChainPosteriors, Tensor]:
    """The posteriors, and (B,) whether each row is safe from underflow.

    `predicted` is the sum over the labels of the step before, `updated` is that times the emission and divided by its
    own sum. Axis 1 is the direction: in the backward one `predicted` is beta_t, and `updated` is exp(x_t) * beta_t.
    """
    lengths = emissions.device_lengths
    mask = emissions.mask.t()  # (T, B)
    e = emissions.data.transpose(0, 1)
    peaks = torch.stack([transitions.amax(), start.amax(), end.amax()])
    step = (transitions - peaks[0]).exp()
    first = torch.stack([(start - peaks[1]).exp(), (end - peaks[2]).exp()])[:, None]  # (2, 1, C)
    steps = torch.stack([step, step.t()])
    peak = e.amax(dim=2)
    reversal = _reversal(lengths, mask)[:, :, None].expand(e.shape)
    e = (e - peak[:, :, None]).exp()
    both = torch.stack([e, e.gather(0, reversal)], dim=1)  # (T, 2, B, C): forwards, and each row backwards

    predicted, updated = torch.empty_like(both), torch.empty_like(both)
    scale = both.new_empty((*both.shape[:3], 1))
    predicted[0] = first
    views = zip(predicted.unbind(), updated.unbind(), scale.unbind(), both.unbind(), strict=True)
    for t, (prediction, update, c, emission) in enumerate(views):
        if t:
            torch.bmm(updated[t - 1], steps, out=prediction)
        torch.mul(prediction, emission, out=update)
        torch.sum(update, dim=-1, keepdim=True, out=c)
        update.div_(c)

    alpha, beta = updated[:, 0], predicted[:, 1].gather(0, reversal)
    emitted_beta = updated[:, 1].gather(0, reversal)
    joint = alpha * beta
    z = joint.sum(dim=2)  # (T, B): 1 at best, tiny where the steps before and after contradict each other
    labels = torch.where(mask[:, :, None], joint / z[:, :, None], 0.0)
    from_label = torch.where(mask[1:, :, None], alpha[:-1] / z[:-1, :, None], 0.0)
    to_label = torch.where(mask[1:, :, None], emitted_beta[1:], 0.0)
    pairs = step * torch.bmm(from_label.permute(1, 2, 0), to_label.transpose(0, 1))

    c = scale[:, 0, :, 0]
    log_z = torch.where(mask, c.log() + peak, 0.0).sum(0) + (lengths - 1) * peaks[0] + peaks[1] + peaks[2]
    log_z = log_z + z.gather(0, (lengths - 1).clamp(min=0)[None])[0].log()
    # Underflow costs an entry at most a few times `tiny`; divided by c * z that is a share of Z.
    is_safe = ((c * z > torch.finfo(c.dtype).tiny * 1e14) | ~mask).all(dim=0)
    return ChainPosteriors(torch.where(lengths > 0, log_z, 0.0), labels.transpose(0, 1), pairs), is_safe


def _log_space_recursion(emissions: Padded, transitions: Tensor, start: Tensor, end: Tensor) -> ChainPosteriors:
    """The same with logarithms and a log-sum-exp over (B, C, C) at each step."""
    lengths = emissions.device_lengths
    mask = emissions.mask.t()
    e = emissions.data.transpose(0, 1)
    reversal = _reversal(lengths, mask)[:, :, None].expand(e.shape)
    both = torch.stack([e, e.gather(0, reversal)], dim=1)
    steps = torch.stack([transitions, transitions.t()])[:, None]  # (2, 1, C, C)
    predictions, updates, scales = [], [], []
    for t, emission in enumerate(both.unbind()):
        if t:
            prediction = torch.logsumexp(updates[-1][:, :, :, None] + steps, dim=2)
        else:
            prediction = torch.stack([start, end])[:, None]
        update = prediction + emission
        scales.append(update.logsumexp(dim=-1, keepdim=True))
        predictions.append(prediction.expand(update.shape))
        updates.append(update - scales[-1])
    predicted, updated = torch.stack(predictions), torch.stack(updates)
    alpha, beta = updated[:, 0], predicted[:, 1].gather(0, reversal)
    emitted_beta = updated[:, 1].gather(0, reversal)
    joint = alpha + beta
    z = joint.logsumexp(dim=2)
    labels = torch.where(mask[:, :, None], joint.softmax(dim=2), 0.0)
    pairs = e.new_zeros((e.shape[1], e.shape[2], e.shape[2]))
    parts = (x.split(PAIR_STEPS) for x in (alpha[:-1], emitted_beta[1:], z[:-1], mask[1:]))
    for from_label, to_label, log_sum, is_valid in zip(*parts, strict=True):  # (steps, B, C, C) at a time
        pair = from_label[..., None] + transitions + to_label[:, :, None] - log_sum[..., None, None]
        pairs = pairs + torch.where(is_valid[..., None, None], pair.exp(), 0.0).sum(0)
    log_z = torch.where(mask, torch.stack(scales)[:, 0, :, 0], 0.0).sum(0)
    log_z = log_z + z.gather(0, (lengths - 1).clamp(min=0)[None])[0]
    return ChainPosteriors(torch.where(lengths > 0, log_z, 0.0), labels.transpose(0, 1), pairs)


def _reversal(lengths: Tensor, mask: Tensor) -> Tensor:
    """(T, B): the index that reverses the valid steps of each row and keeps its padding in place."""
    steps = torch.arange(mask.shape[0], device=mask.device)[:, None]
    return torch.where(mask, lengths[None, :] - 1 - steps, steps)
