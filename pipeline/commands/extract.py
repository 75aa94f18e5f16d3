"""`unreel extract`: fill the feature store for the rows of a config, and do nothing else.

In: a config. Out: the stored features of every video. Knows nothing of heads or training.
"""

from __future__ import annotations

from pipeline.commands.prepare_data import Log, OnVideo, fill_store, read_rows
from pipeline.config.base import ConfigError
from pipeline.config.run import Config
from pipeline.training.distributed import distributed


def extract_features(config: Config, log: Log, on_video: OnVideo) -> int:
    """Fill the feature store for a config's rows. Returns how many videos failed. Raises ConfigError, ManifestError."""
    if config.encoder.kind != "frames":
        raise ConfigError(
            f"encoder.kind is {config.encoder.kind}, and features are extracted from frames. Give a config with "
            "encoder.kind: frames."
        )
    with distributed(config.training.device, 0) as context:
        store, failed = fill_store(config, read_rows(config, log), context, log, on_video)
    log(f"feature store: {store.folder}")
    return len(failed)
