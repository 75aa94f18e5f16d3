"""The batches of the training loop: the sampler of the settings, and a loader with or without worker processes.

In: a training dataset and the training section. Out: an iterable of batches for each epoch. It knows nothing of models.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader

from pipeline.config.base import ConfigError
from pipeline.config.training import TrainingSection
from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset
from pipeline.data.sampler import EpochSampler, Sampler, TbpttSampler
from pipeline.training.distributed import DistributedContext

MAX_TEMPORARY_PATH = 71
"""Bytes of the temporary folder's path. Workers send batches by sockets in it, and the path of a socket has at most 103
bytes on every system; 32 of them are the name of the socket. With a longer one a worker fails and the run waits."""


def make_sampler(train: RowDataset, settings: TrainingSection, context: DistributedContext) -> Sampler:
    """The sampler of this process: windows in order for truncated BPTT, else shuffled rows of similar length."""
    batch_size, seed, rank, world_size = settings.batch_size, settings.seed, context.rank, context.world_size
    if settings.tbptt:
        assert train.window, "the config asks for a window"
        return TbpttSampler(train.full_lengths, train.window, batch_size, seed, rank, world_size)
    return EpochSampler(train.lengths, batch_size, seed, rank, world_size)


def count_steps(sampler: Sampler, epochs: int) -> int:
    """The number of batches of all epochs. With truncated BPTT the epochs may differ in it."""
    total = 0
    for sampler.epoch in range(epochs):
        total += len(sampler)
    return total


def make_loader(
    train: RowDataset, sampler: Sampler, workers: int, *, is_pinned: bool = False
) -> Callable[[], Iterator[Batch]]:
    """A function that yields the batches of the sampler's current epoch, on the CPU. workers: processes that read rows;
    0: none. is_pinned: in pinned memory, from which a copy to a GPU does not keep the CPU waiting.

    Raises ConfigError where the path of the temporary folder is too long for workers.
    """
    if workers == 0:
        finish: Callable[[Batch], Batch] = Batch.pin_memory if is_pinned else lambda batch: batch
        return lambda: (finish(collate([train[key] for key in keys])) for keys in sampler)
    if len(os.fsencode(tempfile.gettempdir())) > MAX_TEMPORARY_PATH:
        raise ConfigError(
            f"data.workers is {workers}, and workers send their batches by sockets in the temporary folder "
            f"'{tempfile.gettempdir()}', whose path is too long for that. It has at most {MAX_TEMPORARY_PATH} bytes. "
            "Set TMPDIR to a folder with a shorter path, such as /tmp, or set data.workers=0."
        )
    loader = DataLoader(
        train,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,  # type: ignore[arg-type]
        multiprocessing_context="spawn",
        persistent_workers=True,
        pin_memory=is_pinned,
        worker_init_fn=_ignore_signals,
    )
    return lambda: iter(loader)


def _ignore_signals(worker: int) -> None:
    """Let a worker ignore signals that go to the whole process group: if it ended, the run would end without saving."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
