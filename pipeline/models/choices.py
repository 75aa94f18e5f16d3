"""The closed choices of the settings of heads and generators, as types.

They stand here alone, so that the sections of a config do not import every head. Knows nothing of what they choose.
"""

from __future__ import annotations

from typing import Literal

Pool = Literal["mean", "last", "attention"]
Scheme = Literal["plain", "iob2", "each"]
"""plain: a span is a run of equal labels. iob2: the first step of a span has a label of its own (Tjong Kim Sang &
Veenstra 1999), so that two adjacent spans of one class stay two. each: every step is a span, as for parts of speech."""
Mode = Literal["direct", "recursive"]
Point = Literal["mean", "median"]
Attention = Literal["soft", "mean", "none"]
DecoderCell = Literal["lstm", "gru"]
CaptionMetric = Literal["cider_d", "bleu_4"]
Motion = Literal["core", "independent"]
GanLoss = Literal["hinge", "relativistic"]
