"""Rows of a manifest -> samples.

In: rows, and a `RowSource` that reads one of them (stored features, stored series, pixels). Out: `Sample`s: a whole
row, or a window that depends on (seed, epoch, row) alone. Knows nothing of models; heads pass in their `target`
functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.data.batch import Sample
from pipeline.data.feature_store import Features, FeatureStore
from pipeline.data.manifest_rows import Row
from pipeline.data.sampler import Key
from pipeline.media.clip import Clip
from pipeline.media.clock import Clock
from pipeline.media.decode import Backend, decode
from pipeline.media.probe import probe
from pipeline.media.transform import Transform

Order = Literal["forward", "reversed", "shuffled"]
Augment = Callable[[Tensor, np.random.Generator], Tensor]
"""A change of the raw tensor of a sample, with a random generator."""
Target = Callable[[Row, np.ndarray], Tensor | None]
"""A row and the times of its steps (T,) in seconds -> the target of a head, or None where the row has none.

It is copied to the processes that load samples (`data.workers`): a small object without modules."""

CACHE_BYTES = 256 << 20
"""How many bytes a source keeps in memory."""


class RowSource(Protocol):
    """Reads rows as one sense."""

    sense: str
    reads_pixels: bool

    def length(self, row: Row) -> int:
        """The number of steps of the row."""
        ...

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """Steps start .. stop - 1, (T, ...), and their times (T,) in seconds."""
        ...


class StoredFeatures:
    """Features of the frozen CNN, from the feature store.

    Up to `CACHE_BYTES` of them stay in memory, so the epochs over a small dataset read the disk once.
    """

    sense = "frames"
    reads_pixels = False

    def __init__(self, root: Path, store: FeatureStore) -> None:
        self.root, self.store = root, store
        self._cache: dict[str, Features] = {}
        self._free_bytes = CACHE_BYTES

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_cache": {}, "_free_bytes": CACHE_BYTES}  # a copy reads for itself

    def length(self, row: Row) -> int:
        """The number of looks in the store. Raises ValueError where the store has no features of the row."""
        length = self.store.length(self.root / row.path)
        if length is None:
            raise ValueError(f"'{row.path}' has no stored features. Run `unreel extract` on this config first.")
        return length

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """(T, D) float16."""
        features = self._cache.get(row.path) or self.store.read(self.root / row.path)
        assert features is not None, "length() is called before read()"
        if row.path not in self._cache and features.values.nbytes <= self._free_bytes:
            self._cache[row.path] = features
            self._free_bytes -= features.values.nbytes
        return torch.from_numpy(features.values[start:stop]), features.times[start:stop]


class StoredSeries:
    """Series in .npy files (T, D), with `rate` steps per second."""

    sense = "series"
    reads_pixels = False

    def __init__(self, root: Path, rate: float) -> None:
        self.root, self.rate = root, rate

    def _open(self, row: Row) -> np.ndarray:
        path = self.root / row.path
        try:
            stat = path.stat()
            values = _open_array(str(path), stat.st_size, stat.st_mtime_ns)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"'{path}' is not a stored series ({error}). A .npy file of shape (T, D) is needed."
            ) from None
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise ValueError(
                f"'{path}' holds {values.dtype} of shape {values.shape}. A series is numbers of shape (T, D)."
            )
        return values

    def width(self, row: Row) -> int:
        """D, the number of channels. Raises ValueError for a file that is not a series."""
        return int(self._open(row).shape[1])

    def length(self, row: Row) -> int:
        """T, the number of steps. Raises ValueError for a file that is not a series."""
        return int(self._open(row).shape[0])

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """(T, D) float32."""
        values = np.array(self._open(row)[start:stop], dtype=np.float32)
        return torch.from_numpy(values), np.arange(start, start + len(values)) / self.rate


@lru_cache(maxsize=16)
def _open_array(path: str, size: int, mtime_ns: int) -> np.ndarray:
    """A memory map of an array. Opening a file costs more than reading a window, so open files are cached.

    Size and time of change are part of the cache key, so a changed file is opened again.
    """
    return np.load(path, mmap_mode="r", allow_pickle=False)


class DecodedFrames:
    """Decoded pixels, for fine-tuning the CNN and for generating frames.

    Up to `CACHE_BYTES` of whole rows stay in memory.
    """

    sense = "frames"
    reads_pixels = True

    def __init__(self, root: Path, clock: Clock, transform: Transform, backend: Backend) -> None:
        self.root, self.clock, self.transform = root, clock, transform
        self.backend: Backend = backend
        self._cache: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._free_bytes = CACHE_BYTES
        self._lengths: dict[str, int] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_cache": {}, "_free_bytes": CACHE_BYTES}  # a copy reads for itself

    def length(self, row: Row) -> int:
        """The number of looks in the duration that the file states."""
        if row.path not in self._lengths:
            seconds = probe(self.root / row.path).seconds or 0.0
            self._lengths[row.path] = len(self.clock.look_times(seconds))
        return self._lengths[row.path]

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """(T, S, S, 3) uint8.

        A file may state a longer duration than it has. A range behind its end gives its last look.
        """
        if self._fits_cache(row):
            frames, times = self._whole(row)
            window = slice(start, stop) if start < len(frames) else slice(-1, None)
            frames, times = frames[window], times[window]
        else:
            frames, times = self._part(row, start, stop)
        return torch.from_numpy(frames.copy()), times

    def _fits_cache(self, row: Row) -> bool:
        """Whether the whole row is in the cache, or is small enough for it."""
        size = self.transform.size
        return row.path in self._cache or self.length(row) * size * size * 3 <= min(self._free_bytes, CACHE_BYTES // 64)

    def _whole(self, row: Row) -> tuple[np.ndarray, np.ndarray]:
        """All looks of a row, decoded once."""
        if row.path not in self._cache:
            frames, times = self._part(row, 0, max(1, self.length(row)))
            self._cache[row.path] = frames, times
            self._free_bytes -= frames.nbytes
        return self._cache[row.path]

    def _part(self, row: Row, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Looks start .. stop - 1, or the last look where the video ends before them."""
        clips = self._decode(row, start, stop)
        if not clips:
            last = self._decode(row, 0, stop)[-1]
            return last.frames[-1:], last.times[-1:]
        return np.concatenate([clip.frames for clip in clips]), np.concatenate([clip.times for clip in clips])

    def _decode(self, row: Row, start: int, stop: int) -> list[Clip]:
        rate = self.clock.rate
        return list(
            decode(
                self.root / row.path,
                clock=self.clock,
                transform=self.transform,
                backend=self.backend,
                start_seconds=start / rate,
                stop_seconds=stop / rate,
            )
        )


class RowDataset(torch.utils.data.Dataset[Sample]):
    """Rows as samples, indexed by a `Key` (epoch, index).

    Args:
        rows: the rows. source: reads them. targets: the target function of each head.
        seed: of windows, shuffled orders and augmentation.
        window: the most steps of a sample. Its start depends on (seed, epoch, index), or stands in the key. None gives
            whole rows.
        stride: makes a sample of every window that starts at 0, stride, 2 stride, ...; then no start is drawn.
        order: forward, reversed, or shuffled by (seed, index). A model that gives the same answer for all of them does
            not use the order.
        per_step_heads: heads with a target for each step; their targets are reordered with the steps.
        augment: changes the raw tensor, with a generator that depends on (seed, epoch, index).
    """

    def __init__(
        self,
        rows: Sequence[Row],
        source: RowSource,
        targets: Mapping[str, Target],
        *,
        seed: int = 0,
        window: int | None = None,
        stride: int | None = None,
        order: Order = "forward",
        per_step_heads: Collection[str] = (),
        augment: Augment | None = None,
    ) -> None:
        self.rows, self.source, self.targets = list(rows), source, dict(targets)
        self.per_step_heads = frozenset(per_step_heads)
        self.seed, self.window, self.order, self.augment = seed, window, order, augment
        self.full_lengths = [source.length(row) for row in self.rows]
        self.samples = self._list_samples(stride)

    def _list_samples(self, stride: int | None) -> list[tuple[int, int | None]]:
        """(row, start) of each sample. The start is None where it is drawn."""
        if stride is None or self.window is None:
            return [(row, None) for row in range(len(self.rows))]
        return [
            (row, start)
            for row, length in enumerate(self.full_lengths)
            for start in range(0, max(1, length - self.window + 1), stride)
        ]

    @property
    def lengths(self) -> list[int]:
        """The number of steps of each sample."""
        return [min(self.full_lengths[row], self.window or self.full_lengths[row]) for row, _ in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index, *starts = key
        row_index, fixed_start = self.samples[index]
        row, length = self.rows[row_index], self.full_lengths[row_index]
        rng = np.random.default_rng([self.seed, max(epoch, 0), index])
        start, stop = 0, length
        if starts:
            start = max(0, starts[0])
            stop = min(length, start + (self.window or length))
        elif self.window is not None and length > self.window:
            start = int(rng.integers(length - self.window + 1)) if fixed_start is None else fixed_start
            stop = start + self.window
        data, times = self.source.read(row, start, stop)
        if starts and starts[0] < 0:
            data, times = data[:0], times[:0]
        if self.augment is not None:
            data = self.augment(data, rng)
        targets = self._targets(row, times)
        if self.order != "forward":
            steps = torch.arange(len(data)).flip(0) if self.order == "reversed" else _permutation(len(data), rng)
            data = data[steps]
            targets = {
                head: target[steps] if head in self.per_step_heads else target for head, target in targets.items()
            }
        return Sample({self.source.sense: data}, targets, row.path, start)

    def _targets(self, row: Row, times: np.ndarray) -> dict[str, Tensor]:
        """The target of each head. Raises ValueError where a row has none for a head."""
        targets = {}
        for head, target_of in self.targets.items():
            target = target_of(row, times)
            if target is None:
                raise ValueError(
                    f"'{row.path}' has nothing for the head '{head}'. Add what it learns from (a label, spans, "
                    "captions) "
                    "to the manifest, or leave the row or the head out."
                )
            targets[head] = target
        return targets


def _permutation(steps: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.permutation(steps))
