"""The sections of the clock and of the encoders: frames, series, tokens.

In: validated settings. Out: encoders. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.base import Fraction, Section
from pipeline.data.tokenizer import SETTINGS, Level, PreTokenizer, Tokenizer
from pipeline.data.word_vectors import read_vectors
from pipeline.encoders.adapter import Adapter, Normalise
from pipeline.encoders.backbone import BUNDLED, Backbone, StoredCnn
from pipeline.encoders.cnn_runtime import CnnPrecision, CnnRuntime
from pipeline.encoders.frames import FramesEncoder
from pipeline.encoders.series import SeriesEncoder
from pipeline.encoders.tokens import CHARACTER_EMBEDDING, TokensEncoder
from pipeline.media.clip import Backend
from pipeline.media.clock import Clock
from pipeline.media.transform import Transform
from pipeline.models.recurrent.core import Core


class ClockSection(Section):
    """How often a frame of a video is taken. Such a frame is called a look."""

    rate: Annotated[float, Field(gt=0, le=120, description="looks a second, by presentation time")] = 4.0

    def build(self) -> Clock:
        """The one clock of training, batch prediction and streams."""
        return Clock(self.rate)


class FramesSection(Section):
    """An encoder of video frames: decoder, CNN and projection."""

    kind: Literal["frames"] = "frames"
    decoder: Annotated[
        Backend, Field(description="the library that decodes the files; pyav is correct on every file that was tested")
    ] = "pyav"
    size: Annotated[int, Field(ge=8, le=1024, description="pixels a side of the CNN's input")] = 224
    resize: Annotated[
        Literal["letterbox", "squash", "crop"],
        Field(description="how a frame is made square: add borders, stretch, or cut"),
    ] = "letterbox"
    backbone: Annotated[
        str, Field(description="a timm model, or pixels: no CNN, the mean colours of the grid's cells")
    ] = BUNDLED
    weights: Annotated[
        str, Field(description="imagenet (comes with the package), timm (is downloaded), none (random), or a file")
    ] = "imagenet"
    grid: Annotated[
        int,
        Field(ge=1, le=32, description="cells a side in which the CNN's last map is averaged; 1: global mean pooling"),
    ] = 2
    train_blocks: Annotated[
        int, Field(ge=0, description="last stages of the CNN that are trained; 0: it is frozen")
    ] = 0
    runtime: Annotated[CnnRuntime, Field(description="the library that runs the frozen CNN")] = "auto"
    precision: Annotated[
        CnnPrecision,
        Field(description="of the frozen CNN; auto: bf16 by OpenVINO where the processor computes in it, else float32"),
    ] = "auto"
    project: Annotated[int, Field(ge=0, description="width of the core's input; 0: that of the features")] = 128
    normalise: Annotated[
        Normalise, Field(description="normalisation of the features: layer norm, fitted on the training rows, or none")
    ] = "layer"
    dropout: Annotated[Fraction, Field(description="dropout on the features, one mask per sequence")] = 0.5

    def transform(self) -> Transform:
        """The one resize of this model: any frame -> (size, size, 3)."""
        return Transform(self.size, self.resize)

    def build_backbone(self) -> Backbone:
        """The CNN with its weights."""
        return Backbone(
            name=self.backbone, weights=self.weights, size=self.size, grid=self.grid, train_blocks=self.train_blocks
        )

    def stored_backbone(self, cnn: StoredCnn) -> Backbone:
        """The CNN of a model folder. timm builds its network only when it has to run."""
        return Backbone(name=self.backbone, size=self.size, grid=self.grid, train_blocks=self.train_blocks, stored=cnn)

    def build(self, backbone: Backbone | None = None) -> FramesEncoder:
        """Backbone and adapter. backbone: one that is there already."""
        backbone = backbone or self.build_backbone()
        adapter = Adapter(
            input_size=backbone.output_size, project=self.project, normalise=self.normalise, dropout=self.dropout
        )
        return FramesEncoder(backbone=backbone, adapter=adapter)


class SeriesSection(Section):
    """An encoder of stored sequences (features, poses, sensors): .npy files (T, D), one step for each look."""

    kind: Literal["series"] = "series"
    patch: Annotated[int, Field(gt=0, description="steps of the series that make one step of the core")] = 1
    subtract_last: Annotated[
        bool, Field(description="encode a patch as the differences to its last value, and that value")
    ] = False
    project: Annotated[int, Field(ge=0, description="width of the core's input; 0: that of the series")] = 128
    normalise: Annotated[
        Normalise, Field(description="normalisation of the patches: fitted on the training rows, layer norm, or none")
    ] = "fitted"
    dropout: Annotated[Fraction, Field(description="dropout on the series, one mask per sequence")] = 0.2

    def build(self, input_size: int | None) -> SeriesEncoder:
        """The encoder of series (B, T, input_size)."""
        assert input_size is not None, "series have a width"
        width = SeriesEncoder.patch_size(input_size, self.patch, self.subtract_last)
        adapter = Adapter(input_size=width, project=self.project, normalise=self.normalise, dropout=self.dropout)
        return SeriesEncoder(adapter=adapter, patch=self.patch, subtract_last=self.subtract_last)


class TokensSection(Section):
    """An encoder of texts: words, subwords or characters. A token is a step of the core and counts as a second."""

    kind: Literal["tokens"] = "tokens"
    level: Annotated[Level, Field(description="what a token is: a word, a subword (BPE) or a character")] = "word"
    vocabulary_size: Annotated[
        int, Field(gt=4, description="most tokens of the vocabulary; the most frequent ones are kept")
    ] = 20_000
    min_count: Annotated[int, Field(gt=0, description="a word that is rarer in the training rows is unknown")] = 1
    pre_tokenizer: Annotated[
        PreTokenizer, Field(description="where words end: at spaces, or at spaces and punctuation")
    ] = "spaces"
    lowercase: Annotated[bool, Field(description="convert texts to lower case")] = False
    add_bos_eos: Annotated[bool, Field(description="add a start token before and an end token after each text")] = False
    embedding: Annotated[int, Field(gt=0, description="width of a token's vector")] = 128
    pretrained_vectors: Annotated[
        str | None, Field(description="word vectors to start from: a text file in the format of GloVe, or .npz")
    ] = None
    embedding_dropout: Annotated[
        Fraction, Field(description="dropout of whole words of the vocabulary, one mask per batch")
    ] = 0.0
    character_hidden: Annotated[
        int, Field(ge=0, description="units of a bidirectional core over the characters of each word; 0: none")
    ] = 0
    project: Annotated[int, Field(ge=0, description="width of the core's input; 0: that of the vectors")] = 0
    normalise: Annotated[Literal["layer", "none"], Field(description="normalisation of the vectors")] = "none"
    dropout: Annotated[Fraction, Field(description="dropout on the vectors, one mask per text")] = 0.3

    def train_tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """The tokenizer of the training texts. Raises ValueError where they hold no word."""
        return Tokenizer.train(texts, with_characters=self.character_hidden > 0, **self.model_dump(include=SETTINGS))

    def build(self, tokenizer: Tokenizer) -> TokensEncoder:
        """Embedding, character encoder and adapter. Raises ValueError for vectors that cannot be read."""
        character_encoder = None
        if self.character_hidden:
            character_encoder = Core(
                cell="gru", input_size=CHARACTER_EMBEDDING, hidden=self.character_hidden, bidirectional=True
            )
        width = self.embedding + (character_encoder.output_size if character_encoder else 0)
        encoder = TokensEncoder(
            vocabulary_size=len(tokenizer),
            embedding_size=self.embedding,
            embedding_dropout=self.embedding_dropout,
            adapter=Adapter(input_size=width, project=self.project, normalise=self.normalise, dropout=self.dropout),
            character_encoder=character_encoder,
            num_characters=len(tokenizer.alphabet) + 2,
        )
        if self.pretrained_vectors is not None:
            encoder.set_vectors(read_vectors(self.pretrained_vectors, tokenizer, self.embedding))
        return encoder


EncoderSection = Annotated[FramesSection | SeriesSection | TokensSection, Field(discriminator="kind")]
