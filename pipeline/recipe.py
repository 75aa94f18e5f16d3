"""The sections that make a model, and the model made of them.

In: a validated `Recipe` and the vocabularies. Out: a `Model`. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from pipeline.around import Around
from pipeline.cores import CoreSection
from pipeline.data.vectors import read_vectors
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import SETTINGS, Cut, Level, Words
from pipeline.encoders.adapt import Adapter, Normalise
from pipeline.encoders.backbone import BUNDLED, Backbone
from pipeline.encoders.frames import FramesEncoder
from pipeline.encoders.runtime import Look, Runtime, build_look, runtime_name
from pipeline.encoders.series import SeriesEncoder
from pipeline.encoders.tokens import TokensEncoder
from pipeline.media.clock import Clock
from pipeline.media.decode import Backend
from pipeline.media.transform import Transform
from pipeline.models.core import Core
from pipeline.models.model import Encoder, Model
from pipeline.questions import ClassifySection, HeadSection
from pipeline.section import Fraction, Section


class ClockSection(Section):
    """How often a video is looked at."""

    rate: Annotated[float, Field(gt=0, le=120, description="looks a second, by presentation time")] = 4.0

    def build(self) -> Clock:
        """The one clock of training, batch and stream."""
        return Clock(self.rate)


class FramesSection(Section):
    """The sense of sight: decoder, CNN and projection."""

    kind: Literal["frames"] = "frames"
    decoder: Annotated[Backend, Field(description="who reads the files; pyav is right on every file we know")] = "pyav"
    size: Annotated[int, Field(ge=8, le=1024, description="pixels a side that the CNN sees")] = 224
    fit: Annotated[Literal["letterbox", "squash", "crop"], Field(description="how a frame becomes a square")] = (
        "letterbox"
    )
    backbone: Annotated[str, Field(description="any timm model, or pixels: no CNN, the colours themselves")] = BUNDLED
    weights: Annotated[str, Field(description="imagenet (bundled), timm (downloads), none, or a file")] = "imagenet"
    grid: Annotated[int, Field(ge=1, le=32, description="cells a side of the pooled map; 1 is the mean")] = 2
    train_blocks: Annotated[int, Field(ge=0, description="last stages of the CNN that learn; 0 freezes it")] = 0
    runtime: Annotated[Runtime, Field(description="what runs the frozen CNN")] = "auto"
    project: Annotated[int, Field(ge=0, description="width that the core sees; 0 keeps the features'")] = 128
    normalise: Annotated[Normalise, Field(description="of the features")] = "layer"
    dropout: Annotated[Fraction, Field(description="on the features, one mask a sequence")] = 0.5

    def transform(self) -> Transform:
        """The one resize of this model."""
        return Transform(self.size, self.fit)

    def build_backbone(self) -> Backbone:
        """The CNN with its weights."""
        return Backbone(
            name=self.backbone, weights=self.weights, size=self.size, grid=self.grid, train_blocks=self.train_blocks
        )

    def build(self, input_size: int | None) -> FramesEncoder:
        """Backbone and adapter."""
        backbone = self.build_backbone()
        adapter = Adapter(
            input_size=backbone.output_size, project=self.project, normalise=self.normalise, dropout=self.dropout
        )
        return FramesEncoder(backbone=backbone, adapter=adapter)


class SeriesSection(Section):
    """Stored sequences as a sense: features, poses, sensors, as .npy files (T, D) on the model's clock."""

    kind: Literal["series"] = "series"
    patch: Annotated[int, Field(gt=0, description="steps of the series that make one step of the core")] = 1
    from_last: Annotated[
        bool, Field(description="a patch as its differences from its last value, with that value beside them")
    ] = False
    project: Annotated[int, Field(ge=0, description="width that the core sees; 0 keeps the series'")] = 128
    normalise: Annotated[Normalise, Field(description="of the series, or of its patches")] = "fitted"
    dropout: Annotated[Fraction, Field(description="on the series, one mask a sequence")] = 0.2

    def build(self, input_size: int | None) -> SeriesEncoder:
        """The adapter; input_size is the series' width."""
        assert input_size is not None, "series have a width"
        width = SeriesEncoder.patch_size(input_size, self.patch, self.from_last)
        adapter = Adapter(input_size=width, project=self.project, normalise=self.normalise, dropout=self.dropout)
        return SeriesEncoder(adapter=adapter, patch=self.patch, from_last=self.from_last)


class TokensSection(Section):
    """Texts as a sense: words, pieces of words or characters, one a step of the core; a token is a second."""

    kind: Literal["tokens"] = "tokens"
    level: Annotated[Level, Field(description="what a token is: a word, a piece of a word, a character")] = "word"
    vocabulary: Annotated[int, Field(gt=4, description="tokens at most, the most frequent stay")] = 20_000
    minimum: Annotated[int, Field(gt=0, description="a word seen more rarely in training is unknown")] = 1
    cut: Annotated[Cut, Field(description="words end at spaces, or at punctuation too")] = "spaces"
    lower: Annotated[bool, Field(description="all in lower case")] = False
    ends: Annotated[bool, Field(description="a start token before and an end token behind each text")] = False
    embedding: Annotated[int, Field(gt=0, description="width of a token's vector")] = 128
    vectors: Annotated[
        str | None, Field(description="pre-trained vectors to begin from: a text file like GloVe's, or .npz")
    ] = None
    token_dropout: Annotated[Fraction, Field(description="whole words of the vocabulary, a batch at a time")] = 0.0
    characters: Annotated[
        int, Field(ge=0, description="units of a bidirectional core over each word's characters; 0: none")
    ] = 0
    project: Annotated[int, Field(ge=0, description="width that the core sees; 0 keeps the vectors'")] = 0
    normalise: Annotated[Literal["layer", "none"], Field(description="of the vectors")] = "none"
    dropout: Annotated[Fraction, Field(description="on the vectors, one mask a text")] = 0.3

    def learn(self, texts: Sequence[str]) -> Words:
        """The words of the training texts."""
        return Words.learn(texts, spelled=self.characters > 0, **self.model_dump(include=SETTINGS))

    def build(self, words: Words) -> TokensEncoder:
        """Embedding, speller and adapter."""
        speller = None
        if self.characters:
            speller = Core(cell="gru", input_size=32, hidden=self.characters, bidirectional=True)
        width = self.embedding + (speller.output_size if speller else 0)
        encoder = TokensEncoder(
            vocabulary=len(words),
            size=self.embedding,
            dropout=self.token_dropout,
            adapter=Adapter(input_size=width, project=self.project, normalise=self.normalise, dropout=self.dropout),
            speller=speller,
            alphabet=len(words.alphabet) + 2,
        )
        if self.vectors is not None:
            encoder.set_vectors(read_vectors(self.vectors, words, self.embedding))
        return encoder


ROW_COLUMNS = ("path", "status", "seconds", "looks", "warnings", "error")
"""What every answer says besides its heads."""

TOKENS = "tokens"
"""Where the words of the encoder stand among the vocabularies of the heads."""

EncoderSection = Annotated[FramesSection | SeriesSection | TokensSection, Field(discriminator="kind")]


class Recipe(Section):
    """All that makes a model; it is stored with the weights."""

    clock: ClockSection = ClockSection()
    encoder: EncoderSection = FramesSection()
    core: CoreSection = CoreSection()
    heads: Annotated[dict[str, HeadSection], Field(min_length=1)] = {"action": ClassifySection()}

    @field_validator("heads")
    @classmethod
    def _names_are_columns(cls, heads: dict[str, Any]) -> dict[str, Any]:
        for name in heads:
            if not name.isidentifier() or name in (*ROW_COLUMNS, TOKENS) or hasattr(nn.ModuleDict, name):
                raise ValueError(
                    f"a head cannot be called '{name}': it names columns and parameters. Use letters, digits and _, "
                    f"but none of {', '.join((*ROW_COLUMNS, TOKENS))}, nor a word of Python's dictionaries"
                )
        return heads

    @model_validator(mode="before")
    @classmethod
    def _kinds_by_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("encoder"), dict):
            encoder = {"kind": "frames", **values["encoder"]}
            clock = {"clock": {"rate": 1.0}} if encoder["kind"] == "tokens" else {}
            values = {**clock, **values, "encoder": encoder}
        if isinstance(values, dict) and isinstance(values.get("heads"), dict):
            heads = values["heads"].items()
            named = {n: {"kind": "classify", **h} if isinstance(h, dict) else h for n, h in heads}
            values = {**values, "heads": named}
        return values

    @model_validator(mode="after")
    def _nobody_sees_the_future(self) -> Recipe:
        for name, head in self.heads.items():
            if head.kind in ("forecast", "anticipate") and self.core.bidirectional:
                raise ValueError(
                    f"the head '{name}' says what comes next, and a bidirectional core has read it already; use "
                    "core.bidirectional: false"
                )
            if head.kind == "anticipate" and self.encoder.kind == "series" and self.encoder.patch > 1:
                raise ValueError(
                    f"the head '{name}' needs a step of the core for each look, and encoder.patch = {self.encoder.patch} "
                    "joins looks; use encoder.patch: 1"
                )
        return self

    @model_validator(mode="after")
    def _can_generate(self) -> Recipe:
        for name, head in self.heads.items():
            if head.kind != "generate":
                continue
            core = head.core or self.core
            if core.cell == "mean" or core.bidirectional:
                raise ValueError(
                    f"the head '{name}' moves by a core of one direction, and core is {core.cell}"
                    f"{', bidirectional' if core.bidirectional else ''}; set core.cell: gru and core.bidirectional: false, here or in the head"
                )
            needed = {"frames": ("frames",), "tokens": ("tokens",), "features": ("frames", "series")}[head.makes]
            if self.encoder.kind not in needed:
                raise ValueError(
                    f"the head '{name}' makes {head.makes}, and encoder.kind is {self.encoder.kind}; it would be {' or '.join(needed)}"
                )
            if self.encoder.kind == "tokens" and not self.encoder.ends:
                raise ValueError(
                    f"the head '{name}' writes texts that begin and end, and encoder.ends is false; set encoder.ends: true"
                )
            if (
                head.makes == "frames"
                and self.encoder.kind == "frames"
                and (self.encoder.size & (self.encoder.size - 1) or self.encoder.size < 8)
            ):
                raise ValueError(
                    f"the head '{name}' makes frames whose side is a power of two, and encoder.size is {self.encoder.size}; set for example 32"
                )
        return self

    @model_validator(mode="after")
    def _words_fit(self) -> Recipe:
        is_text = self.encoder.kind == "tokens"
        if is_text and self.clock.rate != 1:
            raise ValueError(
                f"clock.rate is {self.clock.rate:g}, and a token of a text is a second; leave it out, or set 1"
            )
        for name, head in self.heads.items():
            if head.kind == "language" and not is_text:
                raise ValueError(
                    f"the head '{name}' says which word comes next, and encoder.kind is {self.encoder.kind}; use "
                    "encoder.kind: tokens"
                )
            if head.kind == "language" and self.core.bidirectional:
                raise ValueError(
                    f"the head '{name}' says which word comes next, and a bidirectional core has read it already; use "
                    "core.bidirectional: false"
                )
            if head.kind == "forecast" and is_text:
                raise ValueError(f"the head '{name}' forecasts numbers, and encoder.kind is tokens; use kind: language")
            if head.kind == "caption" and head.describes is not None:
                other = self.heads.get(head.describes)
                if other is None or other.kind != "segment":
                    raise ValueError(
                        f"the head '{name}' describes the spans of '{head.describes}', which is no segment head of this "
                        "model; name one, or leave describes out"
                    )
        return self

    def build(
        self,
        vocabularies: Mapping[str, Vocabulary | Words],
        *,
        input_size: int | None = None,
        counts: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Model:
        """The model. vocabularies: one a head, and under "tokens" the encoder's words. input_size: the width of series.
        counts: by head, how many training rows teach each class.
        """
        words = vocabularies.get(TOKENS)
        if isinstance(self.encoder, TokensSection):
            assert isinstance(words, Words), "an encoder of tokens has words"
            encoder: Encoder = self.encoder.build(words)
        else:
            encoder = self.encoder.build(input_size)
        core = self.core.build(encoder.output_size)
        patch = self.encoder.patch if self.encoder.kind == "series" else 1
        width = encoder.backbone.output_size if isinstance(encoder, FramesEncoder) else input_size or 0
        around = Around(
            core.output_size,
            self.clock.rate,
            core.is_causal,
            encoder.output_size,
            self.encoder.kind,
            width,
            patch,
            words if isinstance(words, Words) else None,
            encoder.embedding if isinstance(encoder, TokensEncoder) else None,
            self.encoder.size if self.encoder.kind == "frames" else 0,
            self.core,
        )
        heads: dict[str, Any] = {}
        for name, section in sorted(
            self.heads.items(), key=lambda one: one[1].kind == "caption"
        ):  # they describe the others
            told = heads.get(section.describes or "") if section.kind == "caption" else None
            known = around._replace(segment=told)
            heads[name] = section.build(name, known, vocabularies[name], (counts or {}).get(name))  # type: ignore[arg-type]
        return Model(encoder, core, {name: heads[name] for name in self.heads})

    def columns(self) -> dict[str, tuple[str, ...]]:
        """By head, what its answers are made of."""
        return {name: section.columns for name, section in self.heads.items()}

    def build_look(self, device: torch.device, backbone: Backbone) -> Look:
        """The frozen CNN as a function of pixels."""
        assert isinstance(self.encoder, FramesSection), "only frames are looked at"
        return build_look(backbone, self.encoder.runtime, device)

    def made_by(self, device: torch.device, backbone: Backbone) -> dict[str, Any]:
        """What stored features depend on besides the video."""
        section = self.encoder
        assert isinstance(section, FramesSection), "only frames are looked at"
        return {
            "backbone": backbone.fingerprint(),
            "runtime": runtime_name(section.runtime, device),
            "size": section.size,
            "fit": section.fit,
            "rate": self.clock.rate,
            "decoder": section.decoder,
            "decoder_version": _version(section.decoder),
            "dtype": "float16",
        }


def _version(decoder: Backend) -> str:
    from importlib.metadata import version

    return version({"pyav": "av", "opencv": "opencv-python-headless", "decord": "decord"}[decoder])
