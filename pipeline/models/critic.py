"""Who tells real sequences from made ones.

In: sequences (B, T, ...), real or made, and their classes. Out: a score each (B,), higher for real. Knows nothing of who made them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from pipeline.models.core import Core
from pipeline.padded import Padded


class Critic(nn.Module):
    """A look at every step, a judge of the sequence [x, delta x], for frames one of single pictures as well.

    The class counts by projection (Miyato & Koyama 2018, arXiv 1802.05637): the score is w.h + v_class.h. There is no batch
    norm: a sample's score may not depend on its neighbours.

    Args:
        width: D of features or words, or None for frames (B, T, 3, S, S). classes: 0 where there are none.
        core: a recurrent judge in place of the convolutions over time. spectral: spectral norm (Miyato et al. 2018) on every
        linear and convolutional layer, which the hinge loss wants and gradient penalties do without.
    """

    def __init__(
        self,
        *,
        width: int | None,
        classes: int,
        hidden: int = 128,
        channels: int = 32,
        size: int = 32,
        core: Core | None = None,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.is_of_frames = width is None
        looked = hidden if width is None else width
        self.look = looker(6, channels, size, hidden) if width is None else nn.Identity()
        self.picture = looker(3, channels, size, hidden) if width is None else None
        self.core = core
        into = looked if self.is_of_frames else 2 * looked
        self.steps: nn.Module = nn.Identity() if core is not None else _Convolutions(into, hidden)
        told = core.output_size if core is not None else hidden
        self.judge = _Projection(told, classes)
        self.judge_picture = _Projection(hidden, classes) if self.is_of_frames else None
        if spectral:
            for module in list(self.modules()):
                if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                    spectral_norm(module)

    @staticmethod
    def core_input(width: int | None, hidden: int) -> int:
        """What a recurrent judge reads at every step."""
        return hidden if width is None else 2 * width

    def forward(self, x: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """x: (B, T, D) or (B, T, 3, S, S), zeros behind `lengths` (B,, on the CPU). Returns (B,) or, of frames, (2 B,): of the
        sequences, then of one picture of each.
        """
        mask = Padded(x, lengths).mask
        shown = mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
        moved = torch.zeros_like(x)
        moved[:, 1:] = (x[:, 1:] - x[:, :-1]) * shown[:, 1:]
        both = torch.cat([x, moved], dim=2)
        if self.is_of_frames:
            both = self.look(both.flatten(0, 1)).unflatten(0, both.shape[:2])
        scores = self.judge(self._over_time(both, mask, lengths), labels)
        if self.picture is None or self.judge_picture is None:
            return scores
        places = (torch.rand(len(x)) * lengths).long().to(x.device)
        one = x[torch.arange(len(x), device=x.device), places]
        return torch.cat([scores, self.judge_picture(self.picture(one), labels)])

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
        most = x.masked_fill(~mask[..., None], torch.finfo(x.dtype).min).amax(1)
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


def picture_encoder(size: int, channels: int, out: int) -> nn.Module:
    """A picture (B, 3, S, S) -> (B, out): what it shows, and how."""
    return nn.Sequential(looker(3, channels, size, 4 * channels), nn.Linear(4 * channels, out))


def looker(into: int, channels: int, size: int, hidden: int) -> nn.Sequential:
    """(N, into, S, S) -> (N, hidden): halved until 4 x 4."""
    halvings = (size // 4).bit_length() - 1
    widths = [into, *(channels << min(i, 2) for i in range(halvings))]
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, hidden), nn.LeakyReLU(0.2))
