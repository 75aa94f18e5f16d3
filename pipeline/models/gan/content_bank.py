"""Contents and styles of the last training sequences, and new ones drawn near them.

In: contents, styles and classes of training sequences; later standard normal codes and classes. Out: contents and
styles. Knows nothing of the encoder that found them, nor of the generator that uses them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.models.gan.pca import principal_components

CONTENT_SPREAD = 0.5
"""How far new contents lie from a stored one, in deviations of the contents within a class."""

STYLE_NOISE = 0.7
"""Deviation of the noise on styles: on drawn ones, and in training on encoded ones."""


class ContentBank(nn.Module):
    """A smoothed bootstrap that keeps the variance (Silverman & Young 1987, Biometrika 74).

    It takes a stored sequence of the class and shifts it along the principal components of the contents within their
    classes. Then it moves it towards the mean of the class, so that the variance stays that of the stored sequences. A
    drawn content is not a copy of a stored one, and no adversarial training is needed for it (densities fitted after
    training: Ghosh et al. 2020, arXiv 1903.12436; generators conditioned on an instance: Casanova et al. 2021,
    arXiv 2109.05070).

    The first number of a content code chooses the stored sequence. The sequences of a class are sorted along their
    first principal component. So codes near 0 choose usual sequences, and similar codes choose similar sequences.

    Args:
        width: D, width of a content. style_size: S. size: the most sequences that it stores, the last ones. Of several
        processes it stores the sequences of the first.
    """

    def __init__(self, *, width: int, style_size: int, size: int = 4096) -> None:
        super().__init__()
        self.register_buffer("contents", torch.zeros(size, width))
        self.register_buffer("styles", torch.zeros(size, style_size))
        self.register_buffer("classes", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("capacity", torch.tensor(size))
        self.register_buffer("num_stored", torch.tensor(0))
        self._capacity, self._num_stored = size, 0  # on the CPU, so that a training step asks no device
        self._components: tuple[int, Tensor] | None = None
        self.register_load_state_dict_post_hook(_count_again)

    def set_capacity(self, count: int) -> None:
        """Store at most `count` sequences: with the number of training rows each is stored about once."""
        self._capacity = min(count, len(self.get_buffer("contents")))
        self.get_buffer("capacity").fill_(self._capacity)

    @torch.no_grad()
    def store(self, contents: Tensor, styles: Tensor, labels: Tensor) -> None:
        """Store contents (B, D) and styles (B, S) of sequences of the classes (B,), in place of the oldest."""
        capacity = self._capacity
        rows = (self._num_stored + torch.arange(len(labels), device=labels.device)[-capacity:]) % capacity
        for name, values in (("contents", contents), ("styles", styles), ("classes", labels)):
            buffer = self.get_buffer(name)
            buffer[rows] = values[-capacity:].to(buffer.dtype)
        self._num_stored += len(labels)
        self.get_buffer("num_stored").add_(len(labels))

    def __len__(self) -> int:
        return min(self._num_stored, self._capacity)

    @torch.no_grad()
    def draw(self, content_codes: Tensor, style_codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Standard normal codes (B, 1 + C), (B, S) and classes (B,) -> contents (B, D), styles (B, S).

        The contents are zeros before anything is stored. For a class without a stored sequence it takes the sequences
        of all classes.
        """
        stored, stored_styles, classes = (self.get_buffer(n)[: len(self)] for n in ("contents", "styles", "classes"))
        contents, styles = stored.new_zeros(len(labels), stored.shape[1]), STYLE_NOISE * style_codes
        if not len(self):
            return contents, styles
        shifts = CONTENT_SPREAD * content_codes[:, 1:] @ self._within_classes(content_codes.shape[1] - 1)
        for label in labels.unique().tolist():
            members = (classes == label).nonzero()[:, 0]
            members = members if len(members) else torch.arange(len(classes), device=classes.device)
            mean = stored[members].mean(0)
            direction = torch.linalg.svd(stored[members] - mean, full_matrices=False)[2][0]
            direction = direction * direction[direction.abs().argmax()].sign()  # the same order on every machine
            members = members[((stored[members] - mean) @ direction).argsort()]
            rows = (labels == label).nonzero()[:, 0]
            quantiles = torch.special.ndtr(content_codes[rows, 0])
            chosen = members[(quantiles * len(members)).long().clamp(max=len(members) - 1)]
            contents[rows] = mean + (stored[chosen] - mean + shifts[rows]) / math.sqrt(1 + CONTENT_SPREAD**2)
            styles[rows] += stored_styles[chosen]
        return contents, styles

    def _within_classes(self, count: int) -> Tensor:
        """The first `count` principal components of the contents within their classes, (count, D), each as long as its
        deviation.

        All are scaled by one factor, so that together they have the variance of all components.
        """
        buffer = self.get_buffer("contents")
        # a tensor that was made in inference mode has no version number
        version = -1 if buffer.is_inference() else buffer._version
        known = self._components
        if known is None or version < 0 or known[0] != version or len(known[1]) != count:
            contents, classes = (self.get_buffer(n)[: len(self)] for n in ("contents", "classes"))
            centred = contents.double().clone()
            for label in classes.unique():
                centred[classes == label] -= centred[classes == label].mean(0)
            variances, basis = principal_components(centred)
            largest = variances[:count]
            lengths = (largest * (variances.sum() / largest.sum().clamp(min=1e-12))).sqrt()
            components = torch.zeros(count, contents.shape[1], dtype=contents.dtype, device=contents.device)
            components[: len(largest)] = (lengths[:, None] * basis[:, : len(largest)].T).to(components.dtype)
            self._components = known = version, components
        return known[1]


def _count_again(bank: ContentBank, _: object) -> None:
    """Take the counts from the state that was loaded."""
    bank._capacity, bank._num_stored = (int(bank.get_buffer(name)) for name in ("capacity", "num_stored"))
