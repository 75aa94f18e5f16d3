"""Answers with times -> cues: what stands where in whole milliseconds, as one line of text.

In: a row, the heads that answer with spans. Out: cues in order of time. Knows nothing of any file format.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.writers.flat import Heads, printable

_BREAKS = re.compile("\r\n|[\t-\r\x1c-\x1f\x85\u2028\u2029]")  # what ends a line or a column somewhere
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")  # XML 1.0 forbids most of them, terminals obey them


@dataclass(frozen=True)
class Cue:
    """From `start` until `end`, whole milliseconds, end after start; text: one line, never empty; head: who says so."""

    start: int
    end: int
    text: str
    head: str


def timed(heads: Heads) -> list[str]:
    """The heads whose answers have times."""
    return [head for head, parts in heads.items() if "spans" in parts]


def cues(row: dict[str, Any], heads: Sequence[str]) -> list[Cue]:
    """The cues of all these heads by their starts; none where the row has no such answer.

    Times are those of the row, rounded to milliseconds: what did not overlap does not overlap after it. A span that the
    rounding leaves nothing of lasts one millisecond, since WebVTT and ELAN want an end after its start; only then are
    neighbours moved, by as little.
    """
    found = []
    for head in heads:
        spans = sorted((row.get(head) or {}).get("spans") or [], key=lambda s: (s["start"], s["end"]))
        times = milliseconds((s["start"], s["end"]) for s in spans)
        found += [Cue(a, b, one_line(spoken(s)), head) for s, (a, b) in zip(spans, times, strict=True)]
    return sorted(found, key=lambda cue: (cue.start, cue.end))  # stable: heads in their order


def milliseconds(spans: Iterable[tuple[float, float]]) -> list[tuple[int, int]]:
    """Spans in seconds, sorted by start -> whole milliseconds, each at least one long."""
    found: list[tuple[int, int]] = []
    open_until: list[tuple[float, int]] = []  # (seconds, milliseconds) of the ends so far, the earliest on top
    free = 0  # no later span may start before this millisecond
    for start, end in spans:
        while open_until and open_until[0][0] <= start:
            free = max(free, heapq.heappop(open_until)[1])
        first = max(round(1000 * start), free)
        last = max(round(1000 * end), first + 1)
        heapq.heappush(open_until, (end, last))
        found.append((first, last))
    return found


def spoken(span: dict[str, Any]) -> str:
    """A span's sentence where it has one, else its label."""
    return span["text"] if "text" in span else span["label"]


def one_line(text: str) -> str:
    """A text that a cue can hold: line breaks and tabs become spaces, other control characters U+FFFD, and so does nothing
    at all; the ends are trimmed.
    """
    return _CONTROLS.sub("\ufffd", _BREAKS.sub(" ", printable(text))).strip() or "\ufffd"
