"""The sections of heads: what each asks, learns from and answers with.

In: validated settings, and what a head stands in (`Around`). Out: heads. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator
from torch import nn

from pipeline.cores import CoreSection
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import SETTINGS, START, Cut, Level, Words
from pipeline.heads.anticipate import Anticipate
from pipeline.heads.caption import Caption, Watch
from pipeline.heads.classify import Classify, Pool
from pipeline.heads.forecast import Forecast, Mode, Point
from pipeline.heads.generate import Generate
from pipeline.heads.language import Language
from pipeline.heads.segment import Segment
from pipeline.heads.tags import Scheme, tags_of
from pipeline.heads.transcribe import Transcribe
from pipeline.models.adversary import Game
from pipeline.models.core import Core
from pipeline.models.critic import Critic, picture_encoder
from pipeline.models.decoder import Attention, WriterCell
from pipeline.models.generator import FeatureMaker, FrameMaker, Generator, Makes, Motion, TokenGenerator
from pipeline.section import Fraction, Positive, Section


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


class ClassifySection(Section):
    """Which class: learns from the manifest's labels."""

    kind: Literal["classify"] = "classify"
    wants: ClassVar[str | None] = "label"
    columns: ClassVar[tuple[str, ...]] = ("label", "score", "top", "unknown", "distance")
    pool: Annotated[Pool, Field(description="mean of the step logits, the last step, or attention")] = "mean"
    dropout: Fraction = 0.5
    label_smoothing: Fraction = 0.1
    class_weights: Annotated[Literal["none", "balanced"], Field(description="balanced: rare classes count more")] = (
        "none"
    )
    step_loss: Annotated[float, Field(ge=0, le=1, description="share of the steps' own cross-entropy")] = 0.0

    def classes(self, row: Row) -> tuple[str, ...]:
        """What a row teaches; nothing where it has no label."""
        return () if row.label is None else (row.label,)

    def build(self, name: str, around: Around, vocabulary: Vocabulary, counts: Mapping[str, int] | None) -> Classify:
        """The head; counts of the training labels give the balanced weights."""
        weights = None
        if self.class_weights == "balanced" and counts is not None:
            total = sum(counts.values())
            weights = [total / (len(vocabulary) * max(1, counts.get(label, 0))) for label in vocabulary.names]
        return Classify(
            name=name,
            input_size=around.input_size,
            vocabulary=vocabulary,
            watched_size=around.watched_size,
            pool=self.pool,
            dropout=self.dropout,
            label_smoothing=self.label_smoothing,
            class_weights=weights,
            step_loss=self.step_loss,
        )


class SegmentSection(Section):
    """What happens when: learns from the manifest's spans, a label for every look and a CRF over them."""

    kind: Literal["segment"] = "segment"
    wants: ClassVar[str | None] = "span"
    columns: ClassVar[tuple[str, ...]] = ("spans",)
    background: Annotated[
        str | None, Field(min_length=1, description="name of what no span covers; null where spans tile a video")
    ] = "background"
    crf: Annotated[bool, Field(description="a linear-chain CRF over the looks; false judges each look alone")] = True
    minimum_seconds: Annotated[float, Field(ge=0, description="no shorter span is answered (needs the CRF)")] = 0.0
    lag_seconds: Annotated[float, Field(ge=0, description="a stream settles a label so much later")] = 1.0
    delay_seconds: Annotated[
        float, Field(ge=0, description="a core that reads one way says a label so much later, as part of the lag")
    ] = 0.0
    dropout: Fraction = 0.3
    step_loss: Annotated[float, Field(ge=0, description="weight of each look's own cross-entropy beside the CRF's")] = (
        0.5
    )

    scheme: Annotated[
        Scheme,
        Field(
            description="iob2: neighbours of one label stay apart (entities); each: every step is a span (parts of speech)"
        ),
    ] = "plain"

    def classes(self, row: Row) -> tuple[str, ...]:
        """What a row teaches; nothing where it has no spans to learn and no text to learn that from."""
        if not row.spans and (row.text is None or self.background is None):
            return ()
        background = () if self.background is None else (self.background,)
        return (*(tag for span in row.spans for tag in tags_of(span, self.scheme)), *background)

    @model_validator(mode="after")
    def _fits(self) -> SegmentSection:
        if self.delay_seconds > self.lag_seconds:
            raise ValueError(
                f"delay_seconds is {self.delay_seconds:g} and lag_seconds {self.lag_seconds:g}: the delay is part of the lag; "
                f"set delay_seconds to {self.lag_seconds:g} at most, or lag_seconds to {self.delay_seconds:g}"
            )
        if self.scheme == "iob2" and (self.background is None or self.minimum_seconds):
            raise ValueError(
                f"scheme iob2 needs a background, and no minimum_seconds; they are {self.background} and "
                f"{self.minimum_seconds:g}. Set background: O and minimum_seconds: 0"
            )
        if self.minimum_seconds and not self.crf:
            raise ValueError(
                "minimum_seconds needs the CRF, which keeps the spans that long; set crf: true or leave it 0"
            )
        return self

    def build(self, name: str, around: Around, vocabulary: Vocabulary, counts: Mapping[str, int] | None) -> Segment:
        """The head."""
        return Segment(
            name=name,
            input_size=around.input_size,
            vocabulary=vocabulary,
            rate=around.rate,
            background=self.background,
            crf=self.crf,
            minimum_steps=max(1, round(self.minimum_seconds * around.rate)),
            lag_steps=round(self.lag_seconds * around.rate) if around.is_causal else None,
            delay_steps=round(self.delay_seconds * around.rate),
            dropout=self.dropout,
            step_loss=self.step_loss,
            scheme=self.scheme,
        )


class ForecastSection(Section):
    """What comes next, as numbers: learns from the sequence itself."""

    kind: Literal["forecast"] = "forecast"
    wants: ClassVar[str | None] = None
    columns: ClassVar[tuple[str, ...]] = ("times", "values", "quantiles")
    steps: Annotated[int, Field(gt=0, description="how many looks ahead")]
    context: Annotated[int, Field(gt=0, description="looks seen before a forecast is learnt or judged")] = 1
    mode: Annotated[Mode, Field(description="all steps at once, or a segment at a time from its own output")] = "direct"
    segment: Annotated[Positive | None, Field(description="of the recursive mode; encoder.patch by default")] = None
    from_last: Annotated[bool, Field(description="learn the change from the last value that was seen")] = True
    point: Annotated[Point, Field(description="mean learns by squared, median by absolute error")] = "mean"
    quantiles: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...],
        Field(description="learnt beside the point, such as [0.1, 0.9]"),
    ] = ()
    dropout: Fraction = 0.0

    @field_validator("quantiles")
    @classmethod
    def _rise(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        if list(quantiles) != sorted(set(quantiles)):
            raise ValueError(f"quantiles rise and differ; write {sorted(set(quantiles))}")
        return quantiles

    def classes(self, row: Row) -> tuple[str, ...]:
        """None: every row is its own truth."""
        return ()

    def build(self, name: str, around: Around, vocabulary: Vocabulary, counts: Mapping[str, int] | None) -> Forecast:
        """The head."""
        settings = self.model_dump(exclude={"kind"})
        return Forecast(
            name=name,
            input_size=around.input_size,
            width=around.width,
            sense=around.sense,
            patch=around.patch,
            rate=around.rate,
            **settings,
        )


class AnticipateSection(Section):
    """What will be going on in a moment: learns from the manifest's spans, the label of each look some seconds later."""

    kind: Literal["anticipate"] = "anticipate"
    wants: ClassVar[str | None] = "span"
    columns: ClassVar[tuple[str, ...]] = ("ahead",)
    leads: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(min_length=1, description="seconds ahead; now is always asked too"),
    ] = (0.25, 0.5, 1.0, 2.0)
    background: Annotated[str, Field(min_length=1, description="name of what no span covers")] = "background"
    dropout: Fraction = 0.3
    label_smoothing: Fraction = 0.0

    def classes(self, row: Row) -> tuple[str, ...]:
        """What a row teaches; nothing where it has no spans."""
        return (*(span.label for span in row.spans), self.background) if row.spans else ()

    def build(self, name: str, around: Around, vocabulary: Vocabulary, counts: Mapping[str, int] | None) -> Anticipate:
        """The head."""
        settings = self.model_dump(exclude={"kind"})
        return Anticipate(name=name, input_size=around.input_size, vocabulary=vocabulary, **settings)


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


class CriticSection(Section):
    """Who judges what a generator makes."""

    core: Annotated[
        CoreSection | None,
        Field(description="a recurrent judge; by default convolutions over [x, delta x], which train better"),
    ] = None
    hidden: Positive = 128
    channels: Annotated[int, Field(gt=0, description="of its first look at a frame")] = 32
    spectral: Annotated[bool, Field(description="spectral norm on its layers; without it set a penalty")] = True

    def build(self, width: int | None, size: int, classes: int) -> Critic:
        """The critic of sequences (B, T, width), or of frames of `size` pixels a side where width is None."""
        core = None
        if self.core is not None:
            core = self.core.build(Critic.core_input(width, self.hidden))
            assert isinstance(core, Core), "a critic's core is recurrent"
        return Critic(
            width=width,
            classes=classes,
            hidden=self.hidden,
            channels=self.channels,
            size=size,
            core=core,
            spectral=self.spectral,
        )


class GenerateSection(Section):
    """What could have happened: makes sequences, against a critic."""

    kind: Literal["generate"] = "generate"
    columns: ClassVar[tuple[str, ...]] = ()
    makes: Annotated[
        Makes,
        Field(
            description="frames (data.read: pixels), features (stored ones, or a series) or tokens (of an encoder of tokens)"
        ),
    ] = "features"
    labels: Annotated[bool, Field(description="the class is a wish that it is given")] = True
    core: Annotated[CoreSection | None, Field(description="what moves; by default one like the model's own")] = None
    motion: Annotated[
        Motion, Field(description="independent puts noise in place of the core, to see what the core is good for")
    ] = "core"
    content_size: Annotated[int, Field(gt=0, description="numbers that say what is shown, the same at every step")] = 64
    motion_size: Annotated[int, Field(gt=0, description="numbers of noise a step that become the movement")] = 16
    embedding: Annotated[int, Field(gt=0, description="width of a class's vector, and of a word's")] = 32
    hidden: Annotated[int, Field(gt=0, description="of what makes features")] = 256
    channels: Annotated[
        int, Field(gt=0, multiple_of=4, description="of the last layer but one of what makes frames")
    ] = 32
    critic: CriticSection = CriticSection()
    game: Annotated[Game, Field(description="hinge (with spectral norm), or relativistic (with a penalty)")] = "hinge"
    penalty: Annotated[
        float, Field(ge=0, description="weight of R1 and R2, the critic's slope at real and at made ones")
    ] = 0.0
    penalty_share: Annotated[float, Field(gt=0, le=1, description="on which part of the steps it is paid (lazily)")] = (
        0.25
    )
    averaging: Annotated[float, Field(ge=0, lt=1, description="of the generator's weights, a step")] = 0.999
    disguise: Annotated[
        float, Field(ge=0, le=1, description="strength of what is done alike to real and made ones")
    ] = 0.0
    temperature: Annotated[float, Field(gt=0, description="of the words that are drawn (Gumbel-softmax)")] = 1.0
    first_frame: Annotated[
        float,
        Field(
            ge=0,
            description="weight of the distance to a given first picture, which then sets the content; 0: none is given",
        ),
    ] = 0.0

    @property
    def wants(self) -> str | None:
        """A label, where it is a wish."""
        return "label" if self.labels else None

    @model_validator(mode="after")
    def _fits(self) -> GenerateSection:
        for core in (self.core, self.critic.core):
            if core is not None and core.cell == "mean":
                raise ValueError("cell mean neither moves nor judges; use gru, lstm or another recurrent cell")
        if self.core is not None and self.core.bidirectional:
            raise ValueError("a movement goes one way, and its core is bidirectional; set bidirectional: false")
        if not self.critic.spectral and not self.penalty:
            raise ValueError("critic.spectral is false and penalty is 0, so nothing holds the critic; set one of them")
        if self.first_frame and self.makes != "frames":
            raise ValueError(
                f"first_frame is of pictures, and makes is {self.makes}; leave it out, or set makes: frames"
            )
        return self

    def classes(self, row: Row) -> tuple[str, ...]:
        """The wish that a row teaches."""
        return (row.label,) if self.labels and row.label is not None else ()

    def build(self, name: str, around: Around, vocabulary: Any, counts: Mapping[str, int] | None) -> Generate:
        """Generator, critic and the head of both."""
        classes = len(vocabulary.names)
        section = self.core or around.core
        assert section is not None, "the recipe says what its own core is"
        reads = Generator.input_size(self.motion_size, self.embedding)
        core = section.build(reads + (self.embedding if self.makes == "tokens" else 0))
        assert isinstance(core, Core), "the recipe has looked that the core is recurrent"
        shape = {"classes": classes, "content_size": self.content_size, "motion_size": self.motion_size}
        shape |= {"embedding": self.embedding}
        content = self.content_size + self.embedding
        words = around.words
        if self.makes == "tokens":
            assert words is not None, "the recipe has looked that the encoder is of tokens"
            width = len(words)
            generator: Generator = TokenGenerator(
                core=core, vocabulary=width, size=self.embedding, start=START, temperature=self.temperature, **shape
            )
        else:
            width = None if self.makes == "frames" else around.width
            maker: nn.Module = (
                FrameMaker(content_size=content, motion_size=core.output_size, size=around.size, channels=self.channels)
                if width is None
                else FeatureMaker(content_size=content, motion_size=core.output_size, width=width, hidden=self.hidden)
            )
            generator = Generator(core=core, maker=maker, motion=self.motion, **shape)
        return Generate(
            name=name,
            makes=self.makes,
            sense=around.sense,
            vocabulary=vocabulary,
            generator=generator,
            critic=self.critic.build(width, around.size, classes),
            width=width or 0,
            words=words if self.makes == "tokens" else None,
            game=self.game,
            gamma=self.penalty,
            penalty_share=self.penalty_share,
            averaging=self.averaging,
            strength=self.disguise,
            first_frame=self.first_frame,
            encoder=picture_encoder(around.size, self.channels, 2 * self.content_size) if self.first_frame else None,
        )


HeadSection = Annotated[
    ClassifySection
    | SegmentSection
    | ForecastSection
    | AnticipateSection
    | CaptionSection
    | TranscribeSection
    | LanguageSection
    | GenerateSection,
    Field(discriminator="kind"),
]


def learn_names(section: Any, rows: Sequence[Row], counts: Mapping[str, int]) -> Vocabulary | Words:
    """What a head answers with, from the training rows: classes, or words."""
    return section.learn(rows) if isinstance(section, CaptionSection) else Vocabulary.of(counts)
