"""What must hold of the classes of a run before any video is looked at.

In: a config, and its rows with their splits. Out: ConfigError. Knows nothing of models.
"""

from __future__ import annotations

from pipeline.config.base import ConfigError
from pipeline.config.run import Config
from pipeline.data.manifest import Manifest

CLASSIFYING = ("classify", "segment", "anticipate")
"""Kinds of heads that choose among classes."""


def refuse_one_class(config: Config, manifest: Manifest) -> None:
    """Raise ConfigError where a head that chooses among classes has only one to choose from.

    It would be right in every case, whatever the videos show: an accuracy of 1.000 that says nothing.
    """
    rows = [row for row in manifest.rows if row.split == "train"]
    for name, head in config.heads.items():
        classes = {label for row in rows for label in head.taught_labels(row)}
        if head.kind in CLASSIFYING and len(classes) == 1:
            raise ConfigError(
                f"All {len(rows)} training rows of '{config.data.path}' have the one class '{classes.pop()}', so the "
                f"head '{name}' has nothing to choose between: it would be right in every case, whatever the videos "
                "show. Add videos of at least one other class, for example a second folder with videos in which it "
                "does not happen."
            )
