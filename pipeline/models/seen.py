"""What the core knows after watching."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.data.batch import Raw
from pipeline.models.core import State
from pipeline.padded import Padded


@dataclass(frozen=True)
class Seen:
    """steps: (B, T, H), the core's output at every look; state: after the last valid step of each row; inputs: (B, T, P),
    what the core was given, for heads that ask how usual it is; raw: what was watched, for heads whose truth it is (what
    comes next).
    """

    steps: Padded
    state: State
    inputs: Padded | None = None
    raw: Raw = field(default_factory=dict)
