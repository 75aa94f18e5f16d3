"""What heads answer: one frozen class a head, in seconds and names, that knows how to become a row.

Knows nothing of tensors' origins, files or formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.metrics.sequence import perplexity


class Prediction(Protocol):
    """An answer about one video."""

    def row(self, top: int) -> dict[str, Any]:
        """The answer as plain values; `top` bounds how many alternatives it lists."""
        ...


Spans = tuple[tuple[float, float, str, float], ...]
"""(start, end, what, score) in seconds and order."""


@dataclass(frozen=True)
class Timeline:
    """What happens when: (start, end, label, score) in seconds and order; the score is the mean probability of the label
    over its span.
    """

    spans: Spans

    def row(self, top: int) -> dict[str, Any]:
        """{"spans": [{"start", "end", "label", "score"}, ...]}, all of them."""
        return {"spans": _listed(self.spans)}


@dataclass(frozen=True)
class Transcript:
    """What was said: words in their order; (start, end, word, score) in seconds, where each stands in the most probable path,
    with its largest probability there; the log-probability of these words over all paths, without any language model.
    """

    words: tuple[str, ...]
    log_probability: float
    spans: Spans

    def row(self, top: int) -> dict[str, Any]:
        """{"sentence", "log_probability", "spans": [{"start", "end", "label", "score"}, ...]}."""
        return {
            "sentence": " ".join(self.words),
            "log_probability": round(self.log_probability, 6),
            "spans": _listed(self.spans),
        }


@dataclass(frozen=True)
class Classification:
    """Class names with their probabilities, the likeliest first; they sum to 1 over all classes. distance: how far the
    video is from what was learned, about 1 for the usual, None where nobody can say; is_unknown: whether it is too far to
    be any of the classes, None where there is no threshold.
    """

    ranked: tuple[tuple[str, float], ...]
    distance: float | None = None
    is_unknown: bool | None = None

    @property
    def label(self) -> str:
        """The likeliest class, also of what is unknown: `is_unknown` says so beside it."""
        return self.ranked[0][0]

    def row(self, top: int) -> dict[str, Any]:
        """{"label", "score", "top": [{"label", "score"}, ...], "unknown", "distance"} with `top` entries; null for the last
        two where they are not known.
        """
        listed = [{"label": label, "score": round(score, 6)} for label, score in self.ranked[:top]]
        return {
            "label": self.label,
            "score": round(self.ranked[0][1], 6),
            "top": listed,
            "unknown": self.is_unknown,
            "distance": None if self.distance is None else round(self.distance, 6),
        }


@dataclass(frozen=True)
class SeriesForecast:
    """What comes next: at `times` (K,) seconds from the beginning, `values` (K, D), and the same for each quantile."""

    times: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    quantiles: Mapping[float, tuple[tuple[float, ...], ...]]

    def row(self, top: int) -> dict[str, Any]:
        """{"times", "values", "quantiles": [{"level", "values"}, ...]}."""
        quantiles = [{"level": level, "values": _plain(values)} for level, values in self.quantiles.items()]
        return {"times": [round(t, 3) for t in self.times], "values": _plain(self.values), "quantiles": quantiles}


@dataclass(frozen=True)
class Anticipation:
    """What will be going on: (seconds from now, class names with probabilities, the likeliest first); 0 is now."""

    ahead: tuple[tuple[float, tuple[tuple[str, float], ...]], ...]

    def row(self, top: int) -> dict[str, Any]:
        """{"ahead": [{"seconds", "label", "score", "top": [{"label", "score"}, ...]}, ...]}."""
        said = [(seconds, [{"label": n, "score": round(p, 6)} for n, p in ranked]) for seconds, ranked in self.ahead]
        return {"ahead": [{"seconds": seconds, **listed[0], "top": listed[:top]} for seconds, listed in said]}


@dataclass(frozen=True)
class Description:
    """A sentence, the natural logarithm of its probability, its tokens, and how much of each step each of them looked at, the
    end last; spans: sentences about parts of the video, scored by the geometric mean of their tokens' probabilities, None where nobody asked.
    """

    sentence: str
    log_probability: float
    tokens: tuple[str, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    spans: Spans | None = None

    def row(self, top: int) -> dict[str, Any]:
        """{"sentence", "log_probability"}, and "spans": [{"start", "end", "label", "score"}, ...] where there are some."""
        said = {"sentence": self.sentence, "log_probability": round(self.log_probability, 6)}
        return said if self.spans is None else {**said, "spans": _listed(self.spans)}


@dataclass(frozen=True)
class Likelihood:
    """How usual a text is: the natural logarithm of its probability, the tokens that were predicted, the perplexity."""

    log_probability: float
    tokens: int

    def row(self, top: int) -> dict[str, Any]:
        """{"log_probability", "tokens", "perplexity"}; the last is null where nothing was predicted."""
        found = perplexity(-self.log_probability, self.tokens) if self.tokens else None
        return {
            "log_probability": round(self.log_probability, 4),
            "tokens": self.tokens,
            "perplexity": None if found is None else round(found, 4),
        }


def _listed(spans: Spans) -> list[dict[str, Any]]:
    return [{"start": round(a, 3), "end": round(b, 3), "label": s, "score": round(p, 6)} for a, b, s, p in spans]


def _plain(values: Sequence[Sequence[float]]) -> list[list[float]]:
    """JSON has lists, and needs no more digits than the numbers hold."""
    return [[float(f"{v:.6g}") for v in step] for step in values]
