"""A path that does not exist gets the existing path that was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.media.folder import find_videos
from pipeline.media.similar_paths import did_you_mean_path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("videos/jump/a.mp4", "videos/.hidden/b.mp4", "small.yaml", "runs/done/config.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("vidoes/", "videos"),
        ("vidoes/jmup", "videos/jump"),
        ("videos/jump/b.mp4", ""),
        ("videos/jumps/a.mp4", "videos/jump/a.mp4"),
        ("smal.yaml", "small.yaml"),
        ("runs/dome", "runs/done"),
        ("videos/.hiddn", ""),
        ("gone.yaml", ""),
        ("small.yaml/inside", ""),
    ],
)
def test_each_part_of_a_path_is_corrected(path: str, meant: str) -> None:
    assert did_you_mean_path(path) == (f" Did you mean '{meant}'?" if meant else "")


def test_absolute_paths_are_corrected_too(tmp_path: Path) -> None:
    assert did_you_mean_path(tmp_path / "vidoes") == f" Did you mean '{tmp_path / 'videos'}'?"


def test_a_missing_input_names_the_similar_one() -> None:
    (file,) = find_videos(["vidoes/jump/a.mp4"])
    assert file.problem == (
        "missing: There is no file or folder of this name ('vidoes/jump/a.mp4'). An input exists on the disk. Did you "
        "mean 'videos/jump/a.mp4'? Correct the input or leave it out."
    )
    (file,) = find_videos(["nothing.mp4"])
    assert file.problem.endswith("An input exists on the disk. Correct the input or leave it out.")
