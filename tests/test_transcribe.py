"""The transcribe head: the loss is the sum over all paths, windows equal the whole, padding is inert, and a toy learns to spell."""

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
from pipeline.data.manifest import Row
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.transcribe import Transcribe
from pipeline.metrics.sequence import word_error_rate
from pipeline.models import ctc
from pipeline.models.core import Core
from pipeline.models.ngram import Mark, NgramModel
from pipeline.models.prediction import Transcript
from pipeline.models.seen import Seen
from pipeline.padded import Padded, stack

NAMES = Vocabulary(("again", "book", "come", "house"))
D, RATE, UNKNOWN = 5, 4.0, 5
ROWS = [Row(f"{i}.mp4", captions=(c,)) for i, c in enumerate(("come house", "come again come", "book", "book again"))]
LM = {"width": 8, "lm_weight": 0.8, "word_bonus": 0.5}
each_way = pytest.mark.parametrize("settings", [{}, {"width": 4}, LM], ids=["greedy", "beam", "lm"])


def make(**settings) -> Transcribe:
    torch.manual_seed(0)
    head = Transcribe(name="words", input_size=D, vocabulary=NAMES, rate=RATE, **settings).eval()
    head.read(ROWS)
    return head


def see(lengths=(9, 4, 1, 6)) -> Seen:
    torch.manual_seed(1)
    return Seen(stack([3 * torch.randn(n, D) for n in lengths]), ())


def batch_of(*truths: list[int]) -> Batch:
    return Batch({}, {"words": stack([torch.tensor(t, dtype=torch.int64) for t in truths])}, tuple("abcd"))


BATCH = batch_of([2, 3, 0], [1, 1], [0], [3])


def rows_of(head: Transcribe, seen: Seen) -> list[np.ndarray]:
    return [r.detach().double().numpy() for r in head.log_probabilities(seen).unpad()]


def transcripts(head: Transcribe, memory) -> list[Transcript]:
    found = head.answer(memory)
    assert all(isinstance(one, Transcript) for one in found)
    return found  # type: ignore[return-value]


def value(terms: dict[str, Tensor]) -> float:
    return float(terms["words"].detach())


def test_the_target_is_the_first_caption_cut_at_blanks():
    head, times = make(), np.zeros(3)
    found = head.target(Row("x.mp4", captions=("come  again come ", "house")), times)
    assert found is not None and found.tolist() == [2, 0, 2] and found.dtype == torch.int64
    unknown = head.target(Row("x.mp4", captions=("come home",)), times)
    assert unknown is not None and unknown.tolist() == [2, UNKNOWN]
    assert head.target(Row("x.mp4", label="come"), times) is None


def test_the_loss_is_the_likelihood_a_word_over_all_paths():
    head, seen = make(), see()
    rows = rows_of(head, seen)
    expected = -sum(ctc.log_probability(x, t) for x, t in zip(rows, ([2, 3, 0], [1, 1], [0], [3]), strict=True))
    assert value(head.loss(seen, BATCH, "model")) == pytest.approx(expected / 7, rel=1e-5)


def test_rows_that_are_too_short_or_have_an_unknown_word_teach_nothing():
    head, seen = make(), see((9, 2, 1, 6))  # 1, 1 needs three steps
    rows = rows_of(head, seen)
    labels = batch_of([2, 3, 0], [1, 1], [0], [3, UNKNOWN])
    expected = -ctc.log_probability(rows[0], [2, 3, 0]) - ctc.log_probability(rows[2], [0])
    assert value(head.loss(seen, labels, "model")) == pytest.approx(expected / 4, rel=1e-5)
    data = seen.steps.data.requires_grad_()
    head.loss(seen, labels, "model")["words"].backward()
    assert data.grad is not None and data.grad[[1, 3]].abs().sum() == 0 and data.grad[[0, 2]].abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    found = head.metrics(head.evidence(seen, labels))
    assert found["too_short"] == 1 and found["unknown_words"] == 1
    only = batch_of([UNKNOWN], [1, 1], [0, 0], [3, UNKNOWN])
    assert value(head.loss(seen, only, "model")) == 0.0


def test_nothing_said_and_nothing_seen_are_legal():
    head, seen = make(), see((3, 0))
    labels = batch_of([], [2])
    assert value(head.loss(seen, labels, "model")) == pytest.approx(
        -ctc.log_probability(rows_of(head, seen)[0], []), rel=1e-5
    )
    assert [e.truth for e in head.evidence(seen, labels)] == [(), (2,)]
    assert head.evidence(seen, labels)[1].is_too_short
    nothing = Seen(Padded(torch.zeros(2, 0, D), torch.tensor([0, 0])), ())
    assert value(head.loss(nothing, labels, "model")) == 0.0
    assert transcripts(head, head.observe(nothing))[0] == Transcript((), 0.0, ())


@each_way
@pytest.mark.parametrize("cuts", [[3], [0, 1, 1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_answer_over_windows_is_that_of_the_whole(settings, cuts):
    head, x = make(**settings), see().steps
    memory = None
    for a, b in itertools.pairwise([0, *cuts, 9]):
        if b > a:
            memory = head.observe(Seen(Padded(x.data[:, a:b], (x.lengths - a).clamp(0, b - a)), ()), memory)
    for one, other in zip(transcripts(head, memory), transcripts(head, head.observe(Seen(x, ()))), strict=True):
        assert one.words == other.words and [s[:3] for s in one.spans] == [s[:3] for s in other.spans]
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)


@each_way
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_garbage_in_the_padding_changes_neither_answers_nor_gradients(settings, garbage):
    head, clean, found = make(**settings), see().steps, []
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        seen = Seen(Padded(data, clean.lengths), ())
        head.zero_grad()
        head.loss(seen, BATCH, "model")["words"].backward()
        found.append((head.evidence(seen, BATCH), [p.grad for p in head.parameters()], data.grad))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=0, atol=0)
    assert (found[1][2][~clean.mask] == 0).all() and found[1][2][clean.mask].abs().sum() > 0


@each_way
def test_a_batch_is_its_rows_one_by_one(settings):
    head, seen = make(**settings), see()
    alone = [head.answer(head.observe(Seen(stack([row]), ())))[0] for row in seen.steps.unpad()]
    for one, other in zip(transcripts(head, head.observe(seen)), alone, strict=True):
        assert isinstance(other, Transcript) and one.words == other.words
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-5)


def test_a_wide_beam_finds_the_best_of_all_sentences():
    head, seen = make(width=2000), see((5, 4))
    for answer, x in zip(transcripts(head, head.observe(seen)), rows_of(head, seen), strict=True):
        every = itertools.chain.from_iterable(itertools.product(range(4), repeat=n) for n in range(len(x) + 1))
        truth = {words: ctc.log_probability(x, words) for words in every}
        best = max(truth, key=truth.__getitem__)
        assert answer.words == tuple(NAMES.names[i] for i in best)
        assert answer.log_probability == pytest.approx(truth[best], abs=1e-6)


def test_with_a_language_model_the_best_is_the_best_of_both():
    head, seen = make(width=2000, lm_weight=0.8, word_bonus=0.5), see((5, 4))
    model = NgramModel.fit([r.captions[0].split() for r in ROWS], order=2, vocabulary=NAMES.names)
    for answer, x in zip(transcripts(head, head.observe(seen)), rows_of(head, seen), strict=True):
        every = itertools.chain.from_iterable(itertools.product(range(4), repeat=n) for n in range(len(x) + 1))
        truth = {
            w: ctc.log_probability(x, w) - 0.8 * model.nats([[NAMES.names[i] for i in w]])[0] + 0.5 * len(w)
            for w in every
        }
        assert answer.words == tuple(NAMES.names[i] for i in max(truth, key=truth.__getitem__))


@each_way
def test_the_words_stand_where_the_best_path_says_them(settings):
    head, seen = make(**settings), see((12, 7))
    for answer, x in zip(transcripts(head, head.observe(seen)), rows_of(head, seen), strict=True):
        words = [NAMES.index(word) for word in answer.words]
        assert [s[2] for s in answer.spans] == list(answer.words)
        assert answer.log_probability == pytest.approx(ctc.log_probability(x, words), abs=1e-6)
        for (start, end, _, score), word in zip(answer.spans, words, strict=True):
            assert score == pytest.approx(math.exp(x[round(start * RATE) : round(end * RATE), word].max()))
        row = answer.row(3)
        assert row["sentence"].split() == list(answer.words) and set(row) == {"sentence", "log_probability", "spans"}
        assert [set(s) for s in row["spans"]] == [{"start", "end", "label", "score"}] * len(words)
        assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(row["spans"]))


def test_metrics_by_hand():
    head, seen = make(**LM), see()
    evidence = head.evidence(seen, batch_of([2, UNKNOWN, 0], [1, 1], [0], [3]))
    found, truths = head.metrics(evidence), [e.truth for e in evidence]
    assert truths[0] == (2, UNKNOWN, 0)
    whole = word_error_rate([e.said for e in evidence], truths)
    assert {key: found[key] for key in whole} == whole and whole["words"] == 7
    assert found[head.watched] == 1.0 - whole["word_error_rate"]
    assert found["greedy_word_error_rate"] == word_error_rate([e.greedy for e in evidence], truths)["word_error_rate"]
    assert found["bare_word_error_rate"] == word_error_rate([e.bare for e in evidence], truths)["word_error_rate"]
    assert found["unknown_words"] == 1 and found["count"] == 4
    assert all(word < UNKNOWN - 1 for e in evidence for word in (*e.said, *e.greedy, *e.bare))
    low, high = head.interval(evidence, ["a", "b", "c", "d"])
    assert low <= found["word_accuracy"] <= high
    assert pickle.loads(pickle.dumps(evidence)) == evidence
    perfect = [type(e)(e.said, e.said, e.said, e.said, False) for e in evidence]
    assert head.metrics(perfect)["word_accuracy"] == 1.0


def test_what_was_read_survives_the_weights_file():
    head, fresh = make(**LM), Transcribe(name="words", input_size=D, vocabulary=NAMES, rate=RATE, **LM).eval()  # type: ignore[arg-type]
    assert fresh.get_buffer("bigrams").exp().sum(1).tolist() == pytest.approx([1.0] * 5)
    fresh.load_state_dict(load(save(head.state_dict())))
    assert fresh.answer(fresh.observe(see())) == head.answer(head.observe(see()))
    model = NgramModel.fit([r.captions[0].split() for r in ROWS], order=2, vocabulary=NAMES.names)
    table = fresh.get_buffer("bigrams")
    assert float(table[2, 3]) == pytest.approx(model.log_probability("house", ["come"]), rel=1e-6)
    assert float(table[-1, 2]) == pytest.approx(model.log_probability("come", []), rel=1e-6)
    assert float(table[3, -1]) == pytest.approx(model.log_probability(Mark.END, ["come", "house"]), rel=1e-6)
    assert "bigrams" not in make(width=4).state_dict()
    assert make(**LM, lm_order=1).get_buffer("bigrams").std(0).max() == 0  # the history says nothing


def test_a_head_says_what_it_has_no_use_for():
    with pytest.raises(
        ValueError, match="lm_weight=0.5 and word_bonus=0.0 .* width=1 of 'words' has only one. Give a width"
    ):
        make(lm_weight=0.5)
    with pytest.raises(ValueError, match="width=0, lm_order=2: 'words' goes on with 1 or more beginnings"):
        make(width=0)
    with pytest.raises(ValueError, match="lm_order=3: 'words' .* counts 1 or 2 words in a row."):
        make(width=2, lm_order=3)


def test_nothing_strays_from_the_device_of_the_weights(monkeypatch):
    """torch has no such loss on meta: what comes to it is looked at."""

    def loss(scores: Tensor, words: Tensor, *lengths: Tensor, **rules) -> Tensor:
        assert scores.device.type == words.device.type == "meta" and all(n.device.type == "cpu" for n in lengths)
        return scores.sum((0, 2))

    monkeypatch.setattr(nn.functional, "ctc_loss", loss)
    head = make(dropout=0.5, **LM).to("meta").train()
    seen = Seen(Padded(torch.empty(4, 9, D, device="meta"), torch.tensor([9, 0, 1, 3])), ())
    labels = Padded(torch.zeros(4, 2, dtype=torch.int64, device="meta"), torch.tensor([2, 1, 0, 2]))
    terms = head.loss(seen, Batch({}, {"words": labels}, tuple("abcd")), "model")
    memory = head.observe(seen, head.observe(seen))
    assert {t.device.type for t in (*terms.values(), *(m.data for m in memory))} == {"meta"}


def test_it_learns_to_spell():
    """Each word is a direction, shown for one to four steps with noise around and pauses between; nobody says where it stands."""
    generator = torch.Generator().manual_seed(0)
    shown = torch.eye(4, 6) * 2

    def sample(count: int) -> tuple[Padded, Batch]:
        rows, truths = [], []
        for _ in range(count):
            words = torch.randint(4, (int(torch.randint(1, 5, (), generator=generator)),), generator=generator)
            parts = []
            for word in words:
                pause, held = torch.randint(1, 5, (2,), generator=generator).tolist()
                parts += [torch.zeros(pause, 6), shown[word].expand(held, 6)]
            steps = torch.cat([*parts, torch.zeros(1, 6)])
            rows.append(steps + 0.3 * torch.randn(steps.shape, generator=generator))
            truths.append(words)
        return stack(rows), Batch({}, {"words": stack(truths)}, tuple(map(str, range(count))))

    torch.manual_seed(0)
    core = Core(cell="gru", input_size=6, hidden=16, layers=1)
    head = Transcribe(name="words", input_size=16, vocabulary=NAMES, rate=RATE, width=4)
    optimiser = torch.optim.Adam([*core.parameters(), *head.parameters()], lr=0.02)
    for _ in range(120):
        x, batch = sample(16)
        optimiser.zero_grad()
        head.loss(Seen(*core(x)), batch, "model")["words"].backward()
        optimiser.step()
    core.eval()
    head.eval()
    x, batch = sample(60)
    found = head.metrics(head.evidence(Seen(*core(x)), batch))
    assert found["word_error_rate"] < 0.05 and found["greedy_word_error_rate"] < 0.1 and found["too_short"] == 0
