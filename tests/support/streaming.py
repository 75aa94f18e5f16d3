"""What the tests of streams share: models with random weights whose labels change often, and a series to read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Checkpoint
from pipeline.config.architecture import Architecture
from pipeline.data.vocabulary import Vocabulary

CPU = torch.device("cpu")
NAMES = ("bend", "rise", "sit", "wave")
RATE = 4.0  # looks a second

SEGMENT = {"kind": "segment", "background": "rise"}
DELAYED = {**SEGMENT, "delay_seconds": 0.75}


def make_checkpoint(
    seed: int = 0,
    core: dict[str, Any] | None = None,
    encoder: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
) -> Checkpoint:
    """A model of a series with random weights, whose labels change often."""
    torch.manual_seed(seed)
    architecture = Architecture.model_validate(
        {
            "clock": {"rate": RATE},
            "encoder": encoder or {"kind": "series", "project": 0, "normalise": "none"},
            "core": {"hidden": 8, **(core or {})},
            "heads": {"action": head or {"kind": "classify"}},
        }
    )
    vocabularies = {"action": Vocabulary(NAMES)}
    input_size = None if encoder else 3
    model = architecture.build(vocabularies, input_size=input_size)
    with torch.no_grad():
        model.get_parameter(f"heads.action.{'emission' if head else 'logits'}.weight").mul_(20)
        if head:
            for name, parameter in model.named_parameters():
                if "crf" in name:
                    parameter.normal_()
    return Checkpoint(model.eval(), architecture, vocabularies, input_size, {})


def make_series(num_looks: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random values (T, 3) float32 and their times (T,)."""
    random = np.random.default_rng(seed)
    return random.normal(size=(num_looks, 3)).astype(np.float32), np.arange(num_looks) / RATE
