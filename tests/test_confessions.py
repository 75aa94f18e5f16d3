"""What was chosen on the items that it is reported on stands beside each figure, in README, results.md and configs."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs/results.md").read_text(encoding="utf-8")
CHOSEN = {
    "yoga6/action": "rate",
    "yoga6/direction": "rate",
    "yoga6/timeline": "min_seconds",
    "tennis_pose/action": "mirror",
    "rt_polarity/sentiment": "pool",
    "puppets/generate": "truncation",
}
"""The configs whose settings were chosen on the items that are reported, and one of these settings."""
RIVALS = ("0.954", "0.943", "0.928", "0.918 / 0.912", "0.840 / 0.854 / 0.884", "0.877", "0.881", "0.787", "0.979")
"""Rivals that an outside review measured."""


@pytest.mark.parametrize("config", CHOSEN)
def test_the_header_of_a_config_says_what_was_chosen_on_the_reported_items(config: str) -> None:
    text = (ROOT / f"configs/{config}.yaml").read_text(encoding="utf-8")
    header = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert CHOSEN[config] in header.split("Chosen here:")[1]


def test_the_readme_has_a_column_for_it() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in README.splitlines() if line.startswith("| ")]
    results = [row for row in rows if len(row) == 6]
    assert results[0][4] == "chosen here" and len(results) > 10
    chosen = {row[5].split("`")[1] for row in results[1:] if row[4]}
    assert chosen >= {"yoga6", "real-order", "timeline-real", "pose", "unknown", "sentiment", "gan-frames"}


@pytest.mark.parametrize("page", [README, RESULTS], ids=["README", "results"])
def test_figures_of_the_review_are_marked_and_the_mark_is_explained(page: str) -> None:
    for figure in RIVALS:
        after = [text[:60] for text in page.split(figure)[1:]]
        assert any("†" in text for text in after), f"{figure} is not marked"
    assert "outside review measured in November 2026" in page and "command here repeats" in " ".join(page.split())
    assert "first frame alone" in page
