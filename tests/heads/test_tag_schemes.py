"""Tagging schemes: from spans to labels of steps and back, for each scheme."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pipeline.config.heads import SegmentSection
from pipeline.data.batch import Batch
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.segment import Segment
from pipeline.heads.tag_schemes import MONITORS, Scheme, allowed_transitions, labels_to_spans, tags_of
from pipeline.metrics.sequence import spans
from pipeline.models.core_output import CoreOutput
from pipeline.padded import stack

SCHEMES: tuple[Scheme, ...] = ("plain", "iob2", "each")


def random_row(generator: random.Random, length: int, scheme: Scheme) -> Row:
    row_spans, start = [], 0
    while start < length:
        size = 1 if scheme == "each" else generator.randrange(1, 4)
        if scheme == "each" or generator.random() < 0.7:
            row_spans.append(Span(float(start), float(min(length, start + size)), generator.choice("xy")))
        start += size
    return Row("r", text="a text", spans=tuple(row_spans))


def make_head(scheme: Scheme, background: str = "O") -> Segment:
    section = SegmentSection(scheme=scheme, background=background)
    row = Row("r", text="t", spans=(Span(0, 1, "x"), Span(1, 2, "y")))
    vocabulary = Vocabulary.of(section.taught_labels(row))
    return Segment(name="tags", input_size=3, vocabulary=vocabulary, rate=1.0, background=background, scheme=scheme)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scheme", ["iob2", "each"])
def test_spans_become_labels_and_the_same_spans_again(scheme, seed):
    row, head = random_row(random.Random(seed), 12, scheme), make_head(scheme)
    labels = head.target(row, np.arange(12.0))
    assert labels is not None
    predicted = head.spans(labels.numpy(), np.full((12, len(head.vocabulary)), 0.5))
    assert [span[:3] for span in predicted] == [(span.start, span.end, span.label) for span in row.spans]


def test_adjacent_spans_of_one_label_stay_separate_under_iob2_but_not_under_plain():
    row = Row("r", text="t", spans=(Span(0, 2, "x"), Span(2, 3, "x")))
    counts = {}
    for scheme in SCHEMES:
        head = make_head(scheme)
        labels = head.target(row, np.arange(3.0))
        assert labels is not None
        counts[scheme] = len(labels_to_spans([head.vocabulary.names[i] for i in labels], scheme, "O"))
    assert counts == {"plain": 1, "iob2": 2, "each": 3}
    assert set(MONITORS) == set(SCHEMES)


def test_a_text_without_spans_is_all_background():
    labels = make_head("iob2").target(Row("r", text="a b"), np.arange(2.0))
    assert labels is not None
    assert labels.tolist() == [make_head("iob2").vocabulary.index("O")] * 2
    assert make_head("iob2").target(Row("r.mp4"), np.arange(2.0)) is None
    assert SegmentSection(scheme="iob2", background="O").taught_labels(Row("r", text="a b")) == ("O",)


@pytest.mark.parametrize("seed", range(5))
def test_no_path_breaks_the_rules_of_iob2_for_any_weights(seed):
    torch.manual_seed(seed)
    head = make_head("iob2").eval()
    output = CoreOutput(stack([5 * torch.randn(n, 3) for n in (9, 4, 1)]), ())
    for path in head.path(head.emissions(output.steps)).unpad():
        names = [head.vocabulary.names[i] for i in path]
        assert spans(names, strict=True) == spans(names, strict=False)


def test_the_allowed_transitions_of_iob2():
    allowed, allowed_start = allowed_transitions(("B-x", "B-y", "I-x", "I-y", "O"))
    assert allowed_start.tolist() == [True, True, False, False, True]
    into_inside = {(a, b) for a in range(5) for b in (2, 3) if allowed[a, b]}
    assert into_inside == {(0, 2), (2, 2), (1, 3), (3, 3)}
    assert allowed[:, [0, 1, 4]].all()


def test_the_tags_of_a_span():
    assert tags_of(Span(0, 1, "x"), "iob2") == ("B-x", "I-x")
    assert tags_of(Span(0, 1, "x"), "plain") == ("x",)


@pytest.mark.parametrize("scheme", ["iob2", "each"])
def test_the_confidence_interval_contains_the_monitored_metric(scheme):
    torch.manual_seed(0)
    head = make_head(scheme).eval()
    output = CoreOutput(stack([torch.randn(8, 3) for _ in range(12)]), ())
    rows = [random_row(random.Random(i), 8, scheme) for i in range(12)]
    targets = [head.target(row, np.arange(8.0)) for row in rows]
    batch = Batch({}, {"tags": stack([target for target in targets if target is not None])}, tuple("abcdefghijkl"))
    results = head.results(output, batch)
    low, high = head.confidence_interval(results, [f"r{i}" for i in range(12)])
    assert low <= head.metrics(results)[head.monitor] <= high
