"""Means over the items of all processes of a training.

In: what one process has summed over its items, and how many these are. Out: loss terms whose mean over the processes,
which DDP takes, is the mean over all items. It knows nothing of heads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def mean_over_processes(total: Tensor, count: Tensor | int, is_training: bool) -> Tensor:
    """The mean over the items of all processes: total / count. It is 0 where no process has an item.

    total: a sum over `count` items of this process. DDP takes the mean of the gradients over the processes, so the
    term is total * processes / (count of all). Every process must call this, in the same order. Outside a training, and
    in a training by one process, only the own items count.
    """
    if not _is_shared(is_training):
        return total / (count.clamp(min=1) if isinstance(count, Tensor) else max(1, count))
    return total * dist.get_world_size() / _sum_over_processes(count, total.device).clamp(min=1)


def process_weight(count: int, device: torch.device, is_training: bool) -> Tensor | float:
    """The factor on a mean over `count` items of this process that `mean_over_processes` would give it; 1 in a training
    by one process.
    """
    if not _is_shared(is_training):
        return 1.0
    return count * dist.get_world_size() / _sum_over_processes(count, device).clamp(min=1)


def max_over_processes(value: int, device: torch.device, is_training: bool) -> int:
    """The largest value of any process, in a training; else the own value."""
    if not _is_shared(is_training):
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def _is_shared(is_training: bool) -> bool:
    """Whether several processes train together. Evaluation is never in step: each process has its own batches."""
    return is_training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sum_over_processes(count: Tensor | int, device: torch.device) -> Tensor:
    total = torch.as_tensor(count).detach().to(device, torch.float32, copy=True)
    dist.all_reduce(total)
    return total
