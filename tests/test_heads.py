"""The classification head: windows equal the whole, padding is inert, the loss is the one that can be worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.classify import Classify
from pipeline.models.prediction import Classification
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack

NAMES = Vocabulary(("bend", "clap", "jump", "wave"))
POOLS = ["mean", "last", "attention"]
D = 5
each_pool = pytest.mark.parametrize("pool", POOLS)


def make(pool: str, **settings) -> Classify:
    torch.manual_seed(0)
    return Classify(name="action", input_size=D, vocabulary=NAMES, pool=pool, **settings).eval()  # type: ignore[arg-type]


def see(lengths=(9, 4, 1, 6)) -> Seen:
    torch.manual_seed(1)
    return Seen(stack([3 * torch.randn(n, D) for n in lengths]), ())


def batch(labels: Tensor) -> Batch:
    return Batch({}, {"action": labels}, tuple("abcd"))


def same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def one_row(head: Classify, steps: Tensor) -> Tensor:
    """(T, D) -> the pooled logits (C,), as the docstring says them."""
    logits = steps @ head.logits.weight.T + head.logits.bias
    if head.pool == "mean":
        return logits.mean(0)
    if head.pool == "last":
        return logits[-1]
    assert head.score is not None
    return head.score(steps).softmax(0).T[0] @ logits


@each_pool
def test_the_pooled_logits_are_what_the_pool_is_called(pool):
    head, seen = make(pool), see()
    pooled = head.pooled(head.observe(seen))
    same(pooled, torch.stack([one_row(head, row) for row in seen.steps.unpad()]))


@each_pool
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_memory_over_windows_is_that_of_the_whole(pool, cuts):
    head, x = make(pool), see().steps
    memory = None
    for a, b in itertools.pairwise([0, *cuts, 9]):
        window = Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a))
        memory = head.observe(Seen(window, ()), memory) if b > a else memory
    same(head.pooled(memory), head.pooled(head.observe(Seen(x, ()))))


@each_pool
@pytest.mark.parametrize("step_loss", [0.0, 0.5])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_garbage_in_the_padding_changes_neither_answers_nor_gradients(pool, step_loss, garbage):
    head, clean, found = make(pool, step_loss=step_loss), see().steps, []
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        seen = Seen(Padded(data, clean.lengths), ())
        head.zero_grad()
        sum(head.loss(seen, batch(torch.tensor([0, 1, 2, 3])), "model").values()).backward()  # type: ignore[union-attr]
        found.append((head.pooled(head.observe(seen)).detach(), [p.grad for p in head.parameters()], data.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert (found[1][2][~clean.mask] == 0).all() and found[1][2][clean.mask].abs().sum() > 0


def cross_entropy(logits: Tensor, label: int, smoothing: float) -> float:
    """-sum q log p, q the smoothed truth, in plain Python."""
    values = logits.tolist()
    log_z = math.log(sum(math.exp(v) for v in values))
    q = [smoothing / len(values) + (1 - smoothing) * (i == label) for i in range(len(values))]
    return -sum(share * (v - log_z) for share, v in zip(q, values, strict=True))


@each_pool
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 0.25)])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_loss_by_hand(pool, smoothing, weights, share):
    head, seen, labels = (
        make(pool, label_smoothing=smoothing, class_weights=weights, step_loss=share),
        see(),
        [2, 0, 3, 1],
    )
    terms = head.loss(seen, batch(torch.tensor(labels)), "model")
    w = weights or (1.0,) * 4
    rows = seen.steps.unpad()
    whole = sum(w[y] * cross_entropy(one_row(head, row), y, smoothing) for row, y in zip(rows, labels, strict=True)) / 4
    steps = sum(w[y] * sum(cross_entropy(head.logits(s), y, smoothing) for s in row) / len(row)
                for row, y in zip(rows, labels, strict=True)) / 4  # fmt: skip
    assert float(terms["action"]) == pytest.approx((1 - share) * whole, rel=1e-5)
    if share:
        assert float(terms["action_steps"]) == pytest.approx(share * steps, rel=1e-5)
    else:
        assert set(terms) == {"action"}


def test_balanced_class_weights_make_every_class_count_alike():
    from pipeline.around import Around
    from pipeline.questions import ClassifySection

    counts = {"bend": 1, "clap": 2, "jump": 5, "wave": 12}
    around = Around(D, 4.0, True)
    head = ClassifySection(class_weights="balanced").build("action", around, NAMES, counts)
    weights = head.get_buffer("class_weights").tolist()
    shares = [w * counts[name] for w, name in zip(weights, NAMES.names, strict=True)]
    assert shares == pytest.approx([5.0] * 4)
    assert sum(shares) / sum(counts.values()) == pytest.approx(1.0)  # the loss keeps its scale
    assert (ClassifySection().build("action", around, NAMES, counts).get_buffer("class_weights") == 1).all()


@each_pool
def test_answers_are_probabilities_ranked(pool):
    head = make(pool)
    memory = head.observe(see())
    for answer, logits in zip(head.answer(memory), head.pooled(memory), strict=True):
        assert isinstance(answer, Classification)
        scores = [score for _, score in answer.ranked]
        assert sum(scores) == pytest.approx(1.0, abs=1e-6)
        assert scores == sorted(scores, reverse=True)
        assert {name for name, _ in answer.ranked} == set(NAMES.names)
        assert answer.label == NAMES.names[int(logits.argmax())]
        assert dict(answer.ranked)["jump"] == pytest.approx(float(logits.softmax(0)[2]), abs=1e-6)
        row = answer.row(2)
        assert (
            row["label"] == row["top"][0]["label"] and row["score"] == row["top"][0]["score"] and len(row["top"]) == 2
        )
        assert len(answer.row(99)["top"]) == 4


@each_pool
def test_a_row_that_saw_nothing_answers_without_preference(pool):
    head = make(pool)
    answer = head.answer(head.observe(see((3, 0))))[1]
    assert isinstance(answer, Classification)
    assert [score for _, score in answer.ranked] == pytest.approx([0.25] * 4)


def test_a_missing_target_says_the_heads_name():
    with pytest.raises(
        ValueError, match="The head 'action' has no target in this batch. The rows carry targets for: caption"
    ):
        make("mean").loss(see(), Batch({}, {"caption": torch.zeros(4)}, tuple("abcd")), "model")


def test_a_target_is_the_index_of_the_label():
    head = make("mean")
    assert head.target(Row("x.mp4", label="jump"), np.zeros(1)) == torch.tensor(2)
    assert head.target(Row("x.mp4"), np.zeros(1)) is None
    with pytest.raises(
        ValueError, match="The class 'jumps' is not one of the 4 that this model knows. Did you mean 'jump'?"
    ):
        head.target(Row("x.mp4", label="jumps"), np.zeros(1))


@each_pool
def test_nothing_strays_from_the_device_of_the_weights(pool):
    head = make(pool, step_loss=0.5, class_weights=(1.0, 2.0, 3.0, 4.0), dropout=0.5).to("meta").train()
    seen = Seen(Padded(torch.empty(4, 9, D, device="meta"), torch.tensor([9, 0, 1, 3])), ())
    terms = head.loss(seen, batch(torch.zeros(4, dtype=torch.int64, device="meta")), "model")
    memory = head.observe(seen, head.observe(seen))
    assert {t.device.type for t in (*terms.values(), *memory, head.pooled(memory))} == {"meta"}
