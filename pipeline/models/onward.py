"""The core turned round for who goes on from a given frame: it tells the law of every next pose, and the pose is drawn from that.

In: what was read in the frame, and classes. Out: poses (B, T, M), frames painted of them, and how likely real ones are. Knows nothing of critics.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.models.core import Core, State
from pipeline.models.generator import Codes, FrameGenerator
from pipeline.models.painter import Onward
from pipeline.padded import Padded

BLUR = 0.3
"""Noise on the content while it learns, so that it learns no frame by heart."""
UNWISHED = 0.15
"""Part of the clips whose likelihood is learned without their wish."""
ECHO = 0.5
"""Noise on the pose before the one that is foretold, so that it learns to come back from its own mistakes."""


class OnwardGenerator(FrameGenerator):
    """Pose after pose, each drawn from a Gaussian that the core tells from the pose before (Graves 2013, arXiv 1308.0850), which has a likelihood to
    learn by, beside what a critic says. Each number is drawn by itself: with directions that are drawn in common, whether something moves at all
    becomes luck, and nearer to the middle nothing does.

    Poses are made as differences to the one in the given frame, which is the first. The law is learned without a wish as well, and what is made goes
    `guidance` times as far from that as the wish says (Ho & Salimans 2022, arXiv 2207.12598): what a frame makes likely does not drown the wish.

    Args:
        core: reads (B, T, hidden). content_size, pose_size: C and M; both are read in the frame. hidden: of what the core reads, and of what tells
        the Gaussian. guidance: 1 makes what the law says.
    """

    def __init__(
        self,
        *,
        core: Core,
        painter: Onward,
        content_size: int,
        pose_size: int,
        hidden: int,
        classes: int,
        embedding: int,
        guidance: float = 1.0,
    ) -> None:
        super().__init__(
            core=core, maker=nn.Identity(), painter=painter, classes=classes + 1, drawn_size=content_size + pose_size,
            painted_size=content_size, hidden=hidden, motion_size=pose_size, embedding=embedding,
        )  # fmt: skip
        self.shown_size, self.classes, self.guidance = content_size, classes, guidance
        given = content_size + pose_size + embedding
        self.reads = nn.Sequential(nn.Linear(pose_size + given, hidden), nn.LeakyReLU(0.2))
        self.tells = nn.Sequential(
            nn.Linear(core.output_size + given, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 2 * pose_size)
        )
        with torch.no_grad():  # at first poses stay about where they are
            self.tells[-1].weight *= 0.1  # type: ignore[operator]

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> Codes:
        """Standard normal codes: content (B, C), start (B, M), motion (B, T, M)."""
        codes = super().draw(count, steps, random)
        return codes._replace(content=codes.content[:, : self.shown_size], start=codes.start[:, self.shown_size :])

    def surprise(self, poses: Padded, codes: Codes, labels: Tensor) -> Tensor:
        """Minus the log likelihood of real poses (B, T, M) behind the first, a number of them, in nats. codes: of their first frame."""
        if self.training:
            labels = labels.masked_fill(torch.rand(labels.shape, device=labels.device) < UNWISHED, self.classes)
        given = self._given(codes, labels)
        x = (poses.data - codes.start[:, None]).float()
        before = x[:, :-1]
        if self.training:
            before = before + ECHO * torch.randn_like(before)
        behind = Padded(before, (poses.lengths - 1).clamp(min=0))
        told, _ = self.core(Padded(self._read(before, given), behind.lengths), self._begun(given))
        change, log_deviation = self._told(told.data, given)
        far = (x[:, 1:] - before - change) * torch.exp(-log_deviation)
        paid = (0.5 * far.square() + log_deviation + 0.5 * math.log(2.0 * math.pi)).mean(2)
        return torch.where(behind.mask, paid, 0.0).sum() / behind.mask.sum().clamp(min=1)

    def imagine(
        self, codes: Codes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, Tensor, State]:
        """As `FrameGenerator`; the first pose is that of the given frame. The state ends with the last difference to it (B, 1, M)."""
        given, noises = self._given(codes, labels), list(codes.motion.unbind(1))
        is_guided = self.guidance != 1.0 and self.classes > 0 and not self.training
        if is_guided:  # the second half goes without the wish
            given = torch.cat([given, self._given(codes, torch.full_like(labels, self.classes))])
        if state is None:
            after, last = self._begun(given), torch.zeros_like(codes.start)
            made, noises = [last], noises[1:]
        else:
            after, last = state[:-1], state[-1][:, 0]
            made = []
        for noise in noises:
            before = torch.cat([last, last]) if is_guided else last
            y, after = self.core.step(self._read(before[:, None], given)[:, 0], after)
            change, log_deviation = (told[:, 0] for told in self._told(y[:, None], given))
            if is_guided:
                wished, unwished = change.chunk(2)
                change, log_deviation = torch.lerp(unwished, wished, self.guidance), log_deviation.chunk(2)[0]
            last = last + change + torch.exp(log_deviation) * noise
            made.append(last)
        moves = codes.start[:, None] + torch.stack(made, dim=1)
        return codes.content, moves[:, skip:], (*after, last[:, None])

    def _given(self, codes: Codes, labels: Tensor) -> Tensor:
        """Content, first pose and wish (B, C + M + E)."""
        content = codes.content
        if self.training:
            content = content + BLUR * torch.randn_like(content)
        return torch.cat([content, codes.start, self.wish(labels)], dim=1)

    def _read(self, last: Tensor, given: Tensor) -> Tensor:
        """Differences (B, T, M) as the core reads them."""
        return self.reads(torch.cat([last, given[:, None].expand(-1, last.shape[1], -1)], dim=2))

    def _told(self, y: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """What the core says (B, T, H) -> how the next pose changes, (B, T, M), and the log of its deviation, float32."""
        found = self.tells(torch.cat([y, given[:, None].expand(-1, y.shape[1], -1)], dim=2)).float()
        change, log_deviation = found.chunk(2, dim=2)
        return change, log_deviation.clamp(-4.0, 2.0)
