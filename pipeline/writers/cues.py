"""Answers with spans -> cues: a start and an end in whole milliseconds, and one line of text.

In: a row, and the heads that answer with spans. Out: cues in order of time. Knows nothing of file formats.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.writers.table_rows import Heads, escape_surrogates

_BREAKS = re.compile("\r\n|[\t-\r\x1c-\x1f\x85\u2028\u2029]")  # what ends a line or a column in some format
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")  # XML 1.0 forbids most of them, terminals obey them


@dataclass(frozen=True)
class Cue:
    """start, end: whole milliseconds, end after start. text: one line, never empty. head: the head that answered."""

    start: int
    end: int
    text: str
    head: str


def heads_with_spans(heads: Heads) -> list[str]:
    """The heads whose answers have spans."""
    return [head for head, fields in heads.items() if "spans" in fields]


def cues(row: dict[str, Any], heads: Sequence[str]) -> list[Cue]:
    """The cues of all these heads, by start; none where the row has no such answer.

    Times are rounded to milliseconds. Spans that do not overlap give cues that do not overlap. A span that would become
    empty lasts one millisecond, because WebVTT and ELAN need an end after the start. Only then do its neighbours move,
    by as little.
    """
    all_cues = []
    for head in heads:
        spans = sorted((row.get(head) or {}).get("spans") or [], key=lambda span: (span["start"], span["end"]))
        times = to_milliseconds((span["start"], span["end"]) for span in spans)
        all_cues += [
            Cue(start, end, one_line(cue_text(span)), head) for span, (start, end) in zip(spans, times, strict=True)
        ]
    return sorted(all_cues, key=lambda cue: (cue.start, cue.end))  # stable: equal times keep the order of the heads


def to_milliseconds(spans: Iterable[tuple[float, float]]) -> list[tuple[int, int]]:
    """Spans in seconds, sorted by start -> whole milliseconds, each at least one long."""
    rounded: list[tuple[int, int]] = []
    open_ends: list[tuple[float, int]] = []  # a heap of (seconds, milliseconds), the earliest end first
    earliest = 0  # no later span may start before this millisecond
    for start, end in spans:
        while open_ends and open_ends[0][0] <= start:
            earliest = max(earliest, heapq.heappop(open_ends)[1])
        first = max(round(1000 * start), earliest)
        last = max(round(1000 * end), first + 1)
        heapq.heappush(open_ends, (end, last))
        rounded.append((first, last))
    return rounded


def cue_text(span: dict[str, Any]) -> str:
    """The sentence of a span where it has one, else its label."""
    return span["text"] if "text" in span else span["label"]


def one_line(text: str) -> str:
    """A text that a cue can contain, in one line.

    Line breaks and tabs become spaces, other control characters U+FFFD. The ends are trimmed. An empty text becomes
    U+FFFD.
    """
    return _CONTROLS.sub("\ufffd", _BREAKS.sub(" ", escape_surrogates(text))).strip() or "\ufffd"
