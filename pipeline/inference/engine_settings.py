"""How a folder job uses the machine: processes that decode, memory, limits.

In: what the user set, the number of files. Out: an `EnginePlan` and the line that says it. It imports no torch, so that
workers can be started before torch is imported. Knows nothing of models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from pipeline.media.decode_pool import DecodeLimits

SLOTS_A_WORKER = 32
"""Pictures in the ring of a worker: four requests of the CNN on a CPU, so a worker is ahead of the CNN."""
DEFAULT_MEMORY_MB = 1024


@dataclass(frozen=True)
class EngineSettings:
    """What a user can set of a folder job.

    workers: processes that decode; None: one for each core. memory_mb: how much pictures and features may take in
    memory before no new video is opened. limits: of one file.
    """

    workers: int | None = None
    memory_mb: int = DEFAULT_MEMORY_MB
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def plan(self, num_files: int) -> EnginePlan:
        """The processes for so many files. Raises ValueError for a number that is below 1."""
        for name, value in (("workers", self.workers), ("memory_mb", self.memory_mb)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}. It is a number of 1 or more; leave it out for the default.")
        cores = num_cores()
        return EnginePlan(cores, max(1, min(self.workers or cores, num_files)), self.memory_mb, self.limits)


@dataclass(frozen=True)
class EnginePlan:
    """How the cores are divided.

    Workers, CNN and core share the cores, and the operating system divides their time. A worker whose ring is full
    waits, so a slow CNN gets the cores; a CNN without pictures waits, so slow decoders get them. So there is a worker
    for each core, the CNN may use each core, and core and heads have one thread.
    """

    cores: int
    workers: int
    memory_mb: int
    limits: DecodeLimits

    def line(self, ring_bytes: int) -> str:
        """The plan in one line. ring_bytes: the memory of all rings."""
        return (
            f"{self.cores} cores: {self.workers} workers decode, each up to {SLOTS_A_WORKER} pictures ahead; the CNN "
            f"uses the cores that are free; core and heads use 1. Memory for pictures and features: "
            f"{self.memory_mb:,} MB, {ring_bytes / 2**20:.0f} MB of it for the workers"
        )


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
