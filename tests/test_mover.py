"""What makes features: the law of the next step is the law of what is drawn, and it is learned."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from pipeline.models.core import Core
from pipeline.models.generator import Codes
from pipeline.models.mover import FeatureGenerator
from pipeline.padded import Padded


def generator(width: int = 3, cell: str = "gru") -> FeatureGenerator:
    core = Core(cell=cell, input_size=width, hidden=8)  # type: ignore[arg-type]
    return FeatureGenerator(core=core, width=width, manner_size=2, motion_size=2, hidden=16, classes=2, embedding=3)


def codes(count: int, steps: int, width: int = 3) -> Codes:
    return Codes(torch.randn(count, width), torch.randn(count, steps, 2 + width), torch.randn(count, 2))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn_tanh", "mingru"])
def test_the_surprise_is_that_of_the_law_that_steps_are_drawn_from(cell: str) -> None:
    torch.manual_seed(0)
    one, given, labels, lengths = (
        generator(cell=cell).eval(),
        codes(4, 7),
        torch.tensor([0, 1, 1, 0]),
        torch.tensor([7, 3, 1, 5]),
    )
    with torch.no_grad():
        made, _ = one(given, labels)
        paid, known = 0.0, one._given(given, labels)
        state, last = one._begun(known), torch.zeros(4, 3)
        for t in range(7):
            y, state = one.core.step(last, state)
            mean, factor, deviation = one._told(y, last, known)
            law = MultivariateNormal(mean, factor @ factor.mT + torch.diag_embed(deviation.square()))
            paid -= float((law.log_prob(made[:, t]) * (t < lengths)).sum())
            last = made[:, t]
        told = one.surprise(Padded(made, lengths), given, labels)
    assert float(told) == pytest.approx(paid / (16 * 3), rel=1e-4)


def test_noise_is_turned_into_steps_by_that_law() -> None:
    torch.manual_seed(0)
    one = generator().eval()
    first = codes(1, 1)
    many = Codes(first.content.expand(20000, -1), torch.randn(20000, 1, 5), first.start.expand(20000, -1))
    labels = torch.zeros(20000, dtype=torch.int64)
    with torch.no_grad():
        made, _ = one(many, labels)
        known = one._given(first, labels[:1])
        y, _ = one.core.step(torch.zeros(1, 3), one._begun(known))
        mean, factor, deviation = one._told(y, torch.zeros(1, 3), known)
    assert torch.allclose(made[:, 0].mean(0), mean[0], atol=0.05)
    assert torch.allclose(
        torch.cov(made[:, 0].T), (factor @ factor.mT + torch.diag_embed(deviation**2))[0], rtol=0.1, atol=0.05
    )


def test_parts_are_the_whole_and_padding_costs_nothing() -> None:
    torch.manual_seed(0)
    one, given, labels = generator().eval(), codes(2, 12), torch.tensor([1, 0])
    with torch.no_grad():
        whole, _ = one(given, labels)
        first, state = one(given._replace(motion=given.motion[:, :5]), labels)
        rest, _ = one(given._replace(motion=given.motion[:, 5:]), labels, state)
        lengths = torch.tensor([12, 4])
        wild = whole.clone()
        wild[1, 4:] = float("nan")
        assert torch.equal(
            one.surprise(Padded(whole, lengths), given, labels), one.surprise(Padded(wild, lengths), given, labels)
        )
        assert torch.equal(one.read(Padded(wild, lengths)), one.read(Padded(whole, lengths)))
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-5)


def test_a_sequence_of_nothing_has_a_manner_too() -> None:
    one = generator().eval()
    with torch.no_grad():
        found = one.read(Padded(torch.randn(2, 5, 3), torch.tensor([5, 0])))
        long = one.reads.join(torch.zeros(1, one.reads.join.in_features))
    assert found.isfinite().all() and torch.allclose(found[1], one.reads.norm(long)[0], atol=1e-5)


def test_it_learns_how_steps_follow_each_other_and_which_manner_is_meant() -> None:
    """Two manners, slow and large, quick and small: what is made in a manner that was read has its memory and its size."""
    torch.manual_seed(0)

    def real(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind, steps = torch.arange(count) % 2, [torch.randn(count, 3)]
        memory = torch.where(kind == 0, 0.9, -0.5)[:, None]
        for _ in range(15):
            steps.append(memory * steps[-1] + (1 - memory**2).sqrt() * torch.randn(count, 3))
        return torch.stack(steps, 1) * torch.where(kind == 0, 2.0, 0.5)[:, None, None], kind

    core = Core(cell="gru", input_size=3, hidden=32)
    one = FeatureGenerator(core=core, width=3, manner_size=8, motion_size=2, hidden=64, classes=2, embedding=3)
    optimizer = torch.optim.Adam(one.parameters(), 1e-2)
    labels = torch.zeros(64, dtype=torch.int64)
    content = torch.zeros(64, 3)
    for _ in range(200):
        moves = Padded(real(64)[0], torch.full((64,), 16))
        loss = one.surprise(moves, one.alike(one.draw(64, 1), content, moves), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    one.eval()
    shown, kind = real(64)
    with torch.no_grad():
        made, _ = one(one.alike(one.draw(64, 16), content, Padded(shown, torch.full((64,), 16))), labels)
    for k, memory, size in ((0, 0.9, 2.0), (1, -0.5, 0.5)):
        x = made[kind == k]
        assert float((x[:, 1:] * x[:, :-1]).mean() / x.square().mean()) == pytest.approx(memory, abs=0.25)
        assert float(x.std()) == pytest.approx(size, rel=0.35)
