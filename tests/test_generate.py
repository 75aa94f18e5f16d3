"""Two players: the generator moves by the core, the critic judges; what each pays, what is kept, what is made."""

from __future__ import annotations

import ast
import inspect
import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_generate_words import small_writer
from torch import Tensor, nn
from toy_training import PLAN, SignalAt, make_toy

import pipeline.models.core as core_file
import pipeline.training.fit as fit_file
from pipeline.cores import CoreSection
from pipeline.data.batch import Batch
from pipeline.data.vocabulary import Vocabulary
from pipeline.heads.generate import Generate
from pipeline.makings import CriticSection, GenerateSection
from pipeline.models.adversary import Side, critic_loss, critics_turn, generator_loss, penalty
from pipeline.models.core import Core
from pipeline.models.critic import Critic
from pipeline.models.disguise import disguise
from pipeline.models.generator import (
    FeatureMaker,
    Generator,
)
from pipeline.models.model import Model
from pipeline.models.painter import FrameMaker
from pipeline.padded import Padded
from pipeline.questions import ClassifySection
from pipeline.recipe import Recipe, SeriesSection
from pipeline.training.evaluate import Judged
from pipeline.training.fit import STATE, saved_step
from pipeline.training.runtime import Interrupted, seed_step

NAMES = Vocabulary.of(["down", "up"])


def small_generator(motion: Any = "core") -> Generator:
    core = Core(cell="gru", input_size=Generator.input_size(4, 3), hidden=8)
    maker = FeatureMaker(content_size=9, motion_size=8, width=5, hidden=16)
    return Generator(core=core, maker=maker, classes=2, content_size=6, motion_size=4, embedding=3, motion=motion)


def recipe(**head: Any) -> Recipe:
    return Recipe(
        encoder=SeriesSection(project=0, normalise="none"),
        core=CoreSection(hidden=8, input_dropout=0.0),
        heads={"clip": GenerateSection(hidden=16, **head), "action": ClassifySection()},
    )


def build(width: int = 5, seed: int = 0, **head: Any) -> Model:
    seed_step(seed, -1, 0)
    return recipe(**head).build({"clip": NAMES, "action": NAMES}, input_size=width)


def batch(lengths: tuple[int, ...] = (6, 4, 5), width: int = 5) -> Batch:
    count = len(lengths)
    data = torch.randn(count, max(lengths), width)
    labels = torch.arange(count) % 2
    return Batch({"series": Padded(data, torch.tensor(lengths))}, {"clip": labels, "action": labels}, ("x",) * count)


# ---------------------------------------------------------------------------------------------------- one core


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn_tanh", "mingru"])
def test_generator_critic_and_recogniser_are_moved_by_instances_of_the_one_class(cell: Any) -> None:
    model = build(
        core=CoreSection(cell=cell, hidden=7),
        critic=CriticSection(core=CoreSection(cell=cell, hidden=9, bidirectional=True)),
    )
    head = model.head("clip")
    assert isinstance(head, Generate) and isinstance(head.opponent, Critic)
    cores = [model.core, head.generator.core, head.opponent.core]
    assert [type(core) for core in cores] == [Core, Core, Core]
    assert [core.hidden for core in cores if isinstance(core, Core)] == [8, 7, 9]
    names = {n.id for n in ast.walk(ast.parse(inspect.getsource(core_file))) if isinstance(n, ast.Name)}
    assert not any(w in n.lower() for n in names for w in ("generat", "critic", "adversar", "codes", "wish"))
    imports = [n.module for n in ast.walk(ast.parse(inspect.getsource(core_file))) if isinstance(n, ast.ImportFrom)]
    assert not any(w in (m or "") for m in imports for w in ("generat", "critic", "adversar", "heads"))


def test_a_head_without_a_core_of_its_own_moves_by_one_like_the_models() -> None:
    head = build().head("clip")
    assert isinstance(head, Generate) and head.generator.core.hidden == 8


def test_what_is_made_later_is_what_comes_when_the_state_goes_on() -> None:
    generator = small_generator()
    codes, labels = generator.draw(3, 9), torch.tensor([0, 1, 1])
    whole, last = generator(codes, labels)
    later, after = generator(codes, labels, skip=6)
    assert torch.allclose(later, whole[:, 6:], atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(last, after, strict=True))
    model = build(later=3)
    model.train()
    shapes = set()
    head = model.head("clip")
    assert isinstance(head, Generate)
    head.generator.register_forward_hook(lambda m, given, out: shapes.add(given[0].motion.shape[1]))
    for seed in range(30):
        torch.manual_seed(seed)
        assert model(batch(), "model")[0]["clip"].isfinite()
    assert shapes == {6, 12, 18, 24}


# ---------------------------------------------------------------------------------------------------- two players


def test_players_share_no_weight_and_together_have_all() -> None:
    model = build()
    players = model.players()
    assert set(players) == {"model", "clip"}
    ours, theirs = ({id(p) for p in players[name]} for name in ("model", "clip"))
    assert not ours & theirs
    head = model.head("clip")
    assert isinstance(head, Generate)
    averaged = {id(p) for p in head.average.parameters()}
    assert ours | theirs | averaged == {id(p) for p in model.parameters()} and not (ours | theirs) & averaged


@pytest.mark.parametrize("game", [{"game": "hinge"}, {"game": "relativistic", "penalty": 1.0, "penalty_share": 1.0}])
def test_each_player_moves_its_own_weights_alone(game: Any) -> None:
    model = build(**game)
    model.train()
    players = model.players()
    for player, other in (("model", "clip"), ("clip", "model")):
        model.zero_grad(set_to_none=True)
        terms, _ = model(batch(), player)
        torch.stack(list(terms.values())).sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in players[player])
        assert all(p.grad is None for p in players[other])
        assert ("action" in terms) == (player == "model"), "a recogniser beside it learns once, not twice"
    assert set(terms) == ({"clip_critic"} | ({"clip_penalty"} if "penalty" in game else set()))


def test_what_the_players_pay_by_hand() -> None:
    real, made = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert critic_loss("hinge", real, made) == pytest.approx((0 + 0.5) / 2 + (0 + 1.25) / 2)
    assert generator_loss("hinge", real, made) == pytest.approx(-(-3.0 + 0.25) / 2)
    pairs = np.array([-3.0 - 2.0, 0.25 - 0.5])
    assert critic_loss("relativistic", real, made) == pytest.approx(np.log1p(np.exp(pairs)).mean())
    assert generator_loss("relativistic", real, made) == pytest.approx(np.log1p(np.exp(-pairs)).mean())
    x, w = torch.randn(4, 3, 2, requires_grad=True), torch.randn(3, 2)
    assert penalty((x * w).sum((1, 2)) + 7, x).item() == pytest.approx(0.5 * w.square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("core", [None, CoreSection(hidden=6), CoreSection(cell="lstm", hidden=6, bidirectional=True)])
def test_a_critic_sees_no_padding(core: CoreSection | None) -> None:
    critic = CriticSection(core=core, hidden=12).build(5, 0, 2).eval()
    x, lengths, labels = torch.randn(3, 8, 5), torch.tensor([8, 3, 5]), torch.tensor([0, 1, 1])
    zeroed = Padded(x, lengths).zeroed().data
    short = [critic(zeroed[i : i + 1, : int(lengths[i])], lengths[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert torch.allclose(torch.cat(short), critic(zeroed, lengths, labels), atol=1e-5)
    nothing = critic(torch.zeros(1, 4, 5), torch.tensor([0]), labels[:1])
    assert float(nothing.abs()) < 100, "of a sequence of nothing it knows nothing"


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_penalty_passes_through_a_recurrent_critic(cell: Any) -> None:
    critic = CriticSection(core=CoreSection(cell=cell, hidden=6), spectral=False, hidden=12).build(5, 0, 0).train()
    x, lengths, labels = torch.randn(3, 6, 5), torch.tensor([6, 6, 6]), torch.zeros(3, dtype=torch.int64)
    terms = critics_turn(
        "clip", "hinge", lambda side: [critic(side.sequences, lengths, labels)], (Side(x, None), Side(x + 1, None)),
        gamma=1.0, share=1.0, is_training=True, is_recurrent=True,
    )  # fmt: skip
    terms["clip_penalty"].backward()
    assert all(p.grad is not None for name, p in critic.core.named_parameters() if "hh" in name)  # type: ignore[union-attr]


def test_spectral_norm_holds_every_layer_of_the_critic() -> None:
    critic = CriticSection(hidden=12).build(5, 16, 2)
    critic.train()
    x, lengths, labels = torch.randn(2, 4, 5), torch.tensor([4, 4]), torch.tensor([0, 1])
    with torch.no_grad():
        for _ in range(60):
            critic(x, lengths, labels)
            critic.of_pictures(torch.randn(2, 3, 16, 16), labels)
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    largest = [float(torch.linalg.matrix_norm(m.weight.flatten(1), 2)) for m in layers]
    assert len(layers) > 8 and max(largest) < 1.1


def test_a_disguise_is_the_same_for_every_frame_and_differs_between_clips() -> None:
    torch.manual_seed(0)
    one = torch.rand(1, 1, 3, 16, 16).expand(2, 5, 3, 16, 16) * 2 - 1
    worn = disguise(one, 1.0)
    assert worn.shape == one.shape and torch.equal(worn[:, :1].expand_as(worn), worn)
    assert not torch.allclose(worn[0], worn[1]) and not torch.allclose(worn, one)
    assert disguise(one, 0.0) is one
    x = torch.randn(2, 5, 4, requires_grad=True)
    disguise(x, 1.0).sum().backward()
    assert x.grad is not None and (x.grad.abs() > 0).all(), "the gradient passes"


# ---------------------------------------------------------------------------------------------------- what is made


def test_parts_are_the_whole_however_long() -> None:
    torch.manual_seed(0)
    for generator in (small_generator(), small_writer()):
        generator.eval()
        codes, labels = generator.draw(2, 40), torch.tensor([1, 0])
        with torch.no_grad():
            torch.manual_seed(7)
            whole, last = generator(codes, labels)
            torch.manual_seed(7)
            parts, state = [], None
            for start in (0, 13, 26):
                stop = {0: 13, 13: 26, 26: 40}[start]
                made, state = generator(codes._replace(motion=codes.motion[:, start:stop]), labels, state)
                parts.append(made)
        assert state is not None
        assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)
        assert torch.allclose(state[0], last[0], atol=1e-5)


def test_evidence_of_the_same_rows_is_the_same_and_of_others_is_not_their_copy() -> None:
    model = build().eval()
    head = model.head("clip")
    assert isinstance(head, Generate)
    one = batch()
    seen = model.watch(one.raw)
    first, again, other = (
        [e.made for e in head.evidence(seen, replace(one, sources=names))] for names in ("abc", "abc", "def")
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.allclose(a, b) for a, b in zip(first, other, strict=True))


def test_content_stays_and_movement_moves() -> None:
    torch.manual_seed(0)
    maker = FrameMaker(content_size=6, motion_size=8, size=16, channels=8).eval()
    content, motion = torch.randn(2, 6), torch.randn(2, 3, 8)
    with torch.no_grad():
        made = maker(content, motion)
        again = maker(content, motion[:, [2, 1, 0]])
    assert made.shape == (2, 3, 3, 16, 16) and made.abs().max() <= 1
    assert torch.allclose(made.flip(1), again, atol=1e-5), "a frame depends on its own step's movement alone"
    same = small_generator().eval()
    codes = same.draw(1, 6)
    with torch.no_grad():
        moved = [
            same(codes._replace(content=c), torch.zeros(1, dtype=torch.int64))[1]
            for c in (codes.content, -codes.content)
        ]
    assert torch.equal(moved[0][0], moved[1][0]), "what is shown changes no movement"


def test_without_the_core_a_step_knows_nothing_of_the_one_before() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1, dtype=torch.int64)
    for motion, is_same in (("independent", True), ("core", False)):
        generator = small_generator(motion).eval()
        codes = generator.draw(1, 5)
        noise = codes.motion.clone()
        noise[:, 0] = 9
        with torch.no_grad():
            one, other = (generator(codes._replace(motion=m), labels)[0] for m in (codes.motion, noise))
        assert torch.allclose(one[:, 1:], other[:, 1:]) == is_same


@pytest.mark.parametrize("averaging", [0.9, 0.25])
def test_the_average_follows_by_its_rule(averaging: float) -> None:
    model = build(averaging=averaging)
    head = model.head("clip")
    assert isinstance(head, Generate)
    model.train()
    expected: Tensor | None = None
    for count in range(12):
        now = head.generator.begin.weight.detach().clone()
        kept = min(averaging, (1 + count) / (10 + count))
        expected = now if expected is None else kept * expected + (1 - kept) * now
        head.loss(model.watch(batch().raw), batch(), "model")
        with torch.no_grad():
            head.generator.begin.weight.add_(1.0)
    assert expected is not None
    assert torch.allclose(head.average.module.begin.weight, expected, atol=1e-6)
    model.eval()
    head.loss(model.watch(batch().raw), batch(), "model")
    assert torch.allclose(head.average.module.begin.weight, expected, atol=1e-6), "looking on changes nothing"


def test_a_verdict_says_who_has_won_and_what_to_do() -> None:
    head = build().head("clip")
    assert isinstance(head, Generate)
    assert head.verdict({"loss/clip_critic": 1.2}) == ""
    assert "has won" in head.verdict({"loss/clip_critic": 0.001}) and "opponent_lr" in head.verdict(
        {"loss/clip_critic": 0.001}
    )
    assert "has lost" in head.verdict({"loss/clip_critic": 5.0})


# ---------------------------------------------------------------------------------------------------- the one loop


class _Toy:
    """The toy training with a generate head."""

    def __init__(self, folder: Path) -> None:
        self.toy = make_toy(folder)
        for part in (self.toy.train, self.toy.val, self.toy.test):
            part.targets["clip"] = part.targets["action"]

    def model(self, seed: int = 0, alone: float = 0.0) -> Model:
        width = self.toy.train.source.read(self.toy.train.rows[0], 0, 1)[0].shape[1]
        return build(width, seed, disguise=0.5, penalty=1.0, penalty_share=0.5, alone=alone)


def _bytes(model: Model) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("alone", [0.0, 0.5])
def test_interrupted_and_resumed_both_players_are_bit_equal(tmp_path: Path, alone: float) -> None:
    made = _Toy(tmp_path / "series")
    toy, plan = made.toy, replace(PLAN, epochs=3, save_every=3, show_every=5, betas=(0.0, 0.99), opponent_lr=2.0)
    whole = made.model(alone=alone)
    toy.fit(whole, tmp_path / "whole", plan, val=False)
    for at in (20, 60):
        with pytest.raises(Interrupted):
            toy.fit(made.model(alone=alone), tmp_path / "broken", plan, val=False, train=SignalAt(toy.train, at, signal.SIGTERM),
                    from_step=saved_step(tmp_path / "broken"))  # fmt: skip
    broken = made.model(seed=5, alone=alone)
    toy.fit(broken, tmp_path / "broken", plan, val=False, from_step=saved_step(tmp_path / "broken"))
    assert _bytes(whole) == _bytes(broken), "both players, the average, and what spectral norms remember"
    names = sorted(p.name for p in (tmp_path / "whole/samples").iterdir())
    assert names == [f"clip_{step:07d}.png" for step in (5, 10, 15)]
    assert [(tmp_path / "whole/samples" / n).read_bytes() for n in names] == [
        (tmp_path / "broken/samples" / n).read_bytes() for n in names
    ]
    state = torch.load(tmp_path / "whole" / STATE, weights_only=True)
    assert set(state["movers"]) == {"model", "clip"}
    assert any("average" in name for name in state["model"]) and any(name.endswith("._u") for name in state["model"])


@pytest.mark.parametrize(("scores", "best"), [((0.1, 0.9, 0.1, 0.2), 1), ((math.nan,) * 4, 3)])
def test_the_best_epoch_is_what_it_makes_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...], best: int
) -> None:
    """The average learns by no gradient, and it is what makes sequences. Where no score is known the last epoch is kept: a game's losses, which
    rise here, do not compare.
    """
    made, then = _Toy(tmp_path / "series"), list[dict[str, bytes]]()

    def told(model: Model, *_: Any, **__: Any) -> Judged:
        score = scores[len(then)]
        then.append(_bytes(model))
        monkeypatch.setattr(Judged, "metrics", lambda self: {"clip": {"closeness": score}})
        return Judged(float(len(then)), {"clip": []}, {"clip": model.head("clip")})

    monkeypatch.setattr(fit_file, "judge", told)
    model = made.model()
    now = made.toy.fit(model, tmp_path / "run", replace(PLAN, epochs=4))
    assert now.best_epoch == best and len(then) == 4
    kept = {name: value for name, value in _bytes(model).items() if name.startswith("heads.")}
    of = [{name: epoch[name] for name in kept} for epoch in then]
    assert kept == of[best] and [one == kept for one in of].count(True) == 1


def test_a_game_that_is_over_stops_and_says_why(tmp_path: Path) -> None:
    made, said = _Toy(tmp_path / "series"), []
    model = made.model()
    head = model.head("clip")
    assert isinstance(head, Generate)
    head.verdict = lambda means: "the critic of 'clip' has won"  # type: ignore[method-assign]
    now = made.toy.fit(model, tmp_path / "run", replace(PLAN, epochs=9), val=False, say=said.append)
    assert now.is_finished and now.step == 20 < 9 * 6
    assert said[-1] == "stopped at step 20, after 20 rows like this: the critic of 'clip' has won"


def test_two_processes_keep_both_players_equal(tmp_path: Path) -> None:
    script = Path(__file__).parent / "two_players.py"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert one == other and len(one["digest"]) == 64 and one["steps"] == 18
