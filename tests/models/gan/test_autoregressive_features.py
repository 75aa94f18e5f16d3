"""The generator of features: its likelihood is that of the Gaussians that its steps are drawn from, and it learns."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from pipeline.models.gan.autoregressive_features import AutoregressiveFeatureGenerator
from pipeline.models.gan.codes import LatentCodes
from pipeline.models.recurrent.core import Core
from pipeline.padded import Padded


def make_generator(cell: str = "gru") -> AutoregressiveFeatureGenerator:
    core = Core(cell=cell, input_size=3, hidden=8)  # type: ignore[arg-type]
    return AutoregressiveFeatureGenerator(
        core=core, width=3, style_size=2, motion_size=2, hidden=16, classes=2, embedding=3
    )


def draw_codes(count: int, steps: int) -> LatentCodes:
    """Codes with a content (B, K) and a style (B, S), as the generator reads them."""
    return LatentCodes(torch.randn(count, 3), torch.randn(count, steps, 2 + 3), torch.randn(count, 2))


def predict(
    generator: AutoregressiveFeatureGenerator, output: torch.Tensor, context: torch.Tensor, last: torch.Tensor
) -> MultivariateNormal:
    """The Gaussian of the next step, with its whole covariance."""
    mean, factor, deviation = generator._gaussian(torch.cat([output, context], 1), last)
    return MultivariateNormal(mean, factor @ factor.mT + torch.diag_embed(deviation.square()))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn_tanh", "mingru"])
def test_the_likelihood_is_that_of_the_gaussians_that_steps_are_drawn_from(cell: str) -> None:
    torch.manual_seed(0)
    generator, codes = make_generator(cell).eval(), draw_codes(4, 7)
    labels, lengths = torch.tensor([0, 1, 1, 0]), torch.tensor([7, 3, 1, 5])
    with torch.no_grad():
        generated, _ = generator(codes, labels)
        total, context = 0.0, generator._context(codes, labels)
        state, last = generator.condition.initial_state(context), torch.zeros(4, 3)
        for t in range(7):
            output, state = generator.core.step(last, state)
            log_prob = predict(generator, output, context, last).log_prob(generated[:, t])
            total -= float((log_prob * (t < lengths)).sum())
            last = generated[:, t]
        nll = generator.negative_log_likelihood(Padded(generated, lengths), codes, labels)
    assert float(nll) == pytest.approx(total / (16 * 3), rel=1e-4)


def test_noise_becomes_steps_with_the_mean_and_covariance_of_the_gaussian() -> None:
    torch.manual_seed(0)
    generator, first = make_generator().eval(), draw_codes(1, 1)
    many = LatentCodes(first.content.expand(20000, -1), torch.randn(20000, 1, 5), first.start.expand(20000, -1))
    labels = torch.zeros(20000, dtype=torch.int64)
    with torch.no_grad():
        generated, _ = generator(many, labels)
        context = generator._context(first, labels[:1])
        output, _ = generator.core.step(torch.zeros(1, 3), generator.condition.initial_state(context))
        gaussian = predict(generator, output, context, torch.zeros(1, 3))
    assert torch.allclose(generated[:, 0].mean(0), gaussian.mean[0], atol=0.05)
    assert torch.allclose(torch.cov(generated[:, 0].T), gaussian.covariance_matrix[0], rtol=0.1, atol=0.05)


def test_chunks_equal_the_whole_and_padding_costs_nothing() -> None:
    torch.manual_seed(0)
    generator, codes, labels = make_generator().eval(), draw_codes(2, 12), torch.tensor([1, 0])
    with torch.no_grad():
        whole, _ = generator(codes, labels)
        first, state = generator(codes._replace(motion=codes.motion[:, :5]), labels)
        rest, _ = generator(codes._replace(motion=codes.motion[:, 5:]), labels, state)
        garbage = whole.clone()
        garbage[1, 4:] = float("nan")
        clean, padded = (Padded(x, torch.tensor([12, 4])) for x in (whole, garbage))
        one, other = (generator.negative_log_likelihood(x, codes, labels) for x in (clean, padded))
        assert torch.equal(one, other)
        assert torch.equal(generator.encode_style(padded), generator.encode_style(clean))
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-5)


def test_a_sequence_of_length_zero_has_a_style() -> None:
    generator = make_generator().eval()
    encoder = generator.style_encoder
    with torch.no_grad():
        styles = generator.encode_style(Padded(torch.randn(2, 5, 3), torch.tensor([5, 0])))
        style_of_zeros = encoder.norm(encoder.project(torch.zeros(1, encoder.project.in_features)))[0]
    assert styles.isfinite().all() and torch.allclose(styles[1], style_of_zeros, atol=1e-5)


def test_it_learns_how_steps_follow_each_other_and_which_style_is_meant() -> None:
    """Two styles, slow and large, quick and small: what is generated in a style has its autocorrelation and size."""
    torch.manual_seed(0)

    def draw_real(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind, steps = torch.arange(count) % 2, [torch.randn(count, 3)]
        correlation = torch.where(kind == 0, 0.9, -0.5)[:, None]
        for _ in range(15):
            steps.append(correlation * steps[-1] + (1 - correlation**2).sqrt() * torch.randn(count, 3))
        return torch.stack(steps, 1) * torch.where(kind == 0, 2.0, 0.5)[:, None, None], kind

    generator = AutoregressiveFeatureGenerator(
        core=Core(cell="gru", input_size=3, hidden=32),
        width=3,
        style_size=8,
        motion_size=2,
        hidden=64,
        classes=2,
        embedding=3,
    )
    optimizer = torch.optim.Adam(generator.parameters(), 1e-2)
    labels, content = torch.zeros(64, dtype=torch.int64), torch.zeros(64, 3)
    for _ in range(200):
        residuals = Padded(draw_real(64)[0], torch.full((64,), 16))
        codes = generator.codes_like(generator.draw(64, 1), content, residuals)
        loss = generator.negative_log_likelihood(residuals, codes, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    generator.eval()
    real, kind = draw_real(64)
    with torch.no_grad():
        codes = generator.codes_like(generator.draw(64, 16), content, Padded(real, torch.full((64,), 16)))
        generated, _ = generator(codes, labels)
    for k, correlation, size in ((0, 0.9, 2.0), (1, -0.5, 0.5)):
        x = generated[kind == k]
        assert float((x[:, 1:] * x[:, :-1]).mean() / x.square().mean()) == pytest.approx(correlation, abs=0.25)
        assert float(x.std()) == pytest.approx(size, rel=0.35)
