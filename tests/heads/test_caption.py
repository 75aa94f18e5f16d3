"""The caption head: it learns a sentence for each input, windows equal the whole, every training mode is correct."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.batch import Batch, Sample, collate
from pipeline.data.manifest_rows import Row
from pipeline.data.tokenizer import END, PAD, START, UNKNOWN, Tokenizer
from pipeline.heads.caption import Caption, _until_end
from pipeline.metrics.captions import CiderD
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Description
from pipeline.padded import Padded, stack

TEXTS = ("a cat sits", "the dog runs home")
ROWS = [Row(f"{i}.mp4", captions=(TEXTS[i % 2], f"{TEXTS[i % 2]} now")) for i in range(6)]
TOKENIZER = Tokenizer.train([text for row in ROWS for text in row.captions])
D, RATE = 4, 2.0


def make_head(**settings) -> Caption:
    torch.manual_seed(0)
    small = {"hidden": 16, "embedding_size": 16, "dropout": 0.0, "max_length": 8, "beam_width": 2, **settings}
    return Caption(name="caption", input_size=D, tokenizer=TOKENIZER, rate=RATE, **small).eval()


def core_output(lengths=(5, 3, 4, 1, 2, 6)) -> CoreOutput:
    """Even rows are near one vector, odd rows near another."""
    torch.manual_seed(1)
    rows = [
        torch.randn(n, D) * 0.1 + torch.tensor([1.0, -1.0] if i % 2 else [-1.0, 1.0]).repeat(2)
        for i, n in enumerate(lengths)
    ]
    return CoreOutput(stack(rows), ())


def batch_of(head: Caption) -> Batch:
    samples = []
    for row in ROWS:
        target = head.target(row, np.zeros(1))
        assert target is not None
        samples.append(Sample({"frames": torch.zeros(1, 1)}, {"caption": target}, row.path))
    return collate(samples)


def train(head: Caption, steps: int, lr: float = 0.02) -> None:
    head.train()
    head.fit_rows(ROWS)
    optimizer = torch.optim.Adam(head.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(core_output(), batch_of(head), "model")["caption"].backward()
        optimizer.step()
    head.eval()


def descriptions(head: Caption, memory) -> list[Description]:
    answers = head.answer(memory)
    assert all(isinstance(answer, Description) for answer in answers)
    return answers  # type: ignore[return-value]


def test_the_target_has_every_sentence_with_its_end_token():
    head = make_head()
    target = head.target(ROWS[1], np.zeros(1))
    assert target is not None
    assert target.shape == (2, 8)
    assert [TOKENIZER.decode(ids.tolist()) for ids in target] == list(ROWS[1].captions)
    assert all(ids[ids != PAD][-1] == END for ids in target)
    assert head.target(Row("x.mp4", label="a"), np.zeros(1)) is None


def test_a_long_sentence_is_cut_and_still_has_its_end_token():
    target = make_head(max_length=3).target(ROWS[1], np.zeros(1))
    assert target is not None
    assert TOKENIZER.decode(target[0].tolist()) == "the dog"
    assert target[0, 2] == END


@pytest.mark.parametrize("settings", [{}, {"scheduled_sampling": 0.5}, {"attention": "mean"}, {"cell": "lstm"}])
def test_it_learns_the_sentence_of_each_input(settings):
    head = make_head(**settings)
    train(head, 80, lr=0.01)
    sentences = [answer.sentence for answer in descriptions(head, head.observe(core_output()))]
    assert [sentence.removesuffix(" now") for sentence in sentences] == [TEXTS[i % 2] for i in range(6)]
    assert head.metrics(head.results(core_output(), batch_of(head)))["cider_d"] > 2


@pytest.mark.parametrize("no_repeat_ngram", [None, 1])
def test_the_self_critical_gradient_is_that_of_the_expected_reward(no_repeat_ngram: int | None) -> None:
    settings = {"max_length": 3, "hidden": 4, "embedding_size": 4, "no_repeat_ngram": no_repeat_ngram}
    head = make_head(self_critical=True, **settings).train()
    head.fit_rows(ROWS)
    steps, target = core_output().steps.unpad()[0], head.target(ROWS[0], np.zeros(1))
    assert target is not None
    assert head._frequencies is not None
    num_samples = 6000
    batch = Batch({}, {"caption": stack([target] * num_samples)}, ("x",) * num_samples)
    head.loss(CoreOutput(stack([steps] * num_samples), ()), batch, "model")["caption"].backward()
    sampled = torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None])

    head.zero_grad()
    tokens = [END, *range(4, len(TOKENIZER))]  # the search forbids the other special tokens
    every_sentence = [
        [END],
        *([a, END] for a in tokens if a != END),
        *([a, b, c] for a in tokens if a != END for b in tokens if b != END for c in tokens),
    ]
    if no_repeat_ngram:
        every_sentence = [ids for ids in every_sentence if len(set(ids)) == len(ids)]
    sentences = stack([torch.tensor(ids) for ids in every_sentence])
    inputs = torch.cat([torch.full_like(sentences.data[:, :1], START), sentences.data[:, :-1]], dim=1)
    attention_memory = head.decoder.attention_memory(stack([steps] * len(every_sentence)))
    logits = head.decoder(attention_memory, Padded(inputs, sentences.lengths))[0]
    is_forbidden = torch.zeros_like(logits, dtype=torch.bool)
    is_forbidden[..., [PAD, UNKNOWN, START]] = True
    if no_repeat_ngram:
        for step in range(1, 3):
            is_forbidden[:, step].scatter_(1, sentences.data[:, :step], True)
    scores = logits.masked_fill(is_forbidden, -torch.inf).log_softmax(-1)
    scores = scores.gather(2, sentences.data[:, :, None])[..., 0]
    log_probability = torch.where(sentences.mask, scores, 0.0).sum(1)
    assert log_probability.exp().sum().item() == pytest.approx(1, abs=1e-4)
    cider = CiderD([[_until_end(ids) for ids in target.tolist()]], head._frequencies)
    rewards = cider.scores([_until_end(ids) for ids in every_sentence], [0] * len(every_sentence))
    (-(log_probability.exp() * torch.tensor(rewards, dtype=torch.float32)).sum()).backward()
    exact = torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None])
    assert torch.cosine_similarity(sampled, exact, dim=0) > 0.95
    assert sampled.norm().item() == pytest.approx(exact.norm().item(), rel=0.15)


def test_the_answer_over_windows_is_that_of_the_whole():
    head, steps = make_head(), core_output().steps
    memory = None
    for start, stop in ((0, 2), (2, 3), (3, 6)):
        window = Padded(steps.data[:, start:stop], (steps.lengths - start).clamp(0, stop - start))
        memory = head.observe(CoreOutput(window, ()), memory)
    whole = descriptions(head, head.observe(CoreOutput(steps, ())))
    for answer, expected in zip(descriptions(head, memory), whole, strict=True):
        assert answer.sentence == expected.sentence
        assert answer.log_probability == pytest.approx(expected.log_probability, abs=1e-5)


def test_the_log_probability_is_that_of_the_sentence():
    head, output = make_head(), core_output()
    for answer, steps in zip(descriptions(head, head.observe(output)), output.steps.unpad(), strict=True):
        ids = [*(TOKENIZER.names.index(word) for word in answer.sentence.split()), END][:8]
        attention_memory = head.decoder.attention_memory(stack([steps]))
        inputs = Padded(torch.tensor([[START, *ids[:-1]]]), torch.tensor([len(ids)]))
        scores = head.decoder(attention_memory, inputs)[0].log_softmax(-1)
        assert answer.log_probability == pytest.approx(scores[0, range(len(ids)), ids].sum().item(), abs=1e-4)
        assert len(answer.weights) == len(ids)
        assert sum(answer.weights[0]) == pytest.approx(1, abs=1e-5)


def test_no_sentence_has_a_padding_unknown_or_start_token():
    head = make_head()
    with torch.no_grad():
        head.decoder.bias[:3] = 50.0  # makes those three tokens the most probable
    for answer in descriptions(head, head.observe(core_output())):
        assert "<" not in answer.sentence


def test_spans_are_described_from_their_own_steps():
    head = make_head(segment_head="timeline")
    output = core_output((6,))
    spans = ((0.0, 1.0, "sit", 0.9), (1.0, 1.1, "run", 0.8), (2.0, 9.0, "run", 0.8))
    answer = head.describe(head.observe(output), spans)
    assert isinstance(answer, Description)
    assert answer.spans is not None
    steps = output.steps.unpad()[0]
    parts = (steps[:2], steps[2:3], steps[4:])
    for (start, end, _, _), described, part in zip(spans, answer.spans, parts, strict=True):
        (expected,) = descriptions(head, head.observe(CoreOutput(stack([part]), ())))
        assert described[:3] == (start, end, expected.sentence)
        score = np.exp(expected.log_probability / len(expected.tokens))
        assert described[3] == pytest.approx(score, abs=1e-5)
    row = answer.row(3)
    assert set(row) == {"sentence", "log_probability", "spans"}
    assert len(row["spans"]) == 3
    assert head.describe(head.observe(output), ()).row(3)["spans"] == []


def test_the_loss_without_label_smoothing_is_the_mean_over_all_tokens():
    head, output = make_head(label_smoothing=0.0), core_output()
    batch = batch_of(head)
    target = batch.target("caption")
    assert isinstance(target, Padded)
    loss = head.loss(output, batch, "model")["caption"]
    results = head.results(output, batch)
    num_tokens = [int((row[0] != PAD).sum()) for row in target.unpad()]
    assert [result.num_tokens for result in results] == num_tokens and len(set(num_tokens)) > 1
    assert loss.item() == pytest.approx(sum(result.nats for result in results) / sum(num_tokens), abs=1e-5)
    assert head.metrics(results)["perplexity"] == pytest.approx(np.exp(loss.item()), rel=1e-5)
    assert head.metrics(results[:1])["perplexity"] == pytest.approx(np.exp(results[0].nats / num_tokens[0]), rel=1e-5)


def test_metrics_and_interval_of_one_row_and_of_six():
    head = make_head()
    results = head.results(core_output(), batch_of(head))
    results = [r._replace(sentence=r.references[0]) if number < 3 else r for number, r in enumerate(results)]
    metrics = head.metrics(results)
    low, high = head.confidence_interval(results, list("aabbcc"))
    assert low <= metrics["cider_d"] <= high
    assert metrics["count"] == 6
    single = head.metrics(results[:1])
    assert np.isnan(single["cider_d"])
    assert single["bleu_1"] >= 0
    by_bleu = make_head(monitor="bleu_4")
    assert by_bleu.monitor == "bleu_4"
    low, high = by_bleu.confidence_interval(results, list("aabbcc"))
    assert low <= metrics["bleu_4"] <= high
