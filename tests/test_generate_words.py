"""What writes: words drawn by their probability, texts that end, and gradients through the draw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.data.text import cut
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import END, PAD, START, Words
from pipeline.heads.generate import Generate
from pipeline.inference.create import _truncated
from pipeline.models.core import Core
from pipeline.models.generator import TokenGenerator, _drawn
from pipeline.padded import stack
from pipeline.recipe import Recipe
from pipeline.section import validate


def small_writer() -> TokenGenerator:
    core = Core(cell="gru", input_size=4 + 3 + 3, hidden=8)
    return TokenGenerator(
        core=core, vocabulary=11, size=3, start=2, classes=2, content_size=6, motion_size=4, embedding=3
    )


def test_written_words_are_one_hot_and_teach_the_generator() -> None:
    torch.manual_seed(0)
    writer = small_writer()
    made, _ = writer(writer.draw(3, 5), torch.tensor([0, 1, 0]))
    assert (
        made.shape == (3, 5, 11)
        and torch.allclose(made.sum(-1), torch.ones(3, 5))
        and set(made.round(decimals=5).unique().tolist()) == {0.0, 1.0}
    )
    (made * torch.randn(11)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in writer.parameters())


def test_a_text_is_its_codes_and_nothing_follows_its_end() -> None:
    torch.manual_seed(0)
    writer = small_writer().eval()
    codes, labels = writer.draw(40, 30), torch.zeros(40, dtype=torch.int64)
    with torch.no_grad():
        ids = writer(codes, labels)[0].argmax(-1)
        torch.manual_seed(1)
        again = writer(codes, labels)[0].argmax(-1)
        parts, state = [], None
        for part in codes.motion.split(7, dim=1):
            made, state = writer(codes._replace(motion=part), labels, state)
            parts.append(made.argmax(-1))
    assert torch.equal(ids, again), "no luck but that of the codes"
    assert torch.equal(ids, torch.cat(parts, 1)), "a text that is over stays over in the next part"
    is_behind = (ids == END).cumsum(1) - (ids == END).long() > 0
    assert is_behind.any() and torch.equal(ids == PAD, is_behind) and not (ids == START).any()


def test_words_are_drawn_by_their_probability() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([0.0, 1.0, -1.0, 2.0])
    drawn = _drawn(scores.expand(40_000, 4), torch.randn(40_000, 4), 0.7)
    assert torch.allclose(drawn.mean(0), scores.softmax(0), atol=0.01)


def test_texts_of_all_lengths_end_in_padding_up_to_the_longest() -> None:
    torch.manual_seed(0)
    words = Words.learn(["a b c d e f g"])
    settings = {
        "clock": {"rate": 1},
        "encoder": {"kind": "tokens", "level": "word", "ends": True},
        "core": {"hidden": 8, "input_dropout": 0},
        "heads": {"clip": {"kind": "generate", "makes": "tokens", "labels": False, "embedding": 3}},
    }
    model = validate(Recipe, settings, "x").build({"clip": Vocabulary.of([]), "tokens": words})
    head = model.head("clip")
    assert isinstance(head, Generate)

    with pytest.raises(ValueError, match=r"truncation is 0\.5, and this model makes texts"):
        _truncated(head, head.generator.draw(1, 2), 0.5)

    def shown(*texts: str) -> Tensor:
        raw = stack([torch.from_numpy(cut(text, words, True)) for text in texts])
        return head.real(model.watch({"tokens": raw})).data.argmax(-1)

    model.eval()
    short = shown("a b", "c")
    a, b, c = (words.encode(letter)[0] for letter in "abc")
    assert short.tolist() == [[a, b, END], [c, END, PAD]]
    model.train()
    assert shown("a b c d e f g").shape == (1, 8)
    for is_training in (True, False):
        model.train(is_training)
        assert shown("a b", "c").tolist() == [[a, b, END, *[PAD] * 5], [c, END, *[PAD] * 6]]
    assert "heads.clip.longest" in model.state_dict()
