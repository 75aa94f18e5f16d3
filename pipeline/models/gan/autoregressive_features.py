"""A generator of features: the core predicts a Gaussian for every next step, and the step is drawn from it.

In: codes and classes. Out: residuals (B, T, K), their negative log-likelihood, and the style of real ones. Knows
nothing of critics, nor of where contents and styles come from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.gan.codes import LatentCodes, append_codes, draw_normal
from pipeline.models.gan.content_bank import STYLE_NOISE
from pipeline.models.gan.gaussian import LOG_DEVIATION_RANGE, low_rank_nll
from pipeline.models.gan.generator import Condition
from pipeline.models.gan.pooling import mean_and_max
from pipeline.models.process_mean import mean_over_processes
from pipeline.models.recurrent.core import Core, State
from pipeline.padded import Padded

CONTENT_NOISE = 0.3
"""Deviation of the noise on the content in training, so that the generator learns no content by heart."""


class AutoregressiveFeatureGenerator(nn.Module):
    """Draws one step after another, each from a Gaussian that the core predicts from the steps before (Graves 2013,
    arXiv 1308.0850).

    The covariance of the Gaussian is a diagonal plus a low-rank part, and both are predicted anew at every step. So a
    sequence has a likelihood, by which the generator learns before a critic takes part and beside it.

    It generates residuals: how the steps differ from the content, in K numbers. Of the codes, content (B, K) says what
    is shown, and start (B, S) is the style of the motion: what `encode_style` found for a real sequence, or what was
    drawn near that.

    Args:
        core: reads the last step (B, T, K). width: K. style_size: S. motion_size: R, the rank of a step's covariance;
        the motion code is (B, T, R + K). hidden: width of the network that predicts the Gaussian. classes: 0 where
        there are none. embedding: E, width of a class's vector.
    """

    def __init__(
        self, *, core: Core, width: int, style_size: int, motion_size: int, hidden: int, classes: int, embedding: int
    ) -> None:
        super().__init__()
        self.width, self.style_size, self.motion_size = width, style_size, motion_size
        self.core = core
        self.condition = Condition(core=core, classes=classes, start_size=width + style_size, embedding=embedding)
        self.style_encoder = StyleEncoder(width, style_size)
        self.net = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(width + style_size + embedding + core.output_size, hidden),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.2),
        )
        self.change, self.persistence = nn.Linear(hidden, width), nn.Linear(width, width)
        self.log_deviation, self.factor = nn.Linear(hidden, width + 1), nn.Linear(hidden, width * motion_size)
        with torch.no_grad():  # at first the mean is half of the last step, and the deviation is large
            for layer in (self.change, self.log_deviation):
                layer.weight *= 0.1
            self.factor.weight *= 0.3
            self.persistence.weight.copy_(0.5 * torch.eye(width))
            self.persistence.bias.zero_()

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> LatentCodes:
        """Standard normal codes: content (B, 1 + K) and start (B, S) for a `ContentBank`, motion (B, T, R + K)."""
        sizes = (1 + self.width,), (steps, self.motion_size + self.width), (self.style_size,)
        return LatentCodes(*(draw_normal((count, *size), self.condition.weight, random) for size in sizes))

    def encode_style(self, residuals: Padded) -> Tensor:
        """The style (B, S) of residuals (B, T, K)."""
        return self.style_encoder(residuals)

    def codes_like(self, codes: LatentCodes, content: Tensor, residuals: Padded) -> LatentCodes:
        """The codes with the content (B, K) and the style of real sequences; in training the style is noisy."""
        noise = STYLE_NOISE * codes.start if self.training else 0
        return codes._replace(content=content, start=self.encode_style(residuals) + noise)

    def negative_log_likelihood(self, residuals: Padded, codes: LatentCodes, labels: Tensor) -> Tensor:
        """The mean over all numbers of residuals (B, T, K), in nats: a scalar."""
        context = self._context(codes, labels)
        before = F.pad(residuals.zeroed().data, (0, 0, 1, 0))[:, :-1]
        outputs, _ = self.core(Padded(before, residuals.lengths), self.condition.initial_state(context))
        mean, factor, deviation = self._gaussian(append_codes(outputs.data, context), before)
        with torch.autocast(mean.device.type, enabled=False):
            nll = low_rank_nll(residuals.zeroed().data.float(), mean, factor, deviation)
        return mean_over_processes((nll * residuals.mask).sum(), residuals.mask.sum() * self.width, self.training)

    def forward(
        self, codes: LatentCodes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, State]:
        """Residuals (B, T - skip, K), and the state to continue from. The state ends with the last step (B, 1, K).

        labels: (B,) classes, zeros where there are none. state: continue from it. skip: leave out that many first
        steps.
        """
        context = self._context(codes, labels)
        if state is None:
            core_state = self.condition.initial_state(context)
            last = codes.content.new_zeros(len(labels), self.width)
        else:
            core_state, last = state[:-1], state[-1][:, 0]
        steps = []
        for noise in codes.motion.unbind(1):
            output, core_state = self.core.step(last, core_state)
            mean, factor, deviation = self._gaussian(torch.cat([output, context], dim=1), last)
            shared_noise, own_noise = noise.split([self.motion_size, self.width], dim=1)
            last = mean + (factor @ shared_noise[..., None])[..., 0] + deviation * own_noise
            steps.append(last)
        return torch.stack(steps[skip:], dim=1), (*core_state, last[:, None])

    def _context(self, codes: LatentCodes, labels: Tensor) -> Tensor:
        """Content, style and condition (B, K + S + E)."""
        content = codes.content
        if self.training:
            content = content + CONTENT_NOISE * torch.randn_like(content)
        return torch.cat([content, codes.start, self.condition(labels)], dim=1)

    def _gaussian(self, x: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The Gaussian of the next step: mean (..., K), factor (..., K, R) and deviation (..., K), float32.

        x: the core's output with the context, (..., H + K + S + E). last: the last step (..., K).
        """
        hidden = self.net(x)
        own, common = self.log_deviation(hidden).float().split([self.width, 1], dim=-1)
        factor = self.factor(hidden).float().unflatten(-1, (self.width, self.motion_size))
        mean = (self.change(hidden) + self.persistence(last)).float()
        return mean, factor, (own + common).clamp(*LOG_DEVIATION_RANGE).exp()


class StyleEncoder(nn.Module):
    """The style of a sequence's motion, as a few numbers: (B, T, K) -> (B, S), each row with mean 0 and deviation 1."""

    def __init__(self, width: int, size: int, hidden: int = 128) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(2 * width, hidden, 3, padding=1)
        self.conv2 = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.project, self.norm = nn.Linear(2 * hidden, size), nn.LayerNorm(size, elementwise_affine=False)

    def forward(self, residuals: Padded) -> Tensor:
        """residuals: (B, T, K). A sequence of length 0 has a style as well."""
        x, mask = residuals.zeroed().data, residuals.mask
        x = F.leaky_relu(self.conv1(torch.cat([x, x.square()], dim=2).transpose(1, 2)), 0.2) * mask[:, None]
        x = F.leaky_relu(self.conv2(x), 0.2)
        return self.norm(self.project(mean_and_max(x.transpose(1, 2), mask)).float())
