"""Where and among how many a run runs: device, processes, threads, seeds, signals.

In: the config's wishes and torchrun's environment. Out: a `Runtime`. Knows nothing of models or data.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from pipeline.section import ConfigError


@dataclass(frozen=True)
class Runtime:
    """device: where tensors live. rank of world: this process among all."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Rank 0 writes the files and talks."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each value over the ranks, which give the same keys in the same order."""
        if self.world == 1:
            return dict(values)
        shared = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return dict(zip(values, (shared / self.world).tolist(), strict=True))

    def largest(self, value: int) -> int:
        """The largest value of any rank."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], device=self.device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return int(shared)

    def check_equal(self, weights: Iterable[Tensor], step: int) -> None:
        """Raises RuntimeError where a rank holds other weights than rank 0, by a digest of all their bytes."""
        if self.world == 1:
            return
        digest = hashlib.blake2b(digest_size=7)
        for weight in weights:
            digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        mine = torch.tensor([int.from_bytes(digest.digest(), "big")], device=self.device)
        found = [torch.zeros_like(mine) for _ in range(self.world)]
        dist.all_gather(found, mine)
        others = [str(rank) for rank, one in enumerate(found) if int(one) != int(found[0])]
        if others:
            raise RuntimeError(
                f"At step {step} the weights of process {', '.join(others)} differ from those of process 0. "
                "Replicas are equal after every step. Look for a faulty device or a mix of torch versions, "
                "then run again: it goes on from the last saved state."
            )

    def gather(self, mine: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        """Every rank's tensors, in order of rank, on the CPU."""
        here = tuple(t.detach().cpu() for t in mine)
        found: list[Any] = [None] * self.world
        if self.world == 1:
            return [here]
        dist.all_gather_object(found, here)
        return found

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def runtime(device: str, threads: int) -> Iterator[Runtime]:
    """Join torchrun's processes where there are any; leave them at the end. Raises ConfigError for a bad device."""
    world, rank, local = (
        int(os.environ.get(k, d)) for k, d in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
    )
    chosen = _device(device, local)
    if threads:
        torch.set_num_threads(threads)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world)
    try:
        yield Runtime(chosen, rank, world)
    finally:
        if world > 1:
            dist.destroy_process_group()


def _device(wish: str, local_rank: int) -> torch.device:
    if wish == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise ConfigError(f"training.device = '{wish}' is no device. Use auto, cpu, cuda or cuda:1.") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"training.device = '{wish}', but torch sees {torch.cuda.device_count()} CUDA devices here. "
            "Use auto or cpu."
        )
    return torch.device("cuda", local_rank) if device.type == "cuda" and device.index is None else device


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make all that torch draws in this step a pure function of (seed, step, rank): nothing to save for a resume."""
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=7).digest()
    torch.manual_seed(int.from_bytes(digest, "big"))


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}. The state is saved; the same command goes on from there."
        )
        self.exit_code = 128 + number


class StopSignal:
    """SIGINT, SIGTERM and SIGUSR1 set a flag that the loop looks at between two steps; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._old = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def __enter__(self) -> StopSignal:
        for number in self._old:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
