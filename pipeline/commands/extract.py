"""`unreel extract`: fill the feature store for the rows of a config, and write features by name where that is asked.

In: a config. Out: the stored features of every video; with --out a file of features for each video. Knows nothing of
heads or training.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.atomic import check_output_folder, write_atomic
from pipeline.commands.prepare_data import Log, OnVideo, fill_store, read_rows
from pipeline.config.base import ConfigError
from pipeline.config.run import Config
from pipeline.data.feature_store import FeatureStore
from pipeline.data.manifest import Manifest
from pipeline.training.distributed import distributed
from pipeline.writers.output_names import UniqueNames, file_system_key, safe_path


def extract_features(config: Config, log: Log, on_video: OnVideo, out: Path | None = None) -> int:
    """Fill the feature store for a config's rows. Returns how many videos failed. Raises ConfigError, ManifestError.

    out: a folder that gets `<name of the video>.npy`, the features (T, D) float16, one row a look.
    """
    if config.encoder.kind != "frames":
        raise ConfigError(
            f"encoder.kind is {config.encoder.kind}, and features are extracted from frames. Give a config with "
            "encoder.kind: frames."
        )
    if out is not None:
        check_output_folder(out, "--out")
    manifest = read_rows(config, log)
    with distributed(config.training.device, 0) as context:
        store, failed = fill_store(config, manifest, context, log, on_video)
        if out is not None and context.is_first:
            count = _write_by_name(manifest, store, failed, out)
            log(f"{count:,} files of features, {config.clock.rate:g} looks a second: {out}")
    log(f"feature store: {store.folder}")
    return len(failed)


def _write_by_name(manifest: Manifest, store: FeatureStore, failed: Iterable[str], out: Path) -> int:
    """Write the features of every video that could be read. Returns the number of files."""
    names, left_out = UniqueNames(file_system_key), set(failed)
    paths = dict.fromkeys(row.path for row in manifest.rows)
    count = 0
    for path in paths:
        file = out / f"{names.assign(safe_path(path, reserved=('.npy',)))}.npy"
        features = None if str(manifest.root / path) in left_out else store.read(manifest.root / path)
        if features is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            data = io.BytesIO()
            np.save(data, features.values, allow_pickle=False)
            write_atomic(file, data.getvalue())
            count += 1
    return count
