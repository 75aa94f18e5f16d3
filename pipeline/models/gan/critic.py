"""The critic: a network that scores how real sequences and images look.

In: sequences (B, T, D) or images (B, 3, S, S), real or generated, and their classes. Out: a score for each (B,), higher
for real ones. Knows nothing of generators.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as add_spectral_norm

from pipeline.models.gan.pooling import masked_mean, mean_and_max
from pipeline.models.recurrent.core import Core
from pipeline.padded import Padded


class Critic(nn.Module):
    """Scores the sequence [x, delta x] and, by networks of their own, single images.

    The class enters by projection (Miyato & Koyama 2018, arXiv 1802.05637): the score is w.h + v_class.h. There is no
    batch norm, because a sample's score must not depend on the other samples of the batch.

    Args:
        width: D of features, tokens or codes of frames. classes: 0 where there are none. hidden: H. channels: of the
        first layer for images. size: pixels a side of the images, 0 for no images. core: a recurrent core in place of
        the convolutions over time. spectral_norm: spectral norm (Miyato et al. 2018) on every linear and convolutional
        layer. The hinge loss needs it; gradient penalties replace it.
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
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.core = core
        self.convolutions = TemporalConvolutions(2 * width, hidden) if core is None else None
        self.sequence_score = ProjectionScore(core.output_size if core is not None else hidden, classes)
        self.image_encoder = image_encoder(3, channels, size, hidden) if size else None
        self.image_score = ProjectionScore(hidden, classes) if size else None
        if spectral_norm:
            for module in list(self.modules()):
                if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                    add_spectral_norm(module)

    @staticmethod
    def core_input(width: int) -> int:
        """The width of what a recurrent core reads at every step."""
        return 2 * width

    @property
    def is_recurrent(self) -> bool:
        """Whether a core reads the sequences."""
        return self.core is not None

    def forward(self, x: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Sequences x (B, T, D), zeros behind their lengths (B,) on the CPU, and labels (B,) -> scores (B,)."""
        mask = Padded(x, lengths).mask
        delta = torch.zeros_like(x)
        delta[:, 1:] = (x[:, 1:] - x[:, :-1]) * mask[:, 1:, None]
        return self.sequence_score(self._pool(torch.cat([x, delta], dim=2), mask, lengths), labels)

    def score_images(self, x: Tensor, labels: Tensor) -> Tensor:
        """Images x (B, 3, S, S) in [-1, 1] and labels (B,) -> scores (B,)."""
        assert self.image_encoder is not None and self.image_score is not None
        return self.image_score(self.image_encoder(x), labels)

    def _pool(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 2 D) -> (B, H)."""
        if self.convolutions is not None:
            return self.convolutions(x * mask[..., None], mask)
        assert self.core is not None
        outputs, _ = self.core(Padded(x, lengths))
        return masked_mean(outputs.data, mask)


class TemporalConvolutions(nn.Module):
    """Three convolutions over five steps each, then the mean and the maximum over time."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width if i == 0 else hidden, hidden, 5, padding=2) for i in range(3))
        self.join = nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) -> (B, H)."""
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * mask[:, None]
        return F.leaky_relu(self.join(mean_and_max(x.transpose(1, 2), mask)), 0.2)


class ProjectionScore(nn.Module):
    """A linear score, plus the inner product with a vector of the class."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self.class_embedding = nn.Embedding(classes, width) if classes else None
        if self.class_embedding is not None:
            nn.init.normal_(self.class_embedding.weight, std=width**-0.5)

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        """(B, H) and labels (B,) -> (B,)."""
        scores = self.linear(h)[:, 0]
        return scores if self.class_embedding is None else scores + (self.class_embedding(labels) * h).sum(1)


def image_encoder(input_channels: int, channels: int, size: int, hidden: int) -> nn.Sequential:
    """Images (N, input_channels, S, S) -> (N, hidden). Convolutions halve the side until it is 4."""
    halvings = (size // 4).bit_length() - 1
    widths = [input_channels, *(channels << min(i, 2) for i in range(halvings))]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, hidden), nn.LeakyReLU(0.2))
