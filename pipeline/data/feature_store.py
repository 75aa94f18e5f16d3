"""The feature store: the features that the frozen CNN computed for each video, kept on disk.

In: videos and their features. Out: the features again. There is one safetensors file for each video and fingerprint,
with features at every tick of the clock, in float16. The fingerprint covers the content of the video and everything
that shapes the features, so outdated features are never read. A checksum finds damaged ones, which are computed again.
An index knows the content of videos that have not changed. Knows nothing of decoders or networks.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.atomic import write_atomic
from pipeline.data.store_index import FileContent, StoreIndex


@dataclass(frozen=True)
class Features:
    """The features of one video. values: (T, D) float16. times: (T,) in seconds. warnings: those of the decoder."""

    values: np.ndarray
    times: np.ndarray
    warnings: tuple[str, ...] = ()


class FeatureStore:
    """Features by video, in files below `folder`.

    made_by: everything that shapes the features besides the video: backbone, weights, preprocessing, rate, dtype,
    decoder and its version.
    """

    def __init__(self, folder: str | Path, made_by: Mapping[str, object]) -> None:
        self.folder = Path(folder)
        self.made_by = json.dumps(dict(made_by), sort_keys=True)
        self.index = StoreIndex(self.folder)

    def path(self, video: str | Path) -> Path:
        """The path of this video's features, whether they exist or not. A video that the index does not know is read
        once, to hash it.
        """
        return self._path_of(self._content(video).sha256)

    def read(self, video: str | Path) -> Features | None:
        """The stored features, or None where there are none or they are damaged; these are deleted."""
        return self._read(self.path(video))

    def read_known(self, video: str | Path) -> Features | None:
        """As `read`, but without opening the video: None also where the index does not know it."""
        path = self._known_path(video)
        return None if path is None else self._read(path)

    def describe_known(self, video: str | Path) -> tuple[int, tuple[str, ...]] | None:
        """(looks, warnings) of stored features, without opening the video or reading the features."""
        path = self._known_path(video)
        try:
            return None if path is None else _describe(path)
        except (FileNotFoundError, SafetensorError):
            return None

    def read_hashed(self, video: str | Path, content: FileContent) -> Features | None:
        """As `read`, for a video whose content a worker has hashed. The index then knows it."""
        path = self._path_of(content.sha256)
        features = self._read(path)
        if features is not None:
            name = path.relative_to(self.folder).as_posix()
            self.index.add(video, content, name, len(features.times), features.warnings)
        return features

    def length(self, video: str | Path) -> int | None:
        """The number of looks, without reading the features. None where `read` returns None."""
        try:
            return _describe(self.path(video))[0]
        except (FileNotFoundError, SafetensorError):
            return None

    def warnings(self, video: str | Path) -> tuple[str, ...]:
        """The warnings of the stored features, without reading these; none where `read` returns None."""
        try:
            return _describe(self.path(video))[1]
        except (FileNotFoundError, SafetensorError):
            return ()

    def write(self, video: str | Path, features: Features, content: FileContent | None = None) -> None:
        """Store features by an atomic write: a reader sees the whole file or none. Then the index gets the video.

        content: of the file that was read, where a worker has hashed it. Raises OSError.
        """
        content = content or self._content(video)
        path = self._path_of(content.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.ascontiguousarray(features.values, dtype=np.float16)
        times = np.ascontiguousarray(features.times, dtype=np.float64)
        metadata = {
            "warnings": json.dumps(features.warnings),
            "made_by": self.made_by,
            "checksum": str(_checksum(values, times)),
        }
        write_atomic(path, save({"values": values, "times": times}, metadata=metadata))
        self.index.add(video, content, path.relative_to(self.folder).as_posix(), len(times), features.warnings)

    def flush(self) -> None:
        """Write what the index has not written yet."""
        self.index.flush()

    def _content(self, video: str | Path) -> FileContent:
        """What a video holds, from the index or by reading it once. Raises OSError."""
        stat, now = os.stat(video), time.time()
        known = self.index.content(video, stat.st_size, stat.st_mtime_ns)
        sha256 = known or content_hash(str(video), stat.st_size, stat.st_mtime_ns)
        return FileContent(sha256, stat.st_size, stat.st_mtime_ns, now)

    def _known_path(self, video: str | Path) -> Path | None:
        """The path of the features of a video that the index knows."""
        try:
            stat = os.stat(video)
        except OSError:
            return None
        content = self.index.content(video, stat.st_size, stat.st_mtime_ns)
        return None if content is None else self._path_of(content)

    def _path_of(self, content: str) -> Path:
        key = hashlib.sha256(f"{content} {self.made_by}".encode()).hexdigest()[:32]
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, path: Path) -> Features | None:
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                values, times = file.get_tensor("values"), file.get_tensor("times")
        except FileNotFoundError:
            return None
        except SafetensorError:
            metadata, values, times = {}, np.empty(0), np.empty(0)
        if metadata.get("checksum") != str(_checksum(values, times)):
            path.unlink(missing_ok=True)
            return None
        return Features(values, times, tuple(json.loads(metadata["warnings"])))


def _describe(path: Path) -> tuple[int, tuple[str, ...]]:
    """(looks, warnings) from the header of a file of features. Raises FileNotFoundError, SafetensorError."""
    with safe_open(path, framework="numpy") as file:
        warnings = json.loads((file.metadata() or {}).get("warnings", "[]"))
        return int(file.get_slice("times").get_shape()[0]), tuple(warnings)


def _checksum(values: np.ndarray, times: np.ndarray) -> int:
    """CRC-32 of features and times. It finds what a disk or a copy has changed, not what somebody has forged."""
    return zlib.crc32(times.data, zlib.crc32(values.data))


@lru_cache(maxsize=1 << 20)
def content_hash(video: str, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file, in hexadecimal; one process reads a file once.

    Size and time of change are part of the cache key, so a changed file is hashed again. Raises OSError.
    """
    with open(video, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
