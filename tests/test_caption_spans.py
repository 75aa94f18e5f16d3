"""A caption that looks back at another head's spans: each by the mean of its steps, in their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_caption import RATE, batch_of, make
from test_caption import see as see_rows

from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.caption import MOST_SPANS, _means
from pipeline.heads.segment import Segment
from pipeline.models.prediction import Description
from pipeline.padded import Padded, stack
from pipeline.sayings import CaptionSection
from pipeline.section import ConfigError, validate

D = 4


def segment_of() -> Segment:
    """Labels follow the sign of the first channel, background where it is small."""
    head = Segment(
        name="timeline", input_size=D, vocabulary=Vocabulary.of(["background", "down", "up"]), rate=RATE, crf=False
    )
    with torch.no_grad():
        head.emit.weight.zero_()
        head.emit.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
        head.emit.weight[1, 0], head.emit.weight[2, 0] = -4.0, 4.0
    return head.eval()


def steps_of(text: str) -> torch.Tensor:
    """A step a letter: u, d, or . for nothing; the second channel counts."""
    first = torch.tensor([{"u": 1.0, "d": -1.0, ".": 0.0}[c] for c in text])
    return torch.stack([first, torch.arange(len(text)).float(), first * 0, first * 0], dim=1)


def test_spans_are_the_means_of_their_steps_and_know_their_place() -> None:
    head = make(segment=segment_of())
    steps = stack([steps_of(".uu.ddd"), steps_of("...")])
    shares = head._shares(steps)
    assert shares is not None and [s.shape for s in shares] == [(2, 7), (1, 3)]
    assert all(torch.allclose(s.sum(1), torch.ones(len(s))) for s in shares)
    seen = head._looked_at(steps, shares)
    assert head.place is not None and seen.lengths.tolist() == [2, 1]
    assert torch.allclose(seen.data[0] - head.place.weight[:2], torch.tensor([[1.0, 1.5, 0, 0], [-1.0, 5.0, 0, 0]]))
    assert torch.allclose(seen.data[1, 0] - head.place.weight[0], torch.tensor([0.0, 1.0, 0, 0])), (
        "nothing found: the whole is one"
    )


def test_training_looks_at_the_true_spans_and_answers_at_those_that_were_found() -> None:
    head = make(segment=segment_of())
    steps = stack([steps_of("uuuu")])
    true = Padded(torch.tensor([[1, 1, 0, 2]]), torch.tensor([4]))
    batch = Batch({}, {"timeline": true}, ("x",))
    head.train()
    learnt = head._shares(steps, batch)
    head.eval()
    answered = head._shares(steps, batch)
    assert learnt is not None and answered is not None
    assert learnt[0].tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 1]] and answered[0].tolist() == [[0.25] * 4]


def test_it_learns_and_the_other_head_is_left_alone() -> None:
    """The caption's gradient reaches the core through the spans, and not the head that found them."""
    other = segment_of()
    head = make(segment=other).train()
    steps = torch.cat([see_rows().steps.data, torch.zeros(6, 6, 0)], dim=2).requires_grad_(True)
    seen = type(see_rows())(Padded(steps, see_rows().steps.lengths), ())
    batch = batch_of(head)
    labels = {"timeline": Padded(torch.ones(6, 6, dtype=torch.int64), see_rows().steps.lengths)}
    batch = Batch(batch.raw, {**batch.targets, **labels}, batch.sources)
    head.loss(seen, batch, "model")["caption"].backward()
    assert steps.grad is not None and steps.grad.abs().sum() > 0
    assert all(p.grad is None for p in other.parameters())
    assert not any("timeline" in n or "emit" in n for n, _ in head.named_parameters()), (
        "it is stored once, where it belongs"
    )


def test_weights_are_told_of_the_steps_and_the_whole_is_told_of_the_given_spans() -> None:
    head = make(segment=segment_of())
    steps = stack([steps_of("uu.ddd.uu")])
    (one,) = head.answer((steps,))
    assert isinstance(one, Description)
    assert all(len(looks) == 9 and sum(looks) == pytest.approx(1, abs=1e-5) for looks in one.weights)
    assert all(looks[2] == 0 == looks[6] for looks in one.weights), "between the spans nothing is looked at"
    spans = ((0.0, 1.0, "up", 1.0), (1.5, 3.0, "down", 1.0), (3.5, 4.5, "up", 1.0))
    told = head.describe((steps,), spans)
    assert isinstance(told, Description) and told.spans is not None and told.sentence == one.sentence
    assert told.log_probability == pytest.approx(one.log_probability, abs=1e-5)
    assert [(a, b) for a, b, _, _ in told.spans] == [(a, b) for a, b, _, _ in spans]


def test_more_spans_than_there_are_places_are_cut() -> None:
    assert _means([(i, i + 1) for i in range(80)], 80, torch.zeros(1)).shape == (MOST_SPANS, 80)
    assert np.allclose(_means([(2, 9)], 4, torch.zeros(1)), [[0, 0, 0.5, 0.5]])


def test_whose_spans_has_to_be_said() -> None:
    with pytest.raises(ConfigError, match="describes names none"):
        validate(CaptionSection, {"over": "spans"}, "x")
