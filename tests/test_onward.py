"""Who goes on from a given frame: pose after pose, by a law that has a likelihood."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.heads.generate import Generate
from pipeline.models.core import Core
from pipeline.models.onward import OnwardGenerator
from pipeline.models.painter import Onward
from pipeline.padded import Padded
from pipeline.section import ConfigError
from tests.test_generate_frames import frames_batch, frames_model

SHOWN, POSE = 5, 3


def _onward(hidden: int = 24, classes: int = 2, guidance: float = 1.0) -> OnwardGenerator:
    torch.manual_seed(0)
    return OnwardGenerator(
        core=Core(cell="gru", input_size=hidden, hidden=16), painter=Onward(content_size=SHOWN, motion_size=POSE, size=16, channels=8),
        content_size=SHOWN, pose_size=POSE, hidden=hidden, classes=classes, embedding=4, guidance=guidance,
    )  # fmt: skip


def test_the_likelihood_by_hand() -> None:
    """What `imagine` draws a pose from is what a real pose is paid by; the first one costs nothing, and neither does the padding."""
    onward = _onward().eval()
    lengths, labels = torch.tensor([6, 3, 1]), torch.tensor([0, 1, 1])
    poses = torch.randn(3, 6, POSE)
    codes = onward.draw(3, 1)._replace(start=poses[:, 0])
    assert codes.content.shape == (3, SHOWN) and codes.motion.shape == (3, 1, POSE)
    total, steps = 0.0, 0
    with torch.no_grad():
        paid = onward.surprise(Padded(poses, lengths), codes, labels)
        for row in range(3):
            one = onward.draw(1, 1)._replace(content=codes.content[row : row + 1], start=codes.start[row : row + 1])
            wish = labels[row : row + 1]
            _, _, state = onward.imagine(one, wish)
            for t in range(1, int(lengths[row])):
                state = (*state[:-1], (poses[row, t - 1] - poses[row, 0])[None, None])  # so it really went on
                told = []
                for noise in (0.0, 1.0):
                    _, moves, after = onward.imagine(one._replace(motion=torch.full((1, 1, POSE), noise)), wish, state)
                    told.append(moves[0, 0])
                law = torch.distributions.Normal(told[0], told[1] - told[0])
                total -= float(law.log_prob(poses[row, t]).sum())
                steps, state = steps + 1, after
        assert float(paid) == pytest.approx(total / (steps * POSE), rel=1e-4)
        poses[1, 3:], poses[2, 1:] = torch.nan, 1e6
        assert torch.equal(paid, onward.surprise(Padded(poses, lengths), codes, labels))
        alone = onward.surprise(Padded(poses[:, :1], torch.ones(3, dtype=torch.int64)), codes, labels)
        assert float(alone) == 0.0


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_it_begins_with_the_given_pose_and_goes_on_from_a_state(guidance: float) -> None:
    onward = _onward(guidance=guidance).eval()
    codes, labels = onward.draw(2, 9)._replace(given=torch.rand(2, 3, 16, 16)), torch.tensor([0, 1])
    with torch.no_grad():
        content, moves, _ = onward.imagine(codes, labels)
        assert torch.equal(content, codes.content) and torch.equal(moves[:, 0], codes.start)
        assert torch.equal(onward.imagine(codes, labels, skip=4)[1], moves[:, 4:])
        whole, _ = onward(codes, labels)
        parts, state = [], None
        for a, b in ((0, 4), (4, 5), (5, 9)):
            made, state = onward(codes._replace(motion=codes.motion[:, a:b]), labels, state)
            parts.append(made)
    assert whole.shape == (2, 9, 3, 16, 16) and torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


def test_guidance_by_hand() -> None:
    """The second pose is the mean without the wish, and so much times the way from there to the mean with it; the noise stays what it was."""
    onward, labels = _onward().eval(), torch.tensor([0, 1])
    codes = onward.draw(2, 2)
    still = codes._replace(motion=torch.zeros_like(codes.motion))
    with torch.no_grad():
        wished, unwished = (onward.imagine(still, x)[1][:, 1] for x in (labels, torch.tensor([2, 2])))
        noise = onward.imagine(codes, labels)[1][:, 1] - wished
        onward.guidance = 3.0
        assert torch.allclose(
            onward.imagine(codes, labels)[1][:, 1], unwished + 3.0 * (wished - unwished) + noise, atol=1e-5
        )
        assert (wished != unwished).all()
        codes = codes._replace(content=0 * codes.content)
        onward.train()
        torch.manual_seed(1)
        learning = onward.imagine(codes, labels)[1]
        onward.guidance = 1.0
        torch.manual_seed(1)
        assert torch.equal(onward.imagine(codes, labels)[1], learning), "a critic judges what the law says"


def test_it_learns_by_likelihood_to_do_as_it_is_asked() -> None:
    """From any pose, by wish up or down at half a unit a step, and then to stay: what was asked is done beyond where real ones end."""
    onward = _onward().train()
    mover = torch.optim.AdamW([p for n, p in onward.named_parameters() if not n.startswith("painter")], 5e-3)
    way = torch.tensor([1.0, -1.0])[:, None, None] * torch.tensor([0.0, 0.5, 1.0, 1.5, 1.5, 1.5])[None, :, None]

    def poses(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 2
        return torch.randn(count, 1, POSE) + way[labels] + 0.02 * torch.randn(count, 6, POSE), labels

    for _ in range(250):
        real, labels = poses(32)
        loss = onward.surprise(
            Padded(real, torch.full((32,), 6)), onward.draw(32, 1)._replace(start=real[:, 0]), labels
        )
        mover.zero_grad()
        loss.backward()
        mover.step()
    onward.eval()
    codes, labels = onward.draw(40, 12), torch.arange(40) % 2
    with torch.no_grad():
        moves = onward.imagine(codes, labels)[1] - codes.start[:, None]
    far = moves.mean(2)
    for wish, sign in ((0, 1.0), (1, -1.0)):
        ends = sign * far[labels == wish]
        assert ends[:, 3].mean() == pytest.approx(1.5, abs=0.4) and (ends[:, 5] > 0.3).all()
        assert ends[:, -1].mean() > 0.7, "and stays there"


def test_what_it_learns_by_teaches_neither_reader_nor_painter_and_is_read_surely() -> None:
    model = frames_model(first_frame=True)
    clip = model.head("clip")
    assert isinstance(clip, Generate) and isinstance(clip.generator, OnwardGenerator) and clip.reader is not None
    terms, _ = model(frames_batch(), "model")
    (terms["clip_likelihood"] + terms["clip"]).backward()
    assert all(p.grad is None for m in (clip.reader, clip.generator.painter) for p in m.parameters())
    moved = (clip.generator.core, clip.generator.reads, clip.generator.tells, clip.generator.begin)
    assert all(p.grad is not None for m in moved for p in m.parameters())
    real = Padded(torch.rand(2, 5, 3, 16, 16), torch.tensor([5, 4]))
    one, other = clip._read(real), clip._read(real)
    assert torch.equal(one.moves, other.moves) and torch.equal(one.content, other.content)
    drawn = frames_model().head("clip")
    assert isinstance(drawn, Generate)
    assert not torch.equal(drawn._read(real).moves, drawn._read(real).moves)
    shown = clip._side(real, torch.tensor([0, 1])).sequences
    assert not shown[:, 0, 6:].any() and shown[:, 1:4, 6:].any(), "a critic sees differences to the first pose"


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ({"first_frame": True, "motion": "independent"}, "every pose is told from the one before, by a core"),
        ({"first_frame": True, "motion_size": 8}, "leave motion_size: 8 out"),
        ({"first_frame": True, "guidance": 2.0, "labels": False}, "guidance is of wishes, and labels is false"),
        ({"guidance": 2.0}, "guidance is of what goes on from a frame"),
        ({"first_frame": True, "guidance": 0.5}, "guidance"),
        ({"first_frame": 10}, "first_frame"),
    ],
)
def test_what_would_change_nothing_is_refused(head: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        frames_model(**head)


def test_without_classes_it_goes_on_as_well() -> None:
    """There is no wish then: none is left out while it learns, and guidance leads nowhere."""
    onward, none = _onward(classes=0, guidance=3.0).train(), torch.zeros(2, dtype=torch.int64)
    codes = onward.draw(2, 4)
    assert onward.surprise(Padded(torch.randn(2, 4, POSE), torch.tensor([4, 3])), codes, none).isfinite()
    with torch.no_grad():
        guided = onward.eval().imagine(codes, none)[1]
        onward.guidance = 1.0
        assert torch.equal(onward.imagine(codes, none)[1], guided) and guided.shape == (2, 4, POSE)
