"""The attention decoder: a sequence at once equals token by token, and attention stays within the valid steps."""

from __future__ import annotations

import pytest
import torch

from pipeline.config.encoders import TokensSection
from pipeline.data.texts import encode_text
from pipeline.data.tokenizer import Tokenizer
from pipeline.models.text.attention_decoder import AttentionDecoder
from pipeline.models.text.beam_search import beam_search
from pipeline.padded import Padded, stack

V, D = 7, 5
each_attention = pytest.mark.parametrize("attention", ["soft", "soft, input feeding", "mean", "none"])
each_cell = pytest.mark.parametrize("cell", ["gru", "lstm"])


def make(attention="soft", cell="gru", **settings) -> AttentionDecoder:
    torch.manual_seed(0)
    kind, _, with_input_feeding = attention.partition(", ")
    options = {"attention": kind, "input_feeding": bool(with_input_feeding), **settings}
    decoder = AttentionDecoder(vocabulary_size=V, embedding_size=4, input_size=D, cell=cell, hidden=6, **options)
    with torch.no_grad():
        decoder.bias.normal_()
        decoder.embedding.weight.mul_(5)
    return decoder.eval()


def steps_of_another_core(lengths=(4, 1, 3)) -> Padded:
    torch.manual_seed(1)
    return stack([torch.randn(n, D) for n in lengths])


def sequences(lengths=(5, 2, 3)) -> Padded:
    torch.manual_seed(2)
    return stack([torch.randint(V, (n,)) for n in lengths])


@each_attention
@each_cell
def test_a_sequence_at_once_equals_token_by_token(attention, cell):
    decoder, tokens = make(attention, cell), sequences()
    memory = decoder.attention_memory(steps_of_another_core())
    whole = decoder(memory, tokens)[0].log_softmax(-1)
    step, state = decoder.step(memory), decoder.initial_state(memory)
    for position in range(tokens.data.shape[1]):
        scores, state = step(tokens.data[:, position], state)
        is_valid = tokens.lengths > position
        torch.testing.assert_close(scores[is_valid], whole[is_valid, position], atol=1e-5, rtol=0)


@each_attention
@each_cell
def test_garbage_in_the_padding_of_either_sequence_changes_nothing(attention, cell):
    decoder, tokens, steps = make(attention, cell), sequences(), steps_of_another_core()
    results = []
    for filler, word in ((0.0, 0), (float("nan"), V - 1)):
        data = torch.where(steps.mask[:, :, None], steps.data, filler).requires_grad_()
        ids = torch.where(tokens.mask, tokens.data, word)
        logits, weights = decoder(decoder.attention_memory(Padded(data, steps.lengths)), Padded(ids, tokens.lengths))
        decoder.zero_grad()
        logits[tokens.mask].square().sum().backward()
        grads = {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}
        results.append((logits[tokens.mask], weights[tokens.mask], grads, data.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert results[1][3] is not None and (results[1][3][~steps.mask] == 0).all()


@each_attention
def test_attention_weights_sum_to_one_over_valid_steps(attention):
    decoder, steps = make(attention), steps_of_another_core()
    _, weights = decoder(decoder.attention_memory(steps), sequences())
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
    assert (weights.transpose(1, 2)[~steps.mask] == 0).all()
    if attention == "mean":
        torch.testing.assert_close(weights[0, 0], torch.full((4,), 0.25))


def test_the_state_holds_the_last_attention_weights_and_the_sum_of_all_so_far():
    decoder, tokens = make("soft, input feeding"), sequences((6, 6, 6))
    memory = decoder.attention_memory(steps_of_another_core())
    _, weights = decoder(memory, tokens)  # (B, L, S)
    step, state = decoder.step(memory), decoder.initial_state(memory)
    assert (state[-1] == 0).all()
    for position in range(6):
        _, state = step(tokens.data[:, position], state)
        last, total = state[-1].unbind(1)
        torch.testing.assert_close(last, weights[:, position], atol=1e-6, rtol=0)
        torch.testing.assert_close(total, weights[:, : position + 1].sum(1), atol=1e-6, rtol=0)
        torch.testing.assert_close(total.sum(1), torch.full((3,), position + 1.0), atol=1e-5, rtol=0)


def test_attention_depends_on_the_sum_of_the_weights_and_not_on_the_last_ones_alone():
    """Location-aware attention, written out: tanh(W_q s + W_k h + U * [last, sum, mask])."""
    decoder = make("soft, input feeding")
    memory = decoder.attention_memory(steps_of_another_core((5, 5)))
    torch.manual_seed(3)
    queries, last, total = torch.randn(2, 1, 6), torch.rand(2, 5), 4 * torch.rand(2, 5)
    _, weights = decoder._attend(memory, queries, torch.stack([last, total], dim=1))
    kernel = decoder.location_conv.weight  # (hidden, 3, width)
    half = kernel.shape[2] // 2
    past = torch.nn.functional.pad(torch.stack([last, total, torch.ones(2, 5)], dim=1), (half, half))
    location = torch.stack([(kernel * past[:, None, :, j : j + 2 * half + 1]).sum((2, 3)) for j in range(5)], dim=1)
    energy = decoder.score(torch.tanh(decoder.query(queries) + decoder.key(memory.values) + location))[..., 0]
    torch.testing.assert_close(weights[:, 0], energy.softmax(1), atol=1e-5, rtol=0)


def test_attention_ignores_the_order_of_the_steps():
    torch.manual_seed(3)
    steps, tokens = steps_of_another_core((4,)), sequences((3,))
    other = Padded(steps.data[:, [1, 0, 2, 3]], steps.lengths)  # the last step and the mean stay the same
    for attention in ("soft", "mean", "none"):
        decoder = make(attention)
        first, second = (decoder(decoder.attention_memory(x), tokens)[0] for x in (steps, other))
        torch.testing.assert_close(first, second)  # attention reads a set: their order is encoded by the first core


def test_a_row_of_length_0_has_no_attention_weights():
    decoder = make()
    steps = Padded(torch.full((2, 3, D), float("nan")), torch.tensor([0, 2]))
    steps.data[1, :2] = 1.0
    logits, weights = decoder(decoder.attention_memory(steps), sequences((2, 2)))
    assert logits.isfinite().all() and (weights[0] == 0).all()


@each_attention
@each_cell
def test_a_search_over_a_batch_equals_each_row_alone(attention, cell):
    decoder, steps = make(attention, cell), steps_of_another_core()

    def search(x: Padded):
        memory = decoder.attention_memory(x)
        start = torch.full((len(x.lengths),), 2)
        return beam_search(decoder.step(memory), decoder.initial_state(memory), start, end=3, width=3, max_length=6)

    batch = search(steps)
    for row, first in enumerate(steps.unpad()):
        single = search(stack([first]))
        assert torch.equal(single.lengths[0], batch.lengths[row])
        torch.testing.assert_close(single.log_probability[0], batch.log_probability[row], atol=1e-5, rtol=0)
        assert torch.equal(single.tokens[0], batch.tokens[row])


def test_the_readout_shares_the_embedding_weights():
    decoder = make()
    names = dict(decoder.named_parameters())
    assert sum(p.shape == (V, 4) for p in names.values()) == 1


@each_attention
def test_all_tensors_are_on_the_device_of_the_model(attention):
    """On the meta device an operation fails if one of its tensors is on another device."""
    decoder = make(attention, dropout=0.5).to("meta").train()
    steps = Padded(torch.empty(3, 4, D, device="meta"), torch.tensor([4, 0, 2]))
    tokens = Padded(torch.empty(3, 5, dtype=torch.int64, device="meta"), torch.tensor([5, 1, 3]))
    memory = decoder.attention_memory(steps)
    logits, weights = decoder(memory, tokens)
    scores, state = decoder.step(memory)(
        tokens.data[:, 0].repeat_interleave(2), tuple(s.repeat_interleave(2, 0) for s in decoder.initial_state(memory))
    )
    assert {t.device.type for t in (logits, weights, scores, *state)} == {"meta"}


@pytest.mark.parametrize("characters", [0, 4])
def test_the_tokens_encoder_ignores_padding_and_drops_whole_words(characters):
    tokenizer = Tokenizer.train(["the cat sat on the mat the end"], with_characters=characters > 0)
    section = TokensSection(embedding=6, character_hidden=characters, dropout=0, embedding_dropout=0.5)
    torch.manual_seed(0)
    encoder = section.build(tokenizer)
    rows = stack(
        [torch.from_numpy(encode_text(t, tokenizer, True)) for t in ("the cat sat on the mat", "the end", "cat")]
    )
    mask = rows.mask.reshape(*rows.mask.shape, *[1] * (rows.data.ndim - 2))
    other = Padded(torch.where(mask, rows.data, 5), rows.lengths)
    encoder.eval()
    first, second = (encoder({"tokens": x}) for x in (rows, other))
    assert torch.equal(first.zeroed().data, second.zeroed().data)
    for row, text in zip(first.unpad(), rows.unpad(), strict=True):
        torch.testing.assert_close(encoder({"tokens": stack([text])}).data[0], row, atol=1e-6, rtol=0)
    encoder.train()
    vectors = encoder({"tokens": rows}).data[0, :, :6]  # <s> the cat sat on the mat </s>
    assert torch.equal(vectors[1], vectors[5])  # a word is dropped at all of its positions or at none
    shares = [float((encoder({"tokens": rows}).data[0, :8, :6] == 0).all(1).float().mean()) for _ in range(40)]
    assert 0.3 < sum(shares) / 40 < 0.7
