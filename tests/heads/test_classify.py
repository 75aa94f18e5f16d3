"""The classify head: windows equal the whole sequence, padding has no effect, and the loss equals the one by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config.head_context import HeadContext
from pipeline.config.heads import ClassifySection
from pipeline.data.batch import Batch
from pipeline.data.manifest_rows import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.classify import Classify
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Classification
from pipeline.padded import Padded, stack

NAMES = Vocabulary(("bend", "clap", "jump", "wave"))
POOLS = ["mean", "last", "attention"]
D = 5
each_pool = pytest.mark.parametrize("pool", POOLS)


def make_head(pool: str, **settings) -> Classify:
    torch.manual_seed(0)
    return Classify(name="action", input_size=D, vocabulary=NAMES, **{"pool": pool, **settings}).eval()


def core_output(lengths=(9, 4, 1, 6)) -> CoreOutput:
    torch.manual_seed(1)
    return CoreOutput(stack([3 * torch.randn(n, D) for n in lengths]), ())


def batch_of(labels: Tensor) -> Batch:
    return Batch({}, {"action": labels}, tuple("abcd"))


def assert_close(actual, expected) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def pooled_logits(head: Classify, steps: Tensor) -> Tensor:
    """(T, D) -> the pooled logits (C,) of one row, by the definitions in the docstring."""
    logits = steps @ head.logits.weight.T + head.logits.bias
    if head.pool == "mean":
        return logits.mean(0)
    if head.pool == "last":
        return logits[-1]
    assert head.attention_score is not None
    return head.attention_score(steps).softmax(0).T[0] @ logits


@each_pool
def test_the_pooled_logits_follow_their_definition(pool):
    head, output = make_head(pool), core_output()
    pooled = head.pooled(head.observe(output))
    assert_close(pooled, torch.stack([pooled_logits(head, row) for row in output.steps.unpad()]))


@each_pool
def test_the_class_after_each_step_is_that_of_the_sequence_so_far(pool):
    head, output = make_head(pool), core_output((30, 4, 1, 17))
    labels = torch.tensor([0, 1, 2, 3])
    results = head.results(output, batch_of(labels))
    changed = 0
    for row, result in zip(output.steps.unpad(), results, strict=True):
        expected = [int(pooled_logits(head, row[: step + 1]).argmax()) for step in range(len(row))]
        assert result.prefix_classes.tolist() == expected
        single = (row @ head.logits.weight.T + head.logits.bias).argmax(-1).tolist()
        assert result.num_correct_steps == sum(one == result.label for one in single)
        changed += sum(one != other for one, other in zip(expected, single, strict=True))
    assert (changed == 0) == (pool == "last")


@each_pool
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_memory_after_windows_is_that_of_the_whole(pool, cuts):
    head, steps = make_head(pool), core_output().steps
    memory = None
    for start, stop in itertools.pairwise([0, *cuts, 9]):
        window = Padded(steps.data[:, start:stop], (steps.lengths - start).clamp(0, stop - start))
        memory = head.observe(CoreOutput(window, ()), memory) if stop > start else memory
    assert memory is not None
    assert_close(head.pooled(memory), head.pooled(head.observe(CoreOutput(steps, ()))))


@each_pool
@pytest.mark.parametrize("step_loss_share", [0.0, 0.5])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_garbage_in_the_padding_changes_neither_answers_nor_gradients(pool, step_loss_share, garbage):
    head, clean, outcomes = make_head(pool, step_loss_share=step_loss_share), core_output().steps, []
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        output = CoreOutput(Padded(data, clean.lengths), ())
        head.zero_grad()
        terms = head.loss(output, batch_of(torch.tensor([0, 1, 2, 3])), "model")
        torch.stack(list(terms.values())).sum().backward()
        pooled = head.pooled(head.observe(output)).detach()
        outcomes.append((pooled, [p.grad for p in head.parameters()], data.grad))
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=0, atol=0)
    gradient = outcomes[1][2]
    assert (gradient[~clean.mask] == 0).all()
    assert gradient[clean.mask].abs().sum() > 0


def cross_entropy(logits: Tensor, label: int, smoothing: float) -> float:
    """-sum q log p in plain Python; q is the smoothed target."""
    values = logits.tolist()
    log_z = math.log(sum(math.exp(v) for v in values))
    q = [smoothing / len(values) + (1 - smoothing) * (i == label) for i in range(len(values))]
    return -sum(share * (v - log_z) for share, v in zip(q, values, strict=True))


@each_pool
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 0.25)])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_loss_equals_the_one_by_hand(pool, smoothing, weights, share):
    head = make_head(pool, label_smoothing=smoothing, class_weights=weights, step_loss_share=share)
    output, labels = core_output(), [2, 0, 3, 1]
    terms = head.loss(output, batch_of(torch.tensor(labels)), "model")
    class_weights = weights or (1.0,) * 4
    pooled = steps = 0.0
    for row, label in zip(output.steps.unpad(), labels, strict=True):
        weight = class_weights[label] / 4
        pooled += weight * cross_entropy(pooled_logits(head, row), label, smoothing)
        steps += weight * sum(cross_entropy(head.logits(step), label, smoothing) for step in row) / len(row)
    assert terms["action"].item() == pytest.approx((1 - share) * pooled, rel=1e-5)
    if share:
        assert terms["action_steps"].item() == pytest.approx(share * steps, rel=1e-5)
    else:
        assert set(terms) == {"action"}


def test_balanced_class_weights_give_every_class_the_same_share_of_the_loss():
    counts = {"bend": 1, "clap": 2, "jump": 5, "wave": 12}
    context = HeadContext(D, 4.0, True)
    head = ClassifySection(class_weights="balanced").build("action", context, NAMES, counts)
    weights = head.get_buffer("class_weights").tolist()
    shares = [weight * counts[name] for weight, name in zip(weights, NAMES.names, strict=True)]
    assert shares == pytest.approx([5.0] * 4)
    assert sum(shares) / sum(counts.values()) == pytest.approx(1.0)  # the scale of the loss is the same
    assert (ClassifySection().build("action", context, NAMES, counts).get_buffer("class_weights") == 1).all()


@each_pool
def test_answers_are_ranked_probabilities(pool):
    head = make_head(pool)
    memory = head.observe(core_output())
    for answer, logits in zip(head.answer(memory), head.pooled(memory), strict=True):
        assert isinstance(answer, Classification)
        scores = [score for _, score in answer.ranked]
        assert sum(scores) == pytest.approx(1.0, abs=1e-6)
        assert scores == sorted(scores, reverse=True)
        assert {name for name, _ in answer.ranked} == set(NAMES.names)
        assert answer.label == NAMES.names[int(logits.argmax())]
        assert dict(answer.ranked)["jump"] == pytest.approx(logits.softmax(0)[2].item(), abs=1e-6)
        row = answer.row(2)
        assert (row["label"], row["score"]) == (row["top"][0]["label"], row["top"][0]["score"])
        assert len(row["top"]) == 2
        assert len(answer.row(99)["top"]) == 4


@each_pool
def test_a_row_without_steps_gets_equal_probabilities(pool):
    head = make_head(pool)
    answer = head.answer(head.observe(core_output((3, 0))))[1]
    assert isinstance(answer, Classification)
    assert [score for _, score in answer.ranked] == pytest.approx([0.25] * 4)


def test_a_batch_without_targets_for_the_head_raises():
    batch = Batch({}, {"caption": torch.zeros(4)}, tuple("abcd"))
    with pytest.raises(ValueError, match=r"'action'.*caption"):
        make_head("mean").loss(core_output(), batch, "model")


def test_the_target_is_the_index_of_the_label():
    head = make_head("mean")
    assert head.target(Row("x.mp4", label="jump"), np.zeros(1)) == torch.tensor(2)
    assert head.target(Row("x.mp4"), np.zeros(1)) is None
    with pytest.raises(ValueError, match="'jumps'.*Did you mean 'jump'?"):
        head.target(Row("x.mp4", label="jumps"), np.zeros(1))


@each_pool
def test_every_tensor_is_on_the_device_of_the_weights(pool):
    head = make_head(pool, step_loss_share=0.5, class_weights=(1.0, 2.0, 3.0, 4.0), dropout=0.5).to("meta").train()
    output = CoreOutput(Padded(torch.empty(4, 9, D, device="meta"), torch.tensor([9, 0, 1, 3])), ())
    terms = head.loss(output, batch_of(torch.zeros(4, dtype=torch.int64, device="meta")), "model")
    memory = head.observe(output, head.observe(output))
    assert {t.device.type for t in (*terms.values(), *memory, head.pooled(memory))} == {"meta"}
