"""The environment of a run: device, processes, threads and seeds.

In: the device and the threads of the config, and the environment variables of torchrun. Out: a `DistributedContext`. It
knows nothing of models or data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from pipeline.config.base import ConfigError

LONGEST_WAIT = timedelta(days=30)
"""How long a process waits for the others where their work may take very different times. A backend's own limit is 10
to 30 minutes. A process that has died ends the wait at once.
"""
T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """One process among all processes of a run.

    device: the device of its tensors. rank: its number. world_size: the number of processes. patient: the group of all
    processes that waits up to LONGEST_WAIT.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    patient: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process of rank 0, which writes files and messages."""
        return self.rank == 0

    def broadcast(self, value: float) -> float:
        """The value of rank 0, on every rank."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, src=0)
        return float(tensor)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over the ranks. All ranks must pass the same keys in the same order."""
        if self.world_size == 1:
            return dict(values)
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return dict(zip(values, (tensor / self.world_size).tolist(), strict=True))

    def max(self, value: int) -> int:
        """The largest value of any rank."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor([value], device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)

    def check_equal(self, weights: Iterable[Tensor], step: int) -> None:
        """Raise RuntimeError where the weights of a rank differ from those of rank 0, by a digest of all bytes."""
        if self.world_size == 1:
            return
        hasher = hashlib.blake2b(digest_size=7)
        for weight in weights:
            hasher.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        digest = torch.tensor([int.from_bytes(hasher.digest(), "big")], device=self.device)
        digests = [torch.zeros_like(digest) for _ in range(self.world_size)]
        dist.all_gather(digests, digest)
        different = [str(rank) for rank, other in enumerate(digests) if int(other) != int(digests[0])]
        if different:
            raise RuntimeError(
                f"At step {step} the weights of process {', '.join(different)} differ from those of process 0. All "
                "processes must have equal weights after every step. Check for a faulty device or a mix of torch "
                "versions, then run the command again: it continues from the last saved state."
            )

    def gather(self, tensors: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        """The tensors of every rank, in the order of the ranks, on the CPU."""
        return self.gather_objects(tuple(tensor.detach().cpu() for tensor in tensors))

    def gather_objects(self, own: T) -> list[T]:
        """The objects of every rank, in the order of the ranks. A rank may come hours later than another."""
        if self.world_size == 1:
            return [own]
        gathered = [own] * self.world_size
        dist.all_gather_object(gathered, own, group=self.patient)
        return gathered

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every rank the buffers of rank 0. In training each rank has its own, such as a bank of its sequences."""
        if self.world_size == 1:
            return
        buffers = [{name: buffer.cpu() for name, buffer in model.named_buffers()} if self.is_first else {}]
        dist.broadcast_object_list(buffers, src=0, group=self.patient)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[0][name])

    def barrier(self) -> None:
        """Wait until every rank calls this. A rank may come hours later than another."""
        if self.world_size > 1:
            dist.barrier(group=self.patient)


@contextmanager
def distributed(device: str, threads: int) -> Iterator[DistributedContext]:
    """Join the processes of torchrun, if there are any, and leave them at the end.

    device: auto, cpu, cuda, cuda:1, ... threads: CPU threads of torch; 0 keeps the default. Raises ConfigError for a
    device that does not exist.
    """
    world_size, rank, local_rank = (
        int(os.environ.get(name, default))
        for name, default in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
    )
    chosen = device_of(device, local_rank)
    if threads:
        torch.set_num_threads(threads)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    patient = None
    if world_size > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world_size)
        patient = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        assert isinstance(patient, dist.ProcessGroup)
    try:
        yield DistributedContext(chosen, rank, world_size, patient)
    finally:
        if world_size > 1:
            dist.destroy_process_group()


def device_of(name: str, local_rank: int = 0) -> torch.device:
    """The device of a name: auto, cpu, cuda, cuda:1. Raises ConfigError for a device that does not exist here."""
    if name == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"The device '{name}' is no device. Use auto, cpu, cuda or cuda:1.") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"The device '{name}' is not here: torch finds {torch.cuda.device_count()} CUDA devices on this machine. "
            "Use auto or cpu (training.device of a training, --device of the other commands)."
        )
    return torch.device("cuda", local_rank) if device.type == "cuda" and device.index is None else device


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one step. Its random numbers depend only on (seed, step, rank), so a resume needs no saved
    state.
    """
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=7).digest()
    torch.manual_seed(int.from_bytes(digest, "big"))


def draw_of_step(seed: int, step: int) -> float:
    """A random number in [0, 1) that depends only on (seed, step): all ranks draw the same."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {step}".encode(), digest_size=6).digest(), "big") / 2**48
