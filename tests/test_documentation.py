"""The Python blocks of README and docs/ run on a freshly trained model and print what the pages show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from api import HEAVY, prepare_pages, run_pages
from doc_blocks import Block, blocks_of, is_alike, run_python
from proof_tools import REPOSITORY


@pytest.mark.slow
def test_every_python_block_of_the_pages_runs_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    prepare = REPOSITORY / "datasets/puppets/prepare.py"
    subprocess.run([sys.executable, prepare, "--size", "small", "--out", tmp_path / "puppets"], check=True)
    prepare_pages(tmp_path / "puppets", tmp_path / "pages")
    failures, ran, _ = run_pages(tmp_path / "pages")
    assert not failures, "\n".join(failures)
    assert ran > 5


def test_importing_unreel_loads_nothing_heavy() -> None:
    code = f"import sys, unreel; assert not [m for m in {HEAVY!r} if m in sys.modules]; print(len(dir(unreel)))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=REPOSITORY, timeout=900)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_every_public_name_exists_and_an_unknown_one_does_not() -> None:
    import unreel

    assert set(unreel.__all__) == {"__version__", *unreel._MODULE_OF}
    for name in unreel.__all__:
        assert getattr(unreel, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        unreel.lod  # noqa: B018


def test_a_block_that_raises_or_prints_something_else_is_a_failure(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint('a', 1.02)\n```\n\n```text\na 1.0\n```\n\n```python\nprint('b')\n```\n\n```text\nc\n```\n"
        "\n```python\n1 / 0\n```\n\n```python needs=DATA\n1 / 0\n```\n\n```python\nprint('unseen')\n```\n",
        encoding="utf-8",
    )
    blocks = blocks_of(page, tmp_path)
    expected = [
        (1, "", "a 1.0\n"),
        (9, "", "c\n"),
        (17, "", None),
        (21, "DATA", None),
        (25, "", None),
    ]
    assert [(b.line, b.needs, b.output) for b in blocks] == expected
    failures = list(run_python(blocks, tmp_path))
    assert [failure.split(" ")[0] for failure in failures] == ["page.md:9", "page.md:17", "page.md:25"]
    assert "ZeroDivisionError" in failures[1]


def test_outputs_are_alike_up_to_rounding() -> None:
    assert is_alike("walk_left 0.93\n", "walk_left  0.95")
    assert not is_alike("walk_left 0.93", "walk_left 0.80")
    assert not is_alike("walk_left 0.93", "walk_right 0.93")
    assert not is_alike("(28, 5120)", "(14, 5120)")


def test_blocks_know_their_language() -> None:
    languages = {block.language for block in blocks_of(REPOSITORY / "README.md", REPOSITORY)}
    assert "python" in languages and languages <= {"python", "text", "mermaid", "yaml", "json", ""}
    assert isinstance(blocks_of(REPOSITORY / "README.md", REPOSITORY)[0], Block)
