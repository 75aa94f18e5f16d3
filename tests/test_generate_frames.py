"""Frames are learned as codes: who reads them, who paints them, what each pays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pipeline.models.reader as reader_file
from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.generate import BLIND, Generate
from pipeline.models.generator import FrameGenerator, joined
from pipeline.models.model import Model
from pipeline.models.painter import Onward
from pipeline.models.reader import MOVING, Reader, apart
from pipeline.padded import Padded, stack
from pipeline.recipe import Recipe
from pipeline.section import validate

NAMES = Vocabulary.of(["down", "up"])


def frames_model(size: int = 16, **head: Any) -> Model:
    settings = {
        "clock": {"rate": 2},
        "encoder": {"kind": "frames", "backbone": "pixels", "size": size, "project": 0},
        "core": {"hidden": 8, "input_dropout": 0},
        "heads": {"clip": {"kind": "generate", "makes": "frames", "channels": 8, "hidden": 16, "content_size": 6,
                           "pose_size": 4, "critic": {"hidden": 12, "channels": 8}, **head}},
    }  # fmt: skip
    return validate(Recipe, settings, "x").build({"clip": NAMES}).train()


def frames_batch(lengths: tuple[int, ...] = (6, 4, 5), size: int = 16) -> Batch:
    data = torch.randint(0, 256, (len(lengths), max(lengths), size, size, 3), dtype=torch.uint8)
    labels = torch.arange(len(lengths)) % 2
    return Batch({"frames": Padded(data, torch.tensor(lengths))}, {"clip": labels}, ("x",) * len(lengths))


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"pictures": 0.5},
        {"first_frame": True},
        {"game": "relativistic", "pictures": 0.1},
    ],
)
def test_of_frames_the_model_learns_to_read_and_to_paint_and_the_critic_to_judge(head: Any) -> None:
    model = frames_model(**head)
    clip = model.head("clip")
    assert isinstance(clip, Generate) and isinstance(clip.reader, Reader)
    players = model.players()
    assert {id(p) for p in clip.reader.parameters()} <= {id(p) for p in players["model"]}
    wanted = {"clip", "clip_remake", "clip_surprise"} | ({"clip_likelihood"} if "first_frame" in head else set())
    for player, terms_of, other in (("model", wanted, "clip"), ("clip", {"clip_critic"}, "model")):
        model.zero_grad(set_to_none=True)
        terms, _ = model(frames_batch(), player)
        assert set(terms) == terms_of
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is None for p in players[other])
        moved = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in players[player]]
        assert sum(moved) > 0.8 * len(moved), "all but biases that cancel"


def test_a_remake_teaches_reader_and_painter_and_a_game_the_rest() -> None:
    model = frames_model()
    clip = model.head("clip")
    assert isinstance(clip, Generate) and isinstance(clip.generator, FrameGenerator) and clip.reader is not None
    assert clip.generator.content is not None
    terms, _ = model(frames_batch(), "model")
    terms["clip_remake"].backward(retain_graph=True)
    assert all(p.grad is not None for m in (clip.reader, clip.generator.painter) for p in m.parameters())
    assert all(p.grad is None for m in (clip.generator.core, clip.generator.content) for p in m.parameters())
    model.zero_grad(set_to_none=True)
    terms["clip"].backward()
    assert all(p.grad is not None for m in (clip.generator.core, clip.generator.content) for p in m.parameters())
    assert all(p.grad is None for m in (clip.reader, clip.generator.painter) for p in m.parameters())


def test_they_learn_alone_and_then_they_stand_still() -> None:
    model = frames_model(alone=0.5)
    clip = model.head("clip")
    assert isinstance(clip, Generate) and isinstance(clip.generator, FrameGenerator) and clip.reader is not None
    assert clip.generator.content is not None
    own = [p for m in (clip.reader, clip.generator.painter) for p in m.parameters()]
    clip.is_playing = False
    terms, _ = model(frames_batch(), "model")
    assert set(terms) == {"clip_remake", "clip_surprise"} and int(clip.average.n_averaged) == 0
    assert clip.verdict({}) == ""
    clip.is_playing = True
    model.zero_grad(set_to_none=True)
    terms, _ = model(frames_batch(), "model")
    assert set(terms) == {"clip"} and int(clip.average.n_averaged) == 1
    terms["clip"].backward()
    assert all(p.grad is None and p.requires_grad for p in own)
    assert all(p.grad is not None for m in (clip.generator.core, clip.generator.content) for p in m.parameters())
    assert "has won" in clip.verdict({"loss/clip_critic": 0.0})


def test_what_goes_on_from_a_frame_is_read_in_that_frame_alone_and_takes_its_pixels() -> None:
    clip = frames_model(first_frame=True, content_size=6, pose_size=4).eval().head("clip")
    assert isinstance(clip, Generate) and isinstance(clip.generator, FrameGenerator) and clip.reader is not None
    assert clip.generator.content is None and clip.reader.by_first
    first, later = torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 2, 4, 3, 16, 16)
    with torch.no_grad():
        one, other = (clip.reader(Padded(torch.cat([first[:, None], rest], 1), torch.full((2,), 5))) for rest in later)
        assert torch.equal(one.content, other.content) and not torch.equal(one.moves, other.moves)
        codes = clip.encode(clip.generator.draw(2, 3), first)
        # clips of other lengths go through the CNN in batches of other shapes, which processors round differently
        assert torch.allclose(codes.content, one.content, atol=1e-5) and torch.allclose(codes.start, one.moves[:, 0], atol=1e-5)
        again = clip.encode(clip.generator.draw(2, 3), first)
        assert torch.equal(again.content, codes.content), "nothing is drawn while it does not learn"
        painter = clip.generator.painter
        assert isinstance(painter, Onward)
        painter.paint[-1].bias[3] = -99.0  # type: ignore[index]  # nothing is painted
        made, _ = clip.generator(codes, torch.tensor([0, 1]))
        assert torch.allclose(made, first[:, None].expand_as(made), atol=1e-4)


def test_who_walks_takes_the_clothes_along() -> None:
    """What is painted at one place is looked up at another: a change anywhere in the given frame may show anywhere."""
    painter = Onward(content_size=6, motion_size=4, size=16, channels=8).eval()
    given = torch.zeros(1, 3, 16, 16)
    other = given.clone()
    other[:, :, :4, :4] = 1.0
    with torch.no_grad():
        painter.paint[-1].bias[3] = 99.0  # type: ignore[index]  # all is painted
        one, two = (painter(torch.ones(1, 6), torch.ones(1, 3, 4), x) for x in (given, other))
        assert one.shape == (1, 3, 3, 16, 16) and (one != two)[..., 12:, 12:].all()
        each = [painter(torch.ones(1, 6), torch.ones(1, 1, 4), x) for x in (given, other)]
        both = painter(torch.ones(2, 6), torch.ones(2, 3, 4), torch.cat([given, other]))
        for row, alone in zip(both, each, strict=True):
            assert torch.allclose(row, alone[0].expand_as(row), atol=1e-5), "no clip sees another one's frame"


def test_one_clip_of_four_is_painted_without_its_first_frame_while_it_learns_to_paint() -> None:
    clip = frames_model(first_frame=True).eval().head("clip")
    assert isinstance(clip, Generate) and isinstance(clip.generator, FrameGenerator) and clip.reader is not None
    painter = clip.generator.painter
    assert isinstance(painter, Onward)
    still = (torch.rand(4, 1, 3, 16, 16) * 2 - 1).expand(-1, 5, -1, -1, -1)
    blind = torch.tensor([False, True])
    with torch.no_grad():
        read = clip.reader(Padded(still, torch.full((4,), 5)))
        one, other = (painter(read.content[:2], read.moves[:2], x, blind) for x in (still[:2, 0], still[2:, 0]))
        assert torch.equal(one[1], other[1]) and not torch.equal(one[0], other[0])
        painter.paint[-1].bias[3] = -99.0  # type: ignore[index]  # nothing is painted
        three, four = (clip._remade(Padded(still[:n], torch.full((n,), 5)))["clip_remake"] for n in (BLIND - 1, BLIND))
    assert three < 1e-3 < 0.1 < four


def test_codes_may_say_so_many_nats_at_no_price() -> None:
    found = {}
    for free in (0.0, 10.0, 1e6):
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(1)
            clip = frames_model(free=free, surprise=0.5).eval().head("clip")
            assert isinstance(clip, Generate)
            found[free] = float(clip._remade(Padded(torch.rand(2, 5, 3, 16, 16), torch.full((2,), 5)))["clip_surprise"])
    assert found[0.0] > 5.0 and found[1e6] == 0.0
    assert found[10.0] == pytest.approx(found[0.0] - 5.0, rel=1e-4)


def test_surprise_and_distance_by_hand() -> None:
    told = torch.randn(3, 5, 8)
    mean, log_variance = told.chunk(2, dim=-1)
    found = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    drawn, surprise = reader_file._drawn(told)
    assert torch.allclose(surprise, found.sum(-1), atol=1e-4) and drawn.shape == mean.shape
    real, made = torch.rand(1, 2, 3, 2, 2) * 2 - 1, torch.rand(1, 2, 3, 2, 2) * 2 - 1
    far, total, squared = made - real, 0.0, 0.0
    for k in range(2):
        for i in range(2):
            for j in range(2):
                weight = (
                    1 + MOVING * sum(abs(float(real[0, k, c, i, j] - real[0, :, c, i, j].mean())) for c in range(3)) / 3
                )
                for c in range(3):
                    change = abs(float(far[0, k, c, i, j] - far[0, 1 - k, c, i, j]))
                    total += weight * (abs(float(far[0, k, c, i, j])) + change)
                    squared += weight * (float(far[0, k, c, i, j]) ** 2 + change**2)
    assert apart(made, real) == pytest.approx(total / 24, rel=1e-5)
    assert apart(made, real, 2.0) == pytest.approx((total + 2 * squared) / 24, rel=1e-5)


def test_a_reader_sees_no_padding_and_each_frame_by_itself() -> None:
    clip = frames_model().eval().head("clip")
    assert isinstance(clip, Generate) and clip.reader is not None
    with torch.no_grad():
        short = torch.rand(1, 3, 3, 16, 16)
        alone = clip.reader(Padded(short, torch.tensor([3])))
        beside = clip.reader(stack([short[0], torch.rand(5, 3, 16, 16)]))
    assert torch.allclose(alone.content[0], beside.content[0], atol=1e-5)
    assert torch.allclose(alone.moves[0], beside.moves[0, :3], atol=1e-5)
    assert torch.allclose(alone.surprise[0], beside.surprise[0], rtol=1e-4)


def test_frames_are_the_paintings_of_what_was_imagined_and_a_state_goes_on() -> None:
    clip = frames_model().eval().head("clip")
    assert isinstance(clip, Generate) and isinstance(clip.generator, FrameGenerator)
    codes, labels = clip.generator.draw(2, 7), torch.tensor([0, 1])
    with torch.no_grad():
        content, moves, _ = clip.generator.imagine(codes, labels)
        whole, _ = clip.generator(codes, labels)
        first, state = clip.generator(codes._replace(motion=codes.motion[:, :3]), labels)
        rest, _ = clip.generator(codes._replace(motion=codes.motion[:, 3:]), labels, state)
    assert whole.shape == (2, 7, 3, 16, 16) and torch.equal(clip.generator.painter(content, moves), whole)
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-5)
    both = joined(content, moves)
    assert torch.equal(both[:, 4, :6], content) and torch.equal(both[:, :, 6:], moves)
