"""What the tests of streams share: models with random weights whose labels change often, and a series to watch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint
from pipeline.data.vocabulary import Vocabulary
from pipeline.recipe import Recipe

CPU = torch.device("cpu")
NAMES = ("bend", "rise", "sit", "wave")
RATE = 4.0


SEGMENT = {"kind": "segment", "background": "rise"}
LATE = {**SEGMENT, "delay_seconds": 0.75}


def made(
    seed: int = 0,
    core: dict[str, Any] | None = None,
    encoder: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
) -> Checkpoint:
    """A model of a series with random weights, whose labels change often."""
    torch.manual_seed(seed)
    recipe = Recipe.model_validate({
        "clock": {"rate": RATE}, "encoder": encoder or {"kind": "series", "project": 0, "normalise": "none"},
        "core": {"hidden": 8, **(core or {})},
        "heads": {"action": head or {"kind": "classify"}},
    })  # fmt: skip
    names = {"action": Vocabulary(NAMES)}
    width = None if encoder else 3
    model = recipe.build(names, input_size=width)
    with torch.no_grad():
        model.get_parameter(f"heads.action.{'emit' if head else 'logits'}.weight").mul_(20)
        if head:
            for name, parameter in model.named_parameters():
                if "crf" in name:
                    parameter.normal_()
    return Checkpoint(model.eval(), recipe, names, width, {})


def values(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3)).astype(np.float32), np.arange(count) / RATE
