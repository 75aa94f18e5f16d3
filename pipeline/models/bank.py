"""What was shown, and in which manner it moved: numbers read of the last training sequences, and new ones near them.

In: what was read of sequences, and their classes; later standard normal codes and classes. Out: contents and manners. Knows nothing of
who reads them or moves by them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.models.directions import spread

SPREAD = 0.5
"""How far from a sequence that was read new contents are drawn, in deviations of contents within a class."""

BLUR = 0.7
"""Deviation of the noise on manners: of those that are drawn, and of those that were read while it learns to move by them."""


class Bank(nn.Module):
    """A smoothed bootstrap that keeps the variance (Silverman & Young 1987, Biometrika 74): take one sequence of the class, move it along
    the directions in which sequences differ within their classes, and pull it towards the class's mean by as much as that widened. What
    is drawn like that is no copy, and its distribution needs no game (densities fitted after the fact: Ghosh et al. 2020,
    arXiv 1903.12436; generators that begin from an instance: Casanova et al. 2021, arXiv 2109.05070).

    The first number of a code says which sequence: those of a class lie in the order of their main direction, so codes near 0 take usual
    ones, and codes near each other neighbours.

    Args:
        width: D of contents. manner_size: S. size: sequences that it holds at most, the last ones (of several processes the first's).
    """

    def __init__(self, *, width: int, manner_size: int, size: int = 4096) -> None:
        super().__init__()
        self.register_buffer("contents", torch.zeros(size, width))
        self.register_buffer("manners", torch.zeros(size, manner_size))
        self.register_buffer("classes", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("room", torch.tensor(size))
        self.register_buffer("written", torch.tensor(0))
        self._known: tuple[int, Tensor] | None = None

    def fit(self, count: int) -> None:
        """So many sequences will be learned from: keep each about once."""
        self.get_buffer("room").fill_(min(count, len(self.get_buffer("contents"))))

    @torch.no_grad()
    def keep(self, contents: Tensor, manners: Tensor, labels: Tensor) -> None:
        """What was read (B, D), (B, S) of sequences of these classes (B,), in place of the oldest."""
        room, written = int(self.get_buffer("room")), self.get_buffer("written")
        places = (int(written) + torch.arange(len(labels), device=labels.device)[-room:]) % room
        for name, values in (("contents", contents), ("manners", manners), ("classes", labels)):
            kept = self.get_buffer(name)
            kept[places] = values[-room:].to(kept.dtype)
        written += len(labels)

    def __len__(self) -> int:
        return min(int(self.get_buffer("written")), int(self.get_buffer("room")))

    @torch.no_grad()
    def draw(self, content: Tensor, manner: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Standard normal codes (B, 1 + C), (B, S) and classes (B,) -> contents (B, D), manners (B, S). Zeros before anything was read;
        a class of which nothing was read takes of all.
        """
        contents, manners, classes = (self.get_buffer(n)[: len(self)] for n in ("contents", "manners", "classes"))
        found = contents.new_zeros(len(labels), contents.shape[1]), BLUR * manner
        if not len(self):
            return found
        shifts = SPREAD * content[:, 1:] @ self._within(content.shape[1] - 1)
        for label in labels.unique().tolist():
            of = (classes == label).nonzero()[:, 0]
            of = of if len(of) else torch.arange(len(classes), device=classes.device)
            mean = contents[of].mean(0)
            main = torch.linalg.svd(contents[of] - mean, full_matrices=False)[2][0]
            main = main * main[main.abs().argmax()].sign()  # the same order wherever it is computed
            of = of[((contents[of] - mean) @ main).argsort()]
            rows = (labels == label).nonzero()[:, 0]
            luck = torch.special.ndtr(content[rows, 0])
            taken = of[(luck * len(of)).long().clamp(max=len(of) - 1)]
            found[0][rows] = mean + (contents[taken] - mean + shifts[rows]) / math.sqrt(1 + SPREAD**2)
            found[1][rows] += manners[taken]
        return found

    def _within(self, count: int) -> Tensor:
        """(count, D): directions in which contents differ within their classes, as long as they do, and with the whole energy."""
        kept = self.get_buffer("contents")
        # what was moved within inference mode counts no versions
        version = -1 if kept.is_inference() else kept._version
        if self._known is None or version < 0 or self._known[0] != version or len(self._known[1]) != count:
            contents, classes = (self.get_buffer(n)[: len(self)] for n in ("contents", "classes"))
            apart = contents.double().clone()
            for label in classes.unique():
                apart[classes == label] -= apart[classes == label].mean(0)
            energies, basis = spread(apart)
            most = energies[:count]
            lengths = (most * (energies.sum() / most.sum().clamp(min=1e-12))).sqrt()
            rows = torch.zeros(count, contents.shape[1], dtype=contents.dtype, device=contents.device)
            rows[: len(most)] = (lengths[:, None] * basis[:, : len(most)].T).to(rows.dtype)
            self._known = version, rows
        return self._known[1]
