"""The sections of heads: what each asks, learns from and answers with.

In: validated settings, and what a head stands in (`Around`). Out: heads. Knows nothing of data on disk or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.around import Around
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import Words
from pipeline.heads.anticipate import Anticipate
from pipeline.heads.classify import Classify, Pool
from pipeline.heads.forecast import Forecast, Mode, Point
from pipeline.heads.segment import Segment
from pipeline.heads.tags import Scheme, tags_of
from pipeline.makings import AdversarySection, GenerateSection
from pipeline.sayings import CaptionSection, LanguageSection, TranscribeSection
from pipeline.section import Fraction, Positive, Section


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
    adversary: Annotated[
        AdversarySection | None,
        Field(description="a critic that tells forecasts from what came; null: the error alone"),
    ] = None

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
        settings = self.model_dump(exclude={"kind", "adversary"})
        settings |= {"name": name, "input_size": around.input_size, "width": around.width, "sense": around.sense}
        settings |= {"patch": around.patch, "rate": around.rate}
        return Forecast(**settings) if self.adversary is None else self.adversary.build(around.width, settings)


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
