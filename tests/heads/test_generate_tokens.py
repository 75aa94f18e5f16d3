"""The head that generates texts: real texts of all lengths end in padding, and truncation is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.config.architecture import Architecture
from pipeline.config.base import validate
from pipeline.data.texts import encode_text
from pipeline.data.tokenizer import END, PAD, Tokenizer
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.generate_tokens import GenerateTokens
from pipeline.inference.generate_sequences import _truncate
from pipeline.models.model import Model
from pipeline.padded import stack

TOKENIZER = Tokenizer.train(["a b c d e f g"])


def make_model() -> Model:
    settings = {
        "clock": {"rate": 1},
        "encoder": {"kind": "tokens", "level": "word", "add_bos_eos": True},
        "core": {"hidden": 8, "input_dropout": 0},
        "heads": {"clip": {"kind": "generate", "makes": "tokens", "class_conditional": False, "embedding": 3}},
    }
    return validate(Architecture, settings, "x").build({"clip": Vocabulary.of([]), "tokens": TOKENIZER})


def head_of(model: Model) -> GenerateTokens:
    head = model.head("clip")
    assert isinstance(head, GenerateTokens)
    return head


def test_real_texts_end_in_padding_up_to_the_longest_training_text() -> None:
    model = make_model()
    head = head_of(model)

    def real(*texts: str) -> Tensor:
        raw = stack([torch.from_numpy(encode_text(text, TOKENIZER, True)) for text in texts])
        return head.real(model.watch({"tokens": raw})).data.argmax(-1)

    model.eval()
    a, b, c = (TOKENIZER.encode(letter)[0] for letter in "abc")
    assert real("a b", "c").tolist() == [[a, b, END], [c, END, PAD]]
    model.train()
    assert real("a b c d e f g").shape == (1, 8)
    for is_training in (True, False):
        model.train(is_training)
        assert real("a b", "c").tolist() == [[a, b, END, *[PAD] * 5], [c, END, *[PAD] * 6]]
    assert "heads.clip.longest" in model.state_dict()


def test_truncation_of_texts_is_refused() -> None:
    head = head_of(make_model())
    with pytest.raises(ValueError, match=r"truncation is 0\.5, and this model generates texts"):
        _truncate(head, head.generator.draw(1, 2), 0.5)
