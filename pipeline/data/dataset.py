"""From rows to samples.

In: rows of a manifest and a `Source` that reads one of them (stored features, stored series, pixels). Out: `Sample`s:
a whole row, or a window drawn as a pure function of (seed, epoch, row). Knows nothing of models; heads hand in their
`target` functions.
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
from pipeline.data.features import Features, FeatureStore
from pipeline.data.manifest import Row
from pipeline.data.sampler import Key
from pipeline.media.clip import Clip
from pipeline.media.clock import Clock
from pipeline.media.decode import Backend, decode
from pipeline.media.probe import probe
from pipeline.media.transform import Transform

Order = Literal["forward", "reversed", "shuffled"]
Augment = Callable[[Tensor, np.random.Generator], Tensor]
Target = Callable[[Row, np.ndarray], Tensor | None]


KEEP = 256 << 20


class Source(Protocol):
    """Reads rows as one sense."""

    sense: str
    reads_pixels: bool

    def length(self, row: Row) -> int:
        """How many steps the row has."""
        ...

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """Steps start .. stop - 1 (T, ...) and their times (T,) in seconds."""
        ...


class StoredFeatures:
    """Frames as the frozen CNN saw them, from the feature store. Up to `KEEP` bytes of what was read stay in memory: epochs
    over a small set read the disk once.
    """

    sense = "frames"
    reads_pixels = False

    def __init__(self, root: Path, store: FeatureStore) -> None:
        self.root, self.store = root, store
        self._kept: dict[str, Features] = {}
        self._room = KEEP

    def length(self, row: Row) -> int:
        """Looks in the store."""
        length = self.store.length(self.root / row.path)
        if length is None:
            raise ValueError(f"'{row.path}' has no stored features. Run `unreel extract` on this config first.")
        return length

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """(T, D) float16."""
        found = self._kept.get(row.path) or self.store.read(self.root / row.path)
        assert found is not None, "length() was asked first"
        if row.path not in self._kept and found.values.nbytes <= self._room:
            self._kept[row.path] = found
            self._room -= found.values.nbytes
        return torch.from_numpy(found.values[start:stop]), found.times[start:stop]


class StoredSeries:
    """Sequences stored as .npy files (T, D), `rate` steps a second."""

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
                f"'{path}' is no stored series ({error}). A .npy file of shape (T, D) is needed."
            ) from None
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise ValueError(
                f"'{path}' holds {values.dtype} of shape {values.shape}. A series is numbers of shape (T, D)."
            )
        return values

    def width(self, row: Row) -> int:
        """D."""
        return int(self._open(row).shape[1])

    def length(self, row: Row) -> int:
        """T."""
        return int(self._open(row).shape[0])

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """(T, D) float32."""
        values = np.array(self._open(row)[start:stop], dtype=np.float32)
        return torch.from_numpy(values), np.arange(start, start + len(values)) / self.rate


@lru_cache(maxsize=16)
def _open_array(path: str, size: int, mtime_ns: int) -> np.ndarray:
    """Opening costs more than reading a window of it, and windows of a few long rows are read in any order."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


class DecodedFrames:
    """Pixels, decoded: for fine-tuning the CNN and for making frames. Up to `KEEP` bytes of whole rows stay in memory."""

    sense = "frames"
    reads_pixels = True

    def __init__(self, root: Path, clock: Clock, transform: Transform, backend: Backend) -> None:
        self.root, self.clock, self.transform = root, clock, transform
        self.backend: Backend = backend
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._room = KEEP
        self._lengths: dict[str, int] = {}

    def length(self, row: Row) -> int:
        """Looks, by the duration that the file states."""
        if row.path not in self._lengths:
            self._lengths[row.path] = len(self.clock.look_times(probe(self.root / row.path).seconds or 0.0))
        return self._lengths[row.path]

    def read(self, row: Row, start: int, stop: int) -> tuple[Tensor, np.ndarray]:
        """(T, S, S, 3) uint8. A file may state more than it holds: a range behind its end gives its last look."""
        frames, times = self._whole(row) if self._is_small(row) else self._part(row, start, stop)
        if self._is_small(row):
            frames, times = (
                (frames[start:stop], times[start:stop]) if start < len(frames) else (frames[-1:], times[-1:])
            )
        return torch.from_numpy(frames.copy()), times

    def _is_small(self, row: Row) -> bool:
        """Whether the whole row is in memory, or has room there."""
        size = self.transform.size
        return row.path in self._kept or self.length(row) * size * size * 3 <= min(self._room, KEEP // 64)

    def _whole(self, row: Row) -> tuple[np.ndarray, np.ndarray]:
        """All looks of a row, decoded once."""
        if row.path not in self._kept:
            found = self._part(row, 0, max(1, self.length(row)))
            self._kept[row.path] = found
            self._room -= found[0].nbytes
        return self._kept[row.path]

    def _part(self, row: Row, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        clips = self._decode(row, start, stop)
        if not clips:
            last = self._decode(row, 0, stop)[-1]
            return last.frames[-1:], last.times[-1:]
        return np.concatenate([c.frames for c in clips]), np.concatenate([c.times for c in clips])

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
    """Rows as samples, asked for by (epoch, index).

    window: at most so many steps in training, from a start drawn by (seed, epoch, index) or given with the key; None
    gives whole rows. stride: every window that starts at 0, stride, 2 stride, ... is a sample, and none is drawn.
    order: steps as they are, backwards, or shuffled by (seed, index): what a model answers then says whether it
    watches the order at all; the targets of the heads in `stepwise` move with them. augment: applied to the raw tensor with a generator keyed the same way.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        source: Source,
        targets: Mapping[str, Target],
        *,
        seed: int = 0,
        window: int | None = None,
        stride: int | None = None,
        order: Order = "forward",
        stepwise: Collection[str] = (),
        augment: Augment | None = None,
    ) -> None:
        self.rows, self.source, self.targets = list(rows), source, dict(targets)
        self.stepwise = frozenset(stepwise)
        self.seed, self.window, self.order, self.augment = seed, window, order, augment
        self.full_lengths = [source.length(row) for row in self.rows]
        self.places = self._places(stride)

    def _places(self, stride: int | None) -> list[tuple[int, int | None]]:
        """(row, start) of each sample; no start where one is drawn."""
        if stride is None or self.window is None:
            return [(i, None) for i in range(len(self.rows))]
        return [(i, s) for i, n in enumerate(self.full_lengths) for s in range(0, max(1, n - self.window + 1), stride)]

    @property
    def lengths(self) -> list[int]:
        """Steps of each sample, after the window."""
        return [min(self.full_lengths[i], self.window or self.full_lengths[i]) for i, _ in self.places]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index, *fixed = key
        place, first = self.places[index]
        row, length = self.rows[place], self.full_lengths[place]
        rng = np.random.default_rng([self.seed, max(epoch, 0), index])
        start, stop = 0, length
        if fixed:
            start = max(0, fixed[0])
            stop = min(length, start + (self.window or length))
        elif self.window is not None and length > self.window:
            start = int(rng.integers(length - self.window + 1)) if first is None else first
            stop = start + self.window
        data, times = self.source.read(row, start, stop)
        if fixed and fixed[0] < 0:
            data, times = data[:0], times[:0]
        if self.augment is not None:
            data = self.augment(data, rng)
        targets = self._targets(row, times)
        if self.order != "forward":
            steps = len(data)
            places = (
                torch.arange(steps).flip(0) if self.order == "reversed" else torch.from_numpy(rng.permutation(steps))
            )
            data = data[places]
            targets = {head: t[places] if head in self.stepwise else t for head, t in targets.items()}
        return Sample({self.source.sense: data}, targets, row.path, start)

    def _targets(self, row: Row, times: np.ndarray) -> dict[str, Tensor]:
        found = {}
        for head, target in self.targets.items():
            value = target(row, times)
            if value is None:
                raise ValueError(
                    f"'{row.path}' has nothing for the head '{head}'. Add what it learns from to the "
                    "manifest (a label, spans, captions), or leave the row or the head out."
                )
            found[head] = value
        return found
