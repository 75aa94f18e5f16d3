"""The sections of the heads, and the union of them all.

In: validated settings, and facts about the model (`HeadContext`). Out: heads. Knows nothing of data on disk or
training. The sections of heads that answer with texts are in `text_heads`, those of generators in
`generative_heads`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.base import Fraction, Positive, Section
from pipeline.config.critic import AdversarialSection
from pipeline.config.generative_heads import GenerateHeadSection
from pipeline.config.head_context import HeadContext
from pipeline.config.text_heads import CaptionSection, LanguageSection, TranscribeSection
from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import Vocabulary
from pipeline.models.choices import Mode, Point, Pool, Scheme

if TYPE_CHECKING:  # a module of a head is imported when one is built
    from pipeline.heads.anticipate import Anticipate
    from pipeline.heads.classify import Classify
    from pipeline.heads.forecast import Forecast
    from pipeline.heads.segment import Segment


class ClassifySection(Section):
    """One class for the whole row. It learns from the manifest's labels."""

    kind: Literal["classify"] = "classify"
    requires: ClassVar[str | None] = "label"
    columns: ClassVar[tuple[str, ...]] = ("label", "score", "top", "unknown", "distance")
    pool: Annotated[
        Pool,
        Field(description="the mean of the steps' logits, the logits of the last step, or attention over the steps"),
    ] = "mean"
    dropout: Annotated[Fraction, Field(description="dropout on the core's outputs")] = 0.5
    label_smoothing: Annotated[Fraction, Field(description="label smoothing of the cross-entropy")] = 0.1
    class_weights: Annotated[
        Literal["none", "balanced"], Field(description="balanced: weights that are inverse to the classes' frequencies")
    ] = "none"
    step_loss_share: Annotated[
        float, Field(ge=0, le=1, description="share of the loss that is the cross-entropy of the single steps")
    ] = 0.0

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """The classes that a row teaches: its label, if it has one."""
        return () if row.label is None else (row.label,)

    def build(
        self, name: str, context: HeadContext, vocabulary: Vocabulary, counts: Mapping[str, int] | None
    ) -> Classify:
        """The head. counts: how many training rows have each label; balanced weights come from them."""
        from pipeline.heads.classify import Classify

        weights = None
        if self.class_weights == "balanced" and counts is not None:
            total = sum(counts.values())
            weights = [total / (len(vocabulary) * max(1, counts.get(label, 0))) for label in vocabulary.names]
        return Classify(
            name=name,
            input_size=context.input_size,
            vocabulary=vocabulary,
            feature_size=context.feature_size,
            has_frozen_features=context.has_frozen_features,
            pool=self.pool,
            dropout=self.dropout,
            label_smoothing=self.label_smoothing,
            class_weights=weights,
            step_loss_share=self.step_loss_share,
        )


class SegmentSection(Section):
    """Labelled spans of time: a label for every look, joined by a CRF. It learns from the manifest's spans."""

    kind: Literal["segment"] = "segment"
    requires: ClassVar[str | None] = "span"
    columns: ClassVar[tuple[str, ...]] = ("spans",)
    background: Annotated[
        str | None,
        Field(min_length=1, description="label of looks outside all spans; null where the spans cover every look"),
    ] = "background"
    crf: Annotated[
        bool, Field(description="a linear-chain CRF over the looks; false classifies each look by itself")
    ] = True
    min_seconds: Annotated[float, Field(ge=0, description="the shortest span that is predicted (needs the CRF)")] = 0.0
    lag_seconds: Annotated[float, Field(ge=0, description="the lag of the `lag_...` metrics; a stream takes --lag")] = (
        1.0
    )
    delay_seconds: Annotated[
        float,
        Field(ge=0, description="a core of one direction emits a label so much later; it is a part of the lag"),
    ] = 0.0
    dropout: Annotated[Fraction, Field(description="dropout on the core's outputs")] = 0.3
    step_loss_weight: Annotated[
        float, Field(ge=0, description="weight of the cross-entropy of the single looks, added to the loss of the CRF")
    ] = 0.5
    scheme: Annotated[
        Scheme,
        Field(
            description="plain: a run of equal labels is a span; iob2: adjacent spans of one label stay separate "
            "(entities); each: every step is a span (parts of speech)"
        ),
    ] = "plain"

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """The labels of a row's steps; none where it has no spans, unless it is a text without entities."""
        from pipeline.heads.tag_schemes import tags_of

        if not row.spans and (row.text is None or self.background is None):
            return ()
        background = () if self.background is None else (self.background,)
        return (*(tag for span in row.spans for tag in tags_of(span, self.scheme)), *background)

    @model_validator(mode="after")
    def _check_lag_and_scheme(self) -> SegmentSection:
        if self.delay_seconds > self.lag_seconds:
            raise ValueError(
                f"delay_seconds is {self.delay_seconds:g} and lag_seconds {self.lag_seconds:g}: the delay is part of "
                f"the lag; set delay_seconds to {self.lag_seconds:g} at most, or lag_seconds to {self.delay_seconds:g}"
            )
        if self.scheme == "iob2" and (self.background is None or self.min_seconds):
            raise ValueError(
                f"scheme iob2 needs a background, and no min_seconds; they are {self.background} and "
                f"{self.min_seconds:g}. Set background: O and min_seconds: 0"
            )
        if self.min_seconds and not self.crf:
            raise ValueError("min_seconds needs the CRF, which keeps spans that long; set crf: true or leave it 0")
        return self

    def build(
        self, name: str, context: HeadContext, vocabulary: Vocabulary, counts: Mapping[str, int] | None
    ) -> Segment:
        """The head. Seconds become looks by the rate of the clock."""
        from pipeline.heads.segment import Segment

        return Segment(
            name=name,
            input_size=context.input_size,
            vocabulary=vocabulary,
            rate=context.rate,
            background=self.background,
            crf=self.crf,
            min_steps=max(1, round(self.min_seconds * context.rate)),
            lag_steps=round(self.lag_seconds * context.rate) if context.is_causal else None,
            delay_steps=round(self.delay_seconds * context.rate),
            dropout=self.dropout,
            step_loss_weight=self.step_loss_weight,
            scheme=self.scheme,
        )


class ForecastSection(Section):
    """The next values of the sequence. It learns from the sequence itself."""

    kind: Literal["forecast"] = "forecast"
    requires: ClassVar[str | None] = None
    columns: ClassVar[tuple[str, ...]] = ("times", "values", "quantiles")
    horizon: Annotated[int, Field(gt=0, description="how many looks ahead")]
    context: Annotated[int, Field(gt=0, description="looks before the first forecast that is trained or measured")] = 1
    mode: Annotated[
        Mode, Field(description="direct: all steps at once; recursive: a segment at a time from its own output")
    ] = "direct"
    segment_steps: Annotated[
        Positive | None, Field(description="looks of a segment of the recursive mode; null: encoder.patch")
    ] = None
    subtract_last: Annotated[bool, Field(description="predict the change from the last value")] = True
    point: Annotated[Point, Field(description="mean minimises the squared error, median the absolute error")] = "mean"
    quantiles: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...],
        Field(description="quantiles that are predicted as well, such as [0.1, 0.9]"),
    ] = ()
    dropout: Annotated[Fraction, Field(description="dropout on the core's outputs")] = 0.0
    adversarial: Annotated[
        AdversarialSection | None,
        Field(description="a critic that tells forecasts from real continuations; null: the error alone"),
    ] = None

    @field_validator("quantiles")
    @classmethod
    def _check_order(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        if list(quantiles) != sorted(set(quantiles)):
            raise ValueError(f"quantiles rise and differ; write {sorted(set(quantiles))}")
        return quantiles

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """None: the target is the row itself."""
        return ()

    def build(
        self, name: str, context: HeadContext, vocabulary: Vocabulary, counts: Mapping[str, int] | None
    ) -> Forecast:
        """The head, with its critic if the section has one."""
        from pipeline.heads.forecast import Forecast

        settings = self.model_dump(exclude={"kind", "adversarial"})
        settings |= {"name": name, "input_size": context.input_size, "width": context.width, "sense": context.sense}
        settings |= {"patch": context.patch, "rate": context.rate}
        return Forecast(**settings) if self.adversarial is None else self.adversarial.build(context.width, settings)


class AnticipateSection(Section):
    """The label some seconds ahead, at every look. It learns from the manifest's spans."""

    kind: Literal["anticipate"] = "anticipate"
    requires: ClassVar[str | None] = "span"
    columns: ClassVar[tuple[str, ...]] = ("ahead",)
    leads: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(min_length=1, description="seconds ahead; the present label is always predicted too"),
    ] = (0.25, 0.5, 1.0, 2.0)
    background: Annotated[str, Field(min_length=1, description="label of looks outside all spans")] = "background"
    dropout: Annotated[Fraction, Field(description="dropout on the core's outputs")] = 0.3
    label_smoothing: Annotated[Fraction, Field(description="label smoothing of the cross-entropy")] = 0.0

    def taught_labels(self, row: Row) -> tuple[str, ...]:
        """The labels of a row's spans and the background; none where it has no spans."""
        return (*(span.label for span in row.spans), self.background) if row.spans else ()

    def build(
        self, name: str, context: HeadContext, vocabulary: Vocabulary, counts: Mapping[str, int] | None
    ) -> Anticipate:
        """The head."""
        from pipeline.heads.anticipate import Anticipate

        settings = self.model_dump(exclude={"kind"})
        return Anticipate(name=name, input_size=context.input_size, vocabulary=vocabulary, **settings)


HeadSection = Annotated[
    ClassifySection
    | SegmentSection
    | ForecastSection
    | AnticipateSection
    | CaptionSection
    | TranscribeSection
    | LanguageSection
    | GenerateHeadSection,
    Field(discriminator="kind"),
]


def build_vocabulary(section: Any, rows: Sequence[Row], counts: Mapping[str, int]) -> Vocabulary | Tokenizer:
    """What a head answers with, from the training rows: its classes, or the tokenizer of a caption head."""
    return section.train_tokenizer(rows) if isinstance(section, CaptionSection) else Vocabulary.of(counts)
