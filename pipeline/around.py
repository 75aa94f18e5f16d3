"""What a head stands in: all that its section has to know of the rest of the model. Knows nothing of heads' settings."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from pipeline.cores import CoreSection
from pipeline.data.words import Words
from pipeline.heads.segment import Segment


class Around(NamedTuple):
    """What a head stands in: the width of the core's outputs, looks a second, whether the core can stream, the width of what
    the core is given, the sense with the width of its raw sequence, and how many looks make one step of the core; of a
    sense of tokens its words and their embedding; pixels a side of frames; the section of the core; the segment head that
    a caption describes.
    """

    input_size: int
    rate: float
    is_causal: bool
    watched_size: int = 0
    sense: str = "frames"
    width: int = 0
    patch: int = 1
    words: Words | None = None
    embedding: nn.Embedding | None = None
    size: int = 0
    core: CoreSection | None = None
    segment: Segment | None = None
