"""The language head: probabilities of texts, windows equal the whole, and a model goes on with a prompt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pipeline.checkpoint import Checkpoint, ModelError, load_model, save_model
from pipeline.config import Config
from pipeline.data.text import cut
from pipeline.data.vocabulary import Vocabulary
from pipeline.data.words import Words
from pipeline.inference.generate import continue_text
from pipeline.inference.predictor import Predictor
from pipeline.models.prediction import Likelihood
from pipeline.padded import Padded, stack
from pipeline.recipe import Recipe

TEXTS = ["abcabcabcabd", "abdabc", "cab"]
CPU = torch.device("cpu")


def make(level="character", ends=False, tied=True, **encoder) -> Checkpoint:
    words = Words.learn(TEXTS, level=level)
    recipe = Recipe.model_validate(
        {
            "encoder": {"kind": "tokens", "level": level, "embedding": 12, "dropout": 0, "ends": ends, **encoder},
            "core": {"hidden": 16},
            "heads": {"next": {"kind": "language", "tied": tied, "dropout": 0}},
        }
    )
    torch.manual_seed(0)
    vocabularies = {"next": Vocabulary(()), "tokens": words}
    return Checkpoint(recipe.build(vocabularies).eval(), recipe, vocabularies, None, {})


def tokens(checkpoint: Checkpoint, text: str) -> torch.Tensor:
    words = checkpoint.vocabularies["tokens"]
    assert isinstance(words, Words)
    return torch.from_numpy(cut(text, words, checkpoint.recipe.encoder.ends))  # type: ignore[union-attr]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("ends", [True, False])
def test_the_probability_is_the_product_over_tokens(tied, ends):
    checkpoint = make(tied=tied, ends=ends)
    model, ids = checkpoint.model, tokens(checkpoint, "abcab")
    head = model.head("next")
    total = 0.0
    for place in range(1, len(ids)):
        seen = model.watch({"tokens": stack([ids[:place]])})
        total += float(head.logits(seen.steps.data)[0, -1].log_softmax(-1)[ids[place]])  # type: ignore[attr-defined]
    (said,) = head.answer(head.observe(model.watch({"tokens": stack([ids])})))
    assert isinstance(said, Likelihood)
    assert said.log_probability == pytest.approx(total, abs=1e-4) and said.tokens == len(ids) - 1
    assert said.row(1)["perplexity"] == pytest.approx(math.exp(-total / said.tokens), abs=1e-3)


def test_windows_equal_the_whole_for_rows_of_any_length():
    checkpoint = make()
    model, rows = checkpoint.model, stack([tokens(checkpoint, t) for t in ("abcabdc", "ab", "c")])
    head = model.head("next")
    whole = head.observe(model.watch({"tokens": rows}))
    memory, state = None, None
    for a, b in ((0, 1), (1, 4), (4, 7)):
        window = Padded(rows.data[:, a:b], (rows.lengths - a).clamp(0, b - a))
        seen = model.watch({"tokens": window}, state)
        state, memory = seen.state, head.observe(seen, memory)
    assert memory is not None
    torch.testing.assert_close(memory[:2], whole[:2], atol=1e-5, rtol=0)
    assert whole[1].tolist() == [6, 1, 0]


def test_garbage_behind_a_text_changes_nothing():
    checkpoint = make()
    rows = stack([tokens(checkpoint, t) for t in ("abcab", "ab")])
    other = Padded(torch.where(rows.mask, rows.data, 5), rows.lengths)
    found = [checkpoint.model.head("next").observe(checkpoint.model.watch({"tokens": x})) for x in (rows, other)]
    torch.testing.assert_close(found[0][:2], found[1][:2], rtol=0, atol=0)


def test_a_model_of_a_cycle_goes_on_with_it(tmp_path):
    checkpoint = make()
    model, ids = checkpoint.model.train(), tokens(checkpoint, "abc" * 12)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    from pipeline.data.batch import Batch

    batch = Batch({"tokens": stack([ids])}, {"next": torch.zeros(1)}, ("x",))
    for _ in range(60):
        optimiser.zero_grad()
        terms, _ = model(batch)
        terms["next"].backward()
        optimiser.step()
    model.eval()
    save_model(tmp_path, checkpoint)
    again = load_model(tmp_path)
    assert continue_text(again, CPU, prompt="ab", length=7, top_k=1) == ["abcabcabc"]
    said = Predictor(again, CPU).read("abcabcabc").predictions["next"]
    assert isinstance(said, Likelihood) and said.row(1)["perplexity"] < 1.2


def test_the_same_seed_says_the_same_and_samples_differ():
    checkpoint = make()
    wishes = {"prompt": "a", "length": 20, "samples": 3, "temperature": 1.5}
    one, two = (continue_text(checkpoint, CPU, **wishes, seed=4) for _ in range(2))
    assert one == two and len(set(one)) > 1
    assert one != continue_text(checkpoint, CPU, **wishes, seed=5)


def test_a_model_that_knows_ends_needs_no_prompt_and_stops():
    found = continue_text(make(ends=True), CPU, prompt="", length=50, samples=8, temperature=1.0)
    assert min(len(text) for text in found) < 50 and all("<" not in text for text in found)


def test_a_prompt_is_asked_for_where_no_start_is_known():
    with pytest.raises(ValueError, match="The prompt is empty, and this model knows no start of a text"):
        continue_text(make(), CPU, prompt="", length=3)


def test_other_models_cannot_go_on_with_a_text():
    words = Words.learn(TEXTS)
    recipe = Recipe.model_validate({"encoder": {"kind": "tokens"}, "heads": {"mood": {}}})
    vocabularies = {"mood": Vocabulary(("a", "b")), "tokens": words}
    other = Checkpoint(recipe.build(vocabularies), recipe, vocabularies, None, {})
    with pytest.raises(ModelError, match=r"no head that knows which word comes next \(its heads: classify\)"):
        continue_text(other, CPU, prompt="a", length=3)
    spelled = make(level="word", characters=4)
    with pytest.raises(ModelError, match="reads the characters of each word"):
        continue_text(
            replace(spelled, vocabularies={"tokens": Words.learn(["a a"], spelled=True)}), CPU, prompt="a", length=3
        )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoder": {"kind": "series"}}, "the head 'next' says which word comes next, and encoder.kind is series"),
        ({"core": {"bidirectional": True}}, "a bidirectional core has read it already"),
        ({"clock": {"rate": 4}}, "clock.rate is 4, and a token of a text is a second"),
        (
            {"heads": {"f": {"kind": "forecast", "steps": 3}}},
            "the head 'f' forecasts numbers, and encoder.kind is tokens",
        ),
        (
            {"heads": {"c": {"kind": "caption", "describes": "t"}}},
            "the head 'c' describes the spans of 't', which is no segment",
        ),
        ({"heads": {"tokens": {}}}, "a head cannot be called 'tokens'"),
        ({"heads": {"t": {"kind": "segment", "scheme": "iob2", "background": None}}}, "scheme iob2 needs a background"),
    ],
)
def test_what_does_not_fit_is_said(change, sentence):
    base = {"encoder": {"kind": "tokens"}, "heads": {"next": {"kind": "language"}}, "data": {"path": "x"}}
    with pytest.raises(ValueError, match=sentence):
        Config.model_validate({**base, **change})


def test_a_tied_readout_is_the_encoders_embedding():
    checkpoint = make()
    words = len(checkpoint.vocabularies["tokens"])
    names = [n for n, p in checkpoint.model.named_parameters() if p.shape == (words, 12)]
    assert names == ["encoder.embedding.weight"]
