"""The predictions of heads: one frozen class for each kind of head, in seconds and names, that becomes a row.

In: plain values from a head. Out: dictionaries that can be written as JSON. Knows nothing of tensors, files or formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.metrics.sequence import perplexity


class Prediction(Protocol):
    """The prediction of one head for one video."""

    def row(self, top: int) -> dict[str, Any]:
        """The prediction as plain values; `top` is the largest number of classes that are listed."""
        ...


ScoredSpans = tuple[tuple[float, float, str, float], ...]
"""(start, end, label, score) of each span, in temporal order; start and end in seconds."""


@dataclass(frozen=True)
class Timeline:
    """What happens when: the spans of a video. The score of a span is the mean probability of its label."""

    spans: ScoredSpans

    def row(self, top: int) -> dict[str, Any]:
        """{"spans": [{"start", "end", "label", "score"}, ...]}, all of them."""
        return {"spans": _span_rows(self.spans)}


@dataclass(frozen=True)
class Transcript:
    """The words of a sequence, in order.

    log_probability: of these words, summed over all CTC paths, without a language model. spans: where each word stands
    in the most probable path; its score is its largest probability there.
    """

    words: tuple[str, ...]
    log_probability: float
    spans: ScoredSpans

    def row(self, top: int) -> dict[str, Any]:
        """{"sentence", "log_probability", "spans": [{"start", "end", "label", "score"}, ...]}."""
        return {
            "sentence": " ".join(self.words),
            "log_probability": round(self.log_probability, 6),
            "spans": _span_rows(self.spans),
        }


@dataclass(frozen=True)
class Classification:
    """The classes of a video.

    ranked: (name, probability) of every class, the most probable first; the probabilities sum to 1. distance: how far
    the video is from the training videos, about 1 for a usual one; None where no distance was fitted. is_unknown:
    whether the video is too far away to belong to any class; None where no threshold was fitted.
    """

    ranked: tuple[tuple[str, float], ...]
    distance: float | None = None
    is_unknown: bool | None = None

    @property
    def label(self) -> str:
        """The most probable class. An unknown video has one too; see `is_unknown`."""
        return self.ranked[0][0]

    def row(self, top: int) -> dict[str, Any]:
        """{"label", "score", "top": [{"label", "score"}, ...], "unknown", "distance"} with `top` entries. The last two
        are null where they are not known.
        """
        return {
            "label": self.label,
            "score": round(self.ranked[0][1], 6),
            "top": _class_rows(self.ranked[:top]),
            "unknown": self.is_unknown,
            "distance": None if self.distance is None else round(self.distance, 6),
        }


@dataclass(frozen=True)
class SeriesForecast:
    """The next K values of a series: `times` (K,) in seconds from the beginning, `values` (K, D), and the same shape
    for each quantile level.
    """

    times: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    quantiles: Mapping[float, tuple[tuple[float, ...], ...]]

    def row(self, top: int) -> dict[str, Any]:
        """{"times", "values", "quantiles": [{"level", "values"}, ...]}."""
        quantiles = [{"level": level, "values": _rounded(values)} for level, values in self.quantiles.items()]
        return {"times": [round(t, 3) for t in self.times], "values": _rounded(self.values), "quantiles": quantiles}


@dataclass(frozen=True)
class Anticipation:
    """The classes at several lead times: (seconds from now, (name, probability) of every class, the most probable
    first). 0 seconds is now.
    """

    ahead: tuple[tuple[float, tuple[tuple[str, float], ...]], ...]

    def row(self, top: int) -> dict[str, Any]:
        """{"ahead": [{"seconds", "label", "score", "top": [{"label", "score"}, ...]}, ...]}."""
        leads = [(seconds, _class_rows(ranked)) for seconds, ranked in self.ahead]
        return {"ahead": [{"seconds": seconds, **classes[0], "top": classes[:top]} for seconds, classes in leads]}


@dataclass(frozen=True)
class Description:
    """A sentence about a video.

    log_probability: natural logarithm. tokens: of the sentence, the end token last. weights: the attention weight of
    each step, for each token. spans: sentences about parts of the video, each scored by the geometric mean of its
    tokens' probabilities; None where no spans are described.
    """

    sentence: str
    log_probability: float
    tokens: tuple[str, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    spans: ScoredSpans | None = None

    def row(self, top: int) -> dict[str, Any]:
        """{"sentence", "log_probability"}, and for described spans the "spans" of a timeline."""
        row = {"sentence": self.sentence, "log_probability": round(self.log_probability, 6)}
        return row if self.spans is None else {**row, "spans": _span_rows(self.spans)}


@dataclass(frozen=True)
class Likelihood:
    """How probable a text is: the natural logarithm of its probability, and how many tokens were predicted."""

    log_probability: float
    num_tokens: int

    def row(self, top: int) -> dict[str, Any]:
        """{"log_probability", "tokens", "perplexity"}; the last is null where no token was predicted."""
        value = round(perplexity(-self.log_probability, self.num_tokens), 4) if self.num_tokens else None
        return {"log_probability": round(self.log_probability, 4), "tokens": self.num_tokens, "perplexity": value}


def _class_rows(ranked: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "score": round(score, 6)} for label, score in ranked]


def _span_rows(spans: ScoredSpans) -> list[dict[str, Any]]:
    return [{"start": round(a, 3), "end": round(b, 3), "label": s, "score": round(p, 6)} for a, b, s, p in spans]


def _rounded(values: Sequence[Sequence[float]]) -> list[list[float]]:
    """Lists, as JSON needs them, with 6 significant digits: float32 has no more than 7."""
    return [[float(f"{v:.6g}") for v in step] for step in values]
