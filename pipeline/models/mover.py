"""The core turned round for features: it tells the law of every next step, and the step is drawn from that.

In: codes and classes. Out: movements (B, T, K), how likely real ones are, and in which manner they move. Knows nothing of critics, nor of
where contents come from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.bank import BLUR
from pipeline.models.core import Core, State
from pipeline.models.generator import Codes, Generator
from pipeline.padded import Padded


class FeatureGenerator(Generator):
    """Steps one after another, each drawn from a Gaussian that the core tells from the steps before it (Graves 2013, arXiv 1308.0850): its
    covariance is a diagonal and a few directions, both told anew at every step. So what it makes has a likelihood, by which it learns
    before and while a critic judges it.

    What is made is how the steps differ from the content, in K numbers. Here content (B, K) says what is shown, and start (B, S) in
    which manner it moves: what `read` found of a real sequence, or what was drawn near that.

    Args:
        core: reads the last step (B, T, K). width: K. manner_size: S. motion_size: R, directions of a step's covariance; the motion
        code is (B, T, R + K). hidden: of what tells the Gaussian.
    """

    def __init__(
        self, *, core: Core, width: int, manner_size: int, motion_size: int, hidden: int, classes: int, embedding: int
    ) -> None:
        super().__init__(
            core=core, maker=nn.Identity(), classes=classes, content_size=width + manner_size,
            motion_size=motion_size, embedding=embedding,
        )  # fmt: skip
        self.width, self.manner_size = width, manner_size
        self.reads = MannerReader(width, manner_size)
        self.net = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(width + manner_size + embedding + core.output_size, hidden),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.2),
        )
        self.change, self.follow = nn.Linear(hidden, width), nn.Linear(width, width)
        self.spread, self.factor = nn.Linear(hidden, width + 1), nn.Linear(hidden, width * motion_size)
        with torch.no_grad():  # it begins half way from the last step to no movement, sure of nothing
            for layer in (self.change, self.spread):
                layer.weight *= 0.1
            self.factor.weight *= 0.3
            self.follow.weight.copy_(0.5 * torch.eye(width))
            self.follow.bias.zero_()

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> Codes:
        """Standard normal codes: content (B, 1 + K) and start (B, S) for a `Bank`, motion (B, T, R + K)."""
        like = self.wish.weight
        sizes = (1 + self.width,), (steps, self.motion_size + self.width), (self.manner_size,)
        return Codes(*(torch.randn((count, *s), generator=random, device=like.device, dtype=like.dtype) for s in sizes))

    def read(self, moves: Padded) -> Tensor:
        """The manner (B, S) of movements (B, T, K)."""
        return self.reads(moves)

    def alike(self, codes: Codes, content: Tensor, moves: Padded) -> Codes:
        """Codes with the content (B, K) of real sequences and, while it learns nearly, their manner."""
        start = self.read(moves) + (BLUR * codes.start if self.training else 0)
        return codes._replace(content=content, start=start)

    def surprise(self, moves: Padded, codes: Codes, labels: Tensor) -> Tensor:
        """Minus the log likelihood of movements (B, T, K), a number of them, in nats."""
        given = self._given(codes, labels)
        before = F.pad(moves.zeroed().data, (0, 0, 1, 0))[:, :-1]
        told, _ = self.core(Padded(before, moves.lengths), self._begun(given))
        mean, factor, deviation = self._told(told.data, before, given)
        with torch.autocast(mean.device.type, enabled=False):
            paid = _surprise(moves.zeroed().data.float(), mean, factor, deviation)
        return (paid * moves.mask).sum() / (moves.mask.sum().clamp(min=1) * self.width)

    def forward(self, codes: Codes, labels: Tensor, state: State | None = None, skip: int = 0) -> tuple[Tensor, State]:
        """As `Generator`; movements (B, T - skip, K). The state ends with the last step (B, 1, K)."""
        given = self._given(codes, labels)
        if state is None:
            after, last = self._begun(given), codes.content.new_zeros(len(labels), self.width)
        else:
            after, last = state[:-1], state[-1][:, 0]
        made = []
        for noise in codes.motion.unbind(1):
            y, after = self.core.step(last, after)
            mean, factor, deviation = self._told(y, last, given)
            some, each = noise.split([self.motion_size, self.width], dim=1)
            last = mean + (factor @ some[..., None])[..., 0] + deviation * each
            made.append(last)
        return torch.stack(made[skip:], dim=1), (*after, last[:, None])

    def _given(self, codes: Codes, labels: Tensor) -> Tensor:
        """Content, manner and wish (B, K + S + E); the content is blurred while it learns, so that it learns no content by heart."""
        content = codes.content
        if self.training:
            content = content + 0.3 * torch.randn_like(content)
        return torch.cat([content, codes.start, self.wish(labels)], dim=1)

    def _told(self, y: Tensor, last: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., H), (..., K) and (B, G) -> mean (..., K), factor (..., K, R) and deviation (..., K) of the next step, float32."""
        if y.ndim == 3:
            given = given[:, None].expand(-1, y.shape[1], -1)
        found = self.net(torch.cat([y, given], dim=-1))
        each, whole = self.spread(found).float().split([self.width, 1], dim=-1)
        factor = self.factor(found).float().unflatten(-1, (self.width, self.motion_size))
        return (self.change(found) + self.follow(last)).float(), factor, (each + whole).clamp(-4, 2).exp()


class MannerReader(nn.Module):
    """In which manner a sequence moves, as few numbers: (B, T, K) -> (B, S), of mean 0 and deviation 1 each row."""

    def __init__(self, width: int, size: int, hidden: int = 128) -> None:
        super().__init__()
        self.one = nn.Conv1d(2 * width, hidden, 3, padding=1)
        self.two = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.join, self.norm = nn.Linear(2 * hidden, size), nn.LayerNorm(size, elementwise_affine=False)

    def forward(self, moves: Padded) -> Tensor:
        """moves: (B, T, K)."""
        x, mask = moves.zeroed().data, moves.mask[:, None]
        x = F.leaky_relu(self.one(torch.cat([x, x.square()], dim=2).transpose(1, 2)), 0.2) * mask
        x = F.leaky_relu(self.two(x), 0.2)
        most = x.masked_fill(~mask, torch.finfo(x.dtype).min).amax(2) * mask.any(2)  # nothing of a sequence of nothing
        mean = (x * mask).sum(2) / mask.sum(2).clamp(min=1)
        return self.norm(self.join(torch.cat([mean, most], dim=1)).float())


def _surprise(x: Tensor, mean: Tensor, factor: Tensor, deviation: Tensor) -> Tensor:
    """Minus the log density (...) of x (..., K) under the Gaussian of covariance F F' + diag(d^2), by Woodbury's identity. As
    `torch.distributions.LowRankMultivariateNormal`, which divides the factor thrice: that took a fifth of a training step.
    """
    one = deviation.reciprocal()
    z, w = (x - mean) * one, factor * one[..., None]
    inner = torch.linalg.cholesky(w.mT @ w + torch.eye(w.shape[-1], device=w.device))
    shared = torch.linalg.solve_triangular(inner, w.mT @ z[..., None], upper=False)[..., 0]
    volume = deviation.log().sum(-1) + inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (z.square().sum(-1) - shared.square().sum(-1) + x.shape[-1] * math.log(2 * math.pi)) + volume
