"""The description of a model folder: model.json as plain values.

In: a folder. Out: the model folder in it, and what its description says. It imports no torch, so inputs are found
before torch is imported. Knows nothing of weights; `checkpoint` validates and loads a model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.media.similar_paths import did_you_mean_path

DESCRIPTION = "model.json"
FORMAT = 3
"""Formats 1 and 2 are those of unreel 0.1, whose settings and weights had other names."""


class ModelError(ValueError):
    """A folder holds no model, or parts that do not belong together, or a model that cannot do what is asked."""


def find_model(folder: str | Path) -> Path:
    """The model folder itself, or `model/` inside a run folder. Raises ModelError where neither is one."""
    folder = Path(folder)
    for candidate in (folder, folder / "model"):
        if (candidate / DESCRIPTION).is_file():
            return candidate
    similar = "" if folder.exists() else did_you_mean_path(folder)
    raise ModelError(
        f"'{folder}' is no model: it holds no {DESCRIPTION}.{similar} Give the folder of a finished run, or the "
        "model folder inside it."
    )


def read_description(path: Path) -> dict[str, Any]:
    """A model.json as plain values. Raises ModelError."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}. Copy the model folder again.") from None
    return description


def stored_settings(folder: str | Path) -> dict[str, Any]:
    """The architecture of a model as it stands in model.json, not validated; empty where this version cannot read it.

    Raises ModelError where there is no model.
    """
    description = read_description(find_model(folder) / DESCRIPTION)
    architecture = description.get("architecture")
    if description.get("format") == FORMAT and isinstance(architecture, dict):
        return architecture if isinstance(architecture.get("encoder"), dict) else {"encoder": {}}
    return {"encoder": {}}
