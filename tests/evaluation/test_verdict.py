"""The verdict in words: each rule on results that are made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_training import make_series

from pipeline.commands.evaluate import evaluate
from pipeline.commands.train import train
from pipeline.config.run import load_config
from pipeline.evaluation.report import table
from pipeline.evaluation.verdict import TestItems, Verdict, floors, judge, sentences
from pipeline.metrics.bootstrap import wilson_interval

CLASSES = ("rise", "fall", "wave")


def items_of(count: int = 60, groups: int | None = 10) -> TestItems:
    """Items of three classes in turn, and their groups in turn."""
    names = [None if groups is None else f"person {i % groups}" for i in range(count)]
    return TestItems([f"clip {i}.mp4" for i in range(count)], names, [CLASSES[i % 3] for i in range(count)])


def row_of(items: TestItems, model: str, num_wrong: int, order: str = "forward", **more: Any) -> dict[str, Any]:
    """A model that is wrong on the first items: it predicts the next class."""
    true = [CLASSES.index(label) for label in items.labels]
    predicted = [(label + 1) % 3 if i < num_wrong else label for i, label in enumerate(true)]
    correct = [a == b for a, b in zip(predicted, true, strict=True)]
    return {"model": model, "order": order, "predicted": predicted, "correct": correct, **more}


def verdict_of(
    items: TestItems, wrong: int, rivals: Sequence[tuple[str, int]] = (), shuffled: int | None = None
) -> Verdict:
    rows = [row_of(items, "gru", wrong)]
    rows += [] if shuffled is None else [row_of(items, "gru", shuffled, "shuffled")]
    return judge([*rows, *(row_of(items, name, count) for name, count in rivals)], items, CLASSES, "rise")


def text_of(verdict: Verdict) -> str:
    return "\n".join(sentences(verdict, "group"))


@pytest.mark.parametrize(
    ("wrong", "rival", "word"),
    [(2, 40, "better"), (40, 2, "worse"), (10, 10, "no different"), (10, 11, "no different"), (11, 10, "no different")],
)
def test_better_and_worse_are_said_only_where_the_interval_leaves_out_0(wrong: int, rival: int, word: str) -> None:
    verdict = verdict_of(items_of(), wrong, [("mean-pool linear", 59), ("mean-pool MLP", rival)])
    best = verdict.rival
    assert best is not None and best.other == "mean-pool MLP" and best.word == word
    assert best.difference == pytest.approx((rival - wrong) / 60) and best.accuracy == pytest.approx(1 - rival / 60)
    assert best.low <= best.difference <= best.high and (best.low > 0 or best.high < 0) == (word != "no different")
    assert f"gru against the best rival, mean-pool MLP: {1 - wrong / 60:.3f} and {1 - rival / 60:.3f}" in text_of(
        verdict
    )
    assert f": {word}\n" in text_of(verdict)


def test_the_interval_is_by_group_and_not_by_item() -> None:
    """One person of six accounts for the whole difference: by item it would be 'better'."""
    items = TestItems([str(i) for i in range(60)], [f"p{i // 10}" for i in range(60)], ["rise"] * 60)
    rows = [row_of(items, "gru", 0), row_of(items, "mean-pool MLP", 10)]
    rival = judge(rows, items, CLASSES, None).rival
    assert rival is not None and rival.word == "no different" and rival.low == 0
    by_item = TestItems(items.paths, [None] * 60, items.labels)
    rival = judge(rows, by_item, CLASSES, None).rival
    assert rival is not None and rival.word == "better"


def test_equal_answers_have_an_interval_and_not_a_point() -> None:
    rival = verdict_of(items_of(), 0, [("mean-pool MLP", 0)]).rival
    most = wilson_interval(0, 10)[1]
    assert rival is not None and (rival.low, rival.high) == (-most, most) and most > 0.2
    rival = verdict_of(items_of(), 0, [("mean-pool MLP", 60)]).rival
    assert rival is not None and rival.other == "majority class" and rival.accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize(("count", "groups"), [(29, 10), (60, 4)])
def test_below_30_items_or_5_groups_it_is_too_few_to_tell(count: int, groups: int) -> None:
    verdict = verdict_of(items_of(count, groups), 0, [("mean-pool MLP", count - 1)], shuffled=count - 1)
    assert verdict.rival is not None and verdict.rival.word == verdict.order == "too few to tell"
    assert verdict.next_step.startswith("more videos of more groups") and "too few to tell" in text_of(verdict)
    assert f"tested on {count} test items; {groups} groups; split: group" in text_of(verdict)
    enough = verdict_of(items_of(30, 5), 0, [("mean-pool MLP", 29)], shuffled=29)
    assert enough.rival is not None and enough.rival.word == "better" and enough.order == "matters"


def test_windows_of_one_video_are_one_item() -> None:
    items = TestItems(["a.mp4"] * 40 + ["b.mp4"] * 40, [None] * 80, ["rise"] * 40 + ["fall"] * 40)
    verdict = verdict_of(items, 0, [("mean-pool MLP", 70)])
    assert (verdict.num_items, verdict.num_groups) == (2, 2)
    assert verdict.rival is not None and verdict.rival.word == "too few to tell"
    assert verdict.small_classes == {"rise": 1, "fall": 1, "wave": 0}


@pytest.mark.parametrize(
    ("rival", "shuffled", "order"),
    [
        (40, 40, "matters"),
        (40, 2, "does not matter"),  # the rival is worse, and yet the model does not need the order
        (2, 40, "does not matter"),  # mean pooling is as good
        (40, None, "not measured"),
        (None, 40, "not measured"),  # the majority class alone says nothing about the order
    ],
)
def test_order_matters_only_if_forward_beats_shuffled_and_the_best_order_blind_rival(
    rival: int | None, shuffled: int | None, order: str
) -> None:
    rivals = [] if rival is None else [("mean-pool linear", 50), ("mean-pool MLP", rival)]
    verdict = verdict_of(items_of(), 2, rivals, shuffled)
    assert verdict.order == order and f"order of the steps: {order}" in text_of(verdict)


def test_a_rival_that_sees_the_order_says_nothing_about_the_order() -> None:
    items = items_of()
    rows = [
        row_of(items, "gru", 2),
        row_of(items, "gru", 40, "shuffled"),
        row_of(items, "mean-pool MLP", 40),
        row_of(items, "TCN", 1, is_order_blind=False),
    ]
    verdict = judge(rows, items, CLASSES, None)
    assert verdict.rival is not None and verdict.rival.other == "TCN" and verdict.rival.word == "no different"
    assert verdict.order == "matters"


def test_the_next_step_follows_the_comparison() -> None:
    worse = verdict_of(items_of(), 40, [("mean-pool MLP", 2)])
    assert worse.next_step == "use the rival: it lies in baselines/mean-pool_MLP of the run"
    assert verdict_of(items_of(), 60).next_step.startswith("look at the data: the most frequent class alone is better")
    no_groups = verdict_of(items_of(groups=None), 2, [("mean-pool MLP", 40)])
    assert no_groups.next_step.startswith("give groups") and "no groups are known" in text_of(no_groups)
    assert verdict_of(items_of(), 2, [("mean-pool MLP", 2)]).next_step.startswith("another sense")
    assert verdict_of(items_of(), 3, [("mean-pool MLP", 40)]).next_step.startswith("more training videos of fall and ")
    assert verdict_of(items_of(), 0, [("mean-pool MLP", 40)]).next_step.startswith("test on new groups")
    assert all(text_of(v).count("next: ") == 1 for v in (worse, no_groups))


def test_small_classes_the_most_confused_pair_and_the_wrong_clips_are_named() -> None:
    labels = ["rise"] * 40 + ["fall"] * 20 + ["wave"] * 4
    items = TestItems([f"{i}.mp4" for i in range(64)], [f"p{i % 8}" for i in range(64)], labels)
    predicted = [1] * 3 + [0] * 37 + [0] * 2 + [1] * 18 + [0] + [2] * 3
    correct = [CLASSES[p] == label for p, label in zip(predicted, labels, strict=True)]
    verdict = judge(
        [{"model": "gru", "order": "forward", "predicted": predicted, "correct": correct}], items, CLASSES, "rise"
    )
    assert verdict.small_classes == {"wave": 4} and verdict.confused == ("fall", "rise", 5)
    assert verdict.wrong[0] == ("0.mp4", "rise", "fall") and len(verdict.wrong) == 6
    text = text_of(verdict)
    assert "fewer than 5 test items, so little is known about: wave (4)" in text
    assert "most confused: fall and rise, 5 of 6 mistakes" in text
    assert "wrong: 0.mp4 (rise, predicted fall), 1.mp4" in text and "60.mp4 (wave, predicted rise)" in text
    assert "no other rival was trained" in text
    five = TestItems(list("abcdefghi"), [None] * 9, ["rise"] * 5 + ["fall"] * 4)
    assert verdict_of(five, 0).small_classes == {"fall": 4, "wave": 0}, "5 are enough"
    many = text_of(verdict_of(items_of(), 25))
    assert "clip 9.mp4" in many and "clip 10.mp4" not in many and ", and 15 more in report.json" in many


def test_chance_and_the_majority_class_are_those_of_counting() -> None:
    items = TestItems(list("abcd"), [None] * 4, ["rise", "rise", "rise", "fall"])
    majority, chance = floors(items, CLASSES, "rise")
    assert (majority["accuracy"], majority["mean_class_accuracy"]) == (0.75, 0.5)
    assert chance["accuracy"] == chance["mean_class_accuracy"] == pytest.approx(1 / 3)
    assert [line["model"] for line in floors(items, CLASSES, None)] == ["chance"]


def settings_of(tmp_path: Path, *overrides: str) -> list[str]:
    return [
        "encoder.kind=series",
        "clock.rate=10",
        "core.hidden=8",
        "training.epochs=2",
        "training.device=cpu",
        "tracking.wandb=off",
        f"data.path={tmp_path}/series/manifest.jsonl",
        f"run={tmp_path}/run",
        *overrides,
    ]


def test_a_run_has_its_verdict_and_its_warnings_in_both_reports(tmp_path: Path) -> None:
    make_series(tmp_path / "series", 50)
    lines: list[str] = []
    finished = train(
        load_config(None, settings_of(tmp_path, "data.validation_share=0", "evaluation.cross_calibrate=false")),
        lines.append,
    )
    report = json.loads((finished.folder / "report.json").read_text())
    text = (finished.folder / "report.txt").read_text()
    (head,) = report["verdict"]
    verdict, rows, items = report["verdict"][head], report["rows"], report["test_items"][head]
    assert all(len(row["correct"]) == len(items["paths"]) == row["count"] for row in rows)
    assert all(np.mean(row["correct"]) == pytest.approx(row["accuracy"]) for row in rows)
    assert verdict["accuracy"] == pytest.approx(rows[0]["accuracy"]) and verdict["num_items"] == rows[0]["count"]
    assert verdict["rival"]["other"] in ("mean-pool linear", "mean-pool MLP", "majority class")
    for line in verdict["text"]:
        assert line in text and line in table(report)
    assert text.count("\nmajority class") == text.count("\nchance") == 1
    other = {**report, "rows": [{**rows[0], "head": "timeline"}], "verdict": {}}
    assert "verdict on timeline: none; only heads of kind classify are compared" in table(other)
    assert "verdict on action: none" not in text
    assert text.startswith("only ") and "test items" in text.splitlines()[0], "a small table says so first"
    warned = [line for line in lines if "not calibrated" in line]
    assert warned and report["warnings"] and all(warning in text for warning in report["warnings"])
    again = evaluate(finished.folder, [], lambda line: None).report
    assert again["floors"] == report["floors"]
    all_tested = evaluate(finished.folder, ["data.split=test"], lambda line: None).report
    assert all_tested["counts"] == {"test": 50} and all_tested["floors"][head][0]["model"] == "majority class"
    assert all_tested["warnings"], "the test rows that the model was trained on are named in the report too"


def test_one_class_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    make_series(tmp_path / "series", 20)
    manifest = tmp_path / "series/manifest.jsonl"
    rows = [{**json.loads(line), "label": "wave"} for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(ValueError, match=r"All \d+ training rows of .* have the one class 'wave', so .*Add videos of"):
        train(load_config(None, settings_of(tmp_path)), lambda line: None)
    assert not (tmp_path / "run/metrics.jsonl").exists()
