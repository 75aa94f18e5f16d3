"""The anticipate head: its target is the label some seconds later, and its metrics count step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.batch import Batch
from pipeline.data.manifest_rows import Row, Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.anticipate import IGNORE_INDEX, Anticipate
from pipeline.metrics.bootstrap import wilson_interval
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Anticipation
from pipeline.padded import Padded, stack

H = 6
NAMES = Vocabulary(("background", "clap", "sit"))
ROW = Row("x.mp4", spans=(Span(1.0, 2.0, "sit"), Span(2.5, 4.0, "clap")))


def assert_close(actual, expected) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def make_head() -> Anticipate:
    torch.manual_seed(0)
    return Anticipate(name="soon", input_size=H, vocabulary=NAMES, leads=(0.5, 1.0)).eval()


def test_the_target_is_the_label_at_each_lead_and_ignored_after_the_end():
    times = np.arange(0, 4.75, 0.25)
    target = make_head().target(ROW, times)
    assert target is not None
    for time, row in zip(times, target.tolist(), strict=True):
        for lead, index in zip((0.0, 0.5, 1.0), row, strict=True):
            moment = time + lead
            labels = [span.label for span in ROW.spans if span.start <= moment < span.end]
            assert index == (IGNORE_INDEX if moment > 4.5 else NAMES.index(labels[0] if labels else "background"))
    window = make_head().target(ROW, np.array([1.0, 1.5]))  # the spans after a window are known
    assert window is not None
    assert window.tolist() == [[2, 2, 0], [2, 0, 1]]
    assert make_head().target(Row("x.mp4"), times) is None


def test_the_loss_equals_the_one_by_hand_and_ignores_padding():
    head = make_head()
    targets = [torch.tensor([[0, 1, IGNORE_INDEX], [2, 2, 1]]), torch.tensor([[1, IGNORE_INDEX, IGNORE_INDEX]])]
    steps = stack([torch.randn(2, H), torch.randn(1, H)])
    batch = Batch({}, {"soon": stack(targets)}, ("a", "b"))
    losses = []
    for outputs, target in zip(steps.unpad(), targets, strict=True):
        for step_output, row in zip(outputs, target.tolist(), strict=True):
            log_probabilities = (head.logits.weight @ step_output + head.logits.bias).reshape(3, 3).log_softmax(-1)
            losses += [-log_probabilities[i, c] for i, c in enumerate(row) if c != IGNORE_INDEX]
    assert_close(head.loss(CoreOutput(steps, ()), batch, "model")["soon"], torch.stack(losses).mean())
    with_nan = Padded(torch.where(steps.mask[:, :, None], steps.data, torch.nan), steps.lengths)
    assert_close(head.loss(CoreOutput(with_nan, ()), batch, "model")["soon"], torch.stack(losses).mean())


def test_metrics_equal_those_counted_step_by_step():
    head = make_head()
    rng = torch.Generator().manual_seed(3)
    steps = stack([torch.randn(n, H, generator=rng) for n in (40, 7, 25)])
    targets = [torch.randint(-1, 3, (n, 3), generator=rng) for n in (40, 7, 25)]
    for target in targets:  # the class of now is always known
        target[:, 0] = target[:, 0].clamp(min=0)
    results = head.results(CoreOutput(steps, ()), Batch({}, {"soon": stack(targets)}, ("a", "b", "c")))
    metrics = head.metrics(results)
    predictions = torch.cat([head.step_logits(row).argmax(-1) for row in steps.unpad()])
    target = torch.cat(targets)
    for i, lead in enumerate(("0", "0.5", "1")):
        is_known = target[:, i] != IGNORE_INDEX
        true, predicted, now = target[is_known, i], predictions[is_known, i], target[is_known, 0]
        assert metrics[f"accuracy_{lead}"] == pytest.approx(float((true == predicted).float().mean()))
        assert metrics[f"same_as_now_{lead}"] == pytest.approx(float((true == now).float().mean()))
        assert metrics[f"most_frequent_{lead}"] == pytest.approx(float(true.bincount().max()) / len(true))
        recalls = [float((predicted[true == c] == c).float().mean()) for c in true.unique()]
        assert metrics[f"mean_class_accuracy_{lead}"] == pytest.approx(np.mean(recalls))
        if i:
            changed = true != now
            assert metrics[f"changed_{lead}"] == pytest.approx(float((true == predicted)[changed].float().mean()))
    assert metrics["count"] == 72
    is_known = target[:, 1:] != IGNORE_INDEX
    assert metrics["accuracy"] == pytest.approx(float((predictions == target)[:, 1:][is_known].float().mean()))
    low, high = head.confidence_interval(results, ["a", "b", "c"])
    assert low <= metrics["accuracy"] <= high
    accuracy = head.metrics(results[:1])["accuracy"]
    alike = head.confidence_interval(results[:1] * 3, ["a", "b", "c"])
    assert alike == pytest.approx(wilson_interval(accuracy, 3)), "three groups that are alike"


def test_metrics_without_an_annotated_step_raise():
    head = make_head()
    batch = Batch({}, {"soon": Padded(torch.full((1, 2, 3), IGNORE_INDEX), torch.tensor([2]))}, ("a",))
    with pytest.raises(ValueError, match=r"'soon' has no step to evaluate.* Give rows whose spans are longer"):
        head.metrics(head.results(CoreOutput(stack([torch.randn(2, H)]), ()), batch))


@pytest.mark.parametrize("cuts", [[4], [0, 2, 2, 7]])
def test_the_answer_after_windows_is_that_of_the_whole_and_becomes_a_row(cuts):
    head, steps = make_head(), stack([torch.randn(n, H) for n in (9, 3, 0)])
    memory = None
    for start, stop in zip([0, *cuts], [*cuts, 9], strict=True):
        window = Padded(steps.data[:, start:stop], (steps.lengths - start).clamp(0, stop - start))
        memory = head.observe(CoreOutput(window, ()), memory)
    assert memory is not None
    answers = head.answer(memory)
    assert answers == head.answer(head.observe(CoreOutput(steps, ())))
    for answer, outputs in zip(answers[:2], steps.unpad(), strict=False):
        assert isinstance(answer, Anticipation)
        probabilities = head.step_logits(outputs[-1]).softmax(-1).detach()
        leads = answer.row(2)["ahead"]
        assert [lead["seconds"] for lead in leads] == [0.0, 0.5, 1.0]
        for lead, p in zip(leads, probabilities, strict=True):
            assert lead["label"] == NAMES.names[int(p.argmax())]
            assert lead["score"] == pytest.approx(float(p.max()), abs=1e-5)
            assert len(lead["top"]) == 2
    empty = answers[2]
    assert isinstance(empty, Anticipation)
    assert [score for _, ranked in empty.ahead for _, score in ranked] == pytest.approx([1 / 3] * 9)


def test_every_tensor_is_on_the_device_of_the_weights():
    lengths = torch.tensor([7, 0, 2, 3])
    output = CoreOutput(Padded(torch.empty(4, 7, H, device="meta"), lengths), ())
    head = make_head().to("meta")
    batch = Batch({}, {"soon": Padded(torch.empty(4, 7, 3, device="meta", dtype=torch.int64), lengths)}, ())
    tensors = (*head.loss(output, batch, "model").values(), *head.observe(output))
    assert {t.device.type for t in tensors} == {"meta"}
