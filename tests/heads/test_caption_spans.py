"""A caption head that attends to the spans of a segment head: each is the mean of its steps, in their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_caption import RATE, batch_of, core_output, descriptions, make_head

from pipeline.config.base import ConfigError, validate
from pipeline.config.text_heads import CaptionSection
from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.segment import Segment
from pipeline.heads.span_pooling import MAX_SPANS, pooling_weights
from pipeline.models.core_output import CoreOutput
from pipeline.models.prediction import Description
from pipeline.padded import Padded, stack

D = 4


def make_segment() -> Segment:
    """The label follows the sign of the first channel: background where it is 0."""
    names = Vocabulary.of(["background", "down", "up"])
    head = Segment(name="timeline", input_size=D, vocabulary=names, rate=RATE, crf=False)
    with torch.no_grad():
        head.emission.weight.zero_()
        head.emission.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
        head.emission.weight[1, 0], head.emission.weight[2, 0] = -4.0, 4.0
    return head.eval()


def steps_of(text: str) -> torch.Tensor:
    """A step for each letter: u for up, d for down, . for background. The second channel counts the steps."""
    first = torch.tensor([{"u": 1.0, "d": -1.0, ".": 0.0}[letter] for letter in text])
    return torch.stack([first, torch.arange(len(text)).float(), first * 0, first * 0], dim=1)


def test_a_span_is_the_mean_of_its_steps_plus_its_position_embedding() -> None:
    pooling = make_head(segment=make_segment()).span_pooling
    assert pooling is not None
    steps = stack([steps_of(".uu.ddd"), steps_of("...")])
    weights = pooling.weights(steps)
    assert [row.shape for row in weights] == [(2, 7), (1, 3)]
    assert all(torch.allclose(row.sum(1), torch.ones(len(row))) for row in weights)
    pooled, positions = pooling(steps, weights), pooling.position_embedding.weight
    assert pooled.lengths.tolist() == [2, 1]
    assert torch.allclose(pooled.data[0] - positions[:2], torch.tensor([[1.0, 1.5, 0, 0], [-1.0, 5.0, 0, 0]]))
    assert torch.allclose(pooled.data[1, 0] - positions[0], torch.tensor([0.0, 1.0, 0, 0])), "without spans: one span"


def test_training_uses_the_true_spans_and_inference_the_predicted_ones() -> None:
    head = make_head(segment=make_segment())
    assert head.span_pooling is not None
    steps = stack([steps_of("uuuu")])
    labels = Padded(torch.tensor([[1, 1, 0, 2]]), torch.tensor([4]))
    batch = Batch({}, {"timeline": labels}, ("x",))
    head.train()
    in_training = head.span_pooling.weights(steps, batch)
    head.eval()
    at_inference = head.span_pooling.weights(steps, batch)
    assert in_training[0].tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 1]]
    assert at_inference[0].tolist() == [[0.25] * 4]


def test_the_gradient_reaches_the_core_through_the_spans_and_not_the_segment_head() -> None:
    segment = make_segment()
    head = make_head(segment=segment).train()
    steps = core_output().steps
    data = steps.data.clone().requires_grad_(True)
    batch = batch_of(head)
    labels = {"timeline": Padded(torch.ones(6, 6, dtype=torch.int64), steps.lengths)}
    batch = Batch(batch.raw, {**batch.targets, **labels}, batch.sources)
    head.loss(CoreOutput(Padded(data, steps.lengths), ()), batch, "model")["caption"].backward()
    assert data.grad is not None
    assert data.grad.abs().sum() > 0
    assert all(p.grad is None for p in segment.parameters())
    names = [name for name, _ in head.named_parameters()]
    assert not any("emission" in name for name in names), "the segment head is registered once, in the model"


def test_attention_weights_are_of_steps_and_given_spans_give_the_same_answer() -> None:
    head = make_head(segment=make_segment())
    steps = stack([steps_of("uu.ddd.uu")])
    (answer,) = descriptions(head, (steps,))
    for weights in answer.weights:
        assert len(weights) == 9
        assert sum(weights) == pytest.approx(1, abs=1e-5)
        assert weights[2] == weights[6] == 0, "steps outside all spans get no weight"
    spans = ((0.0, 1.0, "up", 1.0), (1.5, 3.0, "down", 1.0), (3.5, 4.5, "up", 1.0))
    described = head.describe((steps,), spans)
    assert isinstance(described, Description)
    assert described.spans is not None
    assert described.sentence == answer.sentence
    assert described.log_probability == pytest.approx(answer.log_probability, abs=1e-5)
    assert [span[:2] for span in described.spans] == [span[:2] for span in spans]


def test_spans_beyond_the_largest_number_and_beyond_the_end_are_cut() -> None:
    steps = Padded(torch.zeros(2, 80, 1), torch.tensor([80, 4]))
    many, short = pooling_weights([[(i, i + 1) for i in range(80)], [(2, 9)]], steps)
    assert many.shape == (MAX_SPANS, 80) and np.allclose(short, [[0, 0, 0.5, 0.5]])


def test_attention_to_spans_without_a_segment_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="segment_head"):
        validate(CaptionSection, {"attend_to": "spans"}, "x")
