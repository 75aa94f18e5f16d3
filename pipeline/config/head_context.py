"""The facts about a model that the section of a head needs to build the head. Knows nothing of the heads' settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from pipeline.config.core import CoreSection
from pipeline.data.tokenizer import Tokenizer

if TYPE_CHECKING:  # a module of a head is imported when one is built
    from pipeline.heads.segment import Segment


class HeadContext(NamedTuple):
    """What a head needs to know about the rest of the model.

    input_size: width of the core's outputs. rate: looks a second. is_causal: whether the core can stream.
    feature_size: width of the features before the projection. has_frozen_features: whether nothing that learns makes
    them. sense: the kind of input, "frames", "series" or "tokens". width: channels of the features or of the series
    before the adapter, 0 for tokens. patch: looks in one step of the core.
    tokenizer, embedding: those of an encoder of tokens. frame_size: pixels a side of the frames, 0 without frames.
    core_section: the section of the model's core. segment_head: the segment head whose spans a caption head describes.
    """

    input_size: int
    rate: float
    is_causal: bool
    feature_size: int = 0
    has_frozen_features: bool = True
    sense: str = "frames"
    width: int = 0
    patch: int = 1
    tokenizer: Tokenizer | None = None
    embedding: nn.Embedding | None = None
    frame_size: int = 0
    core_section: CoreSection | None = None
    segment_head: Segment | None = None
