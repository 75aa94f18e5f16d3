"""The answer of a model about one input, and its text for people.

In: the predictions of the heads. Out: an `Answer`, its row as plain values, and a row in a few words. Knows nothing of
models, files or formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.media.clip import ANSWERED
from pipeline.models.prediction import Classification, Description, Prediction, ScoredSpans, Timeline, Transcript

P = TypeVar("P")

AnswerRow = dict[str, Any]
"""path, status, seconds, looks, one entry for each head, warnings, error."""


@dataclass(frozen=True, repr=False)
class Answer:
    """The answer of a model about one input.

    status: ok, partial, failed:<reason>, timeout or crashed:<signal>. seconds: how much of the input was read (a token
    counts as a second). looks: how many frames, steps or tokens. predictions: one for each head, none where it failed.
    warnings: "code: sentence". error: a sentence, empty where it did not fail. path: the input, empty for a text.

    The properties work for every model. They are None or () where the model has no head of that kind or the answer
    failed. Where several heads fit, the first one counts; the others are in `predictions`.
    """

    status: str
    seconds: float = 0.0
    looks: int = 0
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str = ""
    path: str = ""

    @property
    def is_failed(self) -> bool:
        """Whether there are no predictions because the input could not be read."""
        return self.status not in ANSWERED

    @property
    def label(self) -> str | None:
        """The most probable class of the first head that classifies."""
        classification = self._first(Classification)
        return None if classification is None else classification.label

    @property
    def score(self) -> float | None:
        """The probability of `label`."""
        classification = self._first(Classification)
        return None if classification is None else classification.ranked[0][1]

    @property
    def spans(self) -> ScoredSpans:
        """(start, end, label, score) in seconds, of the first segment head, else of a caption or transcribe head."""
        timeline = self._first(Timeline)
        if timeline is not None:
            return timeline.spans
        others = (p.spans for p in self.predictions.values() if isinstance(p, Description | Transcript))
        return next((spans for spans in others if spans), ())

    @property
    def caption(self) -> str | None:
        """The sentence of the first head that captions, else of the first that transcribes."""
        description, transcript = self._first(Description), self._first(Transcript)
        if description is not None:
            return description.sentence
        return None if transcript is None else " ".join(transcript.words)

    def to_dict(self, top: int = 5) -> AnswerRow:
        """The row of this answer, as plain values. top: the largest number of classes in a list."""
        return {
            "path": self.path,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "looks": self.looks,
            **{head: prediction.row(top) for head, prediction in self.predictions.items()},
            "warnings": list(self.warnings),
            "error": self.error,
        }

    def __repr__(self) -> str:
        """One line, such as Answer('clip.mp4': ok, action = sit_down 0.93, 2.4 s)."""
        parts = [self.status]
        parts += [f"{head} = {prediction_text(p.row(1))}" for head, p in self.predictions.items()]
        parts.append(self.error if self.is_failed else f"{self.seconds:.1f} s")
        name = f"{self.path!r}: " if self.path else ""
        return f"Answer({name}{escape_unprintable(', '.join(part for part in parts if part))})"

    def _first(self, kind: type[P]) -> P | None:
        return next((p for p in self.predictions.values() if isinstance(p, kind)), None)


def headline(row: AnswerRow) -> str:
    """A row in a few words, in one line that is safe for a terminal."""
    if row["status"] not in ANSWERED:
        return row["status"]
    texts = [prediction_text(value) for value in row.values() if isinstance(value, dict)]
    return escape_unprintable(", ".join(texts) + (f" ({row['status']})" if row["status"] != "ok" else ""))


def prediction_text(prediction: dict[str, Any]) -> str:
    """One head's prediction, as in a row, in a few words."""
    if "sentence" in prediction:
        return prediction["sentence"]
    if "perplexity" in prediction:
        perplexity = prediction["perplexity"]
        return f"perplexity {perplexity:.2f}" if perplexity is not None else "nothing to predict"
    if "spans" in prediction:
        spans = prediction["spans"]
        first = ", ".join(f"{span['start']:.1f} s {span['label']}" for span in spans[:3])
        return first + (f", and {len(spans) - 3} more" if len(spans) > 3 else "") or "nothing"
    if "ahead" in prediction:
        return ", ".join(f"in {a['seconds']:g} s {a['label']} {a['score']:.2f}" for a in prediction["ahead"])
    if "values" in prediction:
        return f"{len(prediction['values'])} steps ahead" if prediction["values"] else "nothing"
    if "label" not in prediction:
        return ", ".join(f"{key} {value}" for key, value in prediction.items() if isinstance(value, str | int | float))
    text = f"{prediction['label']} {prediction['score']:.2f}"
    return text + (", but it is like no class" if prediction.get("unknown") else "")


def escape_unprintable(text: str) -> str:
    """A text as one line that is safe to print: control characters are escaped, letters of all languages stay."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
