"""The generator of texts: tokens drawn by their probability, texts that end, and gradients through the draw."""

from __future__ import annotations

import torch
from toy_generate import small_token_generator

from pipeline.data.tokenizer import END, PAD, START
from pipeline.models.gan.token_generator import gumbel_softmax


def test_generated_tokens_are_one_hot_and_pass_a_gradient_to_every_weight() -> None:
    torch.manual_seed(0)
    generator = small_token_generator()
    tokens, _ = generator(generator.draw(3, 5), torch.tensor([0, 1, 0]))
    assert tokens.shape == (3, 5, 11) and torch.allclose(tokens.sum(-1), torch.ones(3, 5))
    assert set(tokens.round(decimals=5).unique().tolist()) == {0.0, 1.0}
    (tokens * torch.randn(11)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


def test_codes_determine_a_text_and_only_padding_follows_its_end() -> None:
    torch.manual_seed(0)
    generator = small_token_generator().eval()
    codes, labels = generator.draw(40, 30), torch.zeros(40, dtype=torch.int64)
    with torch.no_grad():
        ids = generator(codes, labels)[0].argmax(-1)
        torch.manual_seed(1)
        again = generator(codes, labels)[0].argmax(-1)
        chunks, state = [], None
        for motion in codes.motion.split(7, dim=1):
            chunk, state = generator(codes._replace(motion=motion), labels, state)
            chunks.append(chunk.argmax(-1))
    assert torch.equal(ids, again), "no other random numbers than the codes"
    assert torch.equal(ids, torch.cat(chunks, 1)), "a text that has ended stays ended in the next chunk"
    is_behind_the_end = (ids == END).cumsum(1) - (ids == END).long() > 0
    assert is_behind_the_end.any() and torch.equal(ids == PAD, is_behind_the_end) and not (ids == START).any()


def test_tokens_are_drawn_by_their_probability() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    drawn = gumbel_softmax(logits.expand(40_000, 4), torch.randn(40_000, 4), 0.7)
    assert torch.allclose(drawn.mean(0), logits.softmax(0), atol=0.01)
