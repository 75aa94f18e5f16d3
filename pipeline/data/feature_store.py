"""The feature store: the features that the frozen CNN computed for each video, kept on disk.

In: videos and their features. Out: the features again. There is one safetensors file for each video and fingerprint,
with features at every tick of the clock, in float16. The fingerprint covers the content of the video and everything
that shapes the features, so outdated features are never read. Knows nothing of decoders or networks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.atomic import write_atomic


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

    def path(self, video: str | Path) -> Path:
        """The path of this video's features, whether they exist or not. Reads the whole video once, to hash it."""
        stat = os.stat(video)
        content = content_hash(str(video), stat.st_size, stat.st_mtime_ns)
        key = hashlib.sha256(f"{content} {self.made_by}".encode()).hexdigest()[:32]
        return self.folder / key[:2] / f"{key}.safetensors"

    def read(self, video: str | Path) -> Features | None:
        """The stored features, or None where there are none or the file is damaged."""
        try:
            with safe_open(self.path(video), framework="numpy") as file:
                warnings = json.loads((file.metadata() or {}).get("warnings", "[]"))
                return Features(file.get_tensor("values"), file.get_tensor("times"), tuple(warnings))
        except (FileNotFoundError, SafetensorError):
            return None

    def length(self, video: str | Path) -> int | None:
        """The number of looks, without reading the features. None where `read` returns None."""
        try:
            with safe_open(self.path(video), framework="numpy") as file:
                return int(file.get_slice("times").get_shape()[0])
        except (FileNotFoundError, SafetensorError):
            return None

    def warnings(self, video: str | Path) -> tuple[str, ...]:
        """The warnings of the stored features, without reading these; none where `read` returns None."""
        try:
            with safe_open(self.path(video), framework="numpy") as file:
                return tuple(json.loads((file.metadata() or {}).get("warnings", "[]")))
        except (FileNotFoundError, SafetensorError):
            return ()

    def write(self, video: str | Path, features: Features) -> None:
        """Store features by an atomic write: a reader sees the whole file or none. Raises OSError."""
        path = self.path(video)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.ascontiguousarray(features.values, dtype=np.float16)
        data = save(
            {"values": values, "times": np.ascontiguousarray(features.times, dtype=np.float64)},
            metadata={"warnings": json.dumps(features.warnings), "made_by": self.made_by},
        )
        write_atomic(path, data)


@lru_cache(maxsize=1 << 20)
def content_hash(video: str, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file, in hexadecimal; one process reads a file once.

    Size and time of change are part of the cache key, so a changed file is hashed again. Raises OSError.
    """
    with open(video, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
