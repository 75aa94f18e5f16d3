"""The feature store: what the frozen CNN said of each video, kept on disk.

One safetensors file a video and fingerprint, dense on the clock, float16. The fingerprint covers the video's content
and everything that shaped the numbers, so nothing stale is ever read. Knows nothing of decoders or networks.
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

from pipeline.whole import write_whole


@dataclass(frozen=True)
class Features:
    """values: (T, D) float16; times: (T,) seconds; seconds: how long the video shows; warnings: of the decoder."""

    values: np.ndarray
    times: np.ndarray
    warnings: tuple[str, ...] = ()


class FeatureStore:
    """Features by video, below `folder`. `made_by` names all that shapes them besides the video: backbone, weights,
    preprocessing, rate, dtype, decoder and its version.
    """

    def __init__(self, folder: str | Path, made_by: Mapping[str, object]) -> None:
        self.folder = Path(folder)
        self.made_by = json.dumps(dict(made_by), sort_keys=True)

    def path(self, video: str | Path) -> Path:
        """Where this video's features lie or would lie. Reads the whole file once, for its hash."""
        stat = os.stat(video)
        content = _content_hash(str(video), stat.st_size, stat.st_mtime_ns)
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
        """The number of looks without reading them, or None as in `read`."""
        try:
            with safe_open(self.path(video), framework="numpy") as file:
                return int(file.get_slice("times").get_shape()[0])
        except (FileNotFoundError, SafetensorError):
            return None

    def write(self, video: str | Path, features: Features) -> None:
        """Store atomically: a reader sees the whole file or none."""
        path = self.path(video)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.ascontiguousarray(features.values, dtype=np.float16)
        data = save(
            {"values": values, "times": np.ascontiguousarray(features.times, dtype=np.float64)},
            metadata={"warnings": json.dumps(features.warnings), "made_by": self.made_by},
        )
        write_whole(path, data)


@lru_cache(maxsize=1 << 20)
def _content_hash(video: str, size: int, mtime_ns: int) -> str:
    with open(video, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
