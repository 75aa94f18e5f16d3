"""The settings that make a model: clock, encoder, core and heads. They are stored with the weights.

In: validated settings and the vocabularies. Out: a `Model`. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from pipeline.config.base import Section
from pipeline.config.core import CoreSection
from pipeline.config.encoders import ClockSection, EncoderSection, FramesSection, TokensSection
from pipeline.config.head_context import HeadContext
from pipeline.config.heads import ClassifySection, HeadSection
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import Vocabulary
from pipeline.encoders.backbone import Backbone
from pipeline.encoders.cnn_runtime import (
    FeatureExtractor,
    FeatureRequests,
    build_feature_extractor,
    build_feature_requests,
    runtime_name,
)
from pipeline.encoders.frames import FramesEncoder
from pipeline.encoders.tokens import TokensEncoder
from pipeline.models.model import Encoder, Model

ROW_COLUMNS = ("path", "status", "seconds", "looks", "warnings", "error")
"""The columns of every row of answers, besides those of the heads."""
TOKENS = "tokens"
"""The key of the encoder's tokenizer among the vocabularies of the heads."""
LOOKS = 1
"""Part of the fingerprint of features and answers. Raise it by one when the timeline, the clock, the transform or a
reader changes what a model sees.
"""
DECODER_PACKAGES = {"pyav": "av", "opencv": "opencv-python-headless", "decord": "decord"}


class Architecture(Section):
    """All settings that make a model; they are stored with its weights."""

    clock: ClockSection = ClockSection()
    encoder: EncoderSection = FramesSection()
    core: CoreSection = CoreSection()
    heads: Annotated[dict[str, HeadSection], Field(min_length=1)] = {"action": ClassifySection()}  # noqa: RUF012

    @field_validator("heads")
    @classmethod
    def _check_names(cls, heads: dict[str, Any]) -> dict[str, Any]:
        for name in heads:
            if not name.isidentifier() or name in (*ROW_COLUMNS, TOKENS) or hasattr(nn.ModuleDict, name):
                raise ValueError(
                    f"a head cannot be called '{name}': it names columns and parameters. Use letters, digits and _, "
                    f"but none of {', '.join((*ROW_COLUMNS, TOKENS))}, nor a word of Python's dictionaries"
                )
        return heads

    @model_validator(mode="before")
    @classmethod
    def _set_default_kinds(cls, values: Any) -> Any:
        """Defaults that depend on others: encoder.kind is frames, a head's kind classify; a head of kind generate makes
        features; the clock of texts has 1 look a second.
        """
        if isinstance(values, dict) and isinstance(values.get("encoder"), dict):
            encoder = {"kind": "frames", **values["encoder"]}
            clock = {"clock": {"rate": 1.0}} if encoder["kind"] == "tokens" else {}
            values = {**clock, **values, "encoder": encoder}
        if isinstance(values, dict) and isinstance(values.get("heads"), dict):
            values = {**values, "heads": {name: _with_kind(head) for name, head in values["heads"].items()}}
        return values

    @model_validator(mode="after")
    def _check_causality(self) -> Architecture:
        for name, head in self.heads.items():
            if head.kind in ("forecast", "anticipate") and self.core.bidirectional:
                raise ValueError(
                    f"the head '{name}' predicts what comes next, and a bidirectional core has read it already; use "
                    "core.bidirectional: false"
                )
            if head.kind == "anticipate" and self.encoder.kind == "series" and self.encoder.patch > 1:
                raise ValueError(
                    f"the head '{name}' needs a step of the core for each look, and encoder.patch = "
                    f"{self.encoder.patch} joins looks; use encoder.patch: 1"
                )
        return self

    @model_validator(mode="after")
    def _check_generators(self) -> Architecture:
        for name, head in self.heads.items():
            if head.kind != "generate":
                continue
            core = head.core or self.core
            if core.cell == "mean" or core.bidirectional:
                raise ValueError(
                    f"the head '{name}' generates by a core of one direction, and core is {core.cell}"
                    f"{', bidirectional' if core.bidirectional else ''}; set core.cell: gru and "
                    "core.bidirectional: false, here or in the head"
                )
            kinds = {"frames": ("frames",), "tokens": ("tokens",), "features": ("frames", "series")}[head.makes]
            if self.encoder.kind not in kinds:
                raise ValueError(
                    f"the head '{name}' makes {head.makes}, and encoder.kind is {self.encoder.kind}; it would be "
                    f"{' or '.join(kinds)}"
                )
            if self.encoder.kind == "tokens" and not self.encoder.add_bos_eos:
                raise ValueError(
                    f"the head '{name}' generates texts that begin and end, and encoder.add_bos_eos is false; set "
                    "encoder.add_bos_eos: true"
                )
            size = self.encoder.size if self.encoder.kind == "frames" else 0
            if head.makes == "frames" and (size & (size - 1) or size < 8):
                raise ValueError(
                    f"the head '{name}' makes frames whose side is a power of two, and encoder.size is {size}; set for "
                    "example 32"
                )
        return self

    @model_validator(mode="after")
    def _check_texts(self) -> Architecture:
        is_text = self.encoder.kind == "tokens"
        if is_text and self.clock.rate != 1:
            raise ValueError(
                f"clock.rate is {self.clock.rate:g}, and a token of a text is a second; leave it out, or set 1"
            )
        for name, head in self.heads.items():
            if isinstance(self.encoder, TokensSection) and self.encoder.add_bos_eos and head.requires == "span":
                raise ValueError(
                    f"the head '{name}' learns from spans, which count the tokens of the text, and encoder.add_bos_eos "
                    "adds a token before them, so every label would be one token late; set encoder.add_bos_eos: false"
                )
            if head.kind == "language" and not is_text:
                raise ValueError(
                    f"the head '{name}' predicts the next token, and encoder.kind is {self.encoder.kind}; use "
                    "encoder.kind: tokens"
                )
            if head.kind == "language" and self.core.bidirectional:
                raise ValueError(
                    f"the head '{name}' predicts the next token, and a bidirectional core has read it already; use "
                    "core.bidirectional: false"
                )
            if head.kind == "forecast" and is_text:
                raise ValueError(f"the head '{name}' forecasts numbers, and encoder.kind is tokens; use kind: language")
            if head.kind == "caption" and head.segment_head is not None:
                other = self.heads.get(head.segment_head)
                if other is None or other.kind != "segment":
                    raise ValueError(
                        f"the head '{name}' describes the spans of '{head.segment_head}', which is no segment head of "
                        "this model; name one, or leave segment_head out"
                    )
        return self

    def build(
        self,
        vocabularies: Mapping[str, Vocabulary | Tokenizer],
        *,
        input_size: int | None = None,
        counts: Mapping[str, Mapping[str, int]] | None = None,
        backbone: Backbone | None = None,
    ) -> Model:
        """The model with fresh weights.

        vocabularies: one for each head, and under "tokens" the encoder's tokenizer. input_size: the width of series.
        counts: by head, how many training rows teach each class. backbone: the CNN, where it is there already.
        """
        tokenizer = vocabularies.get(TOKENS)
        if isinstance(self.encoder, TokensSection):
            assert isinstance(tokenizer, Tokenizer), "an encoder of tokens has a tokenizer"
            encoder: Encoder = self.encoder.build(tokenizer)
        elif isinstance(self.encoder, FramesSection):
            encoder = self.encoder.build(backbone)
        else:
            encoder = self.encoder.build(input_size)
        core = self.core.build(encoder.output_size)
        context = HeadContext(
            input_size=core.output_size,
            rate=self.clock.rate,
            is_causal=core.is_causal,
            feature_size=encoder.feature_size,
            has_frozen_features=encoder.has_frozen_features,
            sense=self.encoder.kind,
            width=encoder.backbone.output_size if isinstance(encoder, FramesEncoder) else input_size or 0,
            patch=self.encoder.patch if self.encoder.kind == "series" else 1,
            tokenizer=tokenizer if isinstance(tokenizer, Tokenizer) else None,
            embedding=encoder.embedding if isinstance(encoder, TokensEncoder) else None,
            frame_size=self.encoder.size if self.encoder.kind == "frames" else 0,
            core_section=self.core,
        )
        heads: dict[str, Any] = {}
        # caption heads last: they describe the spans of other heads
        for name, section in sorted(self.heads.items(), key=lambda item: item[1].kind == "caption"):
            segment_head = heads.get(section.segment_head or "") if section.kind == "caption" else None
            head_counts = (counts or {}).get(name)
            build: Any = section.build
            heads[name] = build(name, context._replace(segment_head=segment_head), vocabularies[name], head_counts)
        return Model(encoder, core, {name: heads[name] for name in self.heads})

    def columns(self) -> dict[str, tuple[str, ...]]:
        """By head, the columns of its answers."""
        return {name: section.columns for name, section in self.heads.items()}

    def build_feature_extractor(self, device: torch.device, backbone: Backbone) -> FeatureExtractor:
        """The frozen CNN as a function: frames (T, S, S, 3) -> features (T, D)."""
        assert isinstance(self.encoder, FramesSection), "only an encoder of frames has a CNN"
        return build_feature_extractor(backbone, self.encoder.runtime, device, self.encoder.precision)

    def build_feature_requests(self, device: torch.device, backbone: Backbone) -> FeatureRequests:
        """The frozen CNN of a folder job, whose requests are filled across videos."""
        assert isinstance(self.encoder, FramesSection), "only an encoder of frames has a CNN"
        return build_feature_requests(backbone, self.encoder.runtime, device, self.encoder.precision)

    def made_by(self, device: torch.device, backbone: Backbone) -> dict[str, Any]:
        """Everything besides the video that determines stored features: weights, preprocessing, decoder and its
        version, the CNN's runtime and precision. The feature store hashes it, keys included.
        """
        section = self.encoder
        assert isinstance(section, FramesSection), "only an encoder of frames has a CNN"
        return {
            "looks": LOOKS,
            "backbone": backbone.fingerprint(),
            "mean": backbone.get_buffer("mean").flatten().tolist(),
            "std": backbone.get_buffer("std").flatten().tolist(),
            "runtime": runtime_name(section.runtime, device, section.precision),
            "size": section.size,
            "resize": section.resize,
            "rate": self.clock.rate,
            "decoder": section.decoder,
            "decoder_version": version(DECODER_PACKAGES[section.decoder]),
            "dtype": "float16",
        }


def _with_kind(head: Any) -> Any:
    """The settings of a head with its kind and, where it generates, with what it makes."""
    if not isinstance(head, dict):
        return head
    head = {"kind": "classify", **head}
    return {"makes": "features", **head} if head["kind"] == "generate" else head
