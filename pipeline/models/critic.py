"""Who tells real sequences from made ones.

In: sequences (B, T, D) or pictures, real or made, and their classes. Out: a score each (B,), higher for real. Knows nothing of who made them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from pipeline.models.core import Core
from pipeline.padded import Padded


class Critic(nn.Module):
    """A judge of the sequence [x, delta x] and, where there are pictures, one of single pictures.

    The class counts by projection (Miyato & Koyama 2018, arXiv 1802.05637): the score is w.h + v_class.h. There is no batch
    norm: a sample's score may not depend on its neighbours.

    Args:
        width: D of features, words or codes of frames. classes: 0 where there are none. size: pixels a side of the pictures, 0: there are
        none. channels: of the first look at them. core: a recurrent judge in place of the convolutions over time. spectral: spectral norm
        (Miyato et al. 2018) on every linear and convolutional layer, which the hinge loss wants and gradient penalties do without.
    """

    def __init__(
        self,
        *,
        width: int,
        classes: int,
        hidden: int = 128,
        channels: int = 32,
        size: int = 0,
        core: Core | None = None,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.core = core
        self.steps: nn.Module = nn.Identity() if core is not None else _Convolutions(2 * width, hidden)
        self.judge = _Projection(core.output_size if core is not None else hidden, classes)
        self.picture = looker(3, channels, size, hidden) if size else None
        self.judge_picture = _Projection(hidden, classes) if size else None
        if spectral:
            for module in list(self.modules()):
                if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                    spectral_norm(module)

    @staticmethod
    def core_input(width: int) -> int:
        """What a recurrent judge reads at every step."""
        return 2 * width

    def forward(self, x: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """x: (B, T, D), zeros behind `lengths` (B,, on the CPU). Returns (B,)."""
        mask = Padded(x, lengths).mask
        moved = torch.zeros_like(x)
        moved[:, 1:] = (x[:, 1:] - x[:, :-1]) * mask[:, 1:, None]
        return self.judge(self._over_time(torch.cat([x, moved], dim=2), mask, lengths), labels)

    def of_pictures(self, x: Tensor, labels: Tensor) -> Tensor:
        """x: (B, 3, S, S) in [-1, 1]. Returns (B,)."""
        assert self.picture is not None and self.judge_picture is not None
        return self.judge_picture(self.picture(x), labels)

    def _over_time(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) -> (B, H)."""
        if self.core is None:
            return self.steps(x * mask[..., None], mask)
        told, _ = self.core(Padded(x, lengths))
        return _mean(told.data, mask)


class _Convolutions(nn.Module):
    """Three convolutions over five steps each, and the mean and the largest of what they find."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width if i == 0 else hidden, hidden, 5, padding=2) for i in range(3))
        self.join = nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) -> (B, H)."""
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * mask[:, None]
        x = x.transpose(1, 2)
        most = x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min).amax(1) * mask.any(1, keepdim=True)
        return F.leaky_relu(self.join(torch.cat([_mean(x, mask), most], dim=1)), 0.2)


class _Projection(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        self.of = nn.Embedding(classes, width) if classes else None
        if self.of is not None:
            nn.init.normal_(self.of.weight, std=width**-0.5)

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        """(B, H) -> (B,)."""
        scores = self.score(h)[:, 0]
        return scores if self.of is None else scores + (self.of(labels) * h).sum(1)


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def looker(into: int, channels: int, size: int, hidden: int) -> nn.Sequential:
    """(N, into, S, S) -> (N, hidden): halved until 4 x 4."""
    halvings = (size // 4).bit_length() - 1
    widths = [into, *(channels << min(i, 2) for i in range(halvings))]
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, hidden), nn.LeakyReLU(0.2))
