"""The bars of the promises: with the work replaced by made figures, each bar holds at its value and not beyond it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import forecasts
import gan_first_frames
import gan_frames
import probe_tasks
import proof_tools
import pytest
import recognition
import recurrent_probes
import tennis_pose
import text_tasks
import timelines
import unknown_classes

Report = dict[str, Any]
Case = tuple[dict[str, float], bool]
MEAN_POOL = ("mean-pool linear", "mean-pool MLP")


class Made(NamedTuple):
    """What a training would give: figures of the model and of its rivals, and the seconds of all work."""

    figures: dict[str, float]
    rival: dict[str, float]
    seconds: float = 1.0

    def report(self, settings: Sequence[str]) -> Report:
        model = "lstm" if "core.cell=lstm" in settings else "gru"
        figures = {
            **self.figures,
            **{k[5:]: v for k, v in self.figures.items() if model == "lstm" and k[:5] == "lstm_"},
        }
        rows = [{"model": model, "order": o, "count": 10, **figures} for o in ("forward", *recognition.ORDERS)]
        rows += [{"model": name, "order": "forward", "count": 10, **self.rival} for name in MEAN_POOL]
        return {"rows": rows, "failed": {}}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Made], None]:
    """Replace data sets, commands, trainings and clocks by made figures."""

    def use(made: Made) -> None:
        for name in ("fresh_folder", "kept_folder"):
            monkeypatch.setattr(proof_tools, name, lambda folder: tmp_path)
        for name in ("prepare_dataset", "unreel"):
            monkeypatch.setattr(proof_tools, name, lambda *arguments, **options: SimpleNamespace(stdout="", stderr=""))
        monkeypatch.setattr(proof_tools, "Stopwatch", lambda: SimpleNamespace(seconds=made.seconds))
        reports = lambda config, jobs, processes=2: [made.report(settings) for settings in jobs]  # noqa: E731
        monkeypatch.setattr(proof_tools, "train_all", reports)

    return use


@pytest.mark.parametrize(
    ("promise", "made", "holds"),
    [
        (recognition.yoga6, Made({"accuracy": 0.97}, {"accuracy": 0.9}, 179), True),
        (recognition.yoga6, Made({"accuracy": 0.9699}, {"accuracy": 0.9}, 179), False),
        (recognition.yoga6, Made({"accuracy": 0.99}, {"accuracy": 0.9}, 180), False),
        (recognition.ucf101, Made({"accuracy": 0.94}, {"accuracy": 0.9}), True),
        (recognition.ucf101, Made({"accuracy": 0.9399}, {"accuracy": 0.9}), False),
        (recognition.real_order, Made({"accuracy": 0.75}, {"accuracy": 0.5}), True),
        (recognition.real_order, Made({"accuracy": 0.7499}, {"accuracy": 0.5}), False),
        (recognition.real_order, Made({"accuracy": 0.75}, {"accuracy": 0.5001}), False),
        (timelines.timeline, Made({"f1_50": 0.9, "lag_f1_50": 0.8, "argmax_f1_50": 0.7}, {"f1_50": 0.1}), True),
        (timelines.timeline, Made({"f1_50": 0.8999, "lag_f1_50": 0.8, "argmax_f1_50": 0.7}, {"f1_50": 0.1}), False),
        (timelines.timeline, Made({"f1_50": 0.9, "lag_f1_50": 0.7999, "argmax_f1_50": 0.7}, {"f1_50": 0.1}), False),
        (timelines.timeline_real, Made({"f1_50": 0.8, "argmax_f1_50": 0.79}, {}), True),
        (timelines.timeline_real, Made({"f1_50": 0.7999, "argmax_f1_50": 0.7}, {}), False),
        (timelines.timeline_real, Made({"f1_50": 0.85, "argmax_f1_50": 0.85}, {}), False),
    ],
)
def test_a_bar_of_recognition_holds_at_its_value_and_not_below(
    promise: Callable[[Path, int], tuple[str, bool]],
    made: Made,
    holds: bool,
    work: Callable[[Made], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work(made)
    monkeypatch.setattr(recognition, "_write_both_directions", lambda data, folder: 0)
    assert promise(Path(), 2)[1] is holds


@pytest.mark.parametrize(
    ("gru", "lstm", "rival", "holds"),
    [(0.95, 0.95, 0.6, True), (0.949, 0.99, 0.6, False), (0.99, 0.949, 0.6, False), (0.99, 0.99, 0.601, False)],
)
def test_within_the_pairs_both_cells_must_reach_the_bar_and_no_mean_may(
    gru: float, lstm: float, rival: float, holds: bool, work: Callable[[Made], None]
) -> None:
    accuracies = {"paired_accuracy": gru, "lstm_paired_accuracy": lstm, "accuracy": 0.5}
    work(Made(accuracies, {"paired_accuracy": rival, "accuracy": 0.2}))
    assert recognition.puppets_order(Path(), 1)[1] is holds


@pytest.mark.parametrize(("seconds", "correct", "holds"), [(89, 8, True), (90, 10, False), (89, 7, False)])
def test_the_own_folder_must_be_quick_and_its_answers_right(
    seconds: float,
    correct: int,
    holds: bool,
    work: Callable[[Made], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    work(Made({}, {}, seconds))
    for number in range(100):  # every tenth is asked for
        clip = tmp_path / "yoga/left" / f"{number:03d}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.touch()
    (tmp_path / "answers").mkdir()
    answers = [{"action": {"label": "left" if n < correct else "right"}} for n in range(10)]
    (tmp_path / "answers/predictions.jsonl").write_text("\n".join(map(json.dumps, answers)))
    assert recognition.own_folder(Path(), 1)[1] is holds


@pytest.mark.parametrize(("mse", "holds"), [(0.4, True), (0.4001, False)])
def test_the_bar_of_forecasts(mse: float, holds: bool, work: Callable[[Made], None], monkeypatch: pytest.MonkeyPatch):
    work(Made({}, {}))
    monkeypatch.setattr(forecasts, "_forecast_series", lambda *arguments: mse)
    keys = ("gru", "same_as_now", "most_frequent")
    monkeypatch.setattr(forecasts, "_anticipate_actions", lambda *arguments: dict.fromkeys(keys, 0.5))
    assert forecasts.forecast(Path(), 1)[1] is holds


@pytest.mark.parametrize(("gru", "ridge", "holds"), [(0.85, 0.84, True), (0.849, 0.5, False), (0.9, 0.9, False)])
def test_poses_must_reach_the_bar_and_beat_ridge_regression(
    gru: float, ridge: float, holds: bool, work: Callable[[Made], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(Made({"accuracy": gru, "mean_class_accuracy": gru}, {"accuracy": 0.1}))
    monkeypatch.setattr(tennis_pose, "_read_fold", lambda manifest, fold: SimpleNamespace(match=f"{fold}"))
    monkeypatch.setattr(tennis_pose, "_ridge", lambda fold, *, is_mirrored, **_: ridge if is_mirrored else 0.2)
    monkeypatch.setattr(tennis_pose, "_print_table", lambda folds, rows: None)
    assert tennis_pose.pose(Path(), 1)[1] is holds


@pytest.mark.parametrize(("mean", "holds"), [(0.8, True), (0.7999, False)])
def test_the_bar_of_unknown_classes(
    mean: float, holds: bool, work: Callable[[Made], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(Made({}, {}))
    monkeypatch.setattr(unknown_classes, "load_proof_config", lambda *arguments: None)
    monkeypatch.setattr(unknown_classes, "read_rows", lambda *arguments: SimpleNamespace(rows=()))
    monkeypatch.setattr(unknown_classes, "clip_results", lambda settings: [])
    monkeypatch.setattr(unknown_classes, "print_auroc", lambda *arguments: (mean, 0.1))
    for name in ("print_threshold", "print_calibration", "print_coverage"):
        monkeypatch.setattr(unknown_classes, name, lambda *arguments: None)
    assert unknown_classes.unknown(Path(), 1)[1] is holds


@pytest.mark.parametrize(("gru", "tfidf", "holds"), [(0.75, (75, 100), True), (0.75, (76, 100), False)])
def test_sentiment_must_be_as_good_as_tfidf(
    gru: float, tfidf: tuple[int, int], holds: bool, work: Callable[[Made], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(Made({"accuracy": gru}, {"accuracy": 0.5}))
    monkeypatch.setattr(text_tasks, "rows_of", lambda config, *settings: ())
    monkeypatch.setattr(text_tasks, "_count_tfidf", lambda rows: tfidf)
    assert text_tasks.sentiment(Path(), 1)[1] is holds


@pytest.mark.parametrize(("accuracy", "holds"), [(0.94, True), (0.9399, False)])
def test_the_bar_of_parts_of_speech(
    accuracy: float, holds: bool, work: Callable[[Made], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(Made({"frame_accuracy": accuracy, "span_f1": 0.1}, {"frame_accuracy": 0.1, "span_f1": 0.1}))
    monkeypatch.setattr(text_tasks, "rows_of", lambda config, *settings: ())
    monkeypatch.setattr(text_tasks, "_majority_accuracy", lambda rows: 0.1)
    assert text_tasks.tags(Path(), 1)[1] is holds


@pytest.mark.parametrize(("nats", "seconds", "holds"), [(1.47, 900, True), (1.471, 1, False), (1.4, 901, False)])
def test_the_bars_of_characters(
    nats: float, seconds: float, holds: bool, work: Callable[[Made], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made({"nats": nats, "bits_per_character": 2.0}, {}, seconds)
    work(made)
    monkeypatch.setattr(proof_tools, "read_report", lambda folder: made.report([]))
    monkeypatch.setattr(text_tasks, "load_config", lambda path: SimpleNamespace(data=SimpleNamespace(window=9)))
    assert text_tasks.shakespeare(Path(), 1)[1] is holds


GOOD = {"time": 0.7, "class": 0.9, "diversity": 0.5, "nearest": 0.5, "copied": 0.0}
GOOD |= dict.fromkeys(("pooled", "modes", "content"), 0.5)


@pytest.mark.parametrize(
    ("name", "changes", "seconds", "holds"),
    [
        ("puppets", {"time": 0.6, "class": 0.8}, 1200, True),
        ("puppets", {}, 1201, False),
        ("weizmann4", {}, 1, True),
        *(("puppets", {key: value}, 1, False) for key, value in (("time", 0.599), ("class", 0.799))),
        *(("puppets", {key: 0.499}, 1, False) for key in ("diversity", "nearest")),
        ("weizmann4", {"time": 0.45}, 1, False),  # not above generators without the core
    ],
)
def test_the_bars_of_generated_clips_hold_for_the_worst_seed(
    name: str, changes: dict[str, float], seconds: float, holds: bool
) -> None:
    rows = {"frozen frames": {"time": 0.3}, "shuffled steps": {"time": 0.55}, gan_frames.INDEPENDENT: {"time": 0.65}}
    if name == "weizmann4":
        rows["shuffled steps"] = {"time": 0.3}
    scores = [GOOD, {**GOOD, **changes}]
    assert gan_frames._compare_with_bars(name, scores, rows, seconds)[1] is holds
    rows["still pictures"] = {"time": 0.7}  # a control that is as good
    assert not gan_frames._compare_with_bars(name, scores, rows, seconds)[1]


def test_the_bars_of_continued_frames() -> None:
    names = gan_first_frames
    good = {
        names.ASKED: (0.8, 0.5),
        names.OWN: (0.8, 0.7),
        names.INSTEAD: (0.8, 0.4),
        names.FROZEN_ASKED: (1.0, 0.4),
        names.FROZEN: (1.0, 0.6),
        names.FROZEN_INSTEAD: (1.0, 0.3),
        names.REAL: (1.0, 0.9),
        names.OTHER: (0.8, 0.1),
    }

    def holds(**changes: tuple[float, float]) -> bool:
        changed = good | {getattr(names, name): values for name, values in changes.items()}
        scores = {n: SimpleNamespace(content=c, action=a, energy=1.0) for n, (c, a) in changed.items()}
        return gan_first_frames._compare_with_bars(9, scores)[1]  # type: ignore[arg-type]

    assert holds()
    for name in ("ASKED", "OWN", "INSTEAD"):
        assert not holds(**{name: (0.799, good[getattr(names, name)][1])})
    assert not holds(ASKED=(0.8, 0.499)) and not holds(OWN=(0.8, 0.6)) and not holds(INSTEAD=(0.8, 0.3))
    assert not holds(FROZEN_ASKED=(1.0, 0.5))


class NoPool:
    """Gives each training a made error: that of its cell for seed 1, half of it for others."""

    def __init__(self, errors: dict[str, float]) -> None:
        self.errors = errors

    def submit(self, function: Any, draw: Any, settings: probe_tasks.ProbeSettings, *rest: Any) -> Future[Any]:
        future: Future[Any] = Future()
        error = self.errors.get(settings.cell, 0.2) * (1.0 if settings.seed == 1 else 0.5)
        future.set_result(probe_tasks.TrainingResult(error, 100, 1.0, True))
        return future


@pytest.mark.parametrize(
    ("gru", "lstm", "seconds", "holds"),
    [(0.01, 0.01, 600, True), (0.0101, 0.001, 1, False), (0.001, 0.0101, 1, False), (0.001, 0.001, 601, False)],
)
def test_the_bars_of_the_adding_problem(
    gru: float, lstm: float, seconds: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof_tools, "Stopwatch", lambda: SimpleNamespace(seconds=seconds))
    assert recurrent_probes._adding(NoPool({"gru": gru, "lstm": lstm}), 2)[1] is holds  # type: ignore[arg-type]


def test_a_training_of_a_probe_is_done_when_it_has_reached_its_goal_and_not_when_its_time_is_over() -> None:
    draw = partial(probe_tasks.adding, 4)
    settings = probe_tasks.ProbeSettings("gru", hidden=4, batch=4, steps=250)
    easy = probe_tasks.train(draw, settings, goal=9.0, seconds=60)
    assert easy.is_done and easy.steps == 100 and easy.error <= 9.0, "it stops at the first look"
    hard = probe_tasks.train(draw, settings, goal=0.0, seconds=60)
    assert not hard.is_done and hard.steps == 250 and hard.error > 0
    out_of_time = probe_tasks.train(draw, settings, goal=0.0, seconds=0.0)
    assert not out_of_time.is_done and out_of_time.steps == 1
    exact = probe_tasks.train(draw, settings, goal=easy.error, seconds=60)
    assert exact.is_done and exact.error == easy.error, "at the goal is done"


def test_a_goal_that_was_not_reached_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    futures = []
    for is_done in (True, False):
        futures.append(future := Future())
        future.set_result(probe_tasks.TrainingResult(0.1, 100, 1.0, is_done))
    recurrent_probes._row("GRU", futures)
    assert "after 100, 100 (goal not reached) steps" in capsys.readouterr().out
