"""The sections of heads that answer in words: caption, transcribe, language.

In: validated settings, and what a head stands in (`Around`). Out: heads. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.around import Around
from pipeline.data.manifest import Row
from pipeline.data.words import SETTINGS, Cut, Level, Words
from pipeline.heads.caption import Caption, Watch
from pipeline.heads.language import Language
from pipeline.heads.transcribe import Transcribe
from pipeline.models.decoder import Attention, WriterCell
from pipeline.section import Fraction, Positive, Section


class CaptionSection(Section):
    """In words: learns from the manifest's captions, all of a row. With tokens for frames it translates."""

    kind: Literal["caption"] = "caption"
    wants: ClassVar[str | None] = "caption"
    attention: Annotated[
        Attention,
        Field(description="soft looks back at the steps, mean at all alike, none keeps the first state alone"),
    ] = "soft"
    over: Annotated[
        Literal["steps", "spans"],
        Field(
            description="what is looked back at: the steps, or the spans of the head in `describes`, which keeps their order"
        ),
    ] = "steps"
    feed: Annotated[
        bool, Field(description="the last glance is read beside the next word: follows the order of events, but slower")
    ] = False
    cell: Annotated[WriterCell, Field(description="of the core that writes")] = "gru"
    hidden: Positive = 256
    embedding: Annotated[
        int, Field(gt=0, description="width of a word's vector; they are the readout's weights too")
    ] = 256
    level: Annotated[Level, Field(description="what a token is: a word, a piece of a word, a character")] = "piece"
    vocabulary: Annotated[int, Field(gt=4, description="tokens at most")] = 8000
    minimum: Annotated[int, Field(gt=0, description="a word seen more rarely in training is unknown")] = 1
    cut: Annotated[Cut, Field(description="words end at spaces, or at punctuation too")] = "spaces"
    lower: Annotated[bool, Field(description="all in lower case")] = False
    max_length: Annotated[int, Field(gt=1, description="tokens of a sentence at most")] = 40
    dropout: Fraction = 0.3
    label_smoothing: Fraction = 0.1
    sampling: Annotated[Fraction, Field(description="share of the model's own words read in training")] = 0.0
    self_critical: Annotated[
        bool, Field(description="reward CIDEr-D in place of cross-entropy; begin from a trained model (training.start)")
    ] = False
    beam: Annotated[int, Field(gt=0, description="beginnings that go on side by side; 1 is greedy")] = 5
    length_power: Annotated[float, Field(ge=0, description="how much long sentences are forgiven")] = 0.7
    no_repeated: Annotated[Positive | None, Field(description="no so many tokens in a row are said twice")] = None
    describes: Annotated[
        str | None, Field(description="a segment head of this model: a sentence for each of its spans as well")
    ] = None
    watch: Annotated[Watch, Field(description="the metric that chooses the best epoch")] = "cider_d"

    @model_validator(mode="after")
    def _knows_whose_spans(self) -> CaptionSection:
        if self.over == "spans" and self.describes is None:
            raise ValueError(
                "over: spans looks back at the spans of another head, and describes names none; name a segment head there"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """What its answers are made of."""
        return ("sentence", "log_probability", *(() if self.describes is None else ("spans",)))

    def classes(self, row: Row) -> tuple[str, ...]:
        """A caption teaches words, no class: only whether there is one."""
        return ("caption",) if row.captions else ()

    def learn(self, rows: Sequence[Row]) -> Words:
        """The words of the captions."""
        captions = [text for row in rows for text in row.captions]
        return Words.learn(captions, **self.model_dump(include=SETTINGS))

    def build(self, name: str, around: Around, vocabulary: Any, counts: Mapping[str, int] | None) -> Caption:
        """The head."""
        assert isinstance(vocabulary, Words)
        settings = self.model_dump(exclude={"kind", "embedding", "beam", "over", *SETTINGS})
        return Caption(
            segment=around.segment if self.over == "spans" else None,
            name=name,
            input_size=around.input_size,
            words=vocabulary,
            rate=around.rate / around.patch,
            size=self.embedding,
            width=self.beam,
            **settings,
        )


class TranscribeSection(Section):
    """Which words follow one another, where nobody says when: learns from the first caption of a row, cut at blanks (CTC)."""

    kind: Literal["transcribe"] = "transcribe"
    wants: ClassVar[str | None] = "caption"
    columns: ClassVar[tuple[str, ...]] = ("sentence", "log_probability", "spans")
    dropout: Fraction = 0.3
    beam: Annotated[int, Field(gt=0, description="beginnings that go on side by side; 1 is the best path")] = 16
    lm_weight: Annotated[float, Field(ge=0, description="of a language model over the training words; 0: none")] = 0.5
    lm_order: Annotated[Literal[1, 2], Field(description="how many words in a row it counts")] = 2
    word_bonus: Annotated[float, Field(description="added to a log-probability for each word")] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> TranscribeSection:
        if self.beam == 1 and (self.lm_weight or self.word_bonus):
            raise ValueError(
                f"beam is 1, and lm_weight = {self.lm_weight:g} with word_bonus = {self.word_bonus:g} choose between sentences; "
                "set a beam of 2 or more, such as 16, or both to 0"
            )
        return self

    def classes(self, row: Row) -> tuple[str, ...]:
        """The words that a row teaches."""
        return tuple(row.captions[0].split()) if row.captions else ()

    def build(self, name: str, around: Around, vocabulary: Any, counts: Mapping[str, int] | None) -> Transcribe:
        """The head."""
        return Transcribe(
            name=name,
            input_size=around.input_size,
            vocabulary=vocabulary,
            rate=around.rate / around.patch,
            width=self.beam,
            **self.model_dump(exclude={"kind", "beam"}),
        )


class LanguageSection(Section):
    """Which word comes next: learns from the text itself. For an encoder of tokens, and a core that reads one way."""

    kind: Literal["language"] = "language"
    wants: ClassVar[str | None] = None
    columns: ClassVar[tuple[str, ...]] = ("log_probability", "tokens", "perplexity")
    tied: Annotated[bool, Field(description="the readout's weights are the encoder's embedding")] = True
    dropout: Fraction = 0.3

    def classes(self, row: Row) -> tuple[str, ...]:
        """None: a text is its own truth."""
        return ()

    def build(self, name: str, around: Around, vocabulary: Any, counts: Mapping[str, int] | None) -> Language:
        """The head."""
        assert around.words is not None, "the recipe has looked that the encoder is of tokens"
        return Language(
            name=name,
            input_size=around.input_size,
            words=around.words,
            embedding=around.embedding if self.tied else None,
            dropout=self.dropout,
        )
