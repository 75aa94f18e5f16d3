"""The caption head: it learns to say what it saw, windows equal the whole, and every way of training keeps its promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.batch import Batch, Sample, collate
from pipeline.data.manifest import Row
from pipeline.data.words import END, PAD, Words
from pipeline.heads.caption import Caption, _cut
from pipeline.metrics.captions import CiderD
from pipeline.models.prediction import Description
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack

TEXTS = ("a cat sits", "the dog runs home")
ROWS = [Row(f"{i}.mp4", captions=(TEXTS[i % 2], f"{TEXTS[i % 2]} now")) for i in range(6)]
WORDS = Words.learn([t for r in ROWS for t in r.captions])
D, RATE = 4, 2.0


def make(**settings) -> Caption:
    torch.manual_seed(0)
    given = {"hidden": 16, "size": 16, "dropout": 0.0, "max_length": 8, "width": 2, **settings}
    return Caption(name="caption", input_size=D, words=WORDS, rate=RATE, **given).eval()


def see(lengths=(5, 3, 4, 1, 2, 6)) -> Seen:
    """Even rows show one thing, odd ones the other."""
    torch.manual_seed(1)
    rows = [
        torch.randn(n, D) * 0.1 + torch.tensor([1.0, -1.0] if i % 2 else [-1.0, 1.0]).repeat(2)
        for i, n in enumerate(lengths)
    ]
    return Seen(stack(rows), ())


def batch_of(head: Caption) -> Batch:
    samples = []
    for row in ROWS:
        target = head.target(row, np.zeros(1))
        assert target is not None
        samples.append(Sample({"frames": torch.zeros(1, 1)}, {"caption": target}, row.path))
    return collate(samples)


def train(head: Caption, steps: int, lr: float = 0.02) -> None:
    head.train()
    head.read(ROWS)
    optimiser = torch.optim.Adam(head.parameters(), lr)
    for _ in range(steps):
        optimiser.zero_grad()
        head.loss(see(), batch_of(head), "model")["caption"].backward()
        optimiser.step()
    head.eval()


def test_the_target_holds_every_sentence_and_its_end():
    head = make()
    found = head.target(ROWS[1], np.zeros(1))
    assert found is not None and found.shape == (2, 8)
    assert [WORDS.decode(ids.tolist()) for ids in found] == list(ROWS[1].captions)
    assert all(ids[ids != PAD][-1] == END for ids in found)
    assert head.target(Row("x.mp4", label="a"), np.zeros(1)) is None


def test_a_long_sentence_is_cut_and_still_ends():
    found = make(max_length=3).target(ROWS[1], np.zeros(1))
    assert found is not None and WORDS.decode(found[0].tolist()) == "the dog" and found[0, 2] == END


@pytest.mark.parametrize("settings", [{}, {"sampling": 0.5}, {"attention": "mean"}, {"cell": "lstm"}])
def test_it_learns_to_say_what_it_saw(settings):
    head = make(**settings)
    train(head, 80, lr=0.01)
    said = [p.sentence for p in head.answer(head.observe(see())) if isinstance(p, Description)]
    assert [s.removesuffix(" now") for s in said] == [TEXTS[i % 2] for i in range(6)]
    assert head.metrics(head.evidence(see(), batch_of(head)))["cider_d"] > 2


def test_the_self_critical_gradient_is_that_of_the_expected_reward():
    head = make(self_critical=True, max_length=3, hidden=4, size=4).train()
    head.read(ROWS)
    steps, target = see().steps.unpad()[0], head.target(ROWS[0], np.zeros(1))
    assert target is not None and head._frequencies is not None
    many = 6000
    batch = Batch({}, {"caption": stack([target] * many)}, ("x",) * many)
    head.loss(Seen(stack([steps] * many), ()), batch, "model")["caption"].backward()
    drawn = torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None])

    head.zero_grad()
    words = range(len(WORDS))
    every = [
        [END],
        *([a, END] for a in words if a != END),
        *([a, b, c] for a in words if a != END for b in words if b != END for c in words),
    ]
    judge = CiderD([[_cut(ids) for ids in target.tolist()]], head._frequencies)
    sentences = stack([torch.tensor(ids) for ids in every])
    before = torch.cat([torch.full_like(sentences.data[:, :1], 2), sentences.data[:, :-1]], dim=1)
    glimpse = head.decoder.glimpse(stack([steps] * len(every)))
    scores = head.decoder(glimpse, Padded(before, sentences.lengths))[0].log_softmax(-1)
    log_probability = torch.where(sentences.mask, scores.gather(2, sentences.data[:, :, None])[..., 0], 0.0).sum(1)
    assert log_probability.exp().sum().item() == pytest.approx(1, abs=1e-4)
    rewards = torch.tensor(judge.scores([_cut(ids) for ids in every], [0] * len(every)), dtype=torch.float32)
    (-(log_probability.exp() * rewards).sum()).backward()
    exact = torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None])
    assert torch.cosine_similarity(drawn, exact, dim=0) > 0.95
    assert drawn.norm().item() == pytest.approx(exact.norm().item(), rel=0.15)


def test_the_answer_over_windows_is_that_of_the_whole():
    head, x = make(), see().steps
    memory = None
    for a, b in ((0, 2), (2, 3), (3, 6)):
        memory = head.observe(Seen(Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)), ()), memory)
    assert memory is not None
    for one, other in zip(head.answer(memory), head.answer(head.observe(Seen(x, ()))), strict=True):
        assert isinstance(one, Description) and isinstance(other, Description)
        assert one.sentence == other.sentence
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)


def test_the_log_probability_is_that_of_the_sentence():
    head, seen = make(), see()
    for row, said in enumerate(head.answer(head.observe(seen))):
        assert isinstance(said, Description)
        ids = [*(WORDS.names.index(w) for w in said.sentence.split()), END][:8]
        glimpse = head.decoder.glimpse(stack([seen.steps.unpad()[row]]))
        before = torch.tensor([[2, *ids[:-1]]])
        scores = head.decoder(glimpse, Padded(before, torch.tensor([len(ids)])))[0].log_softmax(-1)
        assert said.log_probability == pytest.approx(scores[0, range(len(ids)), ids].sum().item(), abs=1e-4)
        assert len(said.weights) == len(ids) and sum(said.weights[0]) == pytest.approx(1, abs=1e-5)


def test_no_sentence_holds_what_is_no_word():
    head = make()
    with torch.no_grad():
        head.decoder.bias[:3] = 50.0  # padding, unknown and start, as probable as can be
    for said in head.answer(head.observe(see())):
        assert isinstance(said, Description) and "<" not in said.sentence


def test_spans_are_described_from_their_own_steps():
    head = make(describes="timeline")
    seen = see((6,))
    spans = ((0.0, 1.0, "sit", 0.9), (1.0, 1.1, "run", 0.8), (2.0, 9.0, "run", 0.8))
    found = head.describe(head.observe(seen), spans)
    assert isinstance(found, Description) and found.spans is not None
    steps = seen.steps.unpad()[0]
    for (start, end, _, _), (a, b, text, sure), part in zip(
        spans, found.spans, (steps[:2], steps[2:3], steps[4:]), strict=True
    ):
        alone = head.answer(head.observe(Seen(stack([part]), ())))[0]
        assert isinstance(alone, Description)
        assert (a, b, text) == (start, end, alone.sentence) and sure == pytest.approx(
            np.exp(alone.log_probability / len(alone.tokens)), abs=1e-5
        )
    row = found.row(3)
    assert set(row) == {"sentence", "log_probability", "spans"} and len(row["spans"]) == 3
    nothing = head.describe(head.observe(seen), ())
    assert isinstance(nothing, Description) and nothing.row(3)["spans"] == []


def test_label_smoothing_is_for_training_words_and_padding_counts_nowhere():
    head, seen = make(label_smoothing=0.0), see()
    batch = batch_of(head)
    target = batch.target("caption")
    assert isinstance(target, Padded)
    loss = head.loss(seen, batch, "model")["caption"]
    logs = [e.log_probability for e in head.evidence(seen, batch)]
    tokens = [int((row[0] != PAD).sum()) for row in target.unpad()]
    assert loss.item() == pytest.approx(-np.dot(logs, tokens) / sum(tokens), abs=1e-5)


def test_metrics_and_interval_of_one_row_and_of_many():
    head = make()
    evidence = head.evidence(see(), batch_of(head))
    found = head.metrics(evidence)
    low, high = head.interval(evidence, list("aabbcc"))
    assert low <= found["cider_d"] <= high and found["count"] == 6
    assert np.isnan(head.metrics(evidence[:1])["cider_d"]) and head.metrics(evidence[:1])["bleu_1"] >= 0
    bleu = make(watch="bleu_4")
    assert bleu.watched == "bleu_4" and len(bleu.interval(evidence, list("aabbcc"))) == 2
