"""Adversarial heads in the training loop: resumed trainings, the best epoch, a failed training, and two processes."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torchrun import torchrun
from toy_generate import GenerateToy, features_head, state_bytes
from toy_training import SETTINGS, SignalAt, metric_rows

import pipeline.training.fit as fit_file
from pipeline.data.dataset import RowDataset
from pipeline.data.vocabulary import Vocabulary
from pipeline.evaluation.evaluate_dataset import Evaluation
from pipeline.heads.targets import ConditionTarget, LabelTarget
from pipeline.models.model import Model
from pipeline.training.distributed import draw_of_step
from pipeline.training.resume import RESUME_FILE, saved_step
from pipeline.training.stop_signal import Interrupted


@pytest.mark.parametrize("pretrain_share", [0.0, 0.5])
def test_an_interrupted_and_resumed_training_gives_bit_equal_players(tmp_path: Path, pretrain_share: float) -> None:
    made = GenerateToy(tmp_path / "series")
    toy, whole = made.toy, made.model(pretrain_share=pretrain_share)
    update = {"epochs": 3, "save_every": 3, "sample_every": 5, "betas": (0.0, 0.99), "critic_lr_factor": 2.0}
    settings = SETTINGS.model_copy(update=update)
    toy.fit(whole, tmp_path / "whole", settings, val=False)
    resumed = tmp_path / "resumed"
    for at in (20, 60):
        with pytest.raises(Interrupted):
            toy.fit(
                made.model(pretrain_share=pretrain_share),
                resumed,
                settings,
                val=False,
                train=SignalAt(toy.train, at, signal.SIGTERM),
                from_step=saved_step(resumed),
            )
    last = made.model(seed=5, pretrain_share=pretrain_share)
    toy.fit(last, resumed, settings, val=False, from_step=saved_step(resumed))
    assert state_bytes(whole) == state_bytes(last), "both players, the average, and the vectors of spectral norms"
    samples = [{p.name: p.read_bytes() for p in (tmp_path / run / "samples").iterdir()} for run in ("whole", "resumed")]
    assert sorted(samples[0]) == [f"clip_{step:07d}.png" for step in (5, 10, 15)] and samples[0] == samples[1]
    state = torch.load(tmp_path / "whole" / RESUME_FILE, weights_only=True)
    assert set(state["optimizers"]) == {"model", "clip"}
    assert any("average" in name for name in state["model"]) and any(name.endswith("._u") for name in state["model"])


def test_numbers_of_two_players_are_never_added_up(tmp_path: Path) -> None:
    made = GenerateToy(tmp_path / "series")
    settings = SETTINGS.model_copy(update={"epochs": 1, "critic_lr_factor": 2.0})
    made.toy.fit(made.model(), tmp_path / "run", settings, val=False)
    rows = metric_rows(tmp_path / "run", "train")
    of_model = {"loss", "grad_norm", "lr"}
    of_critic = {"critic_loss/clip", "critic_grad_norm/clip", "critic_lr/clip"}
    critic_terms = {"loss/clip_critic", "loss/clip_gradient_penalty"}
    for row in rows:
        assert set(row) >= of_model | of_critic
        terms = {key: value for key, value in row.items() if key.startswith("loss/")}
        assert row["loss"] == pytest.approx(sum(v for key, v in terms.items() if key not in critic_terms), rel=1e-5)
        assert row["critic_loss/clip"] == pytest.approx(sum(terms.get(key, 0) for key in critic_terms), rel=1e-5)
        assert row["critic_lr/clip"] == pytest.approx(2 * row["lr"])
    assert any(row["grad_norm"] != row["critic_grad_norm/clip"] for row in rows)


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (0.5, 9), (0.8, 14)])
def test_the_critic_takes_part_after_its_share_of_the_steps(tmp_path: Path, share: float, first: int) -> None:
    made = GenerateToy(tmp_path / "series")
    made.toy.fit(made.model(pretrain_share=share), tmp_path / "run", SETTINGS, val=False)
    rows = metric_rows(tmp_path / "run", "train")
    assert [row["step"] for row in rows] == list(range(1, 19))
    assert [row["step"] for row in rows if "critic_loss/clip" in row] == list(range(first + 1, 19))


def test_processes_that_load_samples_change_no_result_of_a_gan(tmp_path: Path) -> None:
    made = GenerateToy(tmp_path / "series")
    settings = SETTINGS.model_copy(update={"epochs": 2, "betas": (0.0, 0.99)})
    models = made.model(), made.model()
    labels = Vocabulary.of(row.label for row in made.toy.train.rows if row.label)
    targets = {"clip": ConditionTarget(labels), "action": LabelTarget(labels)}
    for workers, model in zip((0, 2), models, strict=True):
        train = RowDataset(made.toy.train.rows, made.toy.train.source, targets, window=9)
        made.toy.fit(model, tmp_path / str(workers), settings, val=False, train=train, workers=workers)
    assert state_bytes(models[0]) == state_bytes(models[1])


@pytest.mark.parametrize(("scores", "best"), [((0.1, 0.9, 0.1, 0.2), 1), ((math.nan,) * 4, 3)])
def test_the_average_of_the_best_epoch_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...], best: int
) -> None:
    """The average has no gradient, and it generates. Without a score the last epoch is kept, although its loss is
    highest: losses of an adversarial training do not compare.
    """
    made, states = GenerateToy(tmp_path / "series"), list[dict[str, bytes]]()

    def evaluate(model: Model, *_: Any, **__: Any) -> Evaluation:
        score = scores[len(states)]
        states.append(state_bytes(model))
        monkeypatch.setattr(Evaluation, "metrics", lambda self: {"clip": {"frechet_change_score": score}})
        return Evaluation(float(len(states)), {"clip": []}, {"clip": model.head("clip")})

    monkeypatch.setattr(fit_file, "evaluate_dataset", evaluate)
    model = made.model()
    progress = made.toy.fit(model, tmp_path / "run", SETTINGS.model_copy(update={"epochs": 4}))
    assert progress.best_epoch == best and len(states) == 4
    kept = {name: value for name, value in state_bytes(model).items() if name.startswith("heads.")}
    of_epochs = [{name: state[name] for name in kept} for state in states]
    assert kept == of_epochs[best] and [state == kept for state in of_epochs].count(True) == 1


def test_a_failed_adversarial_training_stops_and_says_why(tmp_path: Path) -> None:
    made, lines = GenerateToy(tmp_path / "series"), list[str]()
    model = made.model()
    features_head(model).stop_reason = lambda means: "the critic of 'clip' has won"  # type: ignore[method-assign]
    settings = SETTINGS.model_copy(update={"epochs": 9})
    progress = made.toy.fit(model, tmp_path / "run", settings, val=False, log=lines.append)
    assert progress.is_finished and progress.step == 20 < 9 * 6
    assert lines[-1] == "stopped at step 20, because 20 log rows in a row say: the critic of 'clip' has won"


def test_two_processes_keep_both_players_equal(tmp_path: Path) -> None:
    torchrun("two_players.py", tmp_path, timeout=300)
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert one == other and len(one["digest"]) == 64 and one["steps"] == 18
    rows = metric_rows(tmp_path / "run", "train")
    with_penalty = [row["step"] - 1 for row in rows if row["loss/clip_gradient_penalty"] > 0]
    assert with_penalty == [step for step in range(18) if draw_of_step(0, step) < 0.5], "both in the same steps"
