"""Spans beside the videos that they are about.

In: rows of a manifest, the length of each video, the rate of the clock. Out: findings: spans beyond the end of a
video, spans wholly behind it, classes that no look shows. Knows nothing of how a video is read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.data.finding import Finding
from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row, Span, examples

SecondsOf = Callable[[Path], float | None]
"""The length of a video in seconds, None where it is not known."""
TOLERANCE = 0.1
"""Seconds that a span may go beyond the end: people round, and the last frame has a duration."""


def span_findings(manifest: Manifest, seconds_of: SecondsOf, rate: float) -> list[Finding]:
    """What is wrong with the times of spans; an empty list for rows of texts. rate: looks a second."""
    rows = [row for row in manifest.rows if row.spans and row.text is None]
    lengths = {row.path: seconds_of(manifest.path_of(row)) for row in rows}
    beyond: list[tuple[Row, Span]] = []
    behind: list[tuple[Row, Span]] = []
    for row in rows:
        seconds = lengths[row.path]
        for span in row.spans if seconds is not None else ():
            if seconds is not None and span.start >= seconds:
                behind.append((row, span))
            elif seconds is not None and span.end > seconds + TOLERANCE:
                beyond.append((row, span))
    total = sum(len(row.spans) for row in rows)
    findings = []
    for found, what, advice in (
        (beyond, "end after the end of their video", "What is behind the end is left out. Correct their times."),
        (behind, "lie wholly behind the end of their video", "They teach nothing. Correct their times or the path."),
    ):
        if found:
            text = f"{len(found):,} of {total:,} spans {what}: {_shown(found, lengths)}. {advice}"
            findings.append(Finding("span", text, tuple(dict.fromkeys(row.path for row, _ in found))))
    return findings + _labels_without_look(rows, lengths, rate)


def _labels_without_look(rows: Sequence[Row], lengths: dict[str, float | None], rate: float) -> list[Finding]:
    """Labels of spans that no look of training shows, or no look at all where the rows have no splits."""
    has_training = any(row.split == "train" for row in rows)
    where = "of training " if has_training else ""
    counts: Counter[str] = Counter()
    for row in rows:
        for span in row.spans:
            is_taught = not has_training or row.split == "train"
            counts[span.label] += num_looks(span, lengths[row.path], rate) if is_taught else 0
    unseen = sorted(label for label, count in counts.items() if not count)
    if not unseen:
        return []
    paths = tuple(row.path for row in rows if any(span.label in unseen for span in row.spans))
    text = (
        f"{len(unseen):,} of {len(counts):,} classes have no look {where}at {rate:g} looks a second: "
        f"{examples(unseen)}. No model can learn them: their spans are missing, lie behind the end of their videos, or "
        "between two looks. Correct the times, raise clock.rate, or leave the classes out."
    )
    return [Finding("no_look", text, paths)]


def num_looks(span: Span, seconds: float | None, rate: float) -> int:
    """How many looks k / rate lie in a span and before the end of the video."""
    end = span.end if seconds is None else min(span.end, seconds)
    return max(0, math.ceil(end * rate - 1e-6) - math.ceil(span.start * rate - 1e-6))


def _shown(found: Sequence[tuple[Row, Span]], lengths: dict[str, float | None]) -> str:
    shown = [
        f"{row.path!r} [{span.start:g}, {span.end:g}, {span.label!r}] of {lengths[row.path] or 0:.1f} s"
        for row, span in found[:5]
    ]
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return "; ".join(shown) + more
