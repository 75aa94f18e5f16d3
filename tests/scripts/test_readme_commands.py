"""The proof of the README finds its commands, and results without their promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from readme import commands_of, is_right, undated_figures


def test_commands_are_the_indented_lines_that_begin_with_a_program() -> None:
    text = (
        "text with unreel in it\n    make demo     # draws\n    unreel train videos/\n    unreel/    a folder\n"
        "    scripts/   another\nunreel train no\n    python -c pass\n"
    )
    assert commands_of(text) == ["make demo", "unreel train videos/", "python -c pass"]
    with pytest.raises(AssertionError, match="belongs into docs/"):
        commands_of("    make show P=yoga6 DATA=data\n")


def test_only_the_folder_with_broken_files_may_end_with_1() -> None:
    assert is_right("make test", 0) and not is_right("make test", 1)
    assert is_right("unreel predict clips/ --model runs/videos", 1)
    assert not is_right("unreel train videos/", 1)


def test_a_result_without_promise_or_date_is_found(tmp_path: Path) -> None:
    results = tmp_path / "results.md"
    results.write_text("# Results\n\n## One\n\n| a | 0.5 | `yoga6`, 2026-11-23 |\n\n## Two\n\n| b | 0.7 |\n")
    readme = "## Results\n\n| a | 0.50 | `yoga6`, 2026-11-23 |\n| b | 0.60 | yesterday |\n\n## Next\n\n| c | 1.5 |\n"
    assert undated_figures(readme, results) == ["| b | 0.60 | yesterday |", "docs/results.md, Two"]
