"""A generator that continues a given first frame: the core predicts a Gaussian for every next pose, and the pose is
drawn from it.

In: codes of the first frame, and classes. Out: poses (B, T, M), the frames decoded from them, and the negative
log-likelihood of real poses. Knows nothing of critics.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.models.gan.codes import LatentCodes, append_codes, draw_normal
from pipeline.models.gan.frame_decoder import FirstFrameDecoder
from pipeline.models.gan.gaussian import LOG_DEVIATION_RANGE, diagonal_nll
from pipeline.models.gan.generator import Condition
from pipeline.models.process_mean import mean_over_processes
from pipeline.models.recurrent.core import Core, State
from pipeline.padded import Padded, full_precision, map_lengths

CONTENT_NOISE = 0.3
"""Deviation of the noise on the content in training, so that the generator learns no frame by heart."""
UNCONDITIONAL_SHARE = 0.15
"""Share of the clips whose likelihood is learned without their class."""
POSE_NOISE = 0.5
"""Deviation of the noise on the last pose in training, so that the generator learns to recover from its own errors."""


class ImageToVideoGenerator(nn.Module):
    """Draws one pose after another, each from a Gaussian that the core predicts from the last pose (Graves 2013, arXiv
    1308.0850).

    So poses have a likelihood to learn by, beside the critic. The covariance is diagonal. With a low-rank part it
    depended on chance whether anything moved, and with truncated codes nothing did.

    It generates differences to the pose of the first frame. It learns the Gaussians without a class as well. A
    generated mean goes `guidance` times as far from the mean without the class as the mean with it (classifier-free
    guidance, Ho & Salimans 2022, arXiv 2207.12598). So the class also counts where the first frame suggests another
    action.

    Args:
        core: reads (B, T, hidden). frame_decoder: (content, poses, first frame) -> frames. content_size: C, and
        pose_size: M; both are encoded from the first frame. hidden: width of what the core reads, and of the network
        that predicts the Gaussian. classes: 0 where there are none. embedding: E, width of a class's vector. guidance:
        1 generates from the Gaussians as learned.
    """

    def __init__(
        self,
        *,
        core: Core,
        frame_decoder: FirstFrameDecoder,
        content_size: int,
        pose_size: int,
        hidden: int,
        classes: int,
        embedding: int,
        guidance: float = 1.0,
    ) -> None:
        super().__init__()
        self.content_size, self.pose_size, self.classes, self.guidance = content_size, pose_size, classes, guidance
        self.core = core
        # one class more than there are: none
        self.condition = Condition(
            core=core, classes=classes + 1, start_size=content_size + pose_size, embedding=embedding
        )
        self.frame_decoder = frame_decoder
        context = content_size + pose_size + embedding
        self.core_input = nn.Sequential(nn.Linear(pose_size + context, hidden), nn.LeakyReLU(0.2))
        hidden_layer, output_layer = nn.Linear(core.output_size + context, hidden), nn.Linear(hidden, 2 * pose_size)
        self.gaussian = nn.Sequential(hidden_layer, nn.LeakyReLU(0.2), output_layer)
        with torch.no_grad():  # at first the mean is close to the last pose
            output_layer.weight *= 0.1

    def draw(self, count: int, steps: int, random: torch.Generator | None = None) -> LatentCodes:
        """Standard normal codes: content (B, C), motion (B, T, M), start (B, M)."""
        like, size = self.condition.weight, self.content_size + self.pose_size
        # both are drawn C + M wide and cut, so that a seed gives the codes that it always gave
        content, start = (draw_normal((count, size), like, random) for _ in range(2))
        motion = draw_normal((count, steps, self.pose_size), like, random)
        return LatentCodes(content[:, : self.content_size], motion, start[:, self.content_size :])

    def negative_log_likelihood(self, poses: Padded, codes: LatentCodes, labels: Tensor) -> Tensor:
        """The mean over all numbers of real poses (B, T, M) behind the first, in nats: a scalar. codes: of their first
        frame.
        """
        if self.training:
            is_unconditional = torch.rand(labels.shape, device=labels.device) < UNCONDITIONAL_SHARE
            labels = labels.masked_fill(is_unconditional, self.classes)
        context = self._context(codes, labels)
        differences = (poses.data - codes.start[:, None]).float()
        last = differences[:, :-1]
        if self.training:
            last = last + POSE_NOISE * torch.randn_like(last)
        lengths = map_lengths(poses.lengths, lambda n: (n - 1).clamp(min=0))
        inputs = Padded(self.core_input(append_codes(last, context)), lengths)
        outputs, _ = self.core(inputs, self.condition.initial_state(context))
        change, log_deviation = self._gaussian(outputs.data, context)
        nll = diagonal_nll(differences[:, 1:] - last - change, log_deviation).mean(2)
        total = torch.where(inputs.mask, full_precision(nll), 0.0).sum()
        return mean_over_processes(total, inputs.mask.sum(), self.training)

    def generate_codes(
        self, codes: LatentCodes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, Tensor, State]:
        """Content (B, C), poses (B, T - skip, M) and the state to continue from. The first pose is that of the first
        frame.

        The state ends with the last difference to that pose (B, 1, M). Arguments as of `Generator.forward`.
        """
        context, noises = self._context(codes, labels), list(codes.motion.unbind(1))
        is_guided = self.guidance != 1.0 and self.classes > 0 and not self.training
        if is_guided:  # the second half of the rows has no class
            context = torch.cat([context, self._context(codes, torch.full_like(labels, self.classes))])
        if state is None:
            core_state, last = self.condition.initial_state(context), torch.zeros_like(codes.start)
            differences, noises = [last], noises[1:]
        else:
            core_state, last = state[:-1], state[-1][:, 0]
            differences = []
        for noise in noises:
            before = torch.cat([last, last]) if is_guided else last
            inputs = self.core_input(append_codes(before[:, None], context))[:, 0]
            output, core_state = self.core.step(inputs, core_state)
            change, log_deviation = (x[:, 0] for x in self._gaussian(output[:, None], context))
            if is_guided:
                conditional, unconditional = change.chunk(2)
                change = torch.lerp(unconditional, conditional, self.guidance)
                log_deviation = log_deviation.chunk(2)[0]
            last = last + change + torch.exp(log_deviation) * noise
            differences.append(last)
        poses = codes.start[:, None] + torch.stack(differences, dim=1)
        return codes.content, poses[:, skip:], (*core_state, last[:, None])

    def decode(
        self, content: Tensor, poses: Tensor, first_frame: Tensor | None = None, is_hidden: Tensor | None = None
    ) -> Tensor:
        """(B, C), (B, T, M), (B, 3, S, S) -> frames (B, T, 3, S, S) in [-1, 1]. is_hidden: see `FirstFrameDecoder`."""
        assert first_frame is not None, "this generator continues a first frame"
        return self.frame_decoder(content, poses, first_frame, is_hidden)

    def forward(
        self, codes: LatentCodes, labels: Tensor, state: State | None = None, skip: int = 0
    ) -> tuple[Tensor, State]:
        """Frames (B, T - skip, 3, S, S) in [-1, 1], and the state to continue from. Arguments as of
        `Generator.forward`.
        """
        content, poses, after = self.generate_codes(codes, labels, state, skip)
        return self.decode(content, poses, codes.first_frame), after

    def _context(self, codes: LatentCodes, labels: Tensor) -> Tensor:
        """Content, first pose and condition (B, C + M + E)."""
        content = codes.content
        if self.training:
            content = content + CONTENT_NOISE * torch.randn_like(content)
        return torch.cat([content, codes.start, self.condition(labels)], dim=1)

    def _gaussian(self, outputs: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The core's outputs (B, T, H) -> the change of the next pose and the log of its deviation, both (B, T, M),
        float32.
        """
        change, log_deviation = self.gaussian(append_codes(outputs, context)).float().chunk(2, dim=2)
        return change, log_deviation.clamp(*LOG_DEVIATION_RANGE)
