"""The output of the core, which every head reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.data.batch import Raw
from pipeline.models.recurrent.core import State
from pipeline.padded import Padded


@dataclass(frozen=True)
class CoreOutput:
    """The core's output for one window of a batch.

    steps: (B, T, H), the output at every look. state: after the last valid step of each row. features: (B, T, D), the
    normalised features before the projection, for heads that measure how unusual they are. raw: the raw sequences, for
    heads whose target is a part of them (the next values, the next token).
    """

    steps: Padded
    state: State
    features: Padded | None = None
    raw: Raw = field(default_factory=dict)
