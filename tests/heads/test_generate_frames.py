"""The head that generates frames: which term trains which part, what the critic sees, and first frames."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toy_frames import frames_batch, frames_head, frames_model

from pipeline.config.base import ConfigError
from pipeline.heads.generate_frames import HIDDEN_FIRST_FRAME, GenerateFrames
from pipeline.models.gan.codes import concat_codes
from pipeline.models.gan.frame_decoder import FirstFrameDecoder
from pipeline.models.gan.frame_generator import FrameGenerator
from pipeline.models.gan.image_to_video import ImageToVideoGenerator
from pipeline.padded import Padded


def parts_of(head: GenerateFrames) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The weights of the autoencoder, and those of the generator of codes from noise."""
    assert isinstance(head.generator, FrameGenerator)
    autoencoder = [*head.frame_encoder.parameters(), *head.generator.frame_decoder.parameters()]
    return autoencoder, [*head.generator.pose_generator.core.parameters(), *head.generator.content_net.parameters()]


def first_frame_decoder(head: GenerateFrames) -> FirstFrameDecoder:
    assert isinstance(head.generator.frame_decoder, FirstFrameDecoder)
    return head.generator.frame_decoder


def set_mask_bias(decoder: FirstFrameDecoder, value: float) -> None:
    """A large number shows what is decoded everywhere, a small one the first frame."""
    bias = decoder.output[-1].bias
    assert isinstance(bias, torch.Tensor)
    bias[3] = value


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"image_critic_weight": 0.5},
        {"first_frame": True},
        {"gan_loss": "relativistic", "image_critic_weight": 0.1},
    ],
)
def test_each_player_has_its_terms_and_trains_its_own_weights(settings: Any) -> None:
    model = frames_model(**settings)
    players = model.players()
    encoder = frames_head(model).frame_encoder
    assert {id(p) for p in encoder.parameters()} <= {id(p) for p in players["model"]}
    terms_of_model = {"clip", "clip_reconstruction", "clip_kl"} | ({"clip_nll"} if "first_frame" in settings else set())
    for player, wanted, other in (("model", terms_of_model, "clip"), ("clip", {"clip_critic"}, "model")):
        model.zero_grad(set_to_none=True)
        terms, _ = model(frames_batch(), player)
        assert set(terms) == wanted
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None for p in players[other])
        has_gradient = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in players[player]]
        assert sum(has_gradient) > 0.8 * len(has_gradient), "all but biases that cancel"


def test_the_reconstruction_trains_the_autoencoder_and_the_critic_the_rest() -> None:
    model = frames_model()
    autoencoder, generator = parts_of(frames_head(model))
    terms, _ = model(frames_batch(), "model")
    terms["clip_reconstruction"].backward(retain_graph=True)
    assert all(p.grad is not None for p in autoencoder) and all(p.grad is None for p in generator)
    model.zero_grad(set_to_none=True)
    terms["clip"].backward()
    assert all(p.grad is not None for p in generator) and all(p.grad is None for p in autoencoder)


def test_the_autoencoder_learns_alone_and_then_is_frozen() -> None:
    model = frames_model(pretrain_share=0.5)
    head = frames_head(model)
    autoencoder, generator = parts_of(head)
    head.is_adversarial = False
    terms, _ = model(frames_batch(), "model")
    assert set(terms) == {"clip_reconstruction", "clip_kl"} and int(head.average.n_averaged) == 0
    assert head.stop_reason({}) == ""
    head.is_adversarial = True
    model.zero_grad(set_to_none=True)
    terms, _ = model(frames_batch(), "model")
    assert set(terms) == {"clip"} and int(head.average.n_averaged) == 1
    terms["clip"].backward()
    assert all(p.grad is None and p.requires_grad for p in autoencoder)
    assert all(p.grad is not None for p in generator)
    assert "has won" in head.stop_reason({"loss/clip_critic": 0.0})


def test_a_continued_clip_is_encoded_from_its_first_frame_alone_and_shows_its_pixels() -> None:
    head = frames_head(frames_model(first_frame=True).eval())
    assert isinstance(head.generator, ImageToVideoGenerator) and head.frame_encoder.uses_first_frame
    first, later = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 2, 4, 3, 16, 16)
    with torch.no_grad():
        clips = (Padded(torch.cat([first[:, None], rest], 1), torch.full((2,), 5)) for rest in later)
        one, other = (head.frame_encoder(clip) for clip in clips)
        assert torch.equal(one.content, other.content) and not torch.equal(one.poses, other.poses)
        codes = head.encode_first_frame(head.generator.draw(2, 3), first)
        # clips of other lengths go through the encoder in batches of other shapes, which processors round differently
        assert torch.allclose(codes.content, one.content, atol=1e-5)
        assert torch.allclose(codes.start, one.poses[:, 0], atol=1e-5)
        again = head.encode_first_frame(head.generator.draw(2, 3), first)
        assert torch.equal(again.content, codes.content), "nothing is sampled outside training"
        set_mask_bias(first_frame_decoder(head), -99.0)
        generated, _ = head.generator(codes, torch.tensor([0, 1]))
        assert torch.allclose(generated, first[:, None].expand_as(generated), atol=1e-4)


def test_every_place_of_a_frame_attends_to_the_whole_first_frame() -> None:
    """A change at one place of the first frame changes what is decoded elsewhere: clothes move with their wearer."""
    decoder = FirstFrameDecoder(content_size=6, pose_size=4, size=16, channels=8).eval()
    frame = torch.zeros(1, 3, 16, 16)
    other_frame = frame.clone()
    other_frame[:, :, :4, :4] = 1.0
    with torch.no_grad():
        set_mask_bias(decoder, 99.0)
        one, two = (decoder(torch.ones(1, 6), torch.ones(1, 3, 4), x) for x in (frame, other_frame))
        assert one.shape == (1, 3, 3, 16, 16) and (one != two)[..., 12:, 12:].all()
        each = [decoder(torch.ones(1, 6), torch.ones(1, 1, 4), x) for x in (frame, other_frame)]
        both = decoder(torch.ones(2, 6), torch.ones(2, 3, 4), torch.cat([frame, other_frame]))
        for row, alone in zip(both, each, strict=True):
            assert torch.allclose(row, alone[0].expand_as(row), atol=1e-5), "no clip sees another clip's first frame"


def test_one_clip_of_four_is_reconstructed_without_its_first_frame() -> None:
    head = frames_head(frames_model(first_frame=True).eval())
    decoder = first_frame_decoder(head)
    still = (torch.rand(4, 1, 3, 16, 16) * 2 - 1).expand(-1, 5, -1, -1, -1)
    is_hidden = torch.tensor([False, True])
    with torch.no_grad():
        encoded = head.frame_encoder(Padded(still, torch.full((4,), 5)))
        codes = encoded.content[:2], encoded.poses[:2]
        one, other = (decoder(*codes, first_frames, is_hidden) for first_frames in (still[:2, 0], still[2:, 0]))
        assert torch.equal(one[1], other[1]) and not torch.equal(one[0], other[0])
        set_mask_bias(decoder, -99.0)
        without, with_hidden = (
            head._reconstruction_terms(Padded(still[:n], torch.full((n,), 5)))["clip_reconstruction"]
            for n in (HIDDEN_FIRST_FRAME - 1, HIDDEN_FIRST_FRAME)
        )
    assert without < 1e-3 < 0.1 < with_hidden


def test_free_nats_of_the_kl_divergence_cost_nothing() -> None:
    cost = {}
    for free_nats in (0.0, 10.0, 1e6):
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(1)
            head = frames_head(frames_model(free_nats=free_nats, kl_weight=0.5).eval())
            clips = Padded(torch.rand(2, 5, 3, 16, 16), torch.full((2,), 5))
            cost[free_nats] = float(head._reconstruction_terms(clips)["clip_kl"])
    assert cost[0.0] > 5.0 and cost[1e6] == 0.0
    assert cost[10.0] == pytest.approx(cost[0.0] - 5.0, rel=1e-4)


def test_frames_are_decoded_from_generated_codes_and_a_state_continues_them() -> None:
    generator = frames_head(frames_model().eval()).generator
    codes, labels = generator.draw(2, 7), torch.tensor([0, 1])
    with torch.no_grad():
        content, poses, _ = generator.generate_codes(codes, labels)
        whole, _ = generator(codes, labels)
        first, state = generator(codes._replace(motion=codes.motion[:, :3]), labels)
        rest, _ = generator(codes._replace(motion=codes.motion[:, 3:]), labels, state)
    assert whole.shape == (2, 7, 3, 16, 16) and torch.equal(generator.decode(content, poses), whole)
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-5)
    joined = concat_codes(content, poses)
    assert torch.equal(joined[:, 4, :6], content) and torch.equal(joined[:, :, 6:], poses)


def test_the_likelihood_trains_neither_encoder_nor_decoder_and_uses_means() -> None:
    model = frames_model(first_frame=True)
    head = frames_head(model)
    assert isinstance(head.generator, ImageToVideoGenerator)
    terms, _ = model(frames_batch(), "model")
    (terms["clip_nll"] + terms["clip"]).backward()
    autoencoder = head.frame_encoder, head.generator.frame_decoder
    assert all(p.grad is None for module in autoencoder for p in module.parameters())
    trained = head.generator.core, head.generator.core_input, head.generator.gaussian, head.generator.condition
    assert all(p.grad is not None for module in trained for p in module.parameters())
    real = Padded(torch.rand(2, 5, 3, 16, 16), torch.tensor([5, 4]))
    one, other = head._encode(real), head._encode(real)
    assert torch.equal(one.poses, other.poses) and torch.equal(one.content, other.content)
    sampled = frames_head(frames_model())
    assert not torch.equal(sampled._encode(real).poses, sampled._encode(real).poses)
    sequences = head._critic_input(real).sequences
    assert not sequences[:, 0, 6:].any() and sequences[:, 1:4, 6:].any(), (
        "the critic sees differences to the first pose"
    )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"first_frame": True, "motion": "independent"}, "a core predicts every pose from the one before"),
        ({"first_frame": True, "motion_size": 8}, "leave motion_size: 8 out"),
        ({"first_frame": True, "guidance": 2.0, "class_conditional": False}, "guidance needs class_conditional: true"),
        ({"guidance": 2.0}, "guidance needs first_frame: true"),
        ({"first_frame": True, "guidance": 0.5}, "guidance"),
        ({"first_frame": 10}, "first_frame"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        frames_model(**settings)
