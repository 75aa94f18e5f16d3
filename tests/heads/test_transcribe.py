"""The transcribe head: the loss sums over all CTC paths, windows equal the whole, padding has no effect."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.data.manifest_rows import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.transcribe import Transcribe, TranscribeResult
from pipeline.metrics.sequence import word_error_rate
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Transcript
from pipeline.models.recurrent.core import Core
from pipeline.models.text import ctc
from pipeline.models.text.ngram import NgramModel, SpecialToken
from pipeline.padded import Padded, stack

NAMES = Vocabulary(("again", "book", "come", "house"))
D, RATE, UNKNOWN = 5, 4.0, 5
SENTENCES = ("come house", "come again come", "book", "book again")
ROWS = [Row(f"{i}.mp4", captions=(sentence,)) for i, sentence in enumerate(SENTENCES)]
WITH_LM = {"beam_width": 8, "lm_weight": 0.8, "word_bonus": 0.5}
each_decoder = pytest.mark.parametrize("settings", [{}, {"beam_width": 4}, WITH_LM], ids=["greedy", "beam", "lm"])


def make_head(**settings) -> Transcribe:
    head = new_head(**settings)
    head.fit_rows(ROWS)
    return head


def new_head(**settings) -> Transcribe:
    """Before its language model is fitted."""
    torch.manual_seed(0)
    return Transcribe(name="words", input_size=D, vocabulary=NAMES, rate=RATE, **settings).eval()


def core_output(lengths=(9, 4, 1, 6)) -> CoreOutput:
    torch.manual_seed(1)
    return CoreOutput(stack([3 * torch.randn(n, D) for n in lengths]), ())


def batch_of(*references: list[int]) -> Batch:
    words = stack([torch.tensor(ids, dtype=torch.int64) for ids in references])
    return Batch({}, {"words": words}, tuple("abcd"))


REFERENCES = ([2, 3, 0], [1, 1], [0], [3])
BATCH = batch_of(*REFERENCES)


def score_rows(head: Transcribe, output: CoreOutput) -> list[np.ndarray]:
    return [row.detach().double().numpy() for row in head.log_probabilities(output).unpad()]


def transcripts(head: Transcribe, memory) -> list[Transcript]:
    answers = head.answer(memory)
    assert all(isinstance(answer, Transcript) for answer in answers)
    return answers  # type: ignore[return-value]


def loss_of(head: Transcribe, output: CoreOutput, batch: Batch) -> float:
    return float(head.loss(output, batch, "model")["words"].detach())


def all_sentences(max_words: int):
    return itertools.chain.from_iterable(itertools.product(range(4), repeat=n) for n in range(max_words + 1))


def test_the_target_is_the_first_caption_split_at_spaces():
    head, times = make_head(), np.zeros(3)
    target = head.target(Row("x.mp4", captions=("come  again come ", "house")), times)
    assert target is not None
    assert target.tolist() == [2, 0, 2]
    assert target.dtype == torch.int64
    with_unknown = head.target(Row("x.mp4", captions=("come home",)), times)
    assert with_unknown is not None
    assert with_unknown.tolist() == [2, UNKNOWN]
    assert head.target(Row("x.mp4", label="come"), times) is None


def test_the_loss_is_the_negative_log_likelihood_a_word_over_all_paths():
    head, output = make_head(), core_output()
    rows = score_rows(head, output)
    expected = -sum(ctc.log_probability(row, words) for row, words in zip(rows, REFERENCES, strict=True))
    assert loss_of(head, output, BATCH) == pytest.approx(expected / 7, rel=1e-5)


def test_rows_that_are_too_short_or_have_an_unknown_word_do_not_count_in_the_loss():
    head, output = make_head(), core_output((9, 2, 1, 6))  # the words 1, 1 need three steps
    rows = score_rows(head, output)
    batch = batch_of([2, 3, 0], [1, 1], [0], [3, UNKNOWN])
    expected = -ctc.log_probability(rows[0], [2, 3, 0]) - ctc.log_probability(rows[2], [0])
    assert loss_of(head, output, batch) == pytest.approx(expected / 4, rel=1e-5)
    data = output.steps.data.requires_grad_()
    head.loss(output, batch, "model")["words"].backward()
    assert data.grad is not None
    assert data.grad[[1, 3]].abs().sum() == 0
    assert data.grad[[0, 2]].abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    metrics = head.metrics(head.results(output, batch))
    assert metrics["too_short"] == 1
    assert metrics["unknown_words"] == 1
    assert loss_of(head, output, batch_of([UNKNOWN], [1, 1], [0, 0], [3, UNKNOWN])) == 0.0


def test_rows_without_words_and_rows_without_steps_are_legal():
    head, output = make_head(), core_output((3, 0))
    batch = batch_of([], [2])
    expected = -ctc.log_probability(score_rows(head, output)[0], [])
    assert loss_of(head, output, batch) == pytest.approx(expected, rel=1e-5)
    results = head.results(output, batch)
    assert [result.reference for result in results] == [(), (2,)]
    assert results[1].is_too_short
    no_steps = CoreOutput(Padded(torch.zeros(2, 0, D), torch.tensor([0, 0])), ())
    assert loss_of(head, no_steps, batch) == 0.0
    assert transcripts(head, head.observe(no_steps))[0] == Transcript((), 0.0, ())


@each_decoder
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_answer_over_windows_is_that_of_the_whole(settings, cuts):
    head, steps = make_head(**settings), core_output().steps
    memory = None
    for start, stop in itertools.pairwise([0, *cuts, 9]):
        if stop > start:
            window = Padded(steps.data[:, start:stop], (steps.lengths - start).clamp(0, stop - start))
            memory = head.observe(CoreOutput(window, ()), memory)
    whole = transcripts(head, head.observe(CoreOutput(steps, ())))
    for answer, expected in zip(transcripts(head, memory), whole, strict=True):
        assert answer.words == expected.words
        assert [span[:3] for span in answer.spans] == [span[:3] for span in expected.spans]
        assert answer.log_probability == pytest.approx(expected.log_probability, abs=1e-5)


@each_decoder
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_garbage_in_the_padding_changes_neither_answers_nor_gradients(settings, garbage):
    head, clean, outcomes = make_head(**settings), core_output().steps, []
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        output = CoreOutput(Padded(data, clean.lengths), ())
        head.zero_grad()
        head.loss(output, BATCH, "model")["words"].backward()
        outcomes.append((head.results(output, BATCH), [p.grad for p in head.parameters()], data.grad))
    assert outcomes[0][0] == outcomes[1][0]
    torch.testing.assert_close(outcomes[0][1:], outcomes[1][1:], rtol=0, atol=0)
    gradient = outcomes[1][2]
    assert (gradient[~clean.mask] == 0).all()
    assert gradient[clean.mask].abs().sum() > 0


@each_decoder
def test_a_batch_gives_the_answers_of_its_single_rows(settings):
    head, output = make_head(**settings), core_output()
    for answer, row in zip(transcripts(head, head.observe(output)), output.steps.unpad(), strict=True):
        (expected,) = transcripts(head, head.observe(CoreOutput(stack([row]), ())))
        assert answer.words == expected.words
        assert answer.log_probability == pytest.approx(expected.log_probability, abs=1e-5)


def test_a_wide_beam_finds_the_best_of_all_sentences():
    head, output = make_head(beam_width=2000), core_output((5, 4))
    for answer, row in zip(transcripts(head, head.observe(output)), score_rows(head, output), strict=True):
        scores = {words: ctc.log_probability(row, words) for words in all_sentences(len(row))}
        best = max(scores, key=scores.__getitem__)
        assert answer.words == tuple(NAMES.names[i] for i in best)
        assert answer.log_probability == pytest.approx(scores[best], abs=1e-6)


def test_with_a_language_model_a_wide_beam_finds_the_best_total_score():
    head, output = make_head(**{**WITH_LM, "beam_width": 2000}), core_output((5, 4))
    model = NgramModel.fit([sentence.split() for sentence in SENTENCES], order=2, vocabulary=NAMES.names)
    for answer, row in zip(transcripts(head, head.observe(output)), score_rows(head, output), strict=True):
        scores = {
            words: ctc.log_probability(row, words)
            - 0.8 * model.negative_log_likelihood([[NAMES.names[i] for i in words]])[0]
            + 0.5 * len(words)
            for words in all_sentences(len(row))
        }
        assert answer.words == tuple(NAMES.names[i] for i in max(scores, key=scores.__getitem__))


@each_decoder
def test_each_word_has_the_times_and_the_score_of_the_best_path(settings):
    head, output = make_head(**settings), core_output((12, 7))
    for answer, scores in zip(transcripts(head, head.observe(output)), score_rows(head, output), strict=True):
        words = [NAMES.index(word) for word in answer.words]
        assert [span[2] for span in answer.spans] == list(answer.words)
        assert answer.log_probability == pytest.approx(ctc.log_probability(scores, words), abs=1e-6)
        for (start, end, _, score), word in zip(answer.spans, words, strict=True):
            steps = slice(round(start * RATE), round(end * RATE))
            assert score == pytest.approx(math.exp(scores[steps, word].max()))
        row = answer.row(3)
        assert set(row) == {"sentence", "log_probability", "spans"}
        assert row["sentence"].split() == list(answer.words)
        assert [set(span) for span in row["spans"]] == [{"start", "end", "label", "score"}] * len(words)
        assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(row["spans"]))


def test_metrics_equal_those_by_hand():
    head, output = make_head(**WITH_LM), core_output()
    results = head.results(output, batch_of([2, UNKNOWN, 0], [1, 1], [0], [3]))
    metrics, references = head.metrics(results), [result.reference for result in results]
    assert references[0] == (2, UNKNOWN, 0)
    rates = word_error_rate([result.hypothesis for result in results], references)
    assert {key: metrics[key] for key in rates} == rates
    assert rates["words"] == 7
    assert metrics[head.monitor] == 1.0 - rates["word_error_rate"]
    for prefix in ("greedy", "bare"):
        hypotheses = [getattr(result, prefix) for result in results]
        expected = word_error_rate(hypotheses, references)["word_error_rate"]
        assert metrics[f"{prefix}_word_error_rate"] == expected
    assert metrics["unknown_words"] == 1
    assert metrics["count"] == 4
    predicted = {word for result in results for word in (*result.hypothesis, *result.greedy, *result.bare)}
    assert all(word < UNKNOWN - 1 for word in predicted)
    low, high = head.confidence_interval(results, ["a", "b", "c", "d"])
    assert low <= metrics["word_accuracy"] <= high
    assert pickle.loads(pickle.dumps(results)) == results
    words = [result.hypothesis for result in results]
    perfect = [TranscribeResult(ids, ids, ids, ids, is_too_short=False) for ids in words]
    assert head.metrics(perfect)["word_accuracy"] == 1.0


def test_the_language_model_is_stored_with_the_weights():
    head = make_head(**WITH_LM)
    fresh = new_head(**WITH_LM)
    assert fresh.get_buffer("bigrams").exp().sum(1).tolist() == pytest.approx([1.0] * 5)
    fresh.load_state_dict(load(save(head.state_dict())))
    assert fresh.answer(fresh.observe(core_output())) == head.answer(head.observe(core_output()))
    model = NgramModel.fit([sentence.split() for sentence in SENTENCES], order=2, vocabulary=NAMES.names)
    table = fresh.get_buffer("bigrams")
    assert float(table[2, 3]) == pytest.approx(model.log_probability("house", ["come"]), rel=1e-6)
    assert float(table[-1, 2]) == pytest.approx(model.log_probability("come", []), rel=1e-6)
    assert float(table[3, -1]) == pytest.approx(model.log_probability(SpecialToken.END, ["come", "house"]), rel=1e-6)
    assert "bigrams" not in make_head(beam_width=4).state_dict()
    unigrams = make_head(**WITH_LM, lm_order=1).get_buffer("bigrams")
    assert unigrams.std(0).max() == 0  # the word before has no effect


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"lm_weight": 0.5},
            "lm_weight=0.5 and word_bonus=0.0 have no effect with beam_width=1 of 'words'.* Set a beam",
        ),
        ({"beam_width": 0}, "beam_width=0, lm_order=2: the beam search of 'words' needs a width of 1 or more"),
        ({"beam_width": 2, "lm_order": 3}, "lm_order=3: .* 'words' .* order 1 or 2. Set such a width and order"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_head(**settings)


def test_every_tensor_is_on_the_device_of_the_weights(monkeypatch):
    """torch has no ctc_loss for meta tensors: a stand-in checks the devices of its arguments."""

    def ctc_loss(scores: Tensor, words: Tensor, *lengths: Tensor, **settings) -> Tensor:
        assert scores.device.type == words.device.type == "meta"
        assert all(n.device.type == "cpu" for n in lengths)
        return scores.sum((0, 2))

    monkeypatch.setattr(nn.functional, "ctc_loss", ctc_loss)
    head = make_head(dropout=0.5, **WITH_LM).to("meta").train()
    output = CoreOutput(Padded(torch.empty(4, 9, D, device="meta"), torch.tensor([9, 0, 1, 3])), ())
    words = Padded(torch.zeros(4, 2, dtype=torch.int64, device="meta"), torch.tensor([2, 1, 0, 2]))
    terms = head.loss(output, Batch({}, {"words": words}, tuple("abcd")), "model")
    memory = head.observe(output, head.observe(output))
    assert {t.device.type for t in (*terms.values(), *(window.data for window in memory))} == {"meta"}


def test_it_learns_to_transcribe_without_knowing_where_the_words_are():
    """Each word is a direction, shown for one to four steps with noise, and pauses lie between the words."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.eye(4, 6) * 2

    def draw_batch(count: int) -> tuple[Padded, Batch]:
        rows, references = [], []
        for _ in range(count):
            words = torch.randint(4, (int(torch.randint(1, 5, (), generator=generator)),), generator=generator)
            parts = []
            for word in words:
                pause, duration = torch.randint(1, 5, (2,), generator=generator).tolist()
                parts += [torch.zeros(pause, 6), directions[word].expand(duration, 6)]
            steps = torch.cat([*parts, torch.zeros(1, 6)])
            rows.append(steps + 0.3 * torch.randn(steps.shape, generator=generator))
            references.append(words)
        return stack(rows), Batch({}, {"words": stack(references)}, tuple(map(str, range(count))))

    torch.manual_seed(0)
    core = Core(cell="gru", input_size=6, hidden=16, layers=1)
    head = Transcribe(name="words", input_size=16, vocabulary=NAMES, rate=RATE, beam_width=4)
    optimizer = torch.optim.Adam([*core.parameters(), *head.parameters()], lr=0.02)
    for _ in range(120):
        steps, batch = draw_batch(16)
        optimizer.zero_grad()
        head.loss(CoreOutput(*core(steps)), batch, "model")["words"].backward()
        optimizer.step()
    core.eval()
    head.eval()
    steps, batch = draw_batch(60)
    metrics = head.metrics(head.results(CoreOutput(*core(steps)), batch))
    assert metrics["word_error_rate"] < 0.05
    assert metrics["greedy_word_error_rate"] < 0.1
    assert metrics["too_short"] == 0
