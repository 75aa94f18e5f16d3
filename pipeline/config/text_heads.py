"""The sections of heads that answer with texts: caption, transcribe, language.

In: validated settings, and facts about the model (`HeadContext`). Out: heads. Knows nothing of data on disk or
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.base import Fraction, Positive, Section
from pipeline.config.head_context import HeadContext
from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import SETTINGS, Level, PreTokenizer, Tokenizer
from pipeline.models.choices import Attention, CaptionMetric, DecoderCell

if TYPE_CHECKING:  # a module of a head is imported when one is built
    from pipeline.heads.caption import Caption
    from pipeline.heads.language import Language
    from pipeline.heads.transcribe import Transcribe


class CaptionSection(Section):
    """A sentence, by a recurrent decoder. It learns from all captions of a row. With texts as input it translates."""

    kind: Literal["caption"] = "caption"
    requires: ClassVar[str | None] = "caption"
    attention: Annotated[
        Attention,
        Field(description="soft: attention over the steps; mean: equal weights; none: the core's last state alone"),
    ] = "soft"
    attend_to: Annotated[
        Literal["steps", "spans"],
        Field(
            description="what attention reads: the steps, or the predicted spans of the head in segment_head, which "
            "keeps their order"
        ),
    ] = "steps"
    input_feeding: Annotated[
        bool,
        Field(description="the last attention output is an input of the next step: better order of events, but slower"),
    ] = False
    cell: Annotated[DecoderCell, Field(description="the recurrent cell of the decoder")] = "gru"
    hidden: Annotated[Positive, Field(description="units of the decoder")] = 256
    embedding: Annotated[
        int, Field(gt=0, description="width of a token's vector; the output layer has the same weights")
    ] = 256
    level: Annotated[Level, Field(description="what a token is: a word, a subword (BPE) or a character")] = "subword"
    vocabulary_size: Annotated[int, Field(gt=4, description="most tokens of the vocabulary")] = 8000
    min_count: Annotated[int, Field(gt=0, description="a word that is rarer in the training captions is unknown")] = 1
    pre_tokenizer: Annotated[
        PreTokenizer, Field(description="where words end: at spaces, or at spaces and punctuation")
    ] = "spaces"
    lowercase: Annotated[bool, Field(description="convert captions to lower case")] = False
    max_length: Annotated[int, Field(gt=1, description="most tokens of a sentence")] = 40
    dropout: Annotated[Fraction, Field(description="dropout in the decoder")] = 0.3
    label_smoothing: Annotated[Fraction, Field(description="label smoothing of the cross-entropy")] = 0.1
    scheduled_sampling: Annotated[
        Fraction,
        Field(description="share of training inputs that are the model's own tokens, not those of the caption"),
    ] = 0.0
    self_critical: Annotated[
        bool,
        Field(
            description="maximise CIDEr-D by self-critical training; start from a trained model (training.init_from)"
        ),
    ] = False
    beam: Annotated[int, Field(gt=0, description="hypotheses of the beam search; 1: greedy")] = 5
    length_penalty: Annotated[
        float,
        Field(ge=0, description="exponent of the length that divides a log-probability; 0 prefers short sentences"),
    ] = 0.7
    no_repeat_ngram: Annotated[Positive | None, Field(description="no n-gram of this length occurs twice")] = None
    segment_head: Annotated[
        str | None, Field(description="a segment head of this model; each of its spans gets a sentence too")
    ] = None
    monitor: Annotated[CaptionMetric, Field(description="the metric that chooses the best epoch")] = "cider_d"

    @model_validator(mode="after")
    def _check_segment_head(self) -> CaptionSection:
        if self.attend_to == "spans" and self.segment_head is None:
            raise ValueError(
                "attend_to: spans reads the spans of another head, and segment_head names none; name a segment head "
                "there"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its answers."""
        return ("sentence", "log_probability", *(() if self.segment_head is None else ("spans",)))

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """("caption",) where a row has captions: they teach tokens, and no class."""
        return ("caption",) if row.captions else ()

    def train_tokenizer(self, rows: Sequence[Row]) -> Tokenizer:
        """The tokenizer of the rows' captions. Raises ValueError where they hold no word."""
        captions = [text for row in rows for text in row.captions]
        return Tokenizer.train(captions, **self.model_dump(include=SETTINGS))

    def build(self, name: str, context: HeadContext, vocabulary: Any, counts: Mapping[str, int] | None) -> Caption:
        """The head. vocabulary: the tokenizer of the captions."""
        from pipeline.heads.caption import Caption

        assert isinstance(vocabulary, Tokenizer)
        settings = self.model_dump(exclude={"kind", "embedding", "beam", "attend_to", *SETTINGS})
        return Caption(
            segment=context.segment_head if self.attend_to == "spans" else None,
            name=name,
            input_size=context.input_size,
            tokenizer=vocabulary,
            rate=context.rate / context.patch,
            embedding_size=self.embedding,
            beam_width=self.beam,
            **settings,
        )


class TranscribeSection(Section):
    """A sequence of words without times (CTC). It learns from the first caption of a row, split at spaces."""

    kind: Literal["transcribe"] = "transcribe"
    requires: ClassVar[str | None] = "caption"
    columns: ClassVar[tuple[str, ...]] = ("sentence", "log_probability", "spans")
    dropout: Annotated[Fraction, Field(description="dropout on the core's outputs")] = 0.3
    beam: Annotated[int, Field(gt=0, description="hypotheses of the prefix beam search; 1: the best path")] = 16
    lm_weight: Annotated[
        float, Field(ge=0, description="weight of a language model of the training sentences; 0: none")
    ] = 0.5
    lm_order: Annotated[Literal[1, 2], Field(description="order of the language model: unigrams or bigrams")] = 2
    word_bonus: Annotated[float, Field(description="what each word adds to the log-probability")] = 0.0

    @model_validator(mode="after")
    def _check_beam(self) -> TranscribeSection:
        if self.beam == 1 and (self.lm_weight or self.word_bonus):
            raise ValueError(
                f"beam is 1, and lm_weight = {self.lm_weight:g} with word_bonus = {self.word_bonus:g} choose between "
                "sentences; set a beam of 2 or more, such as 16, or both to 0"
            )
        return self

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """The words of a row's first caption."""
        return tuple(row.captions[0].split()) if row.captions else ()

    def build(self, name: str, context: HeadContext, vocabulary: Any, counts: Mapping[str, int] | None) -> Transcribe:
        """The head."""
        from pipeline.heads.transcribe import Transcribe

        return Transcribe(
            name=name,
            input_size=context.input_size,
            vocabulary=vocabulary,
            rate=context.rate / context.patch,
            beam_width=self.beam,
            **self.model_dump(exclude={"kind", "beam"}),
        )


class LanguageSection(Section):
    """The next token. It learns from the text itself, and needs an encoder of tokens and a core of one direction."""

    kind: Literal["language"] = "language"
    requires: ClassVar[str | None] = None
    columns: ClassVar[tuple[str, ...]] = ("log_probability", "tokens", "perplexity")
    tie_weights: Annotated[bool, Field(description="the output layer has the weights of the encoder's embedding")] = (
        True
    )
    dropout: Annotated[Fraction, Field(description="dropout on the core's outputs")] = 0.3

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """None: the target is the text itself."""
        return ()

    def build(self, name: str, context: HeadContext, vocabulary: Any, counts: Mapping[str, int] | None) -> Language:
        """The head. vocabulary is not used: the tokens are those of the encoder."""
        from pipeline.heads.language import Language

        assert context.tokenizer is not None, "Architecture checks that the encoder is of tokens"
        return Language(
            name=name,
            input_size=context.input_size,
            tokenizer=context.tokenizer,
            embedding=context.embedding if self.tie_weights else None,
            dropout=self.dropout,
        )
