"""The generator that continues a first frame: poses drawn one after another from Gaussians that have a likelihood."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.gan.frame_decoder import FirstFrameDecoder
from pipeline.models.gan.image_to_video import ImageToVideoGenerator
from pipeline.models.recurrent.core import Core
from pipeline.padded import Padded

CONTENT, POSE = 5, 3


def make_generator(hidden: int = 24, classes: int = 2, guidance: float = 1.0) -> ImageToVideoGenerator:
    torch.manual_seed(0)
    return ImageToVideoGenerator(
        core=Core(cell="gru", input_size=hidden, hidden=16),
        frame_decoder=FirstFrameDecoder(content_size=CONTENT, pose_size=POSE, size=16, channels=8),
        content_size=CONTENT,
        pose_size=POSE,
        hidden=hidden,
        classes=classes,
        embedding=4,
        guidance=guidance,
    )


def test_the_likelihood_by_hand() -> None:
    """A real pose costs what the Gaussian says that `generate_codes` draws from; the first pose and padding cost
    nothing.
    """
    generator = make_generator().eval()
    lengths, labels = torch.tensor([6, 3, 1]), torch.tensor([0, 1, 1])
    poses = torch.randn(3, 6, POSE)
    codes = generator.draw(3, 1)._replace(start=poses[:, 0])
    assert codes.content.shape == (3, CONTENT) and codes.motion.shape == (3, 1, POSE)
    total, steps = 0.0, 0
    with torch.no_grad():
        nll = generator.negative_log_likelihood(Padded(poses, lengths), codes, labels)
        for row in range(3):
            row_codes = generator.draw(1, 1)._replace(
                content=codes.content[row : row + 1], start=codes.start[row : row + 1]
            )
            label = labels[row : row + 1]
            _, _, state = generator.generate_codes(row_codes, label)
            for t in range(1, int(lengths[row])):
                state = (*state[:-1], (poses[row, t - 1] - poses[row, 0])[None, None])  # the last real pose
                with_noise = []
                for noise in (0.0, 1.0):
                    motion = torch.full((1, 1, POSE), noise)
                    _, generated, after = generator.generate_codes(row_codes._replace(motion=motion), label, state)
                    with_noise.append(generated[0, 0])
                gaussian = torch.distributions.Normal(with_noise[0], with_noise[1] - with_noise[0])
                total -= float(gaussian.log_prob(poses[row, t]).sum())
                steps, state = steps + 1, after
        assert float(nll) == pytest.approx(total / (steps * POSE), rel=1e-4)
        poses[1, 3:], poses[2, 1:] = torch.nan, 1e6
        assert torch.equal(nll, generator.negative_log_likelihood(Padded(poses, lengths), codes, labels))
        first_only = Padded(poses[:, :1], torch.ones(3, dtype=torch.int64))
        assert float(generator.negative_log_likelihood(first_only, codes, labels)) == 0.0


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_it_begins_with_the_first_pose_and_continues_from_a_state(guidance: float) -> None:
    generator = make_generator(guidance=guidance).eval()
    codes, labels = generator.draw(2, 9)._replace(first_frame=torch.rand(2, 3, 16, 16)), torch.tensor([0, 1])
    with torch.no_grad():
        content, poses, _ = generator.generate_codes(codes, labels)
        assert torch.equal(content, codes.content) and torch.equal(poses[:, 0], codes.start)
        assert torch.equal(generator.generate_codes(codes, labels, skip=4)[1], poses[:, 4:])
        whole, _ = generator(codes, labels)
        chunks, state = [], None
        for start, stop in ((0, 4), (4, 5), (5, 9)):
            chunk, state = generator(codes._replace(motion=codes.motion[:, start:stop]), labels, state)
            chunks.append(chunk)
    assert whole.shape == (2, 9, 3, 16, 16) and torch.allclose(torch.cat(chunks, dim=1), whole, atol=1e-5)


def test_guidance_by_hand() -> None:
    """The second pose is the mean without a class plus 3 times the way to the mean with it, plus the noise."""
    generator, labels = make_generator().eval(), torch.tensor([0, 1])
    codes = generator.draw(2, 2)
    without_noise = codes._replace(motion=torch.zeros_like(codes.motion))
    with torch.no_grad():
        conditional, unconditional = (
            generator.generate_codes(without_noise, x)[1][:, 1] for x in (labels, torch.tensor([2, 2]))
        )
        noise = generator.generate_codes(codes, labels)[1][:, 1] - conditional
        generator.guidance = 3.0
        guided = generator.generate_codes(codes, labels)[1][:, 1]
        assert torch.allclose(guided, unconditional + 3.0 * (conditional - unconditional) + noise, atol=1e-5)
        assert (conditional != unconditional).all()


def test_in_training_there_is_no_guidance() -> None:
    generator, labels = make_generator(guidance=3.0).train(), torch.tensor([0, 1])
    codes = generator.draw(2, 2)
    with torch.no_grad():
        torch.manual_seed(1)
        poses = generator.generate_codes(codes, labels)[1]
        generator.guidance = 1.0
        torch.manual_seed(1)
        assert torch.equal(generator.generate_codes(codes, labels)[1], poses)


def test_it_learns_by_likelihood_to_do_what_the_class_says() -> None:
    """From any pose class 0 goes up and class 1 down, by half a unit a step, and then stays, also beyond the real
    length.
    """
    generator = make_generator().train()
    trained = [p for name, p in generator.named_parameters() if not name.startswith("frame_decoder")]
    optimizer = torch.optim.AdamW(trained, 5e-3)
    path = torch.tensor([1.0, -1.0])[:, None, None] * torch.tensor([0.0, 0.5, 1.0, 1.5, 1.5, 1.5])[None, :, None]

    def draw_poses(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 2
        return torch.randn(count, 1, POSE) + path[labels] + 0.02 * torch.randn(count, 6, POSE), labels

    for _ in range(250):
        real, labels = draw_poses(32)
        codes = generator.draw(32, 1)._replace(start=real[:, 0])
        loss = generator.negative_log_likelihood(Padded(real, torch.full((32,), 6)), codes, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    generator.eval()
    codes, labels = generator.draw(40, 12), torch.arange(40) % 2
    with torch.no_grad():
        differences = generator.generate_codes(codes, labels)[1] - codes.start[:, None]
    means = differences.mean(2)
    for label, sign in ((0, 1.0), (1, -1.0)):
        reached = sign * means[labels == label]
        assert reached[:, 3].mean() == pytest.approx(1.5, abs=0.4) and (reached[:, 5] > 0.3).all()
        assert reached[:, -1].mean() > 0.7, "it stays there"


def test_it_works_without_classes() -> None:
    """Then no class is left out in training, and guidance changes nothing."""
    generator, labels = make_generator(classes=0, guidance=3.0).train(), torch.zeros(2, dtype=torch.int64)
    codes = generator.draw(2, 4)
    poses = Padded(torch.randn(2, 4, POSE), torch.tensor([4, 3]))
    assert generator.negative_log_likelihood(poses, codes, labels).isfinite()
    with torch.no_grad():
        guided = generator.eval().generate_codes(codes, labels)[1]
        generator.guidance = 1.0
        assert torch.equal(generator.generate_codes(codes, labels)[1], guided) and guided.shape == (2, 4, POSE)
