"""Spans and labels of steps: back and forth, for each scheme."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pipeline.data.manifest import Row, Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.segment import Segment
from pipeline.heads.tags import WATCHED, cut, legal, tags_of
from pipeline.metrics.sequence import spans
from pipeline.models.seen import Seen
from pipeline.padded import stack
from pipeline.questions import SegmentSection


def random_row(generator: random.Random, length: int, each: bool) -> Row:
    found, at = [], 0
    while at < length:
        step = 1 if each else generator.randrange(1, 4)
        if each or generator.random() < 0.7:
            found.append(Span(float(at), float(min(length, at + step)), generator.choice("xy")))
        at += step
    return Row("r", text="a text", spans=tuple(found))


def head_for(scheme, background="O") -> Segment:
    section = SegmentSection(scheme=scheme, background=background)
    rows = [Row("r", text="t", spans=(Span(0, 1, "x"), Span(1, 2, "y")))]
    vocabulary = Vocabulary.of(label for row in rows for label in section.classes(row))
    return Segment(name="tags", input_size=3, vocabulary=vocabulary, rate=1.0, background=background, scheme=scheme)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scheme", ["iob2", "each"])
def test_spans_become_labels_and_spans_again(scheme, seed):
    generator = random.Random(seed)
    row, head = random_row(generator, 12, scheme == "each"), head_for(scheme)
    labels = head.target(row, np.arange(12.0))
    assert labels is not None
    found = head.spans(labels.numpy(), np.full((12, len(head.vocabulary)), 0.5))
    assert [s[:3] for s in found] == [(s.start, s.end, s.label) for s in row.spans]


def test_neighbours_of_one_label_stay_two_under_iob2_alone():
    row = Row("r", text="t", spans=(Span(0, 2, "x"), Span(2, 3, "x")))
    counts = {}
    for scheme in WATCHED:
        head = head_for(scheme)
        labels = head.target(row, np.arange(3.0))
        assert labels is not None
        counts[scheme] = len(cut([head.vocabulary.names[i] for i in labels], scheme, "O"))
    assert counts == {"plain": 1, "iob2": 2, "each": 3}


def test_a_text_without_spans_is_all_background():
    labels = head_for("iob2").target(Row("r", text="a b"), np.arange(2.0))
    assert labels is not None and labels.tolist() == [head_for("iob2").vocabulary.index("O")] * 2
    assert head_for("iob2").target(Row("r.mp4"), np.arange(2.0)) is None
    assert SegmentSection(scheme="iob2", background="O").classes(Row("r", text="a b")) == ("O",)


@pytest.mark.parametrize("seed", range(5))
def test_no_path_is_against_iob2_whatever_the_weights(seed):
    torch.manual_seed(seed)
    head = head_for("iob2").eval()
    seen = Seen(stack([5 * torch.randn(n, 3) for n in (9, 4, 1)]), ())
    for path in head.path(head.emissions(seen.steps)).unpad():
        names = [head.vocabulary.names[i] for i in path]
        assert spans(names, strict=True) == spans(names, strict=False)


def test_what_is_legal():
    names = ("B-x", "B-y", "I-x", "I-y", "O")
    follows, first = legal(names)
    assert first.tolist() == [True, True, False, False, True]
    into_inner = {(a, b) for a in range(5) for b in (2, 3) if follows[a, b]}
    assert into_inner == {(0, 2), (2, 2), (1, 3), (3, 3)} and follows[:, [0, 1, 4]].all()


def test_labels_of_a_span():
    assert tags_of(Span(0, 1, "x"), "iob2") == ("B-x", "I-x") and tags_of(Span(0, 1, "x"), "plain") == ("x",)


@pytest.mark.parametrize("scheme", ["iob2", "each"])
def test_the_interval_holds_the_metric(scheme):
    torch.manual_seed(0)
    head = head_for(scheme).eval()
    seen = Seen(stack([torch.randn(8, 3) for _ in range(12)]), ())
    rows = [random_row(random.Random(i), 8, scheme == "each") for i in range(12)]
    targets = [head.target(row, np.arange(8.0)) for row in rows]
    from pipeline.data.batch import Batch

    batch = Batch({}, {"tags": stack([t for t in targets if t is not None])}, tuple("abcdefghijkl"))
    evidence = head.evidence(seen, batch)
    low, high = head.interval(evidence, [row.path + str(i) for i, row in enumerate(rows)])
    assert low <= head.metrics(evidence)[head.watched] <= high
