"""The segment head: targets by the clock, windows equal the whole, padding is inert, spans tell what the path says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.around import Around
from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest import Row, Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.segment import Segment
from pipeline.models.prediction import Timeline
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack
from pipeline.questions import SegmentSection

NAMES = Vocabulary(("background", "sit", "stand", "wave"))
D, RATE = 5, 4.0
ROW = Row("x.mp4", spans=(Span(0.5, 1.0, "sit"), Span(1.0, 1.6, "stand"), Span(2.0, 3.0, "wave")))
each_kind = pytest.mark.parametrize("crf", [True, False])


def make(crf: bool = True, **settings) -> Segment:
    torch.manual_seed(0)
    head = Segment(name="timeline", input_size=D, vocabulary=NAMES, rate=RATE, crf=crf, **settings).eval()
    if head.crf is not None:
        for parameter in head.crf.parameters():
            torch.nn.init.normal_(parameter)
    return head


def see(lengths=(9, 4, 1, 6)) -> Seen:
    torch.manual_seed(1)
    return Seen(stack([3 * torch.randn(n, D) for n in lengths]), ())


def batch_of(seen: Seen) -> Batch:
    torch.manual_seed(2)
    labels = stack([torch.randint(4, (n,)) for n in seen.steps.lengths.tolist()])
    return Batch({}, {"timeline": labels}, tuple("abcd"))


def test_a_look_has_the_label_of_the_span_that_holds_it():
    times = np.arange(14) / RATE
    found = make().target(ROW, times)
    assert found is not None
    names = [NAMES.names[i] for i in found.tolist()]
    assert (
        names == ["background"] * 2 + ["sit"] * 2 + ["stand"] * 3 + ["background"] + ["wave"] * 4 + ["background"] * 2
    )
    assert make().target(Row("x.mp4", label="sit"), times) is None


def test_where_spans_tile_a_video_a_look_between_them_belongs_to_the_nearest():
    found = make(background=None).target(ROW, np.array([0.0, 0.5, 1.0, 1.7, 1.79, 1.85, 3.0, 9.0]))
    assert found is not None
    assert [NAMES.names[i] for i in found.tolist()] == ["sit", "sit", "stand", "stand", "stand", "wave", "wave", "wave"]


def test_a_look_at_the_very_start_of_a_span_is_in_it_in_spite_of_rounding():
    row = Row("x.mp4", spans=(Span(0.1 + 0.2, 1.0, "sit"),))  # 0.30000000000000004
    found = make().target(row, np.array([0.3]))
    assert found is not None and NAMES.names[int(found)] == "sit"


def test_an_unknown_label_is_named():
    with pytest.raises(ValueError, match="The class 'waves' is not one of the 4 .* Did you mean 'wave'?"):
        make().target(Row("x.mp4", spans=(Span(0, 1, "waves"),)), np.zeros(1))


@each_kind
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_answer_over_windows_is_that_of_the_whole(crf, cuts, delay):
    head, x = make(crf, delay_steps=delay, lag_steps=2), see().steps
    memory = None
    for a, b in itertools.pairwise([0, *cuts, 9]):
        if b > a:
            memory = head.observe(Seen(Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)), ()), memory)
    assert memory is not None
    for one, other in zip(head.answer(memory), head.answer(head.observe(Seen(x, ()))), strict=True):
        assert isinstance(one, Timeline) and isinstance(other, Timeline)
        assert [s[:3] for s in one.spans] == [s[:3] for s in other.spans]
        assert [s[3] for s in one.spans] == pytest.approx([s[3] for s in other.spans], abs=1e-5)


def test_a_late_label_is_read_from_the_output_so_much_later():
    seen = see()
    at_once, late = (make(delay_steps=n, lag_steps=2).emissions(seen.steps) for n in (0, 2))
    for now, then, length in zip(at_once.data, late.data, seen.steps.lengths.tolist(), strict=True):
        for step in range(length):
            assert torch.equal(then[step], now[min(step + 2, length - 1)])
    with pytest.raises(ValidationError, match="delay_seconds is 2 and lag_seconds 1: the delay is part of the lag"):
        SegmentSection(delay_seconds=2)


@each_kind
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_garbage_in_the_padding_changes_neither_answers_nor_gradients(crf, garbage):
    head, clean, found = make(crf), see().steps, []
    labels = batch_of(Seen(clean, ()))
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        seen = Seen(Padded(data, clean.lengths), ())
        head.zero_grad()
        torch.stack(list(head.loss(seen, labels, "model").values())).sum().backward()
        paths = [e.path.tolist() for e in head.evidence(seen, labels)]
        found.append((paths, [p.grad for p in head.parameters()], data.grad))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=0, atol=0)
    assert (found[1][2][~clean.mask] == 0).all() and found[1][2][clean.mask].abs().sum() > 0


def test_the_loss_is_the_likelihood_a_step_and_the_share_of_the_steps_own():
    head, seen = make(step_loss=0.25), see()
    labels = batch_of(seen)
    terms = head.loss(seen, labels, "model")
    assert head.crf is not None and isinstance(labels.targets["timeline"], Padded)
    e = head.emissions(seen.steps)
    rows = [
        head.crf.log_likelihood(stack([r]), y[None])
        for r, y in zip(e.unpad(), labels.targets["timeline"].unpad(), strict=True)
    ]
    assert float(terms["timeline"].detach()) == pytest.approx(-float(torch.cat(rows).sum().detach()) / 20, rel=1e-5)
    own = [
        torch.nn.functional.cross_entropy(r, y, reduction="sum")
        for r, y in zip(e.unpad(), labels.targets["timeline"].unpad(), strict=True)
    ]
    assert float(terms["timeline_steps"].detach()) == pytest.approx(
        0.25 * float(torch.stack(own).sum().detach()) / 20, rel=1e-5
    )
    assert set(make(step_loss=0.0).loss(seen, labels, "model")) == {"timeline"}
    assert set(make(crf=False).loss(seen, labels, "model")) == {"timeline"}


@each_kind
def test_spans_tell_what_the_path_says_and_leave_the_background_out(crf):
    head, seen = make(crf), see((12, 7))
    answers = head.answer(head.observe(seen))
    paths = head.path(head.emissions(seen.steps)).unpad()
    for answer, path in zip(answers, paths, strict=True):
        assert isinstance(answer, Timeline)
        again = np.full(len(path), NAMES.index("background"))
        for start, end, label, score in answer.spans:
            again[round(start * RATE) : round(end * RATE)] = NAMES.index(label)
            assert 0.0 <= score <= 1.0 and label != "background"
        assert again.tolist() == path.tolist()
        row = answer.row(1)
        assert [set(s) for s in row["spans"]] == [{"start", "end", "label", "score"}] * len(answer.spans)


def test_a_lag_as_long_as_the_video_is_the_whole_and_a_core_that_cannot_stream_has_none():
    seen = see((12, 7, 0))
    labels = Batch({}, {"timeline": stack([torch.zeros(n, dtype=torch.int64) for n in (12, 7, 0)])}, tuple("abc"))
    for one in make(lag_steps=12).evidence(seen, labels):
        assert one.lagged is not None and one.lagged.tolist() == one.path.tolist()
    assert any((e.lagged != e.path).any() for e in make(lag_steps=0).evidence(seen, labels))  # type: ignore[union-attr]
    assert all(e.lagged is None for e in make(lag_steps=None).evidence(seen, labels))
    around = Around(D, RATE, False)
    assert SegmentSection().build("timeline", around, NAMES, None).lag_steps is None
    assert (
        SegmentSection(lag_seconds=0.5).build("timeline", around._replace(is_causal=True), NAMES, None).lag_steps == 2
    )


def test_metrics_know_the_path_from_the_steps_alone():
    head, seen = make(lag_steps=0), see((12, 7))
    labels = Batch({}, {"timeline": head.path(head.emissions(seen.steps))}, tuple("ab"))
    found = head.metrics(head.evidence(seen, labels))
    assert found["f1_50"] == found["edit"] == found["frame_accuracy"] == 1.0
    assert found["argmax_f1_50"] < 1.0 and found["lag_f1_50"] < 1.0 and found["count"] == 2
    assert found["background"] == "left out" and 0 < found["per_frame_map"] <= 1
    assert not any(
        k.startswith("lag") for k in make(lag_steps=None).metrics(make(lag_steps=None).evidence(seen, labels))
    )


def test_a_minimum_needs_the_crf_and_holds():
    with pytest.raises(ValidationError, match="minimum_seconds needs the CRF"):
        SegmentSection(crf=False, minimum_seconds=1.0)
    head = SegmentSection(minimum_seconds=0.75).build("timeline", Around(D, RATE, True), NAMES, None)
    answer = head.answer(head.observe(see((24,))))[0]
    assert isinstance(answer, Timeline) and all(end - start >= 0.75 for start, end, _, _ in answer.spans)


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_labels_of_steps_move_with_the_steps(order):
    class Source:
        sense, reads_pixels = "series", False

        def length(self, row: Row) -> int:
            return 14

        def read(self, row: Row, start: int, stop: int) -> tuple[torch.Tensor, np.ndarray]:
            return torch.arange(start, stop)[:, None].float(), np.arange(start, stop) / RATE

    target = make().target
    plain = collate([RowDataset([ROW], Source(), {"timeline": target})[(-1, 0)]])
    moved = collate([RowDataset([ROW], Source(), {"timeline": target}, order=order, stepwise=["timeline"])[(-1, 0)]])
    places = moved.raw["series"].data[0, :, 0].long()
    assert places.tolist() != list(range(14))
    assert isinstance(plain.targets["timeline"], Padded) and isinstance(moved.targets["timeline"], Padded)
    assert moved.targets["timeline"].data[0].tolist() == plain.targets["timeline"].data[0][places].tolist()


@each_kind
def test_nothing_strays_from_the_device_of_the_weights(crf):
    head = make(crf, dropout=0.5).to("meta").train()
    seen = Seen(Padded(torch.empty(4, 9, D, device="meta"), torch.tensor([9, 0, 1, 3])), ())
    labels = Padded(torch.zeros(4, 9, dtype=torch.int64, device="meta"), seen.steps.lengths)
    terms = head.loss(seen, Batch({}, {"timeline": labels}, tuple("abcd")), "model")
    memory = head.observe(seen, head.observe(seen))
    assert {t.device.type for t in (*terms.values(), *(m.data for m in memory))} == {"meta"}
