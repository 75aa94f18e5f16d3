"""Spans beside the lengths of their videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.manifest import Manifest
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.span_findings import num_looks, span_findings

LENGTHS = {"0.mp4": 3.5, "1.mp4": 3.5, "2.mp4": 3.5, "3.mp4": 3.5, "unknown.mp4": None}
ROWS = (
    Row("0.mp4", "train", spans=(Span(0, 1.5, "sit"), Span(1.5, 5, "stand"))),
    Row("1.mp4", "train", spans=(Span(0, 2, "sit"), Span(30, 40, "wave"))),
    Row("2.mp4", "train", spans=(Span(3.5, 200, "stand"),)),
    Row("3.mp4", "test", spans=(Span(0, 2, "sit"), Span(2, 3.55, "stand"), Span(3.6, 3.7, "wave"))),
    Row("unknown.mp4", "train", spans=(Span(0, 900, "sit"),)),
    Row("text", "train", spans=(Span(90, 91, "sit"),), text="a b"),
)


def found(rows: tuple[Row, ...], rate: float = 4.0) -> list[tuple[str, str, tuple[str, ...]]]:
    findings = span_findings(Manifest(rows, Path()), lambda path: LENGTHS[path.name], rate)
    return [(finding.kind, finding.message, finding.paths) for finding in findings]


def test_spans_beyond_the_end_behind_it_and_classes_without_a_look_are_found() -> None:
    beyond, behind, unseen = found(ROWS)
    assert beyond[0] == "span" and beyond[2] == ("0.mp4",)
    assert beyond[1].startswith("1 of 9 spans end after the end of their video: '0.mp4' [1.5, 5, 'stand'] of 3.5 s.")
    assert behind[2] == ("1.mp4", "2.mp4", "3.mp4") and "3 of 9 spans lie wholly behind the end" in behind[1]
    assert unseen[0] == "no_look" and unseen[2] == ("1.mp4", "3.mp4")
    assert unseen[1].startswith("1 of 3 classes have no look of training at 4 looks a second: 'wave'.")


def test_right_spans_and_lengths_that_nobody_knows_are_no_findings() -> None:
    assert found((ROWS[4], ROWS[5])) == []
    assert found((Row("0.mp4", spans=(Span(0, 3.6, "sit"),)),)) == []  # rounded


def test_a_class_of_the_test_alone_and_one_between_two_looks_have_no_look_in_training() -> None:
    rows = (Row("0.mp4", "train", spans=(Span(1.1, 1.2, "blink"), Span(2, 3, "sit"))),)
    assert "'blink'" in found(rows)[0][1] and found(rows, rate=10.0) == []
    rows += (Row("3.mp4", "test", spans=(Span(0, 2, "wave"),)),)
    assert "no look of training at 10 looks a second: 'wave'" in found(rows, rate=10.0)[0][1]
    assert found((Row("3.mp4", spans=(Span(0, 2, "wave"),)),)) == []  # rows without splits


@pytest.mark.parametrize(
    ("start", "end", "seconds", "count"),
    [(0, 1, None, 4), (0, 1.01, None, 5), (0.01, 0.24, None, 0), (0.25, 0.26, None, 1), (0, 9, 1.0, 4), (5, 9, 1.0, 0)],
)
def test_looks_lie_in_a_span_and_in_the_video(start: float, end: float, seconds: float | None, count: int) -> None:
    assert num_looks(Span(start, end, "x"), seconds, 4.0) == count
