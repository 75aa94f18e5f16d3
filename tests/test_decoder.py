"""The core that writes: a sentence at once equals word by word, and only what was seen is looked at."""

from __future__ import annotations

import pytest
import torch

from pipeline.data.text import cut
from pipeline.data.words import Words
from pipeline.models.beam import beam_search
from pipeline.models.decoder import Decoder
from pipeline.padded import Padded, stack
from pipeline.recipe import TokensSection

V, D = 7, 5
kinds = pytest.mark.parametrize("attention", ["soft", "soft, fed", "mean", "none"])
cells = pytest.mark.parametrize("cell", ["gru", "lstm"])


def make(attention="soft", cell="gru", **settings) -> Decoder:
    torch.manual_seed(0)
    kind, _, fed = attention.partition(", ")
    given = {"attention": kind, "feed": bool(fed), **settings}
    decoder = Decoder(vocabulary=V, size=4, input_size=D, cell=cell, hidden=6, **given)
    with torch.no_grad():
        decoder.bias.normal_()
        decoder.embedding.weight.mul_(5)
    return decoder.eval()


def watched(lengths=(4, 1, 3)) -> Padded:
    torch.manual_seed(1)
    return stack([torch.randn(n, D) for n in lengths])


def said(lengths=(5, 2, 3)) -> Padded:
    torch.manual_seed(2)
    return stack([torch.randint(V, (n,)) for n in lengths])


@kinds
@cells
def test_a_sentence_at_once_equals_word_by_word(attention, cell):
    decoder, words = make(attention, cell), said()
    glimpse = decoder.glimpse(watched())
    whole = decoder(glimpse, words)[0].log_softmax(-1)
    step, state = decoder.step(glimpse), decoder.begin(glimpse)
    for place in range(words.data.shape[1]):
        scores, state = step(words.data[:, place], state)
        reached = words.lengths > place
        torch.testing.assert_close(scores[reached], whole[reached, place], atol=1e-5, rtol=0)


@kinds
@cells
def test_garbage_behind_either_sequence_changes_nothing(attention, cell):
    decoder, words, steps = make(attention, cell), said(), watched()
    found = []
    for filler, word in ((0.0, 0), (float("nan"), V - 1)):
        data = torch.where(steps.mask[:, :, None], steps.data, filler).requires_grad_()
        ids = torch.where(words.mask, words.data, word)
        logits, weights = decoder(decoder.glimpse(Padded(data, steps.lengths)), Padded(ids, words.lengths))
        decoder.zero_grad()
        logits[words.mask].square().sum().backward()
        grads = {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}
        found.append((logits[words.mask], weights[words.mask], grads, data.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert found[1][3] is not None and (found[1][3][~steps.mask] == 0).all()


@kinds
def test_weights_of_a_glance_are_shares_of_what_was_seen(attention):
    decoder, steps = make(attention), watched()
    _, weights = decoder(decoder.glimpse(steps), said())
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
    assert (weights.transpose(1, 2)[~steps.mask] == 0).all()
    if attention == "mean":
        torch.testing.assert_close(weights[0, 0], torch.full((4,), 0.25))


def test_only_soft_attention_knows_where():
    torch.manual_seed(3)
    steps, words = watched((4,)), said((3,))
    other = Padded(steps.data[:, [1, 0, 2, 3]], steps.lengths)  # the last step stays, and so does the mean
    for attention in ("soft", "mean", "none"):
        decoder = make(attention)
        one, two = (decoder(decoder.glimpse(x), words)[0] for x in (steps, other))
        torch.testing.assert_close(one, two)  # a set of steps: what the order is, the core that watched has to say


def test_a_row_of_length_zero_looks_at_nothing():
    decoder = make()
    steps = Padded(torch.full((2, 3, D), float("nan")), torch.tensor([0, 2]))
    steps.data[1, :2] = 1.0
    logits, weights = decoder(decoder.glimpse(steps), said((2, 2)))
    assert logits.isfinite().all() and (weights[0] == 0).all()


@kinds
@cells
def test_a_batch_is_searched_as_each_row_alone(attention, cell):
    decoder, steps = make(attention, cell), watched()

    def search(x: Padded):
        glimpse = decoder.glimpse(x)
        start = torch.full((len(x.lengths),), 2)
        return beam_search(decoder.step(glimpse), decoder.begin(glimpse), start, end=3, width=3, max_length=6)

    both = search(steps)
    for row, one in enumerate(steps.unpad()):
        alone = search(stack([one]))
        assert torch.equal(alone.lengths[0], both.lengths[row])
        torch.testing.assert_close(alone.log_probability[0], both.log_probability[row], atol=1e-5, rtol=0)
        assert torch.equal(alone.tokens[0], both.tokens[row])


def test_the_readout_is_the_embedding():
    decoder = make()
    names = dict(decoder.named_parameters())
    assert sum(p.shape == (V, 4) for p in names.values()) == 1


@kinds
def test_everything_is_made_on_the_models_device(attention):
    """On the meta device a tensor that was made elsewhere stops the operation."""
    decoder = make(attention, dropout=0.5).to("meta").train()
    steps = Padded(torch.empty(3, 4, D, device="meta"), torch.tensor([4, 0, 2]))
    words = Padded(torch.empty(3, 5, dtype=torch.int64, device="meta"), torch.tensor([5, 1, 3]))
    glimpse = decoder.glimpse(steps)
    logits, weights = decoder(glimpse, words)
    scores, state = decoder.step(glimpse)(
        words.data[:, 0].repeat_interleave(2), tuple(s.repeat_interleave(2, 0) for s in decoder.begin(glimpse))
    )
    assert {t.device.type for t in (logits, weights, scores, *state)} == {"meta"}


@pytest.mark.parametrize("characters", [0, 4])
def test_the_encoder_of_tokens_keeps_padding_inert_and_drops_whole_words(characters):
    words = Words.learn(["the cat sat on the mat the end"], spelled=characters > 0)
    section = TokensSection(embedding=6, characters=characters, dropout=0, token_dropout=0.5)
    torch.manual_seed(0)
    encoder = section.build(words)
    rows = stack([torch.from_numpy(cut(t, words, True)) for t in ("the cat sat on the mat", "the end", "cat")])
    mask = rows.mask.reshape(*rows.mask.shape, *[1] * (rows.data.ndim - 2))
    other = Padded(torch.where(mask, rows.data, 5), rows.lengths)
    encoder.eval()
    one, two = (encoder({"tokens": x}) for x in (rows, other))
    assert torch.equal(one.zeroed().data, two.zeroed().data)
    for row, text in zip(one.unpad(), rows.unpad(), strict=True):
        torch.testing.assert_close(encoder({"tokens": stack([text])}).data[0], row, atol=1e-6, rtol=0)
    encoder.train()
    vectors = encoder({"tokens": rows}).data[0, :, :6]  # <s> the cat sat on the mat </s>
    assert torch.equal(vectors[1], vectors[5])  # a word is dropped everywhere or nowhere
    shares = [float((encoder({"tokens": rows}).data[0, :8, :6] == 0).all(1).float().mean()) for _ in range(40)]
    assert 0.3 < sum(shares) / 40 < 0.7
