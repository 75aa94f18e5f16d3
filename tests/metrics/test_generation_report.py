"""The scores that a generate head reports of itself, and its files: real sequences get 1, noise 0, unknown scores are
nan.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.evaluation.evaluate_dataset import Evaluation
from pipeline.metrics.generation_report import scores_of_sequences
from pipeline.writers.generated import MAX_SHEET_WIDTH, write_sequences


def walks(count: int, seed: int, kinds: int = 1) -> list[np.ndarray]:
    """Smooth sequences (10, 6); several kinds take turns, each with another mean and another speed."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        kind = number % kinds
        phase = random.uniform(0, 2 * np.pi, 6)
        found.append(np.sin(np.arange(10)[:, None] * (0.3 + kind) + phase) + 5 * kind)
    return found


@pytest.mark.parametrize("kinds", [1, 2])
def test_real_sequences_get_one_and_noise_zero_in_any_order_of_the_rows(kinds: int) -> None:
    real, random = walks(200, 0, kinds), np.random.default_rng(2)
    steps = np.concatenate(real)
    garbage = [random.normal(steps.mean(0), steps.std(0), one.shape) for one in real]
    assert scores_of_sequences(real, walks(200, 1, kinds))["frechet_change_score"] == pytest.approx(1, abs=0.05)
    assert scores_of_sequences(real, garbage)["frechet_change_score"] == pytest.approx(0, abs=0.1)
    frozen = [np.repeat(one[:1], 10, 0) for one in walks(200, 1, kinds)]
    assert scores_of_sequences(real, frozen)["frechet_change_score"] < 0.5


def test_sequences_that_do_not_move_or_are_too_few_have_no_score() -> None:
    still = [np.ones((10, 6)) * number for number in range(8)]
    assert math.isnan(scores_of_sequences(still, walks(8, 0))["frechet_change_score"])
    assert math.isnan(scores_of_sequences(walks(3, 0), walks(3, 1))["frechet_change_score"])
    with pytest.raises(ValueError, match="NaN"):
        scores_of_sequences([*walks(4, 0), np.full((10, 6), np.nan)], walks(5, 0))


def test_the_score_of_an_epoch_is_that_of_the_first_head_and_an_unknown_one_loses() -> None:
    class ConstantHead:
        def __init__(self, value: float) -> None:
            self.monitor, self.value = "score", value

        def metrics(self, results: object) -> dict[str, float]:
            return {"score": self.value}

    def score(*values: float) -> float:
        heads = {str(number): ConstantHead(value) for number, value in enumerate(values)}
        return Evaluation(0.0, {name: [] for name in heads}, heads).score  # type: ignore[arg-type]

    assert score(0.5, 0.7) == 0.5 and score(0.5, math.nan) == 0.5
    assert score(math.nan) == score(math.nan, 0.7) == -math.inf


@pytest.mark.parametrize("name", ["sit/stand_seed0_000", "../x_seed0_000", "跑" * 90 + "_seed0_000"])
def test_no_class_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    clip = np.zeros((3, 16, 16, 3), np.uint8)
    written = write_sequences(tmp_path / "out", ("mp4", "gif", "png"), [name, name[:-1] + "1"], [clip, clip], 5)
    assert all(path.parent == tmp_path / "out" and path.stat().st_size for path in written) and len(set(written)) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_sheet_shows_as_many_frames_as_an_image_holds(tmp_path: Path) -> None:
    clip = np.zeros((MAX_SHEET_WIDTH // 16 + 50, 16, 16, 3), np.uint8)
    write_sequences(tmp_path, ("png",), ["x"], [clip], 5)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.shape == (16, MAX_SHEET_WIDTH // 16 * 16, 3)
    write_sequences(tmp_path / "few", ("png",), ["x"], [clip[:9]], 5)
    few = cv2.imread(str(tmp_path / "few/sheet.png"))
    assert few is not None and few.shape == (16, 9 * 16, 3)
