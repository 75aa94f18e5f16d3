"""The segment head: targets by time, windows equal the whole, padding has no effect, and spans agree with the path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from pipeline.config.head_context import HeadContext
from pipeline.config.heads import SegmentSection
from pipeline.data.batch import Batch, collate
from pipeline.data.dataset import RowDataset
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.segment import Segment
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Timeline
from pipeline.padded import Padded, stack

NAMES = Vocabulary(("background", "sit", "stand", "wave"))
D, RATE = 5, 4.0
ROW = Row("x.mp4", spans=(Span(0.5, 1.0, "sit"), Span(1.0, 1.6, "stand"), Span(2.0, 3.0, "wave")))
with_and_without_crf = pytest.mark.parametrize("crf", [True, False])


def make_head(crf: bool = True, **settings) -> Segment:
    torch.manual_seed(0)
    head = Segment(name="timeline", input_size=D, vocabulary=NAMES, rate=RATE, crf=crf, **settings).eval()
    if head.crf is not None:
        for parameter in head.crf.parameters():
            torch.nn.init.normal_(parameter)
    return head


def core_output(lengths=(9, 4, 1, 6)) -> CoreOutput:
    torch.manual_seed(1)
    return CoreOutput(stack([3 * torch.randn(n, D) for n in lengths]), ())


def batch_of(output: CoreOutput) -> Batch:
    torch.manual_seed(2)
    labels = stack([torch.randint(4, (n,)) for n in output.steps.lengths.tolist()])
    return Batch({}, {"timeline": labels}, tuple("abcd"))


def label_names(head: Segment, times: np.ndarray, row: Row = ROW) -> list[str]:
    target = head.target(row, times)
    assert target is not None
    return [NAMES.names[i] for i in target.tolist()]


def test_a_look_has_the_label_of_the_span_that_contains_it():
    times = np.arange(14) / RATE
    expected = ["background"] * 2 + ["sit"] * 2 + ["stand"] * 3 + ["background"] + ["wave"] * 4 + ["background"] * 2
    assert label_names(make_head(), times) == expected
    assert make_head().target(Row("x.mp4", label="sit"), times) is None


def test_without_background_a_look_between_spans_has_the_label_of_the_nearest_one():
    times = np.array([0.0, 0.5, 1.0, 1.7, 1.79, 1.85, 3.0, 9.0])
    expected = ["sit", "sit", "stand", "stand", "stand", "wave", "wave", "wave"]
    assert label_names(make_head(background=None), times) == expected


def test_a_look_at_the_start_of_a_span_belongs_to_it_despite_rounding():
    row = Row("x.mp4", spans=(Span(0.1 + 0.2, 1.0, "sit"),))  # 0.30000000000000004
    assert label_names(make_head(), np.array([0.3]), row) == ["sit"]


def test_a_label_outside_the_vocabulary_raises():
    with pytest.raises(ValueError, match="'waves'.*Did you mean 'wave'?"):
        make_head().target(Row("x.mp4", spans=(Span(0, 1, "waves"),)), np.zeros(1))


@with_and_without_crf
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_answer_over_windows_is_that_of_the_whole(crf, cuts, delay):
    head, steps = make_head(crf, delay_steps=delay, lag_steps=2), core_output().steps
    memory = None
    for start, stop in itertools.pairwise([0, *cuts, 9]):
        if stop > start:
            window = Padded(steps.data[:, start:stop], (steps.lengths - start).clamp(0, stop - start))
            memory = head.observe(CoreOutput(window, ()), memory)
    assert memory is not None
    whole = head.answer(head.observe(CoreOutput(steps, ())))
    for answer, expected in zip(head.answer(memory), whole, strict=True):
        assert isinstance(answer, Timeline)
        assert isinstance(expected, Timeline)
        assert [span[:3] for span in answer.spans] == [span[:3] for span in expected.spans]
        scores = [span[3] for span in expected.spans]
        assert [span[3] for span in answer.spans] == pytest.approx(scores, abs=1e-5)


def test_with_a_delay_a_label_is_read_from_a_later_output():
    output = core_output()
    plain, delayed = (make_head(delay_steps=n, lag_steps=2).emissions(output.steps) for n in (0, 2))
    for row, delayed_row in zip(plain.unpad(), delayed.unpad(), strict=True):
        for step in range(len(row)):
            assert torch.equal(delayed_row[step], row[min(step + 2, len(row) - 1)])
    with pytest.raises(ValidationError, match="delay_seconds is 2 and lag_seconds 1"):
        SegmentSection(delay_seconds=2)


@with_and_without_crf
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_garbage_in_the_padding_changes_neither_answers_nor_gradients(crf, garbage):
    head, clean, outcomes = make_head(crf), core_output().steps, []
    batch = batch_of(CoreOutput(clean, ()))
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        output = CoreOutput(Padded(data, clean.lengths), ())
        head.zero_grad()
        torch.stack(list(head.loss(output, batch, "model").values())).sum().backward()
        paths = [result.path.tolist() for result in head.results(output, batch)]
        outcomes.append((paths, [p.grad for p in head.parameters()], data.grad))
    assert outcomes[0][0] == outcomes[1][0]
    torch.testing.assert_close(outcomes[0][1:], outcomes[1][1:], rtol=0, atol=0)
    gradient = outcomes[1][2]
    assert (gradient[~clean.mask] == 0).all()
    assert gradient[clean.mask].abs().sum() > 0


def test_the_loss_is_the_mean_over_steps_of_crf_likelihood_and_cross_entropy():
    head, output = make_head(step_loss_weight=0.25), core_output()
    batch = batch_of(output)
    target = batch.targets["timeline"]
    terms = head.loss(output, batch, "model")
    assert head.crf is not None
    assert isinstance(target, Padded)
    log_likelihood = cross_entropy = torch.zeros(())
    for row, labels in zip(head.emissions(output.steps).unpad(), target.unpad(), strict=True):
        log_likelihood = log_likelihood + head.crf.log_likelihood(stack([row]), labels[None]).sum()
        cross_entropy = cross_entropy + F.cross_entropy(row, labels, reduction="sum")
    assert terms["timeline"].item() == pytest.approx(-log_likelihood.item() / 20, rel=1e-5)
    assert terms["timeline_steps"].item() == pytest.approx(0.25 * cross_entropy.item() / 20, rel=1e-5)
    assert set(make_head(step_loss_weight=0.0).loss(output, batch, "model")) == {"timeline"}
    assert set(make_head(crf=False).loss(output, batch, "model")) == {"timeline"}


@with_and_without_crf
def test_spans_agree_with_the_path_and_leave_out_the_background(crf):
    head, output = make_head(crf), core_output((12, 7))
    answers = head.answer(head.observe(output))
    paths = head.path(head.emissions(output.steps)).unpad()
    for answer, path in zip(answers, paths, strict=True):
        assert isinstance(answer, Timeline)
        labels = np.full(len(path), NAMES.index("background"))
        for start, end, label, score in answer.spans:
            labels[round(start * RATE) : round(end * RATE)] = NAMES.index(label)
            assert 0.0 <= score <= 1.0
            assert label != "background"
        assert labels.tolist() == path.tolist()
        rows = answer.row(1)["spans"]
        assert [set(row) for row in rows] == [{"start", "end", "label", "score"}] * len(answer.spans)


def test_a_lag_of_the_whole_length_gives_the_path_and_a_core_that_cannot_stream_has_no_lag():
    output = core_output((12, 7, 0))
    target = stack([torch.zeros(n, dtype=torch.int64) for n in (12, 7, 0)])
    batch = Batch({}, {"timeline": target}, tuple("abc"))
    for result in make_head(lag_steps=12).results_with_stream(output, batch):
        assert result.lagged is not None
        assert result.lagged.tolist() == result.path.tolist()
    at_once = make_head(lag_steps=0).results_with_stream(output, batch)
    assert any((result.lagged != result.path).any() for result in at_once)
    assert all(result.lagged is None for result in make_head(lag_steps=None).results_with_stream(output, batch))
    context = HeadContext(D, RATE, False)
    assert SegmentSection().build("timeline", context, NAMES, None).lag_steps is None
    causal = context._replace(is_causal=True)
    assert SegmentSection(lag_seconds=0.5).build("timeline", causal, NAMES, None).lag_steps == 2


def test_metrics_are_of_the_path_of_single_steps_and_of_a_stream():
    head, output = make_head(lag_steps=0), core_output((12, 7))
    batch = Batch({}, {"timeline": head.path(head.emissions(output.steps))}, tuple("ab"))
    metrics = head.metrics(head.results_with_stream(output, batch))
    assert metrics["f1_50"] == metrics["edit"] == metrics["frame_accuracy"] == 1.0
    assert metrics["argmax_f1_50"] < 1.0
    assert metrics["lag_f1_50"] < 1.0
    assert metrics["count"] == 2
    assert metrics["background"] == "left out"
    assert 0 < metrics["per_frame_map"] <= 1
    cannot_stream = make_head(lag_steps=None)
    results = cannot_stream.results_with_stream(output, batch)
    assert not any(key.startswith("lag") for key in cannot_stream.metrics(results))


def test_a_minimum_duration_needs_the_crf_and_holds():
    with pytest.raises(ValidationError, match="min_seconds needs the CRF"):
        SegmentSection(crf=False, min_seconds=1.0)
    head = SegmentSection(min_seconds=0.75).build("timeline", HeadContext(D, RATE, True), NAMES, None)
    answer = head.answer(head.observe(core_output((24,))))[0]
    assert isinstance(answer, Timeline)
    assert all(end - start >= 0.75 for start, end, _, _ in answer.spans)


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_labels_are_reordered_together_with_their_steps(order):
    class Source:
        sense, reads_pixels = "series", False

        def length(self, row: Row) -> int:
            return 14

        def read(self, row: Row, start: int, stop: int) -> tuple[torch.Tensor, np.ndarray]:
            return torch.arange(start, stop)[:, None].float(), np.arange(start, stop) / RATE

    targets = {"timeline": make_head().target}
    plain = collate([RowDataset([ROW], Source(), targets)[(-1, 0)]])
    reordered = collate([RowDataset([ROW], Source(), targets, order=order, per_step_heads=["timeline"])[(-1, 0)]])
    steps = reordered.raw["series"].data[0, :, 0].long()
    assert steps.tolist() != list(range(14))
    labels, expected = reordered.targets["timeline"], plain.targets["timeline"]
    assert isinstance(labels, Padded)
    assert isinstance(expected, Padded)
    assert labels.data[0].tolist() == expected.data[0][steps].tolist()


@with_and_without_crf
def test_every_tensor_is_on_the_device_of_the_weights(crf):
    head = make_head(crf, dropout=0.5).to("meta").train()
    output = CoreOutput(Padded(torch.empty(4, 9, D, device="meta"), torch.tensor([9, 0, 1, 3])), ())
    labels = Padded(torch.zeros(4, 9, dtype=torch.int64, device="meta"), output.steps.lengths)
    terms = head.loss(output, Batch({}, {"timeline": labels}, tuple("abcd")), "model")
    memory = head.observe(output, head.observe(output))
    assert {t.device.type for t in (*terms.values(), *(window.data for window in memory))} == {"meta"}
