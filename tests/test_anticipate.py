"""What will be going on: the truth is the label some seconds later, judged look by look."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row, Span
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.anticipate import UNKNOWN, Anticipate
from pipeline.models.prediction import Anticipation
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack

H = 6


def same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


NAMES = Vocabulary(("background", "clap", "sit"))
SAT = Row("x.mp4", spans=(Span(1.0, 2.0, "sit"), Span(2.5, 4.0, "clap")))


def anticipate() -> Anticipate:
    torch.manual_seed(0)
    return Anticipate(name="soon", input_size=H, vocabulary=NAMES, leads=(0.5, 1.0)).eval()


def test_the_target_is_the_label_of_each_moment_ahead_and_unknown_behind_the_end():
    times = np.arange(0, 4.75, 0.25)
    found = anticipate().target(SAT, times)
    assert found is not None
    for t, row in zip(times, found.tolist(), strict=True):
        for lead, index in zip((0.0, 0.5, 1.0), row, strict=True):
            at = t + lead
            inside = [span.label for span in SAT.spans if span.start <= at < span.end]
            assert index == (UNKNOWN if at > 4.5 else NAMES.index(inside[0] if inside else "background"))
    window = anticipate().target(SAT, np.array([1.0, 1.5]))  # a window knows what its row says of later moments
    assert window is not None and window.tolist() == [[2, 2, 0], [2, 0, 1]]
    assert anticipate().target(Row("x.mp4"), times) is None


def test_the_loss_of_anticipation_by_hand_and_its_padding_is_inert():
    head = anticipate()
    targets = [torch.tensor([[0, 1, UNKNOWN], [2, 2, 1]]), torch.tensor([[1, UNKNOWN, UNKNOWN]])]
    steps = stack([torch.randn(2, H), torch.randn(1, H)])
    batch = Batch({}, {"soon": stack(targets)}, ("a", "b"))
    each = []
    for outputs, truth in zip(steps.unpad(), targets, strict=True):
        for output, row in zip(outputs, truth.tolist(), strict=True):
            logs = (head.logits.weight @ output + head.logits.bias).reshape(3, 3).log_softmax(-1)
            each += [-logs[i, c] for i, c in enumerate(row) if c != UNKNOWN]
    same(head.loss(Seen(steps, ()), batch, "model")["soon"], torch.stack(each).mean())
    garbled = Padded(torch.where(steps.mask[:, :, None], steps.data, torch.nan), steps.lengths)
    same(head.loss(Seen(garbled, ()), batch, "model")["soon"], torch.stack(each).mean())


def test_anticipation_is_judged_step_by_step():
    head = anticipate()
    rng = torch.Generator().manual_seed(3)
    steps = stack([torch.randn(n, H, generator=rng) for n in (40, 7, 25)])
    targets = [torch.randint(-1, 3, (n, 3), generator=rng) for n in (40, 7, 25)]
    for truth in targets:  # what is now is known where anything is
        truth[:, 0] = truth[:, 0].clamp(min=0)
    evidence = head.evidence(Seen(steps, ()), Batch({}, {"soon": stack(targets)}, ("a", "b", "c")))
    found = head.metrics(evidence)
    said = torch.cat([head.step_logits(row).argmax(-1) for row in steps.unpad()])
    truth = torch.cat(targets)
    for i, lead in enumerate(("0", "0.5", "1")):
        known = truth[:, i] != UNKNOWN
        then, answer, now = truth[known, i], said[known, i], truth[known, 0]
        assert found[f"accuracy_{lead}"] == pytest.approx(float((then == answer).float().mean()))
        assert found[f"same_as_now_{lead}"] == pytest.approx(float((then == now).float().mean()))
        assert found[f"most_frequent_{lead}"] == pytest.approx(float(then.bincount().max()) / len(then))
        recall = [float((answer[then == c] == c).float().mean()) for c in then.unique()]
        assert found[f"mean_class_accuracy_{lead}"] == pytest.approx(np.mean(recall))
        if i:
            changed = then != now
            assert found[f"changed_{lead}"] == pytest.approx(float((then == answer)[changed].float().mean()))
    assert found["count"] == 72
    known = truth[:, 1:] != UNKNOWN
    assert found["accuracy"] == pytest.approx(float((said == truth)[:, 1:][known].float().mean()))
    low, high = head.interval(evidence, ["a", "b", "c"])
    assert low <= found["accuracy"] <= high
    assert head.interval(evidence[:1] * 3, ["a", "b", "c"]) == pytest.approx(
        [head.metrics(evidence[:1])["accuracy"]] * 2
    )


def test_rows_without_a_known_future_are_a_sentence():
    head = anticipate()
    batch = Batch({}, {"soon": torch.full((1, 2, 3), UNKNOWN)}, ("a",))
    batch = Batch({}, {"soon": Padded(torch.full((1, 2, 3), UNKNOWN), torch.tensor([2]))}, ("a",))
    with pytest.raises(ValueError, match="No step can be judged for 'soon'.* Give rows with spans that last longer"):
        head.metrics(head.evidence(Seen(stack([torch.randn(2, H)]), ()), batch))


@pytest.mark.parametrize("cuts", [[4], [0, 2, 2, 7]])
def test_anticipation_after_windows_is_that_of_the_whole_and_becomes_a_row(cuts):
    head, x = anticipate(), stack([torch.randn(n, H) for n in (9, 3, 0)])
    memory = None
    for a, b in zip([0, *cuts], [*cuts, 9], strict=True):
        memory = head.observe(Seen(Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)), ()), memory)
    assert memory is not None
    answers = head.answer(memory)
    assert answers == head.answer(head.observe(Seen(x, ())))
    for answer, outputs in zip(answers[:2], x.unpad(), strict=False):
        assert isinstance(answer, Anticipation)
        probabilities = head.step_logits(outputs[-1]).softmax(-1)
        row = answer.row(2)
        assert [a["seconds"] for a in row["ahead"]] == [0.0, 0.5, 1.0]
        for said, p in zip(row["ahead"], probabilities, strict=True):
            assert said["label"] == NAMES.names[int(p.argmax())] and said["score"] == pytest.approx(
                float(p.detach().max()), abs=1e-5
            )
            assert len(said["top"]) == 2
    nothing = answers[2]
    assert isinstance(nothing, Anticipation)
    assert [s for _, ranked in nothing.ahead for _, s in ranked] == pytest.approx([1 / 3] * 9)


def test_nothing_strays_from_the_device_of_the_weights():
    seen = Seen(Padded(torch.empty(4, 7, H, device="meta"), torch.tensor([7, 0, 2, 3])), ())
    soon = anticipate().to("meta")
    batch = Batch(
        {}, {"soon": Padded(torch.empty(4, 7, 3, device="meta", dtype=torch.int64), torch.tensor([7, 0, 2, 3]))}, ()
    )
    assert {t.device.type for t in (*soon.loss(seen, batch, "model").values(), *soon.observe(seen))} == {"meta"}
