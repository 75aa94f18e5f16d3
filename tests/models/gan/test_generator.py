"""The generator with separate codes: it continues from a state, the core makes the motion, and texts behave alike."""

from __future__ import annotations

import torch
from toy_generate import small_generator, small_token_generator

from pipeline.models.gan.frame_decoder import FrameDecoder


def test_chunks_equal_the_whole_sequence() -> None:
    torch.manual_seed(0)
    for generator in (small_generator(), small_token_generator()):
        generator.eval()
        codes, labels = generator.draw(2, 40), torch.tensor([1, 0])
        with torch.no_grad():
            torch.manual_seed(7)
            whole, last = generator(codes, labels)
            torch.manual_seed(7)
            chunks, state = [], None
            for start, stop in ((0, 13), (13, 26), (26, 40)):
                chunk, state = generator(codes._replace(motion=codes.motion[:, start:stop]), labels, state)
                chunks.append(chunk)
        assert state is not None
        assert torch.allclose(torch.cat(chunks, 1), whole, atol=1e-5)
        assert torch.allclose(state[0], last[0], atol=1e-5)


def test_skipped_steps_are_the_first_steps_of_the_whole_sequence() -> None:
    generator = small_generator()
    codes, labels = generator.draw(3, 9), torch.tensor([0, 1, 1])
    whole, last = generator(codes, labels)
    later, after = generator(codes, labels, skip=6)
    assert torch.allclose(later, whole[:, 6:], atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(last, after, strict=True))


def test_content_does_not_change_the_motion() -> None:
    torch.manual_seed(0)
    generator = small_generator().eval()
    codes, label = generator.draw(1, 6), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        states = [generator(codes._replace(content=c), label)[1] for c in (codes.content, -codes.content)]
    assert torch.equal(states[0][0], states[1][0])


def test_a_frame_depends_on_the_pose_of_its_own_step_only() -> None:
    torch.manual_seed(0)
    decoder = FrameDecoder(content_size=6, pose_size=8, size=16, channels=8).eval()
    content, poses = torch.randn(2, 6), torch.randn(2, 3, 8)
    with torch.no_grad():
        frames, reversed_frames = decoder(content, poses), decoder(content, poses[:, [2, 1, 0]])
    assert frames.shape == (2, 3, 3, 16, 16) and frames.abs().max() <= 1
    assert torch.allclose(frames.flip(1), reversed_frames, atol=1e-5)


def test_without_the_core_a_step_does_not_depend_on_the_step_before() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1, dtype=torch.int64)
    for motion, is_same in (("independent", True), ("core", False)):
        generator = small_generator(motion).eval()
        codes = generator.draw(1, 5)
        other_motion = codes.motion.clone()
        other_motion[:, 0] = 9
        with torch.no_grad():
            one, other = (generator(codes._replace(motion=m), labels)[0] for m in (codes.motion, other_motion))
        assert torch.allclose(one[:, 1:], other[:, 1:]) == is_same
