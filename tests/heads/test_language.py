"""The language head: probabilities of texts, windows equal the whole, and a model continues a prompt."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.checkpoint import Checkpoint, ModelError, load_model, save_model
from pipeline.config.architecture import Architecture
from pipeline.config.run import Config
from pipeline.data.batch import Batch
from pipeline.data.texts import encode_text
from pipeline.data.tokenizer import Level, Tokenizer
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.language import Language
from pipeline.inference.generate_text import continue_text
from pipeline.inference.predictor import Predictor
from pipeline.models.prediction import Likelihood
from pipeline.padded import Padded, stack

TEXTS = ["abcabcabcabd", "abdabc", "cab"]
CPU = torch.device("cpu")


def make_checkpoint(
    level: Level = "character", add_bos_eos: bool = False, tie_weights: bool = True, **encoder: Any
) -> Checkpoint:
    section = {"kind": "tokens", "level": level, "embedding": 12, "dropout": 0, "add_bos_eos": add_bos_eos, **encoder}
    architecture = Architecture.model_validate(
        {
            "encoder": section,
            "core": {"hidden": 16},
            "heads": {"next": {"kind": "language", "tie_weights": tie_weights, "dropout": 0}},
        }
    )
    torch.manual_seed(0)
    vocabularies = {"next": Vocabulary(()), "tokens": Tokenizer.train(TEXTS, level=level)}
    return Checkpoint(architecture.build(vocabularies).eval(), architecture, vocabularies, None, {})


def head_of(checkpoint: Checkpoint) -> Language:
    head = checkpoint.model.head("next")
    assert isinstance(head, Language)
    return head


def tokens(checkpoint: Checkpoint, text: str) -> torch.Tensor:
    tokenizer, section = checkpoint.vocabularies["tokens"], checkpoint.architecture.encoder
    assert isinstance(tokenizer, Tokenizer)
    assert section.kind == "tokens"
    return torch.from_numpy(encode_text(text, tokenizer, section.add_bos_eos))


@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("add_bos_eos", [True, False])
def test_the_probability_is_the_product_over_tokens(tie_weights, add_bos_eos):
    checkpoint = make_checkpoint(tie_weights=tie_weights, add_bos_eos=add_bos_eos)
    model, head, ids = checkpoint.model, head_of(checkpoint), tokens(checkpoint, "abcab")
    total = 0.0
    for i in range(1, len(ids)):
        output = model.watch({"tokens": stack([ids[:i]])})
        total += head.logits(output.steps.data)[0, -1].log_softmax(-1)[ids[i]].item()
    (answer,) = head.answer(head.observe(model.watch({"tokens": stack([ids])})))
    assert isinstance(answer, Likelihood)
    assert answer.log_probability == pytest.approx(total, abs=1e-4)
    assert answer.num_tokens == len(ids) - 1
    assert answer.row(1)["perplexity"] == pytest.approx(math.exp(-total / (len(ids) - 1)), abs=1e-3)


def test_the_memory_after_windows_is_that_of_the_whole():
    checkpoint = make_checkpoint()
    model, head = checkpoint.model, head_of(checkpoint)
    rows = stack([tokens(checkpoint, text) for text in ("abcabdc", "ab", "c")])
    whole = head.observe(model.watch({"tokens": rows}))
    memory, state = None, None
    for start, stop in ((0, 1), (1, 4), (4, 7)):
        window = Padded(rows.data[:, start:stop], (rows.lengths - start).clamp(0, stop - start))
        output = model.watch({"tokens": window}, state)
        state, memory = output.state, head.observe(output, memory)
    assert memory is not None
    torch.testing.assert_close(memory[:2], whole[:2], atol=1e-5, rtol=0)
    assert whole.num_tokens.tolist() == [6, 1, 0]


def test_garbage_in_the_padding_changes_no_probability():
    checkpoint = make_checkpoint()
    rows = stack([tokens(checkpoint, text) for text in ("abcab", "ab")])
    garbage = Padded(torch.where(rows.mask, rows.data, 5), rows.lengths)
    memories = [head_of(checkpoint).observe(checkpoint.model.watch({"tokens": x})) for x in (rows, garbage)]
    torch.testing.assert_close(memories[0][:2], memories[1][:2], rtol=0, atol=0)


def test_a_model_trained_on_a_repeated_text_continues_it(tmp_path):
    checkpoint = make_checkpoint()
    model, ids = checkpoint.model.train(), tokens(checkpoint, "abc" * 12)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    batch = Batch({"tokens": stack([ids])}, {"next": torch.zeros(1)}, ("x",))
    for _ in range(60):
        optimizer.zero_grad()
        terms, _ = model(batch)
        terms["next"].backward()
        optimizer.step()
    model.eval()
    save_model(tmp_path, checkpoint)
    loaded = load_model(tmp_path)
    assert continue_text(loaded, CPU, prompt="ab", length=7, top_k=1) == ["abcabcabc"]
    answer = Predictor(loaded, CPU).predict_text("abcabcabc").predictions["next"]
    assert answer.row(1)["perplexity"] < 1.2


def test_samples_differ_and_the_same_seed_gives_the_same_samples():
    checkpoint = make_checkpoint()
    settings: dict[str, Any] = {"prompt": "a", "length": 20, "samples": 3, "temperature": 1.5}
    first, second = (continue_text(checkpoint, CPU, **settings, seed=4) for _ in range(2))
    assert first == second
    assert len(set(first)) > 1
    assert first != continue_text(checkpoint, CPU, **settings, seed=5)


def test_a_model_with_start_and_end_tokens_needs_no_prompt_and_stops():
    checkpoint = make_checkpoint(add_bos_eos=True)
    texts = continue_text(checkpoint, CPU, prompt="", length=50, samples=8, temperature=1.0)
    assert min(map(len, texts)) < 50
    assert all("<" not in text for text in texts)


def test_an_empty_prompt_without_a_start_token_is_refused():
    with pytest.raises(ValueError, match="The prompt is empty, and this model has no start token"):
        continue_text(make_checkpoint(), CPU, prompt="", length=3)


def test_models_that_cannot_continue_a_text_are_refused():
    architecture = Architecture.model_validate({"encoder": {"kind": "tokens"}, "heads": {"mood": {}}})
    vocabularies = {"mood": Vocabulary(("a", "b")), "tokens": Tokenizer.train(TEXTS)}
    classifier = Checkpoint(architecture.build(vocabularies), architecture, vocabularies, None, {})
    with pytest.raises(ModelError, match=r"no head that predicts the next token \(its heads: classify\)"):
        continue_text(classifier, CPU, prompt="a", length=3)
    tokenizer = Tokenizer.train(["a a"], with_characters=True)
    with_characters = replace(make_checkpoint(level="word", character_hidden=4), vocabularies={"tokens": tokenizer})
    with pytest.raises(ModelError, match="reads the characters of each word"):
        continue_text(with_characters, CPU, prompt="a", length=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": {"kind": "series"}}, "the head 'next' predicts the next token, and encoder.kind is series"),
        ({"core": {"bidirectional": True}}, "a bidirectional core has read it already"),
        ({"clock": {"rate": 4}}, "clock.rate is 4, and a token of a text is a second"),
        (
            {"heads": {"f": {"kind": "forecast", "horizon": 3}}},
            "the head 'f' forecasts numbers, and encoder.kind is tokens",
        ),
        (
            {"heads": {"c": {"kind": "caption", "segment_head": "t"}}},
            "the head 'c' describes the spans of 't', which is no segment",
        ),
        ({"heads": {"tokens": {}}}, "a head cannot be called 'tokens'"),
        ({"heads": {"t": {"kind": "segment", "scheme": "iob2", "background": None}}}, "scheme iob2 needs a background"),
    ],
)
def test_a_config_that_does_not_suit_a_text_is_refused(settings, message):
    base = {"encoder": {"kind": "tokens"}, "heads": {"next": {"kind": "language"}}, "data": {"path": "x"}}
    with pytest.raises(ValueError, match=message):
        Config.model_validate({**base, **settings})


def test_a_tied_output_layer_is_the_encoders_embedding():
    checkpoint = make_checkpoint()
    shape = (len(checkpoint.vocabularies["tokens"]), 12)
    names = [name for name, parameter in checkpoint.model.named_parameters() if parameter.shape == shape]
    assert names == ["encoder.embedding.weight"]
